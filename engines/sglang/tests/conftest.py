from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from engines import Cluster, Fleet

Make = Callable[..., Cluster]


@pytest.fixture(scope="session")
def fleet() -> Iterator[Fleet]:
    """Sidecars that stay for the whole run. Tests give back what they take, and check it."""
    made = Fleet()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def own_fleet() -> Iterator[Fleet]:
    """The test's own, to be killed."""
    made = Fleet("own-")
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def cluster(fleet: Fleet) -> Iterator[Make]:
    """A prefill and a decode engine. When the test is over, every block must be free again."""
    made: list[Cluster] = []

    def make(**options: object) -> Cluster:
        made.append(Cluster(fleet, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for cluster in made:
        try:
            cluster.check_nothing_held()
        finally:
            cluster.close()
