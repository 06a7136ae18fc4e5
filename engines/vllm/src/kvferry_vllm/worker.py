"""The half of the connector that lives in each worker: the model runner's hooks, and the client's loop in a thread of its own.

Saves are copied in the hooks themselves, a layer as it is made; everything else (memory in the pool, offers, fetches, copies of what
arrives) happens on the client's loop while the model computes."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import contextmanager
from typing import Any

from kvferry import AsyncFerry, KvferryError, Model, aio, events
from kvferry.sync import LoopThread

from .copier import Copier, DeviceCopier, make_copier
from .layout import CacheMap, Heads
from .loading import Loading
from .metadata import Load, Metadata, Save
from .options import Options
from .saving import Room, Saving
from .stats import KvferryStats

log = logging.getLogger("vllm.kvferry")

#: How long the first layer of a step that begins prefills waits for memory in the pool, for all of them together; not at all once a
#: sidecar was so long silent, until it has answered. It answers in well under a millisecond.
ROOM_WAIT_S = 0.25
#: How long an empty step of an engine that only waits for KV waits for it here, rather than turning at full speed.
IDLE_WAIT_S = 0.01
CONNECT_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 5.0
#: A load does not wait longer for a sidecar that is away: its prompt can be computed meanwhile.
BACK_WAIT_S = 1.0


class Worker:
    def __init__(self, options: Options, rank: int, heads: Heads) -> None:
        self._options = options
        self._rank = rank
        self._heads = heads
        self._thread = LoopThread()
        self._ferry: AsyncFerry | None = None
        self._socket = options.socket_of(rank)
        self._name = f"vllm worker {rank}"
        self._caches: CacheMap | None = None
        self._copier: Copier | DeviceCopier | None = None
        self._identity: Any = None
        self._model: Model | None = None
        #: (group, layer in it, its place among all layers) of each layer's name.
        self._places: dict[str, tuple[int, int, int]] = {}
        #: Likewise, of the layers of state: vLLM does not tell when one is made.
        self._state_layers: list[tuple[int, int, int]] = []
        #: Layers whose KV lies in several groups: they are complete when the step is.
        self._shared: set[int] = set()
        self._saving: dict[str, Saving] = {}
        self._loading: dict[str, Future[None]] = {}
        self._copying = threading.Lock()
        self._room_until = 0.0
        self._silent = False
        #: What the loop's thread has finished and the engine's takes.
        self._results = threading.Condition()
        self._received: set[str] = set()
        self._failed: set[str] = set()
        self.stats = KvferryStats()

    def start(self, caches: CacheMap, identity: Any) -> None:
        """Raises KvferryError where the operator wants no engine without a sidecar, or the pool does not fit."""
        self._caches, self._identity = caches, identity
        self._copier = make_copier(caches)
        numbers = caches.layer_numbers
        for group, cached in enumerate(caches.groups):
            for index, layer in enumerate(cached.layers):
                place = (group, index, numbers.index(layer.number))
                self._places[layer.name] = place
                if cached.block_tokens == 0:
                    self._state_layers.append(place)
        counts = Counter(number for _, _, number in self._places.values())
        self._shared = {number for number, count in counts.items() if count > 1}
        wait = self._options.absent == "refuse"
        self._ferry = self._thread.wait(
            aio.connect(
                self._socket,
                client=self._name,
                wait=wait,
                timeout_s=ANSWER_TIMEOUT_S,
                connect_timeout_s=CONNECT_TIMEOUT_S,
                quiesce=self._quiesce,
                on_restart=self._restarted,
            )
        )
        try:
            self._thread.wait(self._model_now(CONNECT_TIMEOUT_S))
            log.info("kvferry: %d blocks of %d bytes in the pool of %s", *self._pool_facts(), self._socket)
        except KvferryError as error:
            if wait or error.code == "invalid_config":
                raise
            log.warning(
                "kvferry: no sidecar at %s (%s); KV is computed, not moved, until there is one", self._socket, error
            )

    def begin(self, metadata: Metadata) -> None:
        """Before the forward pass: memory for new saves is asked for, so that it is there when the first layer is."""
        with self._timed():
            # Each rank hears of them; one counts.
            if self._rank == 0:
                self.stats.data["failed_loads"].extend(metadata.refused)
            self._room_until = time.monotonic() + (0.0 if self._silent else ROOM_WAIT_S)
            for request in metadata.dropped:
                self._drop(request)
            for save in metadata.saves:
                # One that was given up in the middle is not taken up again: its first blocks are not in the pool.
                if save.opening:
                    self._start_saving(save)

    def load(self, metadata: Metadata) -> None:
        with self._timed():
            for load in metadata.loads:
                self._loading[load.request] = self._thread.submit(self._load(load))

    def save_layer(self, name: str, metadata: Metadata) -> None:
        if not metadata.saves:
            return
        with self._timed():
            group, index, number = self._places[name]
            for save in metadata.saves:
                self._save_layer(save, group, index, number)

    def end_step(self, metadata: Metadata) -> None:
        """After the forward pass: what was copied is in the pool, and the last step of a prompt settles it."""
        if not metadata.saves:
            return
        with self._timed():
            assert self._copier is not None
            for save in metadata.saves:
                for place in self._state_layers:
                    self._save_layer(save, *place)
            self._copier.finish()
            for save in metadata.saves:
                saving = self._saving.get(save.request)
                if saving is None or not save.final:
                    continue
                if save.secret_and_digest:
                    for number in self._shared:
                        saving.ready(number)
                saving.copied(save)

    def results(self, idle: bool) -> tuple[set[str], set[str]]:
        """Requests whose loads have ended, and those of them that failed."""
        with self._results:
            if idle and self._loading and not self._received:
                self._results.wait(IDLE_WAIT_S)
            received, self._received = self._received, set()
            failed, self._failed = self._failed, set()
        for request in received:
            self._loading.pop(request, None)
        return received, failed

    def close(self) -> None:
        if self._ferry is not None:
            try:
                self._thread.wait(self._ferry.close())
            except KvferryError as error:
                log.debug("close: %s", error)
        self._thread.stop()

    # On the engine's thread.

    def _start_saving(self, save: Save) -> None:
        assert self._ferry is not None and self._caches is not None
        self._drop(save.request)
        saving = Saving(self._ferry, self._thread.loop, self._caches, save, self._options.offer_timeout_s)
        saving.room.add_done_callback(self._answered)
        self._saving[save.request] = saving
        self._thread.submit(self._save(saving))

    def _save_layer(self, save: Save, group: int, index: int, number: int) -> None:
        saving = self._saving.get(save.request)
        if saving is None:
            return
        assert self._caches is not None and self._copier is not None
        try:
            room = saving.room.result(max(0.0, self._room_until - time.monotonic()))
        except (KvferryError, FutureTimeout) as error:
            # The engine does not wait again: this prompt's KV stays where it is.
            self._silent = self._silent or not saving.room.done()
            log.warning("kvferry: the KV of %s is not saved: %s", save.request, str(error) or "the sidecar is silent")
            self._drop(save.request)
            return
        for copy in save.copies:
            if copy.group != group:
                continue
            with self._copying:
                if not room.pool.valid:
                    self._drop(save.request)
                    return
                saving.bytes += self._copier.save(room.pool, group, index, room.ids(self._caches, copy), copy.blocks)
        if save.final and save.secret_and_digest and number not in self._shared:
            self._copier.finish()
            saving.ready(number)

    def _answered(self, room: Future[Room]) -> None:
        if room.exception() is None:
            self._silent = False

    def _drop(self, request: str) -> None:
        saving = self._saving.pop(request, None)
        if saving is not None:
            saving.drop()
        loading = self._loading.get(request)
        if loading is not None:
            loading.cancel()

    @contextmanager
    def _timed(self) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.stats.data["hook_seconds"].append(time.perf_counter() - started)

    # On the client's loop.

    async def _save(self, saving: Saving) -> None:
        try:
            try:
                model = await self._model_now(ROOM_WAIT_S)
            except KvferryError as error:
                saving.room.set_exception(error)
                raise
            await saving.run(model)
            self.stats.data["save_bytes"].append(saving.bytes)
        except KvferryError as error:
            self.stats.data["failed_saves"].append(error.code)
            log.info("kvferry: the KV of %s was not used: %s", saving.request, error)
        except Exception:
            self.stats.data["failed_saves"].append("internal")
            log.exception("kvferry: saving the KV of %s", saving.request)
        finally:
            if self._saving.get(saving.request) is saving:
                del self._saving[saving.request]

    async def _load(self, load: Load) -> None:
        assert self._ferry is not None and self._caches is not None and self._copier is not None
        timeout_s = self._options.load_timeout_s
        parts = load.parts[self._rank] if load.parts else ()
        loading = Loading(self._ferry, self._caches, self._copier, self._heads, load, parts, timeout_s)
        failure: str | None = "internal"
        wanted = True
        try:
            model = await self._model_now(min(timeout_s, BACK_WAIT_S))
            loaded = await loading.run(model)
            self.stats.loaded(loaded.seconds, loaded.bytes, loaded.wire_bytes)
            log.info(
                "kvferry: loaded %d bytes of KV for %s in %.1f ms", loaded.bytes, load.request, 1e3 * loaded.seconds
            )
            failure = None
        except KvferryError as error:
            failure = error.code
            log.warning("kvferry: the KV of %s is not loaded, its prompt is computed: %s", load.request, error)
        except asyncio.CancelledError:
            # Its request has ended: nothing is computed instead.
            failure, wanted = "cancelled", False
        except Exception:
            log.exception("kvferry: loading the KV of %s", load.request)
        finally:
            if failure is not None and wanted:
                self.stats.data["failed_loads"].append(failure)
            with self._results:
                self._received.add(load.request)
                if failure is not None:
                    self._failed.add(load.request)
                self._results.notify()
        # The engine computes meanwhile.
        try:
            await loading.give_back()
        except KvferryError as error:
            log.warning("kvferry: blocks of the pool that %s used were not given back: %s", load.request, error)

    async def _model_now(self, timeout_s: float) -> Model:
        """The model under the pool of the day. Raises what keeps it from being registered."""
        assert self._ferry is not None and self._caches is not None
        model = self._model
        if model is not None and self._ferry.up:
            return model
        pool = await self._ferry.pool(timeout_s=timeout_s)
        layout = self._caches.shape.layout(pool.block_bytes * pool.block_count, pool.block_count)
        self._model = await self._ferry.register_model(self._identity, layout)
        return self._model

    def _pool_facts(self) -> tuple[int, int]:
        assert self._model is not None and self._caches is not None
        return self._model.layout.block_count, self._caches.block_bytes

    async def _quiesce(self) -> None:
        """The pool of the former sidecar is left alone from here on: no hook is in the middle of a copy to it."""
        await asyncio.get_running_loop().run_in_executor(None, self._wait_for_copies)

    def _wait_for_copies(self) -> None:
        # The client has marked the pool as invalid before; a copy that began earlier holds the lock.
        with self._copying:
            if self._copier is not None:
                self._copier.finish()

    def _restarted(self, event: events.Restarted) -> None:
        log.warning(
            "kvferry: the sidecar at %s has restarted; KV that was in its hands is computed again", self._socket
        )
        self._model = None
