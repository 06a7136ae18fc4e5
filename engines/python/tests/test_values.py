"""Values by themselves: what they hold, how they are cut and joined, what is refused, and that they survive pickling."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest

import kvferry
from kvferry import Blocks, GroupBlocks, KvferryError, new_handle
from kvferry.values import is_handle_of
from sidecars import ROOT

LIFE, OTHER_LIFE = "0123456789abcdef" * 2, "f" * 32


def blocks(*ids: int, life: str = LIFE) -> Blocks:
    return Blocks(np.array(ids, np.uint32), np.array([block + 100 for block in ids], np.uint32), life)


def test_errors_are_those_of_the_schema() -> None:
    schema = json.loads((ROOT / "schemas" / "errors.json").read_text("utf-8"))
    assert [vars_of(kind) for kind in kvferry.ERRORS.values()] == schema["errors"]


def vars_of(kind: kvferry.ErrorKind) -> dict[str, object]:
    return {name: getattr(kind, name) for name in ("code", "number", "fault", "retry", "text")}


def test_an_error_says_whether_to_try_again_and_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(KvferryError("pool_exhausted", "3 wanted")))
    assert (error.code, error.detail, error.retry, error.fault) == ("pool_exhausted", "3 wanted", "later", "load")
    assert str(error) == "pool_exhausted: no free and no evictable block is left (3 wanted)"


def test_an_unknown_code_is_internal_and_named() -> None:
    error = KvferryError("from_the_future", "x")
    assert error.code == "internal"
    assert "from_the_future" in error.detail


def test_blocks_are_cut_and_joined() -> None:
    some = blocks(5, 6, 7, 8)
    assert some[1:3] == blocks(6, 7)
    assert some[0] == blocks(5)
    assert some[-1] == blocks(8)
    assert some[[3, 0]] == blocks(8, 5)
    assert some[some.ids > 6] == blocks(7, 8)
    assert len(some[:2] + some[2:]) == 4
    assert some[:2] + some[2:] == some
    assert hash(some[:2] + some[2:]) == hash(some)
    assert len(Blocks.empty(LIFE)) == 0
    assert some != blocks(5, 6, 7, 8, life=OTHER_LIFE)


def test_blocks_of_two_lives_do_not_join() -> None:
    with pytest.raises(KvferryError, match="one incarnation"):
        blocks(1) + blocks(2, life=OTHER_LIFE)


def test_blocks_need_as_many_generations() -> None:
    with pytest.raises(KvferryError, match="as many generations"):
        Blocks(np.zeros(2, np.uint32), np.zeros(1, np.uint32), LIFE)


def test_blocks_cannot_be_written() -> None:
    ids = np.array([1, 2], np.uint32)
    some = Blocks(ids, ids, LIFE)
    ids[0] = 9
    assert list(some.ids) == [1, 2]
    with pytest.raises(ValueError, match="read-only"):
        some.ids[0] = 9


def test_blocks_go_between_processes() -> None:
    group = GroupBlocks(1, blocks(3, 4), 30)
    assert pickle.loads(pickle.dumps(group)) == group


def test_blocks_travel_little_endian() -> None:
    assert blocks(1, 258).to_message()["ids"] == bytes([1, 0, 0, 0, 2, 1, 0, 0])


def test_handles_carry_the_incarnation_and_cannot_be_guessed() -> None:
    one, other = new_handle(LIFE), new_handle(LIFE, "c0ffee")
    assert one[:9] == other[:9] == LIFE[:8] + "-"
    assert one[9:41] != other[9:41]
    assert other.endswith("c0ffee")
    assert is_handle_of(one, LIFE)
    assert not is_handle_of(one, OTHER_LIFE)
    assert not is_handle_of("nonsense", LIFE)


@pytest.mark.parametrize(("incarnation", "holds"), [("", ""), ("X" * 32, ""), (LIFE, "not hex"), (LIFE, "0" * 24)])
def test_handles_are_made_of_what_is_right(incarnation: str, holds: str) -> None:
    with pytest.raises(KvferryError):
        new_handle(incarnation, holds)
