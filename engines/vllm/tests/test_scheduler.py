"""The scheduler's half, driven as vLLM drives it, with a sidecar that answers when a test says so. Method: what the steps' metadata
tells the workers to copy is compared with what the request's blocks hold at that moment: nothing may be left out or copied too early."""

from __future__ import annotations

from typing import Any

import pytest

from fakes import INCARNATION, handshake, new, request, step
from kvferry import KvferryError, Seed
from kvferry_vllm.metadata import GroupCopy, Load
from kvferry_vllm.options import Options
from kvferry_vllm.params import Handover, Source, handle_of, new_secret, prompt_digest
from kvferry_vllm.scheduler import Scheduler
from scheduling import FINGERPRINT, build, copied, made, no_sidecar, sidecar

__all__ = ["made", "no_sidecar"]
PREFILL = {"do_remote_decode": True, "do_remote_prefill": False}


# A prefill for somebody else.


def test_a_prompt_in_one_step_is_saved_with_its_last_partly_filled_block(made: list[Scheduler]) -> None:
    scheduler = build(made)
    asked = request("r", range(40), PREFILL)
    scheduler.new_request(asked)
    assert scheduler.matched_tokens(asked, 0) == (0, False)
    (save,) = scheduler.step(step({"r": 40}, [new("r", [[7, 3, 9]])])).saves
    assert copied([save]) == [(0, 7), (1, 3), (2, 9)]
    assert (save.opening, save.final, save.tokens, save.keys) == (True, True, 40, b"")
    params = scheduler.finished(asked, True)
    assert params is not None and params["tokens"] == 40 and params["fingerprint"] == FINGERPRINT
    (part,) = params["sources"]
    assert part == ["10.0.0.1:7411", f"{INCARNATION[:8]}-{save.secret_and_digest}", 0, 2]
    assert part[1].endswith(prompt_digest(FINGERPRINT, range(40), Seed()))
    assert scheduler.step(step({})).dropped == []


def test_chunks_save_each_block_as_it_fills_and_the_partly_filled_one_again(made: list[Scheduler]) -> None:
    scheduler = build(made)
    asked = request("r", range(70), PREFILL)
    scheduler.new_request(asked)
    first = scheduler.step(step({"r": 24}, [new("r", [[1, 2]])])).saves
    second = scheduler.step(step({"r": 24}, again=[("r", ([3],), 24, False)])).saves
    third = scheduler.step(step({"r": 22}, again=[("r", ([4, 5],), 48, False)])).saves
    assert [save.final for save in (*first, *second, *third)] == [False, False, True]
    assert [save.opening for save in (*first, *second, *third)] == [True, False, False]
    assert copied(first) == [(0, 1), (1, 2)]
    assert copied(second) == [(1, 2), (2, 3)], "block 1 was half filled"
    assert copied(third) == [(3, 4), (4, 5)]
    assert all(save.tokens == 70 for save in (*first, *second, *third))
    # Decoding on is nobody's business.
    assert scheduler.step(step({"r": 1}, again=[("r", None, 70, False)])).saves == []
    assert scheduler.finished(asked, True) is not None


def test_a_preempted_prompt_saves_what_it_computes_again_from_its_new_blocks(made: list[Scheduler]) -> None:
    scheduler = build(made)
    asked = request("r", range(48), PREFILL)
    scheduler.new_request(asked)
    scheduler.step(step({"r": 32}, [new("r", [[1, 2]])]))
    # Preempted: its blocks are somebody else's; it comes back with others, from the beginning.
    again = scheduler.step(step({"r": 32}, again=[("r", ([8, 9],), 0, True)])).saves
    last = scheduler.step(step({"r": 16}, again=[("r", ([10],), 32, False)])).saves
    assert copied(again) == [(0, 8), (1, 9)]
    assert copied(last) == [(2, 10)], "and no block of before"
    assert last[0].final
    assert scheduler.finished(asked, True) is not None


def test_what_the_engine_had_cached_itself_is_saved_too(made: list[Scheduler]) -> None:
    scheduler = build(made)
    asked = request("r", range(50), PREFILL)
    scheduler.new_request(asked)
    (save,) = scheduler.step(step({"r": 18}, [new("r", [[1, 2, 3, 4]], computed=32)])).saves
    assert copied([save]) == [(0, 1), (1, 2), (2, 3), (3, 4)]


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_an_abort_gives_up_what_was_saved_in_every_phase(made: list[Scheduler], steps: int) -> None:
    scheduler = build(made)
    asked = request("r", range(40), PREFILL)
    scheduler.new_request(asked)
    if steps > 0:
        scheduler.step(step({"r": 16}, [new("r", [[1]])]))
    if steps > 1:
        scheduler.step(step({"r": 24}, again=[("r", ([2, 3],), 16, False)]))
    assert scheduler.finished(asked, False) is None
    assert scheduler.step(step({})).dropped == ["r"]
    assert scheduler.step(step({})).dropped == []
    # Its name may come again.
    scheduler.new_request(asked)
    (save,) = scheduler.step(step({"r": 40}, [new("r", [[4, 5, 6]])])).saves
    assert save.opening and save.final and scheduler.finished(asked, True) is not None


