"""One prompt's KV on its way out: memory in the pool, copies as the prefill makes them, the offer and what is published."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kvferry import AsyncFerry, Blocks, GroupBlocks, KvferryError, Model, Offer, Pool, page_tokens
from kvferry.wire import KEY_BYTES

from .layout import CacheMap
from .metadata import GroupCopy, Save
from .params import handle_of

GONE = ("connection_lost", "connect_failed", "incarnation_mismatch", "closed")


@dataclass(frozen=True, slots=True)
class Room:
    """Blocks of the pool for one prompt, by group, in the order of the sequence."""

    pool: Pool
    groups: tuple[GroupBlocks, ...]
    #: The block of the sequence that each group's first one is for.
    first: int

    def ids(self, caches: CacheMap, copy: GroupCopy) -> npt.NDArray[np.uint32]:
        """The pool's blocks for the places of a copy."""
        split = caches.groups[copy.group].split
        places = np.asarray(copy.places, np.int64) - self.first
        expanded = (places[:, None] * split + np.arange(split)).reshape(-1)
        return self.groups[copy.group].blocks.ids[expanded]


async def make_room(ferry: AsyncFerry, caches: CacheMap, tokens: int, first: int) -> Room:
    """For all groups and tokens from the scheduler's block `first` on. Raises pool_exhausted and what a lost sidecar raises."""
    pool = await ferry.pool()
    counts, held = [], []
    for group in caches.groups:
        skipped = first * group.split * group.block_tokens
        held.append(tokens - skipped if group.block_tokens else group.split)
        counts.append(-(-(tokens - skipped) // group.block_tokens) if group.block_tokens else group.split)
    blocks = await ferry.alloc(sum(counts))
    ends = np.cumsum([0, *counts])
    return Room(
        pool,
        tuple(
            GroupBlocks(group, blocks[int(start) : int(end)], count)
            for group, (start, end, count) in enumerate(zip(ends[:-1], ends[1:], held, strict=True))
        ),
        first,
    )


async def give_back(verb: Callable[[Blocks], Awaitable[None]], held: Sequence[Blocks]) -> None:
    """`free` or `release`. With the sidecar, or with this connection's session, blocks are gone as well: that is no failure."""
    listed = [blocks for blocks in held if len(blocks) > 0]
    if not listed:
        return
    try:
        await verb(Blocks.concatenate(listed))
    except KvferryError as error:
        if error.code not in GONE:
            raise


class Saving:
    """Made and told by the engine's thread; lives on the client's loop until nothing in the pool is its own any more."""

    def __init__(
        self, ferry: AsyncFerry, loop: asyncio.AbstractEventLoop, caches: CacheMap, save: Save, offer_timeout_s: float
    ) -> None:
        self.request = save.request
        self.bytes = 0
        #: Where to copy to; raises KvferryError where there is no room.
        self.room: Future[Room] = Future()
        self._ferry = ferry
        self._loop = loop
        self._caches = caches
        self._first = save
        self._offer_timeout_s = offer_timeout_s
        self._offer: Offer | None = None
        self._ready: list[int] = []
        self._final: Save | None = None
        self._settled = asyncio.Event()

    def ready(self, layer: int) -> None:
        """That layer of the transfer is complete."""
        self._loop.call_soon_threadsafe(self._layer_is_ready, layer)

    def copied(self, save: Save) -> None:
        """Everything is in the pool."""
        self._loop.call_soon_threadsafe(self._settle, save)

    def drop(self) -> None:
        """Nobody wants it any more, or it could not be copied. Of one that is copied: the offer is taken back."""
        self._loop.call_soon_threadsafe(self._drop)

    async def run(self, model: Model) -> None:
        """Raises KvferryError where the KV came to nobody's use through no decision of the engine."""
        save = self._first
        try:
            room = await make_room(self._ferry, self._caches, save.tokens, save.first_key_block)
        except BaseException as error:
            self.room.set_exception(
                error if isinstance(error, KvferryError) else KvferryError("cancelled", repr(error))
            )
            raise
        held = [group.blocks for group in room.groups]
        try:
            offering = self._make_offer(model, room)
            # Started, so that the offer is said before a layer of it is ready.
            await asyncio.sleep(0)
            self.room.set_result(room)
            try:
                if offering is not None:
                    await self._take_offer(offering)
                await self._settled.wait()
                if self._final is not None and self._final.keys:
                    held = await self._publish(model, room, self._final)
            finally:
                await self._end_offer(offering)
        finally:
            await asyncio.shield(give_back(self._ferry.free, held))

    def _make_offer(self, model: Model, room: Room) -> asyncio.Task[Offer] | None:
        tail = self._first.secret_and_digest
        if not tail:
            return None
        handle = handle_of(room.pool.incarnation, tail, "")
        offering = self._ferry.offer(
            model,
            room.groups,
            ready=False,
            handle=handle,
            position=0 if room.first == 0 else None,
            deadline_s=self._offer_timeout_s,
            trace=self._first.trace or None,
        )
        return asyncio.ensure_future(offering)

    async def _take_offer(self, offering: asyncio.Task[Offer]) -> None:
        self._offer = await offering
        for layer in self._ready:
            self._offer.ready(layer)

    async def _end_offer(self, offering: asyncio.Task[Offer] | None) -> None:
        if offering is None:
            return
        if self._offer is None:
            # The offer itself was refused or never answered; a late one is withdrawn by the client.
            offering.cancel()
            await asyncio.gather(offering, return_exceptions=True)
            return
        if self._final is None:
            self._offer.withdraw()
            await asyncio.gather(self._offer, return_exceptions=True)
            return
        await self._offer

    async def _publish(self, model: Model, room: Room, save: Save) -> list[Blocks]:
        """Gives the whole blocks away; returns what is left."""
        group = room.groups[0]
        block_tokens = self._caches.groups[0].block_tokens
        whole = len(save.keys) // KEY_BYTES * page_tokens(block_tokens) // block_tokens
        if whole == 0:
            return [part.blocks for part in room.groups]
        await self._ferry.publish(model, 0, group.blocks[:whole], save.keys)
        return [group.blocks[whole:], *(part.blocks for part in room.groups[1:])]

    def _layer_is_ready(self, layer: int) -> None:
        if self._offer is None:
            self._ready.append(layer)
        else:
            self._offer.ready(layer)

    def _settle(self, save: Save | None) -> None:
        if not self._settled.is_set():
            self._final = save
            self._settled.set()

    def _drop(self) -> None:
        if self._settled.is_set() and self._offer is not None:
            self._offer.withdraw()
        self._settle(None)
