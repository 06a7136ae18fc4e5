"""Keys against the vectors of schemas/keys.md, and chains that grow in steps against those made at once."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest

from kvferry import Identity, KeyChain, KvferryError, Seed, page_keys, page_tokens, state_key
from sidecars import ROOT


def vectors() -> dict[str, Any]:
    page = (ROOT / "schemas" / "keys.md").read_text("utf-8")
    found = re.search(r"```json\n(.*?)```", page, re.DOTALL)
    assert found is not None
    read: dict[str, Any] = json.loads(found[1])
    return read


VECTORS = vectors()


def tokens_of(vector: dict[str, Any]) -> list[int]:
    return [index * vector["tokenStep"] % 2**32 for index in range(vector["tokenCount"])]


@pytest.mark.parametrize("vector", VECTORS["fingerprints"])
def test_fingerprints(vector: dict[str, Any]) -> None:
    assert Identity(**vector["identity"]).fingerprint == vector["fingerprint"]


@pytest.mark.parametrize("vector", VECTORS["keys"])
def test_page_keys(vector: dict[str, Any]) -> None:
    keys = page_keys(vector["fingerprint"], vector["blockTokens"], tokens_of(vector), Seed(**vector["seed"]))
    assert keys.hex() == "".join(vector["keys"])


@pytest.mark.parametrize("vector", VECTORS["state"])
def test_state_keys(vector: dict[str, Any]) -> None:
    assert state_key(vector["fingerprint"], tokens_of(vector), Seed(**vector["seed"])).hex() == vector["key"]


@pytest.mark.parametrize("block_tokens", [16, 24, 32])
@pytest.mark.parametrize("steps", [(100,), (1,) * 100, (16, 16, 1, 67), (7, 25, 0, 68)])
def test_a_chain_may_grow_in_any_steps(block_tokens: int, steps: tuple[int, ...]) -> None:
    fingerprint = VECTORS["fingerprints"][0]["fingerprint"]
    tokens = np.arange(100, dtype=np.int64) * 31
    chain = KeyChain(fingerprint, block_tokens)
    added, at = b"", 0
    for step in steps:
        added += chain.extend(tokens[at : at + step])
        at += step
        assert chain.token_count == at
    assert added == chain.keys == page_keys(fingerprint, block_tokens, tokens)
    assert chain.block_count == 100 // block_tokens


def test_blocks_have_the_keys_of_their_pages() -> None:
    chain = KeyChain("0" * 64, 32)
    chain.extend(range(100))
    assert chain.page_tokens == 16
    assert len(chain.keys) == 6 * 32
    assert chain.of_blocks(1, 2) == chain.keys[2 * 32 :]
    with pytest.raises(KvferryError, match="among the first 3"):
        chain.of_blocks(2, 2)


def test_anything_in_the_seed_changes_every_key() -> None:
    seeds = [Seed(), Seed(tenant="x"), Seed(lora="x"), Seed(multimodal="x"), Seed(salt="x")]
    assert len({page_keys("0" * 64, 16, range(16), seed) for seed in seeds}) == len(seeds)


@pytest.mark.parametrize("tokens", [[-1], [2**32], [1.5], [[1]]])
def test_tokens_that_are_none_are_refused(tokens: Any) -> None:
    with pytest.raises(KvferryError) as caught:
        page_keys("0" * 64, 1, tokens)
    assert caught.value.code == "invalid_argument"


def test_pages() -> None:
    assert [page_tokens(size) for size in (1, 16, 24, 128)] == [1, 16, 24, 16]
    with pytest.raises(KvferryError):
        page_tokens(0)