def test_no_address_no_promise(made: list[Scheduler]) -> None:
    for known in (None, "nowhere"):
        scheduler = build(made)
        asked = request("r", range(16), PREFILL)
        scheduler.new_request(asked)
        scheduler.step(step({"r": 16}, [new("r", [[1]])]))
        if known is None:
            sidecar(scheduler).known = None
        else:
            sidecar(scheduler).known.info = type(sidecar(scheduler).known.info)("p", "", "tcp")
        assert scheduler.finished(asked, True) is None
        assert scheduler.step(step({})).dropped == ["r"]


def test_every_rank_is_named_with_its_heads(made: list[Scheduler]) -> None:
    scheduler = build(made, ranks=3)
    asked = request("r", range(16), PREFILL)
    scheduler.new_request(asked)
    scheduler.step(step({"r": 16}, [new("r", [[1]])]))
    params = scheduler.finished(asked, True)
    assert params is not None and [part[2:] for part in params["sources"]] == [[0, 2], [2, 2], [4, 2]]


def test_several_groups_are_saved_each_in_its_own_blocks_without_placeholders(made: list[Scheduler]) -> None:
    # Full attention in blocks of 16, a window in blocks of 32 whose first block has been left behind (vLLM's block 0), and state.
    scheduler = build(made, (16, 32, 0))
    asked = request("r", range(65), PREFILL)
    scheduler.new_request(asked)
    (save,) = scheduler.step(step({"r": 64}, [new("r", [[1, 2, 3, 4], [0, 6], [7, 8]])])).saves
    assert save.copies == (GroupCopy(0, (0, 1, 2, 3), (1, 2, 3, 4)), GroupCopy(1, (1,), (6,)), GroupCopy(2, (0,), (8,)))


def test_a_prefill_with_state_ends_before_the_token_that_the_decode_engine_computes(made: list[Scheduler]) -> None:
    scheduler = build(made, (16, 0))
    asked = request("r", range(40), PREFILL)
    scheduler.new_request(asked)
    assert (asked.prompt_token_ids, asked._all_token_ids) == (list(range(39)), list(range(39)))
    assert (asked.num_prompt_tokens, asked.max_tokens) == (39, 1)
    first = scheduler.step(step({"r": 32}, [new("r", [[1, 2], [5]])])).saves
    (last,) = scheduler.step(step({"r": 7}, again=[("r", ([3], []), 32, False)])).saves
    assert copied(first, group=1) == [] and copied([last], group=1) == [(0, 5)], "state is there when the prompt is"
    assert last.final and last.tokens == 39
    params = scheduler.finished(asked, True)
    assert params is not None and params["tokens"] == 39
    assert params["sources"][0][1].endswith(prompt_digest(FINGERPRINT, range(40), Seed())), (
        "of the prompt as it was asked"
    )
    for other in (request("one", [7], PREFILL), request("plain", range(40))):
        before = list(other.prompt_token_ids)
        scheduler.new_request(other)
        assert other.prompt_token_ids == before
        assert scheduler.finished(other, True) is None


def test_groups_that_are_not_transferred_are_passed_over(made: list[Scheduler]) -> None:
    scheduler = build(made, (16,), groups=(1,))
    asked = request("r", range(16), PREFILL)
    scheduler.new_request(asked)
    (save,) = scheduler.step(step({"r": 16}, [new("r", [[99], [5]])])).saves
    assert copied([save]) == [(0, 5)]


def test_prompts_without_token_ids_are_let_be(made: list[Scheduler]) -> None:
    scheduler = build(made)
    for asked in (
        request("a", range(16), PREFILL, prompt_token_ids=None),
        request("b", range(16), PREFILL, prompt_embeds=object()),
    ):
        scheduler.new_request(asked)
        assert scheduler.matched_tokens(asked, 0) == (0, False)
        assert scheduler.step(step({asked.request_id: 16}, [new(asked.request_id, [[1]])])).saves == []


# A request that brings KV along.


def handed_over(length: int, **changes: Any) -> dict[str, Any]:
    """Of a prompt of that many tokens."""
    digest = prompt_digest(FINGERPRINT, range(length), Seed())
    source = Source("10.0.0.9:7411", handle_of(INCARNATION, new_secret(), digest), 0, 2)
    return {**Handover((source,), length, FINGERPRINT).to_params(), **changes}


