"""Clients that are closed several times at once, by threads and tasks, and while verbs are under way: everybody's wait ends."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future, ThreadPoolExecutor, wait

import pytest

import kvferry
from fake_server import FakeServer, Reply, Request
from kvferry import KvferryError
from kvferry.sync import LoopThread
from sidecars import WAIT_S, eventually

CLOSERS = 4


class Held:
    """An answer to `close` that the server keeps until it is let go."""

    def __init__(self) -> None:
        self.let_go = threading.Event()

    def __call__(self, request: Request) -> Reply:
        assert self.let_go.wait(WAIT_S)
        return [{"id": request["id"], "ok": {}}]


def test_tasks_that_close_at_once_all_wait_for_the_end() -> None:
    async def run(server: FakeServer, held: Held) -> None:
        ferry = await kvferry.aio.connect(server.socket)
        closing = [asyncio.ensure_future(ferry.close()) for _ in range(CLOSERS)]
        await asyncio.to_thread(eventually, lambda: server.asked("close"))
        assert not any(task.done() for task in closing)
        closing[0].cancel()
        held.let_go.set()
        ended = await asyncio.gather(*closing, return_exceptions=True)
        assert isinstance(ended[0], asyncio.CancelledError), "it was cancelled by its own task alone"
        assert ended[1:] == [None] * (CLOSERS - 1)
        assert not ferry.up and len(server.asked("close")) == 1
        await ferry.close()

    held = Held()
    with FakeServer({"close": held}) as server:
        asyncio.run(asyncio.wait_for(run(server, held), WAIT_S))


def test_threads_that_close_at_once_all_wait_for_the_thread_to_end() -> None:
    with FakeServer({}) as server, ThreadPoolExecutor(CLOSERS) as pool:
        for turn in range(25):
            ferry = kvferry.connect(server.socket)
            together = threading.Barrier(CLOSERS)

            def close(ferry: kvferry.Ferry = ferry, together: threading.Barrier = together) -> bool:
                together.wait(WAIT_S)
                ferry.close()
                return ferry._thread._thread.is_alive()

            closing = [pool.submit(close) for _ in range(CLOSERS)]
            assert [future.result(WAIT_S) for future in closing] == [False] * CLOSERS
            assert len(server.asked("close")) == turn + 1
            with pytest.raises(KvferryError) as caught:
                ferry.info()
            assert caught.value.code == "closed"


def test_what_is_submitted_while_the_loop_stops_ends() -> None:
    def submit(thread: LoopThread, begun: threading.Event) -> list[Future[None]]:
        futures = []
        while True:
            try:
                futures.append(thread.submit(asyncio.sleep(0)))
            except KvferryError as error:
                assert error.code == "closed"
                return futures
            begun.set()

    with ThreadPoolExecutor(1) as pool:
        for _ in range(50):
            thread, begun = LoopThread(), threading.Event()
            submitting = pool.submit(submit, thread, begun)
            assert begun.wait(WAIT_S)
            thread.stop()
            assert not wait(submitting.result(WAIT_S), WAIT_S).not_done
