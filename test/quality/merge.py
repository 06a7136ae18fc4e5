"""Token merging and eviction, as a reference: what a component that does it is held against.

Per layer and KV head, of tokens [tokens, head_dim] of keys after RoPE and values, down to a budget of tokens:
    KVMerger  sets of neighbours whose keys are alike become one token; the newest tokens, those with the most attention and the first few
              stay as they are, and are skipped: the tokens before and behind them are neighbours.
    H2O       half of the budget are the newest tokens, the other half those with the most attention; the others are dropped.

Merging shrinks what the receiver holds and attends to, not only what travels; for the wire alone a codec is better at every size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from model import Prefix


@dataclass(frozen=True)
class MergeOptions:
    # Of the tokens, those that are left.
    budget: float = 0.5
    sinks: int = 4
    # Of the tokens, those that are kept because they are new, and because they got much attention.
    recent: float = 0.18
    heavy: float = 0.16
    # Of the Gaussian weights; None: all members weigh the same.
    sigma: float | None = 5.0
    # A set has at most so many members; None: any number.
    set_max: int | None = 8
    # "bias": values are averaged and log n is added to the logit; "average": no bias; "size": values are scaled by n, no bias.
    values: str = "bias"
    # The pivot's key as it is, instead of the average.
    pivot_key: bool = False


@dataclass(frozen=True)
class Merged:
    """Of one head: what is left, in order."""

    # [sets, head_dim]
    keys: Tensor
    values: Tensor
    # [sets]: what is added to the logits.
    bias: Tensor
    # The tokens behind each, ascending.
    sets: list[list[int]]


def protected(attention: Tensor, options: MergeOptions) -> Tensor:
    """Whether each token stays as it is, [tokens]."""
    tokens = len(attention)
    kept = torch.zeros(tokens, dtype=torch.bool)
    kept[: options.sinks] = True
    kept[tokens - round(options.recent * tokens) :] = True
    ranked = torch.argsort(attention.masked_fill(kept, -1.0), descending=True, stable=True)
    kept[ranked[: min(round(options.heavy * tokens), int((~kept).sum()))]] = True
    return kept


def sets_of(keys: Tensor, attention: Tensor, options: MergeOptions) -> list[list[int]]:
    """
    Which tokens become one, so that exactly the budget is left: neighbours join in the order of their cosine, the most alike first (of
    equals the earlier), which is the threshold that leaves the budget, found without a search. Fewer join where the rules leave no more.
    """
    tokens = len(keys)
    kept = protected(attention, options)
    free = [token for token in range(tokens) if not kept[token]]
    wanted = tokens - round(options.budget * tokens)
    near = torch.cosine_similarity(keys[free[1:]], keys[free[:-1]], dim=1) if len(free) > 1 else torch.empty(0)
    # Set of each free token: the first of it; its size.
    head = list(range(len(free)))
    size = [1] * len(free)
    joined = [False] * len(free)
    for pair in torch.argsort(near, descending=True, stable=True).tolist():
        if wanted == 0:
            break
        left, right = head[pair], head[pair + 1]
        if options.set_max is not None and size[left] + size[right] > options.set_max:
            continue
        for member in range(right, right + size[right]):
            head[member] = left
        size[left] += size[right]
        joined[right] = True
        wanted -= 1
    sets = [
        [free[member] for member in range(first, first + size[first])]
        for first in range(len(free))
        if not joined[first]
    ]
    return sorted(sets + [[token] for token in range(tokens) if kept[token]])


def merge_head(keys: Tensor, values: Tensor, attention: Tensor, options: MergeOptions) -> Merged:
    sets = sets_of(keys, attention, options)
    got = attention.tolist()
    pivots = torch.tensor([max(members, key=got.__getitem__) for members in sets])
    sizes = torch.tensor([len(members) for members in sets])
    # Of each token, its set.
    owner = torch.empty(len(keys), dtype=torch.long)
    owner[[token for members in sets for token in members]] = torch.arange(len(sets)).repeat_interleave(sizes)
    distance = (keys - keys[pivots[owner]]).square().sum(1)
    closeness = torch.ones(len(keys)) if options.sigma is None else torch.exp(-distance / (2 * options.sigma**2))
    weights = closeness / torch.zeros(len(sets)).index_add(0, owner, closeness)[owner]
    averages = [
        torch.zeros(len(sets), rows.shape[1]).index_add(0, owner, weights[:, None] * rows) for rows in (keys, values)
    ]
    new_keys = keys[pivots] if options.pivot_key else averages[0]
    new_values = averages[1] * sizes[:, None] if options.values == "size" else averages[1]
    bias = sizes.float().log() if options.values == "bias" else torch.zeros(len(sets))
    return Merged(new_keys, new_values, bias, sets)


def evict_head(keys: Tensor, values: Tensor, attention: Tensor, budget: float) -> Merged:
    """H2O."""
    tokens = len(keys)
    count = round(budget * tokens)
    kept = torch.zeros(tokens, dtype=torch.bool)
    kept[tokens - count // 2 :] = True
    ranked = torch.argsort(attention.masked_fill(kept, -1.0), descending=True, stable=True)
    kept[ranked[: count - count // 2]] = True
    left = torch.nonzero(kept)[:, 0].tolist()
    return Merged(keys[left], values[left], torch.zeros(count), [[token] for token in left])


def shrunk(kv: Tensor, attention: Tensor, method: MergeOptions | float) -> Prefix:
    """
    A dump's KV [layers, 2, kv_heads, tokens, head_dim] after merging, or after H2O down to a budget; what is made is rounded to bfloat16
    as a receiver stores it. Heads with fewer tokens than others of their layer are filled up with keys that get no attention.
    """
    planes = kv.float()
    keys, values, bias = [], [], []
    for layer in range(kv.shape[0]):
        heads = []
        for head in range(kv.shape[2]):
            inputs = (planes[layer, 0, head], planes[layer, 1, head], attention[layer, head])
            heads.append(
                merge_head(*inputs, method) if isinstance(method, MergeOptions) else evict_head(*inputs, method)
            )
        longest = max(len(head.sets) for head in heads)
        keys.append(torch.stack([filled(head.keys, longest, 0.0) for head in heads]).bfloat16().float())
        values.append(torch.stack([filled(head.values, longest, 0.0) for head in heads]).bfloat16().float())
        bias.append(torch.stack([filled(head.bias, longest, float("-inf")) for head in heads]))
    return Prefix(keys, values, kv.shape[3], bias)


def filled(rows: Tensor, length: int, value: float) -> Tensor:
    return torch.cat((rows, torch.full((length - len(rows), *rows.shape[1:]), value)))
