"""A scheduler's half with a sidecar that answers when a test says so."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from fakes import FakeSidecar, handshake
from kvferry_vllm import scheduler as module
from kvferry_vllm.metadata import Save
from kvferry_vllm.options import Options
from kvferry_vllm.scheduler import Scheduler

FINGERPRINT = handshake().identity.fingerprint


@pytest.fixture(autouse=True)
def no_sidecar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "Sidecar", FakeSidecar)


@pytest.fixture
def made() -> Iterator[list[Scheduler]]:
    schedulers: list[Scheduler] = []
    yield schedulers
    for each in schedulers:
        each.close()


def build(
    made: list[Scheduler],
    block_tokens: tuple[int, ...] = (16,),
    ranks: int = 1,
    groups: tuple[int, ...] | None = None,
    **extra: Any,
) -> Scheduler:
    options = Options.parse({"socket": "/run/{rank}.sock", "lookup_timeout_s": 60, **extra})
    made.append(Scheduler(options, groups or tuple(range(len(block_tokens)))))
    made[-1].meet([handshake(block_tokens, rank * 2) for rank in range(ranks)])
    return made[-1]


def sidecar(scheduler: Scheduler) -> FakeSidecar:
    return scheduler._ranks[0][1]  # type: ignore[return-value]


def copied(saves: list[Save], group: int = 0) -> list[tuple[int, int]]:
    """(place in the sequence, the engine's block) of everything that is saved, in order."""
    return [
        pair
        for save in saves
        for copy in save.copies
        if copy.group == group
        for pair in zip(copy.places, copy.blocks, strict=True)
    ]
