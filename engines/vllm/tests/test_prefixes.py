"""Prefixes that others have published, as the scheduler's half looks for them. Method: look-ups are answered when a test says so."""

from __future__ import annotations

from concurrent.futures import Future

import pytest

from fakes import new, request, step
from kvferry import Place
from kvferry_vllm import scheduler as module
from kvferry_vllm.metadata import GroupCopy
from kvferry_vllm.scheduler import Scheduler
from scheduling import build, copied, made, no_sidecar, sidecar

__all__ = ["made", "no_sidecar"]


def test_a_prefix_is_waited_for_then_loaded_from_where_most_of_it_lies(made: list[Scheduler]) -> None:
    scheduler = build(made, prefix=True, peers=["p", "q"])
    asked = request("r", range(70))
    scheduler.new_request(asked)
    assert scheduler.matched_tokens(asked, 0) == (None, False)
    assert scheduler.matched_tokens(asked, 0) == (None, False)
    assert [len(keys) for keys in sidecar(scheduler).asked] == [4 * 32], "asked once, for whole blocks"
    sidecar(scheduler).answer(("", 1), ("p", 3), ("q", 2))
    assert scheduler.matched_tokens(asked, 0) == (48, True)
    scheduler.allocated(asked, ([1, 2, 3, 4, 5],), 48)
    (load,) = scheduler.step(step({})).loads
    assert (load.peer, load.tokens, load.parts, load.copies) == ("p", 48, (), (GroupCopy(0, (0, 1, 2), (1, 2, 3)),))
    assert load.keys == sidecar(scheduler).asked[0][: 3 * 32]


def test_the_last_token_is_always_computed(made: list[Scheduler]) -> None:
    scheduler = build(made, prefix=True)
    asked = request("r", range(64))
    scheduler.new_request(asked)
    scheduler.matched_tokens(asked, 0)
    assert len(sidecar(scheduler).asked[0]) == 3 * 32
    sidecar(scheduler).answer(("", 3))
    assert scheduler.matched_tokens(asked, 0) == (48, True)
    assert scheduler.matched_tokens(request("s", range(16)), 0) == (0, False)


def test_our_own_sidecar_wins_among_equals_and_its_blocks_are_not_published_again(made: list[Scheduler]) -> None:
    scheduler = build(made, prefix=True, peers=["p"])
    asked = request("r", range(70))
    scheduler.new_request(asked)
    scheduler.matched_tokens(asked, 0)
    sidecar(scheduler).answer(("p", 3), ("", 3))
    assert scheduler.matched_tokens(asked, 0) == (48, True)
    scheduler.allocated(asked, ([1, 2, 3, 4, 5],), 48)
    assert scheduler.step(step({})).loads[0].peer == ""
    (save,) = scheduler.step(step({"r": 22}, [new("r", [[1, 2, 3, 4, 5]], computed=48)])).saves
    assert copied([save]) == [(3, 4)]
    assert (save.first_key_block, len(save.keys), save.secret_and_digest) == (3, 32, "")
    assert scheduler.finished(asked, True) is None


def test_a_hand_over_saves_the_prefix_that_was_found_here_as_well(made: list[Scheduler]) -> None:
    scheduler = build(made, prefix=True)
    asked = request("r", range(70), {"do_remote_decode": True})
    scheduler.new_request(asked)
    scheduler.matched_tokens(asked, 0)
    sidecar(scheduler).answer(("", 3))
    assert scheduler.matched_tokens(asked, 0) == (48, True)
    scheduler.allocated(asked, ([1, 2, 3, 4, 5],), 48)
    scheduler.step(step({}))
    (save,) = scheduler.step(step({"r": 22}, [new("r", [[1, 2, 3, 4, 5]], computed=48)])).saves
    assert copied([save]) == [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5)], "all tokens are promised"
    assert (save.tokens, save.first_key_block) == (70, 0)


