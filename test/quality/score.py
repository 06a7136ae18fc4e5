"""Judges decoded KV: how the model goes on behind it, against how it goes on behind the KV that was encoded.

    score.py --model DIR [--candidate NAME=FOLDER ...] [--threads N] DUMP.safetensors ...

FOLDER holds a file of each dump's name whose `kv` was decoded; FOLDER "-" judges the dumps by themselves, and every figure is zero.
Without candidates they are read from standard input, one on each line. Prints one JSON line per candidate:
{"name", "groups": {GROUP: figures}}, with the figures of judge.py.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from dump import read_kv
from judge import Judge, Reference, figures, judge_parser
from model import Prefix


def main() -> int:
    parser = judge_parser(__doc__)
    parser.add_argument("--candidate", action="append")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    judge = Judge(args.model)
    references = [Reference.read(path) for path in args.dumps]
    for candidate in args.candidate or iter(sys.stdin.readline, ""):
        name, _, folder = candidate.strip().partition("=")
        judged = [(reference, judge.compare(reference, decoded(reference, folder))) for reference in references]
        print(json.dumps({"name": name, "groups": figures(judged)}), flush=True)
    return 0


def decoded(reference: Reference, folder: str) -> Prefix:
    kv = reference.kv if folder == "-" else read_kv(Path(folder) / reference.path.name)
    wanted = f"{reference.kv.dtype} {list(reference.kv.shape)}"
    if wanted != f"{kv.dtype} {list(kv.shape)}":
        raise ValueError(f"Expected {wanted} for {reference.name} of {folder} but received {kv.dtype} {list(kv.shape)}")
    return Prefix.of(kv)


if __name__ == "__main__":
    sys.exit(main())
