"""What a load refuses before memory is asked for."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest

from kvferry import KvferryError, Transfer
from kvferry_vllm.layout import Heads
from kvferry_vllm.loading import Loading, _ended
from kvferry_vllm.params import Source


class Asked(Exception):
    """The load went on to the sidecar."""


class Ferry:
    async def pool(self) -> Any:
        raise Asked


def load(*held: tuple[int, int]) -> Loading:
    sources = tuple(Source("peer", "handle", first, count) for first, count in held)
    request: Any = SimpleNamespace(request="r", sources=sources, tokens=16)
    caches: Any = SimpleNamespace(groups=(), layer_numbers=())
    nothing: Any = None
    ferry: Any = Ferry()
    return Loading(ferry, caches, nothing, Heads(2, 3), request, 1.0)


@pytest.mark.parametrize("held", [[(2, 2)], [(3, 2)], [(2, 1), (4, 1)], [(0, 2)], [(5, 9)]])
def test_heads_that_no_source_brings_are_refused(held: list[tuple[int, int]]) -> None:
    nothing: Any = None
    with pytest.raises(KvferryError) as raised:
        asyncio.run(load(*held).run(nothing))
    assert raised.value.code == "layout_unconvertible"


@pytest.mark.parametrize("held", [[(2, 3)], [(0, 8)], [(0, 4), (4, 4)], [(4, 1), (2, 2)]])
def test_sources_that_bring_all_heads_are_asked(held: list[tuple[int, int]]) -> None:
    nothing: Any = None
    with pytest.raises(Asked):
        asyncio.run(load(*held).run(nothing))


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
