from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from engines import Cluster
from sidecars import Sidecar

Make = Callable[..., Cluster]


@pytest.fixture(scope="session")
def sidecars() -> Iterator[tuple[Sidecar, Sidecar]]:
    """Two that stay for the whole run. Tests give back what they take, and check it."""
    pair = (Sidecar("prefill"), Sidecar("decode"))
    try:
        for sidecar in pair:
            sidecar.start()
        for sidecar in pair:
            sidecar.connect().close()
        yield pair
    finally:
        for sidecar in pair:
            sidecar.close()


@pytest.fixture
def cluster(sidecars: tuple[Sidecar, Sidecar]) -> Iterator[Make]:
    """A prefill and a decode engine on the two sidecars. When the test is over, every block must be free again."""
    made: list[Cluster] = []

    def make(**options: object) -> Cluster:
        made.append(Cluster(sidecars, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for cluster in made:
        try:
            cluster.check_nothing_held()
        finally:
            cluster.close()


@pytest.fixture
def own_sidecars() -> Iterator[tuple[Sidecar, Sidecar]]:
    """Two of the test's own, to be killed."""
    pair = (Sidecar("own-prefill"), Sidecar("own-decode"))
    try:
        for sidecar in pair:
            sidecar.start()
        for sidecar in pair:
            sidecar.connect().close()
        yield pair
    finally:
        for sidecar in pair:
            sidecar.close()
