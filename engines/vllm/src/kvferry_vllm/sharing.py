"""Who fetches which KV heads from whom, where the two engines of a hand-over have tensor-parallel ranks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from kvferry import KvferryError

from .params import Source


@dataclass(frozen=True, slots=True)
class Part:
    """What one of our ranks fetches from one of theirs."""

    source: Source
    #: In the model's numbering.
    first_head: int
    heads: int
    #: How many of our ranks fetch from this source: its offer ends when all have.
    readers: int = 1


def share(sources: Sequence[Source], ranks: Sequence[tuple[int, int]]) -> tuple[tuple[Part, ...], ...]:
    """`ranks`: first head and number of heads of each of ours. Of sources that hold the same, as all ranks do of latent KV, each of our
    ranks takes another. Raises layout_unconvertible where nobody brings a head of ours, whose place would keep another prompt's."""
    parts = [_parts_of(sources, rank, first, first + count) for rank, (first, count) in enumerate(ranks)]
    readers = Counter(part.source for own in parts for part in own)
    return tuple(tuple(replace(part, readers=readers[part.source]) for part in own) for own in parts)


def unused(sources: Sequence[Source], parts: Sequence[Sequence[Part]]) -> list[Source]:
    used = {part.source for own in parts for part in own}
    return [source for source in sources if source not in used]


def _parts_of(sources: Sequence[Source], rank: int, first: int, end: int) -> list[Part]:
    parts = []
    while first < end:
        holders = [source for source in sources if source.first_head <= first < source.first_head + source.heads]
        if not holders:
            raise KvferryError("layout_unconvertible", f"no source holds KV head {first}")
        farthest = max(source.first_head + source.heads for source in holders)
        equal = [source for source in holders if source.first_head + source.heads == farthest]
        heads = min(farthest, end) - first
        parts.append(Part(equal[rank % len(equal)], first, heads))
        first += heads
    return parts
