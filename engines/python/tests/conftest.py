from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

import kvferry
from sidecars import Sidecar


@pytest.fixture(scope="session")
def sidecars() -> Iterator[tuple[Sidecar, Sidecar]]:
    """Two that stay for the whole run. Tests give back what they take, and check it."""
    pair = (Sidecar("a", "--api-host", "127.0.0.1", "--api-port", "0", "--api-token", "0123456789abcdef"), Sidecar("b"))
    try:
        for sidecar in pair:
            sidecar.start()
        for sidecar in pair:
            sidecar.connect().close()
        yield pair
    finally:
        for sidecar in pair:
            sidecar.close()


Connect = Callable[..., kvferry.Ferry]


@pytest.fixture
def connect(sidecars: tuple[Sidecar, Sidecar]) -> Iterator[Connect]:
    """Connects to the first sidecar, or the second with `to=1`; clients end with the test."""
    clients: list[kvferry.Ferry] = []

    def make(to: int = 0, **options: object) -> kvferry.Ferry:
        clients.append(sidecars[to].connect(**options))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def sidecar() -> Iterator[Sidecar]:
    """One of the test's own, to be killed."""
    own = Sidecar("own")
    try:
        own.start()
        yield own
    finally:
        own.close()
