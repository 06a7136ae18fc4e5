"""A llama model as the harness needs it: prefill that shows what an engine would store, and continuation behind any prefix.

Small on purpose: everything that decides a figure is in sight. checks.py compares it with transformers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

# Queries that attend at once: bounds the matrix of scores to heads x 512 x tokens.
QUERIES_AT_ONCE = 512


@dataclass(frozen=True)
class Shape:
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    rope_theta: float
    epsilon: float

    @property
    def group(self) -> int:
        """Query heads that share a KV head."""
        return self.heads // self.kv_heads


@dataclass
class Prefix:
    """What lies before the tokens that are run: keys (after RoPE) and values of each layer, float32 [kv_heads, tokens, head_dim]."""

    keys: list[Tensor]
    values: list[Tensor]
    # The position of the first token that is run behind it; more than the tokens that are here where some were merged or dropped.
    length: int
    # Added to the logit of each key, [kv_heads, tokens] a layer: -inf for one that is not there, log n for one that stands for n.
    bias: list[Tensor] | None = None

    @staticmethod
    def of(kv: Tensor) -> Prefix:
        """From a dump's `kv`, [layers, 2, kv_heads, tokens, head_dim]."""
        planes = kv.float()
        return Prefix(list(planes[:, 0]), list(planes[:, 1]), kv.shape[3])


@dataclass(frozen=True)
class Seen:
    """What a layer did with its tokens, for whoever observes it; float32, one sequence."""

    layer: int
    # [heads, tokens, head_dim], before RoPE.
    queries: Tensor
    # [kv_heads, tokens, head_dim]: keys after RoPE, values.
    keys: Tensor
    values: Tensor
    # [kv_heads, tokens]: attention that each token got, summed over queries and over the query heads of its KV head.
    attention: Tensor


Observer = Callable[[Seen], None]


class Llama:
    """bf16: linear layers and what is attended to are rounded to bfloat16, as in an engine; norms, RoPE and softmax are float32."""

    def __init__(self, folder: Path, *, bf16: bool = False):
        config = json.loads((folder / "config.json").read_text())
        if config["model_type"] != "llama" or not config["tie_word_embeddings"] or config["attention_bias"]:
            raise ValueError(f"{folder} is not of the kind that is known here: llama, tied embeddings, no biases")
        self.bf16 = bf16
        self.shape = Shape(
            layers=config["num_hidden_layers"],
            heads=config["num_attention_heads"],
            kv_heads=config["num_key_value_heads"],
            head_dim=config["head_dim"],
            rope_theta=float(config["rope_parameters"]["rope_theta"]),
            epsilon=config["rms_norm_eps"],
        )
        weights = load_file(folder / "model.safetensors")
        self.embedding = weights["model.embed_tokens.weight"].float()
        self.final_norm = weights["model.norm.weight"].float()
        self.layers = [self.layer(weights, index) for index in range(self.shape.layers)]

    def layer(self, weights: dict[str, Tensor], index: int) -> dict[str, Tensor]:
        head = f"model.layers.{index}."
        short = {
            name.removeprefix(head).removesuffix(".weight"): tensor
            for name, tensor in weights.items()
            if name.startswith(head)
        }
        return {
            name: tensor.to(torch.bfloat16 if self.bf16 and name.endswith("_proj") else torch.float32)
            for name, tensor in short.items()
        }

    @torch.inference_mode()
    def run(
        self, ids: Tensor, prefix: Prefix | None = None, observe: Observer | None = None, *, logits: bool = True
    ) -> Tensor | None:
        """Logits [sequences, tokens, vocabulary] of `ids` [sequences, tokens], each by itself behind the prefix; None if not asked."""
        start = 0 if prefix is None else prefix.length
        rotation = self.rotation(start, ids.shape[1])
        hidden = self.embedding[ids]
        for index, layer in enumerate(self.layers):
            hidden = hidden + self.attend(
                index, layer, self.norm(hidden, layer["input_layernorm"]), rotation, prefix, observe
            )
            inner = self.norm(hidden, layer["post_attention_layernorm"])
            gate = F.silu(self.linear(inner, layer["mlp.gate_proj"])) * self.linear(inner, layer["mlp.up_proj"])
            hidden = hidden + self.linear(gate, layer["mlp.down_proj"])
        return F.linear(self.norm(hidden, self.final_norm), self.embedding) if logits else None

    def attend(
        self,
        index: int,
        layer: dict[str, Tensor],
        inner: Tensor,
        rotation: tuple[Tensor, Tensor],
        prefix: Prefix | None,
        observe: Observer | None,
    ) -> Tensor:
        shape = self.shape
        sequences, tokens, _ = inner.shape
        by_head = [
            self.linear(inner, layer[f"self_attn.{name}_proj"])
            .view(sequences, tokens, -1, shape.head_dim)
            .transpose(1, 2)
            for name in "qkv"
        ]
        plain, keys, values = by_head[0], rotate(by_head[1], rotation), by_head[2]
        queries = rotate(plain, rotation)
        if self.bf16:
            queries, keys, values = (tensor.bfloat16().float() for tensor in (queries, keys, values))
        past = (
            None
            if prefix is None
            else (prefix.keys[index], prefix.values[index], None if prefix.bias is None else prefix.bias[index])
        )
        outs, received = [], torch.zeros(sequences, shape.kv_heads, tokens)
        for first in range(0, tokens, QUERIES_AT_ONCE):
            some = queries[:, :, first : first + QUERIES_AT_ONCE]
            out, attention = attention_of(some, keys, values, first, past, shape)
            outs.append(out)
            if observe is not None:
                received += attention
        if observe is not None:
            observe(Seen(index, plain[0], keys[0], values[0], received[0]))
        merged = torch.cat(outs, dim=2).transpose(1, 2).reshape(sequences, tokens, -1)
        return self.linear(merged, layer["self_attn.o_proj"])

    def linear(self, values: Tensor, weight: Tensor) -> Tensor:
        return F.linear(values.to(weight.dtype), weight).float()

    def norm(self, values: Tensor, weight: Tensor) -> Tensor:
        return values * torch.rsqrt(values.square().mean(-1, keepdim=True) + self.shape.epsilon) * weight

    def rotation(self, start: int, tokens: int) -> tuple[Tensor, Tensor]:
        return rotation(self.shape, start, tokens)


