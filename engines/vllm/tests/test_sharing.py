"""Method: whatever the degrees, each of our ranks must be brought each of its heads once, by a source that holds it; and what a source is
told of its readers must be what they do."""

from __future__ import annotations

from collections import Counter

import pytest

from kvferry import KvferryError
from kvferry_vllm.params import Source
from kvferry_vllm.sharing import Part, share, unused

HEADS = 8


def ranks_of(degree: int, total: int = HEADS) -> list[tuple[int, int]]:
    """As vLLM cuts them: ranks beyond the number of heads hold copies."""
    if degree <= total:
        return [(rank * total // degree, total // degree) for rank in range(degree)]
    return [(rank * total // degree, 1) for rank in range(degree)]


def sources_of(degree: int, total: int = HEADS) -> list[Source]:
    return [
        Source(f"peer {rank}", "handle", first, heads) for rank, (first, heads) in enumerate(ranks_of(degree, total))
    ]


@pytest.mark.parametrize("theirs", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("ours", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("total", [1, HEADS])
def test_every_rank_is_brought_each_of_its_heads_once(theirs: int, ours: int, total: int) -> None:
    sources, ranks = sources_of(theirs, total), ranks_of(ours, total)
    parts = share(sources, ranks)
    for own, (first, count) in zip(parts, ranks, strict=True):
        brought = [head for part in own for head in range(part.first_head, part.first_head + part.heads)]
        assert brought == list(range(first, first + count))
        for part in own:
            assert part.source.first_head <= part.first_head
            assert part.first_head + part.heads <= part.source.first_head + part.source.heads
    reads = Counter(part.source for own in parts for part in own)
    assert all(part.readers == reads[part.source] for own in parts for part in own)
    assert {*reads, *unused(sources, parts)} == set(sources)


def test_equal_degrees_pair_rank_by_rank_also_where_heads_are_copies() -> None:
    for degree, total in ((4, 8), (4, 2), (4, 1)):
        sources = sources_of(degree, total)
        assert [own[0].source for own in share(sources, ranks_of(degree, total))] == sources


def test_a_source_that_many_read_knows_how_many() -> None:
    (whole,) = sources_of(1)
    assert share([whole], ranks_of(2)) == ((Part(whole, 0, 4, 2),), (Part(whole, 4, 4, 2),))


@pytest.mark.parametrize("held", [[], [(2, 2)], [(3, 2)], [(2, 1), (4, 1)], [(0, 2)], [(5, 9)]])
def test_heads_that_no_source_brings_are_refused(held: list[tuple[int, int]]) -> None:
    with pytest.raises(KvferryError) as raised:
        share([Source("peer", "handle", first, count) for first, count in held], [(2, 3)])
    assert raised.value.code == "layout_unconvertible"
