"""Writes the KV that an engine would hold of a text, for the codec to work on and for score.py to compare with.

    dump.py --model DIR (--set calibration|eval|retrieval [--rows 0,1,...] | --texts DIR) [--tokens N] [--prefill bf16|f32] [--threads N]

Prints a JSON line per text: {"name", "path"}. A file is made once and kept in the cache, under a key of everything that decides it:
    kv            bfloat16 [layers, 2, kv_heads, tokens, head_dim]; of axis 1 the first is K, after RoPE
    token_ids     int32 [tokens];  continuation  int32, what follows in the text and is scored
    query_square  float32 [layers, kv_heads, head_dim]: mean square of the queries before RoPE, over tokens and query heads of each KV head
    attention     float32 [layers, kv_heads, tokens]: attention that each token got in the prefill
and as metadata `model`, `axes`, `rope_theta`, `rope_pairing`, `prefill`, `group` and `questions` (JSON).

The prefill of the evaluation texts is an engine's (bf16: linear layers in bfloat16), that of the other sets float32, as in the
research that the bars come from; the KV is rounded to bfloat16 either way.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from model import Llama, Seen
from sets import Text, read_folder, read_set
from store import cache_folder, digest_of, keep, model_digest

VERSION = 1


class Dumper:
    """Makes dumps with one model, which is loaded if one is missing."""

    def __init__(self, folder: Path, prefill: str):
        self.folder = folder
        self.prefill = prefill
        self.weights = model_digest(folder)
        self.model: Llama | None = None

    def path_of(self, text: Text) -> Path:
        sources = [(Path(__file__).parent / name).read_text() for name in ("model.py", "dump.py")]
        key = digest_of([VERSION, self.weights, self.prefill, torch.__version__, asdict(text), sources])
        return cache_folder() / "dumps" / key / f"{text.name}.safetensors"

    def dump(self, text: Text) -> Path:
        path = self.path_of(text)
        if not path.exists():
            if self.model is None:
                self.model = Llama(self.folder, bf16=self.prefill == "bf16")
            tensors = prefilled(self.model, text)
            keep(path, lambda file: save_file(tensors, file, metadata=self.metadata(text)))
        return path

    def metadata(self, text: Text) -> dict[str, str]:
        config = json.loads((self.folder / "config.json").read_text())
        return {
            "model": "SmolLM2-135M-Instruct"
            if "SmolLM2-135M" in config.get("_model_name_or_path", "")
            else self.folder.name,
            "axes": "layers,kv,kv_heads,tokens,head_dim",
            "rope_theta": str(float(config["rope_parameters"]["rope_theta"])),
            "rope_pairing": "half",
            "prefill": self.prefill,
            "group": text.group,
            "questions": json.dumps([asdict(question) for question in text.questions]),
        }


def prefilled(model: Llama, text: Text) -> dict[str, torch.Tensor]:
    seen: list[Seen] = []
    model.run(torch.tensor([text.context]), observe=seen.append, logits=False)
    shape = model.shape
    squares = [
        layer.queries.square().view(shape.kv_heads, shape.group, -1, shape.head_dim).mean((1, 2)) for layer in seen
    ]
    return {
        "kv": torch.stack([torch.stack((layer.keys, layer.values)) for layer in seen]).bfloat16(),
        "token_ids": torch.tensor(text.context, dtype=torch.int32),
        "continuation": torch.tensor(text.continuation, dtype=torch.int32),
        "query_square": torch.stack(squares),
        "attention": torch.stack([layer.attention for layer in seen]),
    }


def read_kv(path: Path) -> torch.Tensor:
    with safe_open(path, "pt") as file:
        return file.get_tensor("kv")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--set", choices=["calibration", "eval", "retrieval"])
    parser.add_argument("--rows", type=lambda text: [int(row) for row in text.split(",")])
    parser.add_argument("--texts", type=Path)
    parser.add_argument("--tokens", type=int)
    parser.add_argument("--prefill", choices=["bf16", "f32"])
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if (args.set is None) == (args.texts is None):
        parser.error("one of --set and --texts is needed")
    if args.set is None:
        texts = read_folder(args.texts, args.model / "tokenizer.json", args.tokens or 1024)
        if not texts:
            print(f"dump: no file of {args.texts} is long enough", file=sys.stderr)
            return 2
    else:
        texts = read_set(args.set, args.rows, args.tokens)
    dumper = Dumper(args.model, args.prefill or ("f32" if args.set in ("calibration", "retrieval") else "bf16"))
    for text in texts:
        print(json.dumps({"name": text.name, "path": str(dumper.dump(text))}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
