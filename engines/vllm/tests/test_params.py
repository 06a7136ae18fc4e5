"""kv_transfer_params: what a prefill says is understood by a decode; whatever else comes is refused with a code, and never believed."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from kvferry import KvferryError, Seed
from kvferry_vllm.params import (
    HEADS_MAX,
    SOURCES_MAX,
    TOKENS_MAX,
    Handover,
    Source,
    handle_of,
    new_secret,
    offers_handover,
    parse_handover,
    prompt_digest,
    wants_handover,
)

FINGERPRINT = "ab" * 32
PROMPT = list(range(1000, 1400))
DIGEST = prompt_digest(FINGERPRINT, PROMPT, Seed())
INCARNATION = "0123456789abcdef"


def source(digest: str = DIGEST, **changes: Any) -> Source:
    fields = {
        "peer": "10.0.0.1:7411",
        "handle": handle_of(INCARNATION, new_secret(), digest),
        "first_head": 0,
        "heads": 8,
    }
    return Source(**{**fields, **changes})


def params(**changes: Any) -> dict[str, Any]:
    return {**Handover((source(), source(first_head=8)), len(PROMPT), FINGERPRINT).to_params(), **changes}


def refused(given: dict[str, Any], digest: str = DIGEST) -> str:
    with pytest.raises(KvferryError) as raised:
        parse_handover(given, FINGERPRINT, digest)
    assert len(str(raised.value)) < 400, "what came is quoted in part only"
    return raised.value.code


def test_what_a_prefill_says_survives_json() -> None:
    handover = Handover((source(), source(peer="prefill-1", first_head=8)), len(PROMPT), FINGERPRINT)
    said = json.loads(json.dumps(handover.to_params()))
    assert offers_handover(said) and not wants_handover(said)
    assert parse_handover(said, FINGERPRINT, DIGEST) == handover


def test_what_proxies_add_does_not_matter() -> None:
    assert parse_handover(params(remote_prefill_cached_tokens=7, more={"a": [1]}), FINGERPRINT, DIGEST).tokens == len(
        PROMPT
    )


@pytest.mark.parametrize("version", [None, 0, 2, "1", 1.5, [1], "x" * 10_000])
def test_another_version_is_refused(version: Any) -> None:
    assert refused(params(kvferry=version)) == "version_unsupported"


@pytest.mark.parametrize("fingerprint", [None, "", "cd" * 32, 5, "y" * 10_000])
def test_another_model_is_refused(fingerprint: Any) -> None:
    assert refused(params(fingerprint=fingerprint)) == "fingerprint_mismatch"


@pytest.mark.parametrize("tokens", [None, 0, -1, True, 1.0, "400", TOKENS_MAX + 1, 10**40, [400]])
def test_a_number_of_tokens_is_bounded(tokens: Any) -> None:
    assert refused(params(tokens=tokens)) == "invalid_argument"


def listed(part: Source) -> list[Any]:
    return [part.peer, part.handle, part.first_head, part.heads]


@pytest.mark.parametrize(
    "sources", [None, [], {}, "abc", 5, [[]], [None], [["a", "b", 0]], [listed(source())] * (SOURCES_MAX + 1)]
)
def test_sources_are_a_bounded_list_of_four_fields(sources: Any) -> None:
    assert refused(params(sources=sources)) == "invalid_argument"


@pytest.mark.parametrize("at, value", [
    (0, ""), (0, 5), (0, "a b"), (0, "a\n"), (0, "x" * 257), (0, None),
    (1, ""), (1, "h"), (1, 7), (1, "0123456-" + "0" * 32 + DIGEST), (1, handle_of(INCARNATION, "zz" * 16, DIGEST)),
    (1, handle_of(INCARNATION, "0" * 32, DIGEST) + "\n"), (1, "a" * 100_000),
    (2, -1), (2, HEADS_MAX + 1), (2, "0"), (2, True), (2, 10**30), (3, 0), (3, HEADS_MAX + 1), (3, None),
])  # fmt: skip
def test_each_field_of_a_source_is_checked(at: int, value: Any) -> None:
    forged = listed(source())
    forged[at] = value
    assert refused(params(sources=[listed(source()), forged])) == "invalid_argument"


def test_kv_of_another_prompt_is_refused_whatever_else_fits() -> None:
    changed = [*PROMPT[:-1], PROMPT[-1] + 1]
    other = prompt_digest(FINGERPRINT, changed, Seed())
    assert refused(params(), other) == "invalid_argument"
    assert refused(params(sources=[listed(source()), listed(source(other))])) == "invalid_argument"


@pytest.mark.parametrize("seed", [Seed(tenant="t"), Seed(lora="l"), Seed(multimodal="m"), Seed(salt="s")])
def test_a_prompt_is_another_where_its_kv_is(seed: Seed) -> None:
    assert prompt_digest(FINGERPRINT, PROMPT, seed) != DIGEST
    assert prompt_digest("cd" * 32, PROMPT, Seed()) != DIGEST


def nested(levels: int, kind: type) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"a": value} if kind is dict else [value]
    return value


@pytest.mark.parametrize("kind", [list, dict])
@pytest.mark.parametrize("levels", [10, 990, 100_000])
@pytest.mark.parametrize("name", ["kvferry", "fingerprint", "tokens", "sources"])
def test_what_is_nested_deeply_is_refused_as_anything_else(name: str, levels: int, kind: type) -> None:
    assert refused(params(**{name: nested(levels, kind)})) in (
        "invalid_argument",
        "version_unsupported",
        "fingerprint_mismatch",
    )


class Unshowable:
    def __repr__(self) -> str:
        raise RuntimeError


def test_what_cannot_be_shown_is_refused_as_anything_else() -> None:
    for value in (10**10_000, Unshowable(), {Unshowable(): 1, 2: 3}, "\ud800" * 200, b"x" * 10**6):
        assert refused(params(tokens=value)) == "invalid_argument"


def test_secrets_do_not_repeat() -> None:
    assert len({new_secret() for _ in range(1000)}) == 1000


def test_nothing_makes_the_parser_raise_anything_else() -> None:
    chance = random.Random(7)
    junk = [
        None,
        True,
        -1,
        2**70,
        1.5,
        float("nan"),
        "",
        "x",
        "\x00",
        [],
        {},
        [[]],
        [[1, 2, 3, 4]],
        ["a", DIGEST, 0, 1],
        FINGERPRINT,
        1,
    ]
    for _ in range(3000):
        given = params()
        for name in chance.sample([*given, "else"], 2):
            given[name] = chance.choice(junk)
        if chance.random() < 0.5:
            forged = listed(source())
            forged[chance.randrange(4)] = chance.choice(junk)
            given["sources"] = [forged]
        try:
            parse_handover(given, FINGERPRINT, DIGEST)
        except KvferryError as error:
            assert error.code in ("invalid_argument", "version_unsupported", "fingerprint_mismatch")


@pytest.mark.parametrize(
    "given", [None, {}, {"do_remote_decode": 1}, {"do_remote_decode": "true"}, {"do_remote_prefill": "yes"}]
)
def test_only_true_asks_for_anything(given: Any) -> None:
    assert not wants_handover(given) and not offers_handover(given)