@pytest.mark.parametrize("params", [None, {"do_remote_decode": True}])
def test_a_prefix_that_turns_up_after_a_preemption_moves_no_memory_of_the_save(
    made: list[Scheduler], params: dict[str, bool] | None
) -> None:
    scheduler = build(made, prefix=True)
    asked = request("r", range(70), params)
    scheduler.new_request(asked)
    scheduler.matched_tokens(asked, 0)
    sidecar(scheduler).answer()
    assert scheduler.matched_tokens(asked, 0) == (0, False)
    (opened,) = scheduler.step(step({"r": 32}, [new("r", [[1, 2]])])).saves
    assert (opened.opening, opened.first_key_block) == (True, 0)
    # Preempted; meanwhile somebody has published the prompt's beginning.
    lookup = scheduler._lookups["r"]
    lookup.future = answered = Future()
    answered.set_result([Place("", 3, "")])
    assert scheduler.matched_tokens(asked, 0) == (48, True)
    scheduler.allocated(asked, ([6, 7, 8, 9, 10],), 48)
    scheduler.step(step({}))
    (save,) = scheduler.step(step({"r": 22}, again=[("r", ([6, 7, 8, 9, 10],), 48, True)])).saves
    assert (save.opening, save.first_key_block) == (False, 0)
    places = [place for place, _ in copied([opened, save])]
    assert set(places) >= set(range(4)), "no block of the memory is left unwritten"


@pytest.mark.parametrize("places", [[], [("p", 0)], [("p", 1)], [("", 2)]])
def test_a_shorter_prefix_than_the_engines_own_is_not_loaded(
    made: list[Scheduler], places: list[tuple[str, int]]
) -> None:
    scheduler = build(made, prefix=True)
    asked = request("r", range(70))
    scheduler.new_request(asked)
    scheduler.matched_tokens(asked, 32)
    sidecar(scheduler).answer(*places)
    assert scheduler.matched_tokens(asked, 32) == (0, False)


def test_a_look_up_that_is_late_is_given_up_for_good(made: list[Scheduler], monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler = build(made, prefix=True)
    asked = request("r", range(70))
    scheduler.new_request(asked)
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    assert scheduler.matched_tokens(asked, 0) == (None, False)
    now[0] = 60.5
    assert scheduler.matched_tokens(asked, 0) == (0, False)
    assert sidecar(scheduler).answers.cancelled()  # type: ignore[union-attr]
    assert scheduler.matched_tokens(asked, 0) == (0, False)
    assert len(sidecar(scheduler).asked) == 1


def test_a_look_up_that_fails_or_cannot_be_made_is_no_prefix(made: list[Scheduler]) -> None:
    for answers in ("fails", None):
        scheduler = build(made, prefix=True)
        asked = request("r", range(70))
        scheduler.new_request(asked)
        if answers is None:
            sidecar(scheduler).answers = None
        else:
            scheduler.matched_tokens(asked, 0)
            sidecar(scheduler).fail("connection_lost")
        assert scheduler.matched_tokens(asked, 0) == (0, False)
        (save,) = scheduler.step(step({"r": 70}, [new("r", [[1, 2, 3, 4, 5]])])).saves
        assert copied([save]) == [(0, 1), (1, 2), (2, 3), (3, 4)], "whole blocks are published all the same"
        assert len(save.keys) == 4 * 32


def test_an_abort_forgets_a_look_up(made: list[Scheduler]) -> None:
    scheduler = build(made, prefix=True)
    asked = request("r", range(70))
    scheduler.new_request(asked)
    scheduler.matched_tokens(asked, 0)
    scheduler.finished(asked, False)
    assert scheduler._lookups == {} and scheduler._outgoing == {}


def test_prefixes_of_several_kinds_of_kv_are_not_shared(made: list[Scheduler]) -> None:
    scheduler = build(made, (16, 0), prefix=True)
    asked = request("r", range(70))
    scheduler.new_request(asked)
    assert scheduler.matched_tokens(asked, 0) == (0, False)
    assert sidecar(scheduler).asked == []


# All of it.
