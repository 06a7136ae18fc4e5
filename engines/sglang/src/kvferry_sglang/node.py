"""This rank's connection to its sidecar: the client's loop in a thread of its own, the model, and one thread that copies."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from kvferry import AsyncFerry, Identity, KvferryError, Model, aio
from kvferry.sync import LoopThread

from .layout import CacheMap
from .settle import settle

Result = TypeVar("Result")
CONNECT_TIMEOUT_S = 10.0
#: How long a request waits for a sidecar that is gone.
ABSENT_S = 2.0


class Node:
    def __init__(self, socket: str, name: str, cut: CacheMap, identity: Identity) -> None:
        """Raises what keeps the sidecar from being reached, or from holding this engine's KV."""
        self.cut = cut
        self.identity = identity
        self._copying = ThreadPoolExecutor(1, "kvferry copies")
        self._thread = LoopThread()
        try:
            self.ferry: AsyncFerry = self._thread.wait(
                aio.connect(
                    socket, client=name, connect_timeout_s=CONNECT_TIMEOUT_S, quiesce=self._quiesce, on_restart=None
                )
            )
            self._thread.wait(self.model())
        except BaseException:
            self.close()
            raise

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return self._thread.loop

    def wait(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        return self._thread.wait(coroutine)

    def submit(self, coroutine: Coroutine[Any, Any, Result]) -> Future[Result]:
        return self._thread.submit(coroutine)

    def soon(self, callback: Callable[..., object], *arguments: object) -> None:
        """On the loop. Of a client that is closed: nothing is left to be done."""
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(callback, *arguments)

    async def model(self) -> Model:
        """Under the pool of the day; the same object as long as that is cut alike."""
        pool = await self.ferry.pool(timeout_s=ABSENT_S)
        return await self.ferry.register_model(
            self.identity, self.cut.layout(pool.block_bytes * pool.block_count, pool.block_count)
        )

    async def address(self) -> str:
        """Where peers reach the sidecar. Raises address_unavailable."""
        told = (await self.ferry.info()).address
        if not told:
            raise KvferryError("address_unavailable", "the sidecar has no address for peers: start it with --advertise")
        return told

    async def copy(self, work: Callable[..., Result], *arguments: object) -> Result:
        """In the thread that copies. Returns only when that is over, also when it is cancelled: then the memory is let go."""
        return await settle(self.loop.run_in_executor(self._copying, work, *arguments))

    def close(self) -> None:
        ferry = getattr(self, "ferry", None)
        if ferry is not None and not self.loop.is_closed():
            self._thread.wait(ferry.close())
        self._thread.stop()
        self._copying.shutdown(wait=True)

    async def _quiesce(self) -> None:
        # The pool is marked as invalid before; one thread copies, so when this runs, no earlier copy does.
        await self.loop.run_in_executor(self._copying, lambda: None)
