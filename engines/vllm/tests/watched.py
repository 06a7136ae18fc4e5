"""What an engine's own caches hold for a request, read from vLLM's tensors by vLLM's block tables: nothing of the connector's is asked."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from vllm.v1.kv_cache_interface import MLAAttentionSpec
from vllm.v1.request import RequestStatus

if TYPE_CHECKING:
    from vllm.v1.core.sched.output import SchedulerOutput

#: Latent KV lies token by token and is compared in pieces of so many, so that the engines' blocks may differ in size.
PIECE_TOKENS = 16


class Watched:
    """Looks on after each step of an engine that has one request, before vLLM lets go of anything."""

    def __init__(self, llm_engine: Any, request: str, prompt_tokens: int) -> None:
        self._scheduler = llm_engine.engine_core.engine_core.scheduler
        self._layers = llm_engine.vllm_config.compilation_config.static_forward_context
        self._request = request
        self._prompt_tokens = prompt_tokens
        self._loaded: list[dict[str, Any]] | None = None
        self._computed: list[dict[str, Any]] | None = None
        self._computed_tokens = 0
        self._update = self._scheduler.update_from_output
        self._scheduler.update_from_output = self._look

    def seen(self) -> dict[str, Any]:
        """`loaded`: when a load had ended, before anything was computed with it; None: there was none. `computed`: with the whole prompt
        in the cache, `computedTokens` of it by this engine."""
        self._scheduler.update_from_output = self._update
        return {
            "loaded": self._loaded,
            "computed": self._computed,
            "computedTokens": self._computed_tokens,
        }

    def _look(self, step: SchedulerOutput, *more: Any) -> Any:
        request = self._scheduler.requests.get(self._request)
        if self._computed is None and request is not None and request.status == RequestStatus.RUNNING:
            self._computed_tokens += step.num_scheduled_tokens.get(self._request, 0)
            if request.num_computed_tokens >= request.num_prompt_tokens:
                self._computed = self._held()
        outputs = self._update(step, *more)
        if self._request in self._scheduler.finished_recving_kv_req_ids - self._scheduler.failed_recving_kv_req_ids:
            self._loaded = self._held()
        return outputs

    def _held(self) -> list[dict[str, Any]]:
        """Of each cache group: digests of each piece held, layer by layer."""
        groups = self._scheduler.kv_cache_config.kv_cache_groups
        tables = self._scheduler.kv_cache_manager.get_block_ids(self._request)
        return [
            {
                "window": getattr(group.kv_cache_spec, "sliding_window", None),
                "tokens": group.kv_cache_spec.block_size,
                "pieces": self._pieces(group, table),
            }
            for group, table in zip(groups, tables, strict=True)
        ]

    def _pieces(self, group: Any, table: Sequence[int]) -> dict[int, list[str]]:
        """By the first token of each. Block 0 stands for one that is not held."""
        spec = group.kv_cache_spec
        caches = [self._layers[name].kv_cache for name in group.layer_names]
        pieces = {}
        for place, block in enumerate(table):
            first = place * spec.block_size
            if block == 0:
                continue
            if not isinstance(spec, MLAAttentionSpec):
                pieces[first] = [_digest(_block(cache, block)) for cache in caches]
                continue
            # The last token of the prompt is computed in any case.
            held = min(spec.block_size, self._prompt_tokens - 1 - first)
            for at in range(0, held, PIECE_TOKENS):
                end = min(at + PIECE_TOKENS, held)
                pieces[first + at] = [_digest([cache[block, at:end]]) for cache in caches]
        return pieces


def _block(cache: torch.Tensor | Sequence[torch.Tensor], block: int) -> list[torch.Tensor]:
    """A layer's state may lie in several tensors."""
    return [part[block] for part in ([cache] if isinstance(cache, torch.Tensor) else cache)]


def _digest(parts: Sequence[torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
