"""How much each layer's keys and values matter: the noise of one known step on one layer at a time, and what the model makes of it.

    sensitivity.py --model DIR [--tokens 64] [--threads N] DUMP.safetensors ...

Prints {"path": FILE}; the file is made once and kept in the cache. It holds `sensitivity`, float32 [layers, 2] (K, V): KL in nats per
token of the continuation, divided by the square of the step. The steps are in the units of a profile: a step of 1 for K is 1 / RMS of
the queries in each channel, before RoPE, and for V the RMS of the head; so the best steps of two layers are to each other as the roots
of their sensitivities, the other way round. The first tokens keep their values.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from judge import Judge, Reference
from model import Llama, Prefix, rotate, rotation, unrotate
from store import cache_folder, digest_of, file_digest, keep

# Large enough to stand out of float32's own noise, small enough that KL still grows as the square.
STEPS = {"K": 1.0, "V": 0.6}
SINKS = 4


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("dumps", type=Path, nargs="+")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    judge = Judge(args.model)
    key = digest_of([judge.key, Path(__file__).read_text(), [file_digest(path) for path in args.dumps], args.tokens])
    out = cache_folder() / "sensitivities" / f"{key}.safetensors"
    if not out.exists():
        each = [measure(judge, Reference.read(path), query_rms(path), args.tokens) for path in args.dumps]
        found = torch.stack(each).mean(0).float()
        keep(out, lambda file: save_file({"sensitivity": found}, file))
    print(json.dumps({"path": str(out)}))
    return 0


def query_rms(path: Path) -> Tensor:
    with safe_open(path, "pt") as file:
        return file.get_tensor("query_square").sqrt()


def measure(judge: Judge, reference: Reference, queries: Tensor, tokens: int) -> Tensor:
    """KL per squared step, [layers, 2], behind one dump."""
    before = judge.baseline(reference)["continuation"][:tokens]
    ids = reference.continuation[None, :tokens].long()
    noisy = {"K": noisy_keys(judge.model, reference.kv, queries), "V": noisy_values(reference.kv)}
    found = torch.empty(judge.model.shape.layers, 2, dtype=torch.float64)
    for layer in range(judge.model.shape.layers):
        for part, name in enumerate("KV"):
            prefix = Prefix.of(reference.kv)
            (prefix.keys, prefix.values)[part][layer] = noisy[name][layer]
            after = torch.log_softmax(judge.model.run(ids, prefix)[0], dim=1)
            found[layer, part] = (before.exp() * (before - after)).sum(1).double().mean() / STEPS[name] ** 2
    return found


def noisy_keys(model: Llama, kv: Tensor, queries: Tensor) -> Tensor:
    """Of all layers, [layers, kv_heads, tokens, head_dim]: quantized before RoPE, around the mean of each channel."""
    turns = rotation(model.shape, 0, kv.shape[3])
    plain = unrotate(kv[:, 0].float(), turns)
    mean = plain[:, :, SINKS:].mean(2, keepdim=True)
    step = STEPS["K"] / queries[:, :, None, :].clamp_min(1e-6)
    return behind_sinks(kv[:, 0], rotate(torch.round((plain - mean) / step) * step + mean, turns))


def noisy_values(kv: Tensor) -> Tensor:
    values = kv[:, 1].float()
    mean = values[:, :, SINKS:].mean(2, keepdim=True)
    step = STEPS["V"] * values[:, :, SINKS:].square().mean((2, 3), keepdim=True).sqrt()
    return behind_sinks(kv[:, 1], torch.round((values - mean) / step) * step + mean)


def behind_sinks(before: Tensor, after: Tensor) -> Tensor:
    """Rounded as a receiver stores it, but for the first tokens."""
    return torch.cat((before[:, :, :SINKS], after[:, :, SINKS:].bfloat16()), dim=2).float()


if __name__ == "__main__":
    sys.exit(main())
