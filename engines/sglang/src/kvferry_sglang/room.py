"""Blocks of the pool for one chunk of one request, and the copies between them and SGLang's pages."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kvferry import AsyncFerry, Blocks, GroupBlocks, KvferryError, Model, Pool

from .layout import CacheMap, pool_slots, window_of
from .memory import Rows
from .node import ABSENT_S
from .status import Status

RETRY_S = 0.02
#: With the sidecar, or with this connection's session, the blocks are gone as well.
GONE = ("connection_lost", "connect_failed", "incarnation_mismatch", "closed")


@dataclass(frozen=True, slots=True)
class Cargo:
    """Rows of SGLang's buffers by kind; empty for a kind that does not travel."""

    rows: tuple[Rows, ...]

    @property
    def counts(self) -> list[int]:
        return [len(rows) for rows in self.rows]


class Room:
    def __init__(self, cut: CacheMap, model: Model, pool: Pool, blocks: Blocks, counts: Sequence[int]) -> None:
        self.blocks = blocks
        self.groups: list[GroupBlocks] = []
        #: (kind, layer of it) by the number that a layer has over what travels.
        self.layers: list[tuple[int, int]] = []
        self._cut, self._pool = cut, pool
        self._block_count = model.layout.block_count
        self._of_kind: dict[int, Blocks] = {}
        start = 0
        for number, (kind, count) in enumerate(zip(cut.kinds, counts, strict=True)):
            if count == 0:
                continue
            end = start + kind.blocks_for(count)
            self._of_kind[number] = blocks[start:end]
            self.groups.append(GroupBlocks(number, blocks[start:end], kind.tokens(count)))
            self.layers += [(number, layer) for layer in range(len(kind.layers))]
            start = end

    def save(self, layer: int, cargo: Cargo) -> int:
        """From SGLang's memory to the pool; returns bytes. Raises incarnation_mismatch."""
        return self._copy(layer, cargo, None, None)

    def load(self, layer: int, cargo: Cargo, heads: tuple[int, int], status: Status) -> int:
        """From the pool to SGLang's memory, unless the request has ended: then its pages are another's."""
        return self._copy(layer, cargo, heads, status)

    def _copy(self, layer: int, cargo: Cargo, heads: tuple[int, int] | None, status: Status | None) -> int:
        number, index = self.layers[layer]
        kind, rows = self._cut.kinds[number], cargo.rows[number]
        at = np.arange(len(rows))
        blocks, slots = self._of_kind[number].ids[at // kind.slots].astype(np.int64), at % kind.slots
        moved = 0
        for place in kind.layers[index]:
            if not self._pool.valid:
                raise KvferryError("incarnation_mismatch", "the sidecar has restarted")
            there = pool_slots(self._pool.view, self._cut, place, kind.slots, self._block_count)
            if heads is None or status is None:
                there[blocks, slots] = place.region.take(rows)
            else:
                values = there[blocks, slots]
                with status.lock:
                    if status.ended:
                        raise KvferryError("cancelled", "the request has ended")
                    place.region.put(rows, values, window_of(self._cut, heads) if place.paged else None)
            moved += len(rows) * place.region.row_bytes
        return moved


async def make_room(ferry: AsyncFerry, cut: CacheMap, model: Model, counts: Sequence[int], timeout_s: float) -> Room:
    """Waits for blocks that others give back. Raises pool_exhausted after that time, or what a lost sidecar raises."""
    pool = await ferry.pool(timeout_s=ABSENT_S)
    wanted = sum(kind.blocks_for(count) for kind, count in zip(cut.kinds, counts, strict=True))
    if wanted > model.layout.block_count:
        raise KvferryError("pool_exhausted", f"{wanted} blocks are needed, the pool has {model.layout.block_count}")
    until = time.monotonic() + timeout_s
    while True:
        try:
            blocks = await ferry.alloc(wanted)
            break
        except KvferryError as error:
            if error.code != "pool_exhausted" or time.monotonic() >= until:
                raise
        await asyncio.sleep(RETRY_S)
    if blocks.incarnation != pool.incarnation:
        raise KvferryError("incarnation_mismatch", "the sidecar has restarted")
    return Room(cut, model, pool, blocks, counts)


async def give_back(ferry: AsyncFerry, blocks: Blocks) -> None:
    try:
        await ferry.free(blocks)
    except KvferryError as error:
        if error.code not in GONE:
            raise
