"""Stand-ins for SGLang's engines: KV pools of NumPy in the shape of its KVArgs, with the real managers, senders and receivers on them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
from sidecars import WAIT_S, Sidecar, eventually

from kvferry import Ferry
from kvferry_sglang import KvferryKVBootstrapServer, KvferryKVManager, KvferryKVReceiver, KvferryKVSender
from kvferry_sglang.contract import KVPoll
from kvferry_sglang.facts import Facts, heads_of
from kvferry_sglang.options import Options

Bytes = npt.NDArray[np.uint8]
LAYERS = 3
CHANNELS = 8
LATENT = 24
PAGES = 96
SLOTS = 8
AUX_BYTES = (64, 40, 8)


@dataclass(frozen=True)
class Shape:
    total_heads: int = 4
    page_size: int = 4
    mla: bool = False
    #: Bytes of a row of each tensor, by kind of state.
    states: tuple[tuple[str, tuple[int, ...]], ...] = ()
    dtype: str = "bfloat16"


class Pools:
    """The buffers of one rank."""

    def __init__(self, shape: Shape, tp_rank: int, tp_size: int, seed: int) -> None:
        random = np.random.default_rng(seed)
        _, heads = heads_of(0 if shape.mla else shape.total_heads, tp_rank, tp_size)
        row = (LATENT if shape.mla else heads * CHANNELS) * 2
        self.shape = shape
        self.heads = heads

        def made(rows: int, size: int) -> Bytes:
            return random.integers(0, 256, (rows, size), np.uint8)

        self.kv = [made(PAGES, shape.page_size * row) for _ in range(LAYERS * (1 if shape.mla else 2))]
        self.aux = [made(SLOTS, size) for size in AUX_BYTES]
        self.states = [[made(SLOTS * 4, size) for size in sizes] for _, sizes in shape.states]

    def args(self) -> Any:
        def told(buffers: list[Bytes]) -> tuple[list[int], list[int], list[int]]:
            return (
                [buffer.ctypes.data for buffer in buffers],
                [buffer.nbytes for buffer in buffers],
                [buffer.shape[1] for buffer in buffers],
            )

        args = SimpleNamespace(page_size=self.shape.page_size, kv_cache_dtype_str=self.shape.dtype, kv_layer_ids=[])
        args.kv_data_ptrs, args.kv_data_lens, args.kv_item_lens = told(self.kv)
        args.aux_data_ptrs, args.aux_data_lens, args.aux_item_lens = told(self.aux)
        args.state_types = [SimpleNamespace(value=name) for name, _ in self.shape.states]
        listed = [told(buffers) for buffers in self.states]
        args.state_data_ptrs = [part[0] for part in listed]
        args.state_data_lens = [part[1] for part in listed]
        args.state_item_lens = [part[2] for part in listed]
        return args

    def pages(self, buffer: int, pages: list[int]) -> npt.NDArray[np.uint8]:
        """(page, token, head, byte)."""
        size = self.shape.page_size
        heads = 1 if self.shape.mla else self.heads
        return self.kv[buffer][pages].reshape(len(pages), size, heads, -1)


class Fleet:
    """A prefill and a decode sidecar for each rank: one sidecar holds one cut of a model."""

    def __init__(self, name: str = "") -> None:
        self._name = name
        self._pairs: list[tuple[Sidecar, Sidecar]] = []

    def pairs(self, count: int) -> list[tuple[Sidecar, Sidecar]]:
        new = range(len(self._pairs), count)
        self._pairs += [(Sidecar(f"{self._name}prefill-{rank}"), Sidecar(f"{self._name}decode-{rank}")) for rank in new]
        started = [sidecar for rank in new for sidecar in self._pairs[rank]]
        for sidecar in started:
            sidecar.start()
        for sidecar in started:
            sidecar.connect().close()
        return self._pairs[:count]

    def close(self) -> None:
        for sidecar in (sidecar for pair in self._pairs for sidecar in pair):
            sidecar.close()


class Cluster:
    def __init__(
        self,
        fleet: Fleet,
        shape: Shape | None = None,
        prefill_tp: int = 1,
        decode_tp: int = 1,
        decode_shape: Shape | None = None,
        decode_model: str = "tiny",
        **options: Any,
    ) -> None:
        self.shape = shape or Shape()
        pairs = fleet.pairs(max(prefill_tp, decode_tp))
        self.sidecars = sidecars = [pair[0] for pair in pairs[:prefill_tp]] + [pair[1] for pair in pairs[:decode_tp]]
        self.bootstrap = KvferryKVBootstrapServer("127.0.0.1", 0)
        self.address = f"127.0.0.1:{self.bootstrap.port}"
        self.watchers = [sidecar.connect(attach=False, client="watcher") for sidecar in sidecars]
        settings = Options("", **{"waiting_timeout_s": WAIT_S, "bootstrap_timeout_s": WAIT_S, **options})
        self.prefill: list[KvferryKVManager] = []
        self.decode: list[KvferryKVManager] = []
        self.prefill_pools = [Pools(self.shape, rank, prefill_tp, 100 + rank) for rank in range(prefill_tp)]
        self.decode_pools = [
            Pools(decode_shape or self.shape, rank, decode_tp, 200 + rank) for rank in range(decode_tp)
        ]
        facts = Facts("tiny", 0 if self.shape.mla else self.shape.total_heads, bootstrap_port=self.bootstrap.port)
        for rank, pools in enumerate(self.prefill_pools):
            self.prefill.append(
                KvferryKVManager(
                    pools.args(), "prefill", None, self.shape.mla,
                    facts=replace(facts, tp_rank=rank, tp_size=prefill_tp),
                    options=replace(settings, socket=pairs[rank][0].socket),
                )
            )  # fmt: skip
        for rank, pools in enumerate(self.decode_pools):
            self.decode.append(
                KvferryKVManager(
                    pools.args(), "decode", None, self.shape.mla,
                    facts=replace(facts, tp_rank=rank, tp_size=decode_tp, model=decode_model),
                    options=replace(settings, socket=pairs[rank][1].socket),
                )
            )  # fmt: skip

        # A layout of larger blocks leaves fewer of them, so only now.
        self.free_at_start = [watcher.stats().pool["free"] for watcher in self.watchers]

    def senders(self, room: int) -> list[KvferryKVSender]:
        return [KvferryKVSender(manager, self.address, room) for manager in self.prefill]

    def receivers(self, room: int, start: bool = True) -> list[KvferryKVReceiver]:
        made = []
        for manager in self.decode:
            eventually(partial(manager.try_ensure_parallel_info, self.address))
            made.append(KvferryKVReceiver(manager, self.address, room))
            if start:
                made[-1].init(0)
        return made

    def check_nothing_held(self) -> None:
        for watcher, free in zip(self.watchers, self.free_at_start, strict=True):
            try:
                eventually(partial(_is_free, watcher, free))
            except AssertionError as error:
                raise AssertionError(f"{free} blocks were free: {dict(watcher.stats().pool)}") from error
            assert watcher.stats().pool["held"] == 0
        for manager in self.prefill:
            eventually(partial(_no_claims, manager))

    def close(self) -> None:
        for manager in (*self.prefill, *self.decode):
            manager.teardown()
        self.bootstrap.close()
        for watcher in self.watchers:
            watcher.close()


def _is_free(watcher: Ferry, count: int) -> bool:
    return watcher.stats().pool["free"] == count


def _no_claims(manager: KvferryKVManager) -> bool:
    return manager.claims.open_count == 0


def indices(pages: list[int]) -> npt.NDArray[np.int32]:
    return np.array(pages, np.int32)


def reaches(handles: list[Any], value: int) -> None:
    """Each handle's polls only go forward, and end there."""
    last = [handle.poll() for handle in handles]

    def all_there() -> bool:
        for at, handle in enumerate(handles):
            now = handle.poll()
            assert now == KVPoll.Failed or now >= last[at], "poll went back"
            assert now != KVPoll.Failed or value == KVPoll.Failed, _reason(handle)
            last[at] = now
        return all(now == value for now in last)

    eventually(all_there)


def failure_of(handle: Any) -> str:
    """The code of the typed error that it ends with."""
    reaches([handle], KVPoll.Failed)
    try:
        handle.failure_exception()
    except Exception as error:
        assert error.bootstrap_room == handle.bootstrap_room  # type: ignore[attr-defined]
        return str(error.code)  # type: ignore[attr-defined]
    raise AssertionError("failure_exception did not raise")


def _reason(handle: Any) -> str:
    return str(handle._status.error)
