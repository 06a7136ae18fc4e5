"""What a worker's hooks wait for when the sidecar says nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from types import SimpleNamespace
from typing import Any

import pytest

from kvferry_vllm import worker as module
from kvferry_vllm.layout import Heads
from kvferry_vllm.metadata import Metadata, Save
from kvferry_vllm.options import Options
from kvferry_vllm.worker import ROOM_WAIT_S, Worker


class Room(Future[Any]):
    """That never comes. Says how long it was waited for."""

    def __init__(self, waits: list[float]) -> None:
        super().__init__()
        self.waits = waits

    def result(self, timeout: float | None = None) -> Any:
        if self.done():
            return super().result()
        assert timeout is not None
        self.waits.append(timeout)
        raise FutureTimeout


class Silent:
    """In place of a saving. Its worker's clock stands where waiting has brought it."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.request = ""

    async def run(self, model: Any) -> None:
        await asyncio.Event().wait()

    def drop(self) -> None:
        pass


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    waits: list[float] = []

    def saving(_ferry: Any, _loop: Any, _caches: Any, save: Save, _timeout_s: float) -> Silent:
        made = Silent(Room(waits))
        made.request = save.request
        return made

    monkeypatch.setattr(module, "Saving", saving)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: sum(waits), perf_counter=lambda: 0.0))
    return waits


@pytest.fixture
def worker() -> Iterator[Worker]:
    worker = Worker(Options.parse({"socket": "/run/kvferry.sock"}), 0, Heads(0, 1))
    made: Any = worker
    made._ferry = SimpleNamespace(up=True)
    made._model = made._caches = made._copier = object()
    made._places = {"layer": (0, 0, 0)}
    yield worker
    made._ferry = None
    worker.close()


def begin(worker: Worker, *requests: str) -> None:
    saves = [Save(request, 16, (), True, False, "", b"", 0, "") for request in requests]
    metadata = Metadata(saves=saves)
    worker.begin(metadata)
    worker.save_layer("layer", metadata)


def test_prompts_of_one_step_wait_together_and_later_ones_not_at_all(worker: Worker, waits: list[float]) -> None:
    begin(worker, "a", "b", "c")
    assert sum(waits) == ROOM_WAIT_S
    assert not worker._saving, "their KV stays where it is"
    begin(worker, "d")
    assert sum(waits) == ROOM_WAIT_S


def test_a_sidecar_that_answers_late_is_waited_for_again(worker: Worker, waits: list[float]) -> None:
    begin(worker, "a")
    saves = [Save("b", 16, (), True, False, "", b"", 0, "")]
    worker.begin(Metadata(saves=saves))
    worker._saving["b"].room.set_result(SimpleNamespace(pool=None))
    begin(worker, "c")
    assert sum(waits) == 2 * ROOM_WAIT_S
