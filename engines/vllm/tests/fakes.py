"""What the scheduler half and the copies are given in tests: requests, steps, caches and a sidecar without a process behind it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from vllm.v1.core.sched.output import CachedRequestData
from vllm.v1.kv_cache_interface import KVCacheConfig, KVCacheGroupSpec

from kvferry import Component, Group, Identity, KvferryError, NodeInfo, Place
from kvferry_vllm.shape import CacheShape, Handshake

IDENTITY = Identity("model", "1", "bf16")
INCARNATION = "00112233445566778899aabbccddeeff"


class FakePool:
    """Memory, and nothing else that copies look at."""

    def __init__(self, size: int) -> None:
        self.view = np.full(size, 0xEE, np.uint8)
        self.valid = True


def config(blocks: int, *groups: tuple[Sequence[str], Any]) -> KVCacheConfig:
    described = [KVCacheGroupSpec(list(names), spec) for names, spec in groups]
    return KVCacheConfig(num_blocks=blocks, kv_cache_tensors=[], kv_cache_groups=described)


def names(count: int, first: int = 0) -> list[str]:
    return [f"model.layers.{index}.self_attn.attn" for index in range(first, first + count)]


def read(pool: FakePool, component: Component, layer: int, place: int, tokens: int, dtype: torch.dtype) -> torch.Tensor:
    """[tokens, heads, channels], by nothing but the component's strides; `tokens` is 1 for state."""
    size = torch.empty(0, dtype=dtype).element_size()
    token, head, channel = np.ogrid[:tokens, : component.heads, : component.channels]
    at = component.offsets[layer] + place * component.block_stride
    at = at + token * component.token_stride + head * component.head_stride + channel * component.channel_stride
    values = np.stack([pool.view[at + byte] for byte in range(size)], axis=-1)
    return torch.from_numpy(np.ascontiguousarray(values)).view(dtype).squeeze(-1)


class FakeSidecar:
    """Says where prefixes lie when a test says so."""

    def __init__(self, *_: Any) -> None:
        self.known: Any = SimpleNamespace(incarnation=INCARNATION, info=NodeInfo("p", "10.0.0.1:7411", "tcp"))
        self.asked: list[bytes] = []
        self.answers: Future[list[Place]] | None = Future()
        self.discarded: list[tuple[str, str]] = []
        self.prewarmed: list[tuple[str, int]] = []
        self.closed = 0

    def lookup(self, keys: bytes, peers: Sequence[str], timeout_s: float) -> Future[list[Place]] | None:
        self.asked.append(keys)
        return self.answers

    def answer(self, *places: tuple[str, int]) -> None:
        assert self.answers is not None
        self.answers.set_result([Place(peer, matched, "") for peer, matched in places])

    def fail(self, code: Any) -> None:
        assert self.answers is not None
        self.answers.set_exception(KvferryError(code))

    def discard(self, peer: str, handle: str) -> None:
        self.discarded.append((peer, handle))

    def prewarm(self, peer: str, size: int) -> None:
        self.prewarmed.append((peer, size))

    def close(self) -> None:
        self.closed += 1


def handshake(block_tokens: Sequence[int] = (16,), first_head: int = 0, heads: int = 2) -> Handshake:
    groups = tuple(Group(tokens, (index,), ()) for index, tokens in enumerate(block_tokens))
    return Handshake(IDENTITY, CacheShape(groups, (1,) * len(groups), 64), first_head, heads)


def request(name: str, tokens: Iterable[int], params: dict[str, Any] | None = None, **more: Any) -> Any:
    prompt = list(tokens)
    fields: dict[str, Any] = {
        "request_id": name,
        "prompt_token_ids": prompt,
        "_all_token_ids": list(prompt),
        "num_prompt_tokens": len(prompt),
        "max_tokens": 16,
        "kv_transfer_params": params,
        "lora_request": None,
        "mm_features": [],
        "cache_salt": None,
        "trace_headers": None,
        "prompt_embeds": None,
    }
    return SimpleNamespace(**{**fields, **more})


def new(name: str, blocks: Sequence[Sequence[int]], computed: int = 0) -> Any:
    return SimpleNamespace(req_id=name, block_ids=tuple(list(group) for group in blocks), num_computed_tokens=computed)


def step(scheduled: dict[str, int], first: Sequence[Any] = (), again: Sequence[tuple[str, Any, int, bool]] = ()) -> Any:
    """`again`, of those that were scheduled before: (request, blocks that are new or None, tokens computed, whether it was preempted)."""
    cached = CachedRequestData(
        req_ids=[name for name, _, _, _ in again],
        resumed_req_ids={name for name, _, _, resumed in again if resumed},
        new_token_ids=[],
        all_token_ids={},
        new_block_ids=[blocks for _, blocks, _, _ in again],
        num_computed_tokens=[computed for _, _, computed, _ in again],
        num_output_tokens=[0 for _ in again],
    )
    return SimpleNamespace(
        total_num_scheduled_tokens=sum(scheduled.values()),
        num_scheduled_tokens=scheduled,
        scheduled_new_reqs=list(first),
        scheduled_cached_reqs=cached,
    )
