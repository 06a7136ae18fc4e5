"""How a load ends."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future

import pytest

from kvferry import KvferryError, Transfer
from kvferry_vllm.loading import _ended


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
