"""One rank's sidecar as the scheduler sees it: where peers reach it, which life of its pool it is, and what is published."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from kvferry import AsyncFerry, Identity, KvferryError, Model, NodeInfo, Place, aio, events
from kvferry.sync import LoopThread

from .shape import CacheShape

log = logging.getLogger("vllm.kvferry")

CONNECT_TIMEOUT_S = 5.0
#: How long a start without a sidecar takes longer than one with it.
START_WAIT_S = 1.0


@dataclass(frozen=True, slots=True)
class Known:
    incarnation: str
    info: NodeInfo
    model: Model


class Sidecar:
    """It attaches no memory and holds nothing. Nothing but the constructor waits."""

    def __init__(
        self, thread: LoopThread, socket: str, rank: int, identity: Identity, shape: CacheShape, refuse: bool
    ) -> None:
        """`refuse`: raises KvferryError where there is no sidecar."""
        self._thread = thread
        self._identity = identity
        self._shape = shape
        self._known: Known | None = None
        self._learning: Future[None] | None = None
        self._ferry: AsyncFerry = thread.wait(
            aio.connect(
                socket, client=f"vllm scheduler {rank}", attach=False, wait=refuse, connect_timeout_s=CONNECT_TIMEOUT_S
            )
        )
        self._ferry.on(self._heard)
        try:
            # So that the first request knows it, too.
            thread.wait(self._ferry.connected(START_WAIT_S))
            thread.wait(self._learn())
        except KvferryError as error:
            log.warning("kvferry: no sidecar at %s (%s)", socket, error)

    @property
    def known(self) -> Known | None:
        """None while it is away, or has not answered yet."""
        if self._known is None and self._ferry.up and (self._learning is None or self._learning.done()):
            self._learning = self._thread.submit(self._learn())
        return self._known

    def lookup(self, keys: bytes, peers: Sequence[str], timeout_s: float) -> Future[list[Place]] | None:
        known = self.known
        if known is None:
            return None
        return self._thread.submit(self._ferry.lookup(known.model, 0, keys, peers, timeout_s=timeout_s))

    def discard(self, peer: str, handle: str) -> None:
        """Nobody will fetch that offer of the peer."""
        if self._ferry.up:
            self._thread.submit(self._discard(peer, handle))

    def prewarm(self, peer: str, size: int) -> None:
        """About so many bytes will be fetched from the peer soon."""
        if self._ferry.up:
            self._thread.submit(self._prewarm(peer, size))

    async def _prewarm(self, peer: str, size: int) -> None:
        try:
            await self._ferry.prewarm(peer, size)
        except KvferryError as error:
            log.debug("kvferry: prewarm: %s", error)

    async def _discard(self, peer: str, handle: str) -> None:
        try:
            await self._ferry.discard(peer, handle)
        except KvferryError as error:
            log.debug("kvferry: discard: %s", error)

    def close(self) -> None:
        try:
            self._thread.wait(self._ferry.close())
        except KvferryError as error:
            # When the interpreter ends, the client's loop ends before vLLM shuts its scheduler down.
            if error.code != "closed":
                raise

    def _heard(self, event: events.Event) -> None:
        if isinstance(event, events.Lost):
            self._known = None
        elif isinstance(event, (events.Back, events.Restarted)):
            # At once, so that the next prefill can say where its KV is.
            self._known = None
            self._learning = self._thread.submit(self._learn())

    async def _learn(self) -> None:
        try:
            pool = await self._ferry.pool()
            layout = self._shape.layout(pool.block_bytes * pool.block_count, pool.block_count)
            model, info = await asyncio.gather(self._ferry.register_model(self._identity, layout), self._ferry.info())
        except KvferryError as error:
            log.warning("kvferry: the scheduler's sidecar: %s", error)
            return
        if pool.incarnation == self._ferry.incarnation:
            self._known = Known(pool.incarnation, info, model)
