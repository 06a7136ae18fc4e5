"""Which of a request's blocks are copied, group by group: those of a load, and those that a step has filled."""

from __future__ import annotations

from collections.abc import Sequence

from .metadata import GroupCopy

BlockIds = Sequence[Sequence[int]]


def of_load(block_tokens: Sequence[int], block_ids: BlockIds, first: int, end: int) -> tuple[GroupCopy, ...]:
    """Of the tokens from `first` to before `end`; and all of the state."""
    copies = []
    for group, (tokens, ids) in enumerate(zip(block_tokens, block_ids, strict=True)):
        if tokens == 0:
            copies.append(_state(group, ids))
        else:
            copies.append(_held(group, ids, first // tokens, -(-end // tokens)))
    return tuple(copies)


def of_step(
    block_tokens: Sequence[int], block_ids: BlockIds, start: int, end: int, partly: bool, final: bool
) -> tuple[GroupCopy, ...]:
    """Of a step that has computed the tokens from `start` to before `end`. `partly`: its last block, which it may have filled in part,
    too. State is copied after the last step of a prompt, `final`."""
    copies = []
    for group, (tokens, ids) in enumerate(zip(block_tokens, block_ids, strict=True)):
        if tokens == 0:
            if final and ids:
                copies.append(_state(group, ids))
        else:
            copies.append(_held(group, ids, start // tokens, -(-end // tokens) if partly else end // tokens))
    return tuple(copies)


def _held(group: int, ids: Sequence[int], first: int, end: int) -> GroupCopy:
    """Block 0 is vLLM's placeholder where a window has left a block behind."""
    places = [place for place in range(first, end) if ids[place] != 0]
    return GroupCopy(group, tuple(places), tuple(ids[place] for place in places))


def _state(group: int, ids: Sequence[int]) -> GroupCopy:
    return GroupCopy(group, (0,), (ids[-1],))