def loaded(scheduler: Scheduler, asked: Any, computed: int, blocks: tuple[list[int], ...]) -> Load:
    tokens, asynchronous = scheduler.matched_tokens(asked, computed)
    # The last token is computed in any case. Told of it, vLLM would let go of the first block of that token's window.
    assert asynchronous and tokens == asked.num_prompt_tokens - 1 - computed
    scheduler.allocated(asked, blocks, tokens)
    (load,) = scheduler.step(step({})).loads
    return load


def test_all_tokens_but_the_last_are_loaded_into_the_blocks_that_were_allocated(made: list[Scheduler]) -> None:
    scheduler = build(made)
    asked = request("d", range(40), handed_over(40))
    scheduler.new_request(asked)
    load = loaded(scheduler, asked, 0, ([5, 6, 7],))
    assert load.copies == (GroupCopy(0, (0, 1, 2), (5, 6, 7)),)
    assert (load.tokens, [part.source.peer for (part,) in load.parts], load.peer) == (40, ["10.0.0.9:7411"], "")
    assert scheduler.step(step({})).loads == [], "once"
    # The load failed, vLLM asks again: it is computed.
    assert scheduler.matched_tokens(asked, 0) == (0, False)
    scheduler.finished(asked, True)


def test_each_rank_is_told_its_part_and_what_nobody_needs_is_discarded(made: list[Scheduler]) -> None:
    scheduler = build(made, ranks=2)
    params = handed_over(40)
    peer, handle, _, _ = params["sources"][0]
    params["sources"] = [[peer, handle, 0, 4], [f"{peer}1", handle, 4, 4]]
    load = loaded(scheduler, request("d", range(40), params), 0, ([5, 6, 7],))
    assert [[(part.first_head, part.heads, part.readers) for part in own] for own in load.parts] == [
        [(0, 2, 2)],
        [(2, 2, 2)],
    ]
    assert sidecar(scheduler).discarded == [(f"{peer}1", handle)]


def test_connections_are_made_while_a_request_waits_for_its_turn(made: list[Scheduler]) -> None:
    scheduler = build(made, ranks=2)
    params = handed_over(40)
    peer, handle, _, _ = params["sources"][0]
    params["sources"] = [[peer, handle, 0, 2], [f"{peer}1", handle, 2, 1], [f"{peer}2", handle, 3, 1]]
    scheduler.new_request(request("d", range(40), params))
    # Three blocks of 64 bytes; the second rank's come from two.
    hinted = [rank.prewarmed for _, rank in scheduler._ranks]  # type: ignore[attr-defined]
    assert hinted == [[(peer, 192)], [(f"{peer}1", 96), (f"{peer}2", 96)]]


@pytest.mark.parametrize(
    "changes", [{"sources": None}, {"kvferry": 2}, {"sources": [["p q", "h", 0, 2]]}, {"fingerprint": 1}]
)
def test_a_hint_fails_no_request_and_is_given_for_nothing_else(made: list[Scheduler], changes: dict[str, Any]) -> None:
    scheduler = build(made)
    for params in (handed_over(40, **changes), PREFILL, None):
        scheduler.new_request(request("d", range(40), params))
    silent = build(made, prewarm=False)
    silent.new_request(request("d", range(40), handed_over(40)))
    assert sidecar(scheduler).prewarmed == sidecar(silent).prewarmed == []


def test_what_a_rank_may_not_have_fetched_is_discarded_at_the_end(made: list[Scheduler]) -> None:
    for ranks, expected in ((1, 0), (2, 1)):
        scheduler = build(made, ranks=ranks)
        params = handed_over(40)
        params["sources"][0][3] = 2 * ranks
        asked = request("d", range(40), params)
        loaded(scheduler, asked, 0, ([5, 6, 7],))
        scheduler.finished(asked, True)
        assert len(sidecar(scheduler).discarded) == expected


def test_a_hand_over_without_some_of_our_heads_is_computed(made: list[Scheduler]) -> None:
    scheduler = build(made, ranks=2)
    assert scheduler.matched_tokens(request("d", range(40), handed_over(40)), 0) == (0, False)


def test_a_last_token_in_a_block_of_its_own_needs_none_of_it(made: list[Scheduler]) -> None:
    scheduler = build(made)
    load = loaded(scheduler, request("d", range(33), handed_over(33)), 0, ([5, 6, 7],))
    assert load.copies == (GroupCopy(0, (0, 1), (5, 6)),) and load.tokens == 33


def test_what_the_engine_has_cached_itself_is_not_written_over(made: list[Scheduler]) -> None:
    scheduler = build(made)
    load = loaded(scheduler, request("d", range(40), handed_over(40)), 16, ([1, 6, 7],))
    assert load.copies == (GroupCopy(0, (1, 2), (6, 7)),)


