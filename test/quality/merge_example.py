"""Prints a made-up head and what merge.py makes of it, as JSON, for the product's own merging to be compared with."""

from __future__ import annotations

import json
import sys

import torch

from merge import MergeOptions, merge_head

OPTIONS = {
    "preset": MergeOptions(),
    "a third, sets of at most 4": MergeOptions(budget=0.35, recent=0.08, heavy=0.02, set_max=4),
    "no sinks, values summed": MergeOptions(sinks=0, values="size", sigma=0.5),
    "all weigh the same": MergeOptions(sigma=None),
}


def main() -> int:
    generator = torch.Generator().manual_seed(7)
    tokens, channels = 300, 16
    keys = torch.randn(tokens, channels, generator=generator)
    # Neighbours are somewhat alike, as in a model.
    keys[1:] += 0.7 * keys[:-1]
    values = torch.randn(tokens, channels, generator=generator)
    attention = torch.rand(tokens, generator=generator)
    cases = []
    for name, options in OPTIONS.items():
        merged = merge_head(keys, values, attention, options)
        cases.append(
            {
                "name": name,
                "budget": options.budget,
                "sinks": options.sinks,
                "recent": options.recent,
                "heavy": options.heavy,
                "membersMax": options.set_max or tokens,
                "sigma": options.sigma,
                "values": "sum" if options.values == "size" else "average",
                "sets": merged.sets,
                "mergedKeys": merged.keys.flatten().tolist(),
                "mergedValues": merged.values.flatten().tolist(),
            }
        )
    head = {"keys": keys.flatten().tolist(), "values": values.flatten().tolist(), "attention": attention.tolist()}
    print(json.dumps({**head, "cases": cases}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
