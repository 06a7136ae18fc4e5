"""How far a model behind one prefix is from the same model behind another: what score.py, sensitivity.py and merge.py count."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from bootstrap import estimate
from model import Llama, Prefix
from sets import Question
from store import cache_folder, digest_of, file_digest, keep, model_digest

DIGITS = 5


@dataclass(frozen=True)
class Reference:
    """A dump, and what is asked behind it."""

    path: Path
    kv: Tensor
    attention: Tensor
    token_ids: Tensor
    continuation: Tensor
    questions: list[Question]
    group: str

    @property
    def name(self) -> str:
        return self.path.stem

    @staticmethod
    def read(path: Path) -> Reference:
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
            names = ("kv", "attention", "token_ids", "continuation")
            return Reference(
                path,
                *(file.get_tensor(name) for name in names),
                questions=[Question(**question) for question in json.loads(metadata["questions"])],
                group=metadata["group"],
            )


class Judge:
    """Scores in float32. What the model says behind an uncompressed prefix is worked out once and kept."""

    def __init__(self, folder: Path):
        self.model = Llama(folder)
        sources = [(Path(__file__).parent / name).read_text() for name in ("model.py", "judge.py")]
        self.key = [model_digest(folder), torch.__version__, sources]

    def baseline(self, reference: Reference) -> dict[str, Tensor]:
        """As `answer` behind the reference's own KV."""
        key = digest_of([self.key, file_digest(reference.path)])
        path = cache_folder() / "baselines" / key / f"{reference.name}.safetensors"
        if not path.exists():
            said = self.answer(reference, Prefix.of(reference.kv))
            keep(path, lambda file: save_file(said, file))
        return load_file(path)

    def answer(self, reference: Reference, prefix: Prefix) -> dict[str, Tensor]:
        """
        Behind the prefix: `continuation`, log-probabilities [tokens, vocabulary] of each next token of the continuation, if there is one;
        `digits`, whether each digit of each answer is the likeliest, and `digit_nll`, both [questions, 5], where there are questions.
        """
        said: dict[str, Tensor] = {}
        if len(reference.continuation) > 0:
            logits = self.model.run(reference.continuation[None, :-1].long(), prefix)
            said["continuation"] = torch.log_softmax(logits[0], dim=1)
        if len(reference.questions) > 0:
            said |= self.answers(reference.questions, prefix)
        return said

    def answers(self, questions: list[Question], prefix: Prefix) -> dict[str, Tensor]:
        longest = max(len(question.ids) for question in questions)
        # What is filled up lies behind the answer, where nothing sees it.
        ids = torch.tensor([question.ids + [0] * (longest - len(question.ids)) for question in questions])
        scores = torch.log_softmax(self.model.run(ids[:, :-1], prefix), dim=2)
        digits, digit_nll = [], []
        for row, question in enumerate(questions):
            last = len(question.ids)
            wanted = torch.tensor(question.ids[last - DIGITS :])
            behind = scores[row, last - DIGITS - 1 : last - 1]
            digits.append(behind.argmax(1) == wanted)
            digit_nll.append(-behind.gather(1, wanted[:, None])[:, 0])
        return {"digits": torch.stack(digits), "digit_nll": torch.stack(digit_nll)}

    def compare(self, reference: Reference, prefix: Prefix) -> dict[str, Tensor]:
        """
        Per token of the continuation `kl` (of the uncompressed from the compressed, nats), `agree`, `nll`, `nll_before`; of the questions
        `digits`, `digits_before`, `digit_nll`, `digit_nll_before`.
        """
        before, after = self.baseline(reference), self.answer(reference, prefix)
        found = {name: after[name] for name in ("digits", "digit_nll") if name in after}
        found |= {f"{name}_before": before[name] for name in ("digits", "digit_nll") if name in after}
        if "continuation" in after:
            p, q = before["continuation"], after["continuation"]
            wanted = reference.continuation[1:, None].long()
            found |= {
                "kl": (p.exp() * (p - q)).sum(1),
                "agree": p.argmax(1) == q.argmax(1),
                "nll": -q.gather(1, wanted)[:, 0],
                "nll_before": -p.gather(1, wanted)[:, 0],
            }
        return found


def judge_parser(doc: str | None) -> argparse.ArgumentParser:
    """What every judge takes: --model, --threads and dumps."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("dumps", type=Path, nargs="+")
    return parser


def text_figures(found: list[dict[str, Tensor]]) -> dict[str, object]:
    """Of several texts: units of resampling are texts, because the tokens of one are not independent."""
    columns = torch.stack(
        [torch.stack([one[name].double().mean() for name in ("kl", "agree", "nll", "nll_before")]) for one in found]
    )
    kl = torch.cat([one["kl"] for one in found])
    return {
        "texts": len(found),
        "tokens": kl.numel(),
        "kl": estimate(columns),
        "kl_p99": torch.quantile(kl, 0.99).item(),
        "top1_percent": estimate(columns[:, 1:], lambda means: 100 * means[..., 0]),
        "nll_change_percent": estimate(columns[:, 2:], lambda means: 100 * (means[..., 0] / means[..., 1] - 1)),
        "nll_before": columns[:, 3].mean().item(),
    }


def retrieval_figures(found: list[dict[str, Tensor]]) -> dict[str, object]:
    """Units of resampling are questions."""
    before, after = (torch.cat([one[name] for one in found]).double() for name in ("digits_before", "digits"))
    return {
        "questions": len(after),
        "exact": int(after.all(1).sum()) if after.numel() else 0,
        "exact_before": int(before.bool().all(1).sum()),
        "digits_percent": 100 * after.mean().item(),
        "digits_before_percent": 100 * before.mean().item(),
        "digits_lost_points": estimate(100 * (before - after).mean(1, keepdim=True)),
        "nll": torch.cat([one["digit_nll"] for one in found]).mean().item(),
        "nll_before": torch.cat([one["digit_nll_before"] for one in found]).mean().item(),
    }


def figures(judged: list[tuple[Reference, dict[str, Tensor]]]) -> dict[str, dict[str, object]]:
    """By group of texts, in the order in which they came."""
    groups: dict[str, list[dict[str, Tensor]]] = {}
    for reference, found in judged:
        groups.setdefault(reference.group, []).append(found)
    return {
        group: text_figures(found) if "kl" in found[0] else retrieval_figures(found) for group, found in groups.items()
    }