def rotation(shape: Shape, start: int, tokens: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines of RoPE, [tokens, head_dim] each."""
    frequencies = shape.rope_theta ** (-torch.arange(0, shape.head_dim, 2, dtype=torch.float32) / shape.head_dim)
    angles = torch.arange(start, start + tokens, dtype=torch.float32)[:, None] * frequencies
    angles = torch.cat((angles, angles), dim=1)
    return angles.cos(), angles.sin()


def rotate(values: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """RoPE of [..., tokens, head_dim]: channel i goes with channel i + head_dim / 2."""
    cosines, sines = rotation
    first, second = values.chunk(2, dim=-1)
    return values * cosines + torch.cat((-second, first), dim=-1) * sines


def unrotate(values: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    cosines, sines = rotation
    return rotate(values, (cosines, -sines))


Past = tuple[Tensor, Tensor, Tensor | None]


def attention_of(
    queries: Tensor, keys: Tensor, values: Tensor, first: int, past: Past | None, shape: Shape
) -> tuple[Tensor, Tensor]:
    """
    What queries [sequences, heads, n, head_dim], the first of which is token `first`, take of their own sequence and of a past that
    all share: [sequences, heads, n, head_dim]; and the attention that each token of the sequence gets, [sequences, kv_heads, tokens].
    """
    sequences, _, count, _ = queries.shape
    tokens = keys.shape[2]
    grouped = queries.reshape(sequences, shape.kv_heads, shape.group * count, shape.head_dim) / math.sqrt(
        shape.head_dim
    )
    scores = grouped @ keys.transpose(2, 3)
    later = torch.arange(tokens)[None, :] > torch.arange(first, first + count)[:, None]
    scores = (
        scores.view(sequences, shape.kv_heads, shape.group, count, tokens).masked_fill(later, -math.inf).view_as(scores)
    )
    if past is not None:
        past_keys, past_values, bias = past
        past_scores = grouped @ past_keys.transpose(1, 2)
        if bias is not None:
            past_scores = past_scores + bias[:, None, :]
        scores = torch.cat((past_scores, scores), dim=3)
    weights = torch.softmax(scores, dim=3)
    own = weights[..., weights.shape[3] - tokens :]
    out = own @ values
    if past is not None:
        out = out + weights[..., : weights.shape[3] - tokens] @ past_values
    return out.reshape(sequences, shape.heads, count, shape.head_dim), own.sum(2)
