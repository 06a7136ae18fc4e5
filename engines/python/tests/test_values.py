"""Values by themselves: what they hold, how they are cut and joined, what is refused, and that they survive pickling."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from typing import Any

import msgpack
import numpy as np
import pytest

import kvferry
from kvferry import (
    Blocks,
    Component,
    Group,
    GroupBlocks,
    KeyChain,
    Keyed,
    KvferryError,
    Layout,
    Part,
    Range,
    new_handle,
)
from kvferry.arguments import INTEGER_MAX, integer
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


@pytest.mark.parametrize(
    "ids",
    [[1.7], [-1], [2**32 + 5], [2**70], [True], ["1"], [None], [[1]], [[1], [2, 3]], [1, [2]], 5, None, "12", {1}],
)
def test_blocks_are_of_integers(ids: Any) -> None:
    made: Callable[..., Blocks] = Blocks
    for given in ((ids, [1]), ([1], ids)):
        with pytest.raises(KvferryError, match=r"Expected (one row of )?integers") as caught:
            made(given[0], given[1], LIFE)
        assert caught.value.code == "invalid_argument"


@pytest.mark.parametrize("kind", [np.int8, np.uint16, np.int32, np.int64, np.uint64, list])
def test_blocks_are_of_any_integer_type(kind: type) -> None:
    made: Callable[..., Blocks] = Blocks
    ids: Any = [5, 6] if kind is list else np.array([5, 6], kind)
    assert made(ids, [105, 106], LIFE) == blocks(5, 6)
    assert made([], np.array([]), LIFE) == Blocks.empty(LIFE)
    assert made([2**32 - 1], [0], LIFE).ids[0] == 2**32 - 1
    assert blocks(5, 6)[np.int64(1)] == blocks(6)


NUMBERS: list[Callable[[Any], object]] = [
    lambda number: GroupBlocks(number, blocks(1), 16).group,
    lambda number: GroupBlocks(0, blocks(1), number).tokens,
    lambda number: Keyed(b"", number, 16).group,
    lambda number: Keyed(b"", 0, number).tokens,
    lambda number: Range(number, 0, 1).local,
    lambda number: Range(0, number, 1).remote,
    lambda number: Range(0, 0, number).bytes,
    lambda number: Layout(number, ()).block_count,
    lambda number: Group(number, (0,), ()).block_tokens,
    lambda number: Group(16, (number,), ()).layers[0],
    lambda number: Component("k", "u8", 1, 8, (number,), 64, 8, 8, 1).offsets[0],
    lambda number: Component("k", "u8", 1, 8, (0,), number, 8, 8, 1).block_stride,
    lambda number: Component("k", "u8", 1, 8, (0,), 64, 8, 8, 1, number).first_head,
    lambda number: Part("k", "u8", number, 8).heads,
    lambda number: KeyChain("f", number).block_tokens,
]


@pytest.mark.parametrize("make", NUMBERS)
def test_numbers_are_integers_of_any_type(make: Callable[[Any], object]) -> None:
    for given in (7, np.uint8(7), np.int64(7), np.uint64(7), np.array(7)):
        number = make(given)
        assert type(number) is int and number == 7
    for wrong in (7.0, np.float64(7), "7", None, True, np.True_, -1, np.int8(-1), 2**53, [7], np.array([7, 8])):
        with pytest.raises(KvferryError, match="Expected an integer") as caught:
            make(wrong)
        assert caught.value.code == "invalid_argument"


def test_small_types_do_not_overflow() -> None:
    chain = KeyChain("f", np.uint8(16))
    chain.extend(np.arange(16 * 16, dtype=np.uint16))
    assert chain.of_blocks(np.uint8(15), np.uint8(1)) == chain.keys[15 * 32 :]
    part = Part("k", "f32", np.int8(100), np.int8(100))
    group = kvferry.packed(np.int64(1 << 20), np.int8(16), range(1), [part])
    assert group.components[0].token_stride == 100 * 100 * 4
    assert msgpack.packb(Layout(np.int64(3), (group,)).to_message())


def test_a_bound_is_part_of_what_is_wanted() -> None:
    assert integer(INTEGER_MAX, "count") == INTEGER_MAX
    with pytest.raises(KvferryError, match="Expected an integer from 1 to 3 for count but received 4"):
        integer(4, "count", 1, 3)


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
