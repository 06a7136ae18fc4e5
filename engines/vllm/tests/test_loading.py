"""How a load ends."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest

from kvferry import Blocks, KvferryError, Transfer
from kvferry_vllm.layout import Heads
from kvferry_vllm.loading import Loading, _ended
from kvferry_vllm.params import Source
from kvferry_vllm.sharing import Part


class Lasting(Transfer):
    """It takes its time to end, and counts how often it is asked to."""

    def __init__(self) -> None:
        self._future = Future()
        self._future.set_running_or_notify_cancel()
        self._timer = None
        self.cancelled = 0

    def cancel(self) -> None:
        self.cancelled += 1


def test_a_load_that_is_given_up_twice_still_waits_for_the_end_of_its_transfer() -> None:
    async def run() -> None:
        transfer = Lasting()
        waiting = asyncio.ensure_future(_ended(transfer))
        for _ in range(3):
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.sleep(0)
        assert not waiting.done() and transfer.cancelled == 1
        transfer._fail(KvferryError("cancelled"))
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(run())


class Ferry:
    """Of two offers the first is fetched, and the second is not."""

    def __init__(self) -> None:
        self.discarded: list[tuple[str, str]] = []
        self._fetches = 0

    async def pool(self) -> Any:
        return SimpleNamespace(valid=True)

    async def alloc(self, count: int) -> Blocks:
        return Blocks(range(count), range(count), "0" * 32)  # type: ignore[arg-type]

    async def free(self, blocks: Blocks) -> None:
        pass

    async def release(self, blocks: Blocks) -> None:
        pass

    async def fetch(self, *_: Any, **__: Any) -> Any:
        self._fetches += 1
        if self._fetches > 1:
            raise KvferryError("connect_failed")
        transfer = Lasting()
        transfer._succeed("the report")  # type: ignore[arg-type]
        return transfer

    async def discard(self, peer: str, handle: str) -> None:
        self.discarded.append((peer, handle))


def test_offers_that_are_not_fetched_are_discarded() -> None:
    ferry: Any = Ferry()
    nothing: Any = SimpleNamespace(groups=(), layer_numbers=())
    load: Any = SimpleNamespace(request="r", tokens=16, trace="", exact=False)
    parts = [Part(Source(f"peer {index}", "handle", index, 1), index, 1) for index in range(3)]

    async def run() -> None:
        loading = Loading(ferry, nothing, nothing, Heads(0, 3), load, parts, 1.0)
        with pytest.raises(KvferryError):
            await loading.run(nothing)
        await loading.give_back()

    asyncio.run(run())
    assert ferry.discarded == [("peer 1", "handle"), ("peer 2", "handle")]
