"""Judges token merging and eviction by the reference in merge.py, beside each other.

    merging.py --model DIR [--variant NAME ...] [--threads N] DUMP.safetensors ...

Prints a JSON line per variant (without --variant: of all) as score.py does, with `tokens_left`: the share that the receiver holds.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import torch

from judge import Judge, Reference, figures, judge_parser
from merge import MergeOptions, shrunk

# What the paper keeps, as far as it says.
PAPER = MergeOptions(recent=0.17, heavy=0.12, set_max=None)
VARIANTS: dict[str, MergeOptions | float] = {
    # Its shares were chosen on the evaluation texts: there is little to choose from, and they are no claim.
    "kvmerger-50": MergeOptions(),
    "kvmerger-50-paper": PAPER,
    "kvmerger-50-sets-of-4": replace(PAPER, set_max=4),
    "kvmerger-50-pivot-key": replace(PAPER, pivot_key=True),
    "kvmerger-50-mean": replace(PAPER, sigma=None),
    "kvmerger-50-average": replace(PAPER, values="average"),
    "kvmerger-50-size": replace(PAPER, values="size", sinks=0),
    "h2o-50": 0.5,
    "kvmerger-35": MergeOptions(budget=0.35, recent=0.08, heavy=0.02, set_max=None),
    "h2o-35": 0.35,
}


def main() -> int:
    parser = judge_parser(__doc__)
    parser.add_argument("--variant", action="append", choices=list(VARIANTS))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    judge = Judge(args.model)
    references = [Reference.read(path) for path in args.dumps]
    for name in args.variant or VARIANTS:
        judged, left, all_tokens = [], 0, 0
        for reference in references:
            prefix = shrunk(reference.kv, reference.attention, VARIANTS[name])
            left += sum(int(bias.isfinite().sum()) for bias in prefix.bias or [])
            all_tokens += reference.kv.shape[0] * reference.kv.shape[2] * reference.kv.shape[3]
            judged.append((reference, judge.compare(reference, prefix)))
        print(json.dumps({"name": name, "tokens_left": left / all_tokens, "groups": figures(judged)}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