def test_several_groups_are_loaded_without_placeholders(made: list[Scheduler]) -> None:
    scheduler = build(made, (16, 32, 0))
    asked = request("d", range(65), handed_over(65, tokens=64))
    load = loaded(scheduler, asked, 0, ([1, 2, 3, 4], [0, 6], [7, 8]))
    assert load.copies == (GroupCopy(0, (0, 1, 2, 3), (1, 2, 3, 4)), GroupCopy(1, (1,), (6,)), GroupCopy(2, (0,), (8,)))


@pytest.mark.parametrize("changes", [
    {"kvferry": 2}, {"fingerprint": "00" * 32}, {"tokens": 39}, {"tokens": 41}, {"sources": []},
    {"sources": [["10.0.0.9:7411", handle_of(INCARNATION, "0" * 32, "1" * 22), 0, 2]]},
])  # fmt: skip
def test_what_does_not_fit_is_computed_and_not_asked_for_again(made: list[Scheduler], changes: dict[str, Any]) -> None:
    scheduler = build(made)
    asked = request("d", range(40), handed_over(40, **changes))
    scheduler.new_request(asked)
    for _ in range(2):
        assert scheduler.matched_tokens(asked, 0) == (0, False)
    scheduler.allocated(asked, ([1, 2, 3],), 0)
    first = scheduler.step(step({"d": 40}, [new("d", [[1, 2, 3]])]))
    assert (first.loads, len(first.refused)) == ([], 1)
    assert scheduler.step(step({})).refused == []
    scheduler.finished(asked, True)
    assert sidecar(scheduler).discarded == [], "a forged handle is nothing to act upon"


@pytest.mark.parametrize("phase", ["asked", "allocated", "told"])
def test_an_abort_ends_a_load_in_every_phase(made: list[Scheduler], phase: str) -> None:
    scheduler = build(made)
    asked = request("d", range(40), handed_over(40))
    scheduler.matched_tokens(asked, 0)
    if phase != "asked":
        scheduler.allocated(asked, ([1, 2, 3],), 39)
    if phase == "told":
        scheduler.step(step({}))
    assert scheduler.finished(asked, False) is None
    # Of a load that is under way the worker takes care.
    assert len(sidecar(scheduler).discarded) == (1 if phase == "asked" else 0)
    assert "d" in scheduler.step(step({})).dropped
    assert scheduler.matched_tokens(asked, 0) == (39, True), "nothing is remembered of it"


def test_the_offer_of_a_request_that_vllm_refuses_is_discarded(made: list[Scheduler]) -> None:
    scheduler = build(made)
    params = handed_over(40)
    # As vLLM tells of it: without its prompt.
    assert scheduler.finished(request("d", [0], params, abort_immediately=True), False) is None
    assert sidecar(scheduler).discarded == [tuple(params["sources"][0][:2])]
    assert (
        scheduler.finished(request("e", [0], {**params, "fingerprint": "00" * 32}, abort_immediately=True), False)
        is None
    )
    assert len(sidecar(scheduler).discarded) == 1


def test_few_tokens_are_computed(made: list[Scheduler]) -> None:
    scheduler = build(made, min_tokens=30)
    asked = request("a", range(40), handed_over(40))
    assert scheduler.matched_tokens(asked, 16) == (0, False)
    assert sidecar(scheduler).discarded == [tuple(asked.kv_transfer_params["sources"][0][:2])], "nobody will fetch it"
    assert scheduler.finished(asked, True) is None and len(sidecar(scheduler).discarded) == 1, "told once"
    assert scheduler.matched_tokens(request("b", range(40), handed_over(40)), 9) == (30, True)


def test_ranks_that_differ_are_refused(made: list[Scheduler]) -> None:
    scheduler = Scheduler(Options.parse({"socket": "/run/{rank}.sock"}), (0,))
    made.append(scheduler)
    with pytest.raises(KvferryError) as raised:
        scheduler.meet([handshake((16,)), handshake((32,))])
    assert raised.value.code == "unsupported"


def test_nothing_is_remembered_of_requests_that_are_over(made: list[Scheduler]) -> None:
    scheduler = build(made, prefix=True)
    for index in range(50):
        params = [None, PREFILL, handed_over(40)][index % 3]
        asked = request(f"r{index}", range(40), params)
        scheduler.new_request(asked)
        sidecar(scheduler).answers = None
        tokens, _ = scheduler.matched_tokens(asked, 0)
        if index % 2 == 0:
            scheduler.allocated(asked, ([1, 2, 3],), tokens or 0)
            scheduler.step(step({asked.request_id: 40}, [new(asked.request_id, [[1, 2, 3]], tokens or 0)]))
        scheduler.finished(asked, index % 5 != 0)
    scheduler.step(step({}))
    state = (
        scheduler._outgoing,
        scheduler._incoming,
        scheduler._lookups,
        scheduler._tried,
        scheduler._loads,
        scheduler._dropped,
        scheduler._refused,
    )
    assert not any(state)
