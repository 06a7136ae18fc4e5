"""One prompt's KV on its way in: fetched into the pool, copied into the engine's blocks as layers arrive."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from kvferry import AsyncFerry, Blocks, GroupBlocks, Keyed, KvferryError, Model, Report, Transfer

from .copier import Copier, DeviceCopier
from .layout import CacheMap, Heads
from .metadata import Load
from .saving import Room, give_back, make_room
from .sharing import Part

log = logging.getLogger("vllm.kvferry")


@dataclass(frozen=True, slots=True)
class Loaded:
    seconds: float
    bytes: int
    wire_bytes: int


class Loading:
    """Runs on the client's loop. `run` returns when nothing writes the engine's blocks any more, however it ends; the engine may go on
    then, while `give_back` returns the pool's."""

    def __init__(
        self,
        ferry: AsyncFerry,
        caches: CacheMap,
        copier: Copier | DeviceCopier,
        heads: Heads,
        load: Load,
        parts: Sequence[Part],
        timeout_s: float,
    ) -> None:
        self.request = load.request
        self._ferry = ferry
        self._caches = caches
        self._copier = copier
        self._heads = heads
        self._load = load
        self._parts = parts
        self._timeout_s = timeout_s
        self._until = 0.0
        #: (group, layer in it) of each of a transfer's layers.
        self._layers = [
            [
                (group, index)
                for group, cached in enumerate(caches.groups)
                for index, layer in enumerate(cached.layers)
                if layer.number == number
            ]
            for number in caches.layer_numbers
        ]
        self._copied: set[int] = set()
        self._bytes = 0
        self._fetched = 0
        self._held: list[Blocks] = []
        self._leased: list[Blocks] = []

    async def run(self, model: Model) -> Loaded:
        """Raises KvferryError; then some of the blocks may have been written, and all are to be computed. Ends by itself: what is asked of
        the sidecar has its own time limit, and the transfers share one deadline."""
        started = time.monotonic()
        self._until = started + self._timeout_s
        if self._parts:
            reports = await self._hand_over(model)
        elif self._load.peer:
            reports = [await self._fetch_published(model)]
        else:
            reports = []
            await self._lease_published(model)
        return Loaded(time.monotonic() - started, self._bytes, sum(report.wire_bytes for report in reports))

    async def give_back(self) -> None:
        """After `run`, once."""
        # Their makers would keep for their deadline what nobody fetches any more.
        for part in self._parts[self._fetched :]:
            with suppress(KvferryError):
                await asyncio.shield(self._ferry.discard(part.source.peer, part.source.handle))
        await asyncio.shield(give_back(self._ferry.free, self._held))
        await asyncio.shield(give_back(self._ferry.release, self._leased))

    async def _hand_over(self, model: Model) -> list[Report]:
        """From every prefill rank that holds heads of ours."""
        room = await self._make_room()
        arrived: Counter[int] = Counter()

        def on_layer(layer: int) -> None:
            arrived[layer] += 1
            if arrived[layer] == len(self._parts):
                self._copy(room, layer)

        reports = []
        # One behind the other: a block is filled by one transfer at a time.
        for part in self._parts:
            transfer = await self._ferry.fetch(
                part.source.peer,
                model,
                part.source.handle,
                room.groups,
                deadline_s=self._left_s(),
                heads=(part.first_head, part.heads),
                readers=part.readers,
                on_layer=on_layer,
                exact=self._load.exact,
                trace=self._load.trace or None,
            )
            reports.append(await _ended(transfer))
            self._fetched += 1
        self._copy_rest(room)
        return reports

    async def _fetch_published(self, model: Model) -> Report:
        """From a peer that has published it; then we have, too."""
        load = self._load
        room = await self._make_room()
        transfer = await self._ferry.fetch(
            load.peer,
            model,
            Keyed(load.keys, 0, load.tokens, position=0),
            room.groups,
            deadline_s=self._left_s(),
            heads=(self._heads.first, self._heads.count),
            on_layer=lambda layer: self._copy(room, layer),
            exact=load.exact,
            trace=load.trace or None,
        )
        report = await _ended(transfer)
        self._copy_rest(room)
        try:
            await self._ferry.publish(model, 0, room.groups[0].blocks, load.keys)
            self._held = []
        except KvferryError as error:
            # It is loaded; that others find it here as well is no more than a saving.
            log.debug("what %s loaded was not published: %s", load.request, error)
        return report

    async def _lease_published(self, model: Model) -> None:
        blocks = await self._ferry.lease(model, 0, self._load.keys)
        self._leased = [blocks]
        pool = await self._ferry.pool()
        if pool.incarnation != blocks.incarnation:
            raise KvferryError("incarnation_mismatch", "the sidecar has restarted")
        self._copy_rest(Room(pool, (GroupBlocks(0, blocks, self._load.tokens),), 0))

    def _left_s(self) -> float:
        return max(self._until - time.monotonic(), 0.001)

    async def _make_room(self) -> Room:
        room = await make_room(self._ferry, self._caches, self._load.tokens, 0)
        self._held = [group.blocks for group in room.groups]
        return room

    def _copy_rest(self, room: Room) -> None:
        """Layers whose arrival was not told, or could not be taken then."""
        for layer in range(len(self._layers)):
            if layer not in self._copied:
                self._copy(room, layer)
        self._copier.finish()

    def _copy(self, room: Room, layer: int) -> None:
        if not room.pool.valid:
            raise KvferryError("incarnation_mismatch", "the sidecar has restarted")
        for group, index in self._layers[layer]:
            for copy in self._load.copies:
                if copy.group == group:
                    self._bytes += self._copier.load(room.pool, group, index, room.ids(self._caches, copy), copy.blocks)
        self._copied.add(layer)


async def _ended(transfer: Transfer) -> Report:
    """Also where the load is given up, and given up again: until the transfer has ended, its blocks may still be written."""
    try:
        return await transfer
    except BaseException:
        transfer.cancel()
        while not transfer.done():
            with suppress(asyncio.CancelledError, KvferryError):
                await transfer
        raise
