"""The texts that are run: the three sets of data/, or anybody's text files."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

DATA = Path(__file__).parent / "data"
CALIBRATION_TOKENS = 1020
CONTEXT_TOKENS = 1024
SCORED_TOKENS = 96


@dataclass(frozen=True)
class Question:
    """Asked behind the context; the first `prompt_tokens` of `ids` are the question, the rest is the answer."""

    ids: list[int]
    prompt_tokens: int


@dataclass(frozen=True)
class Text:
    # Names the files of it: "eval3".
    name: str
    # Texts that are reported together.
    group: str
    context: list[int]
    # Behind the context: one token more than is scored.
    continuation: list[int] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)


def read_set(name: str, rows: list[int] | None, tokens: int | None = None) -> list[Text]:
    """Of "calibration", "eval" or "retrieval": the rows asked for, or all; `tokens` of context, or as many as research used."""
    lines = [json.loads(line) for line in (DATA / f"{name}.jsonl").read_text().splitlines()]
    wanted = range(len(lines)) if rows is None else rows
    return [text_of(name, lines[row], tokens) for row in wanted]


def text_of(name: str, line: dict, tokens: int | None) -> Text:
    title, ids = f"{name}{line['id']}", line["ids"]
    if name == "retrieval":
        # The codes lie anywhere in the prose, so that it is never cut.
        return Text(title, name, ids, questions=[Question(**question) for question in line["questions"]])
    context = tokens or (CALIBRATION_TOKENS if name == "calibration" else CONTEXT_TOKENS)
    # The first half is what settings were chosen on in research.
    group = name if name == "calibration" else "documents 0-7" if line["id"] < 8 else "documents 8-15"
    return Text(title, group, ids[:context], ids[context : context + SCORED_TOKENS + 1])


def read_folder(folder: Path, tokenizer: Path, tokens: int) -> list[Text]:
    """Each text file that is long enough, in the order of names; its name without the suffix names it."""
    from tokenizers import Tokenizer

    known = Tokenizer.from_file(str(tokenizer))
    texts = []
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        needed = tokens + SCORED_TOKENS + 1
        # No token is longer than this, so that a book is not tokenized for its first pages.
        ids = known.encode(path.read_text(encoding="utf-8")[: needed * 16], add_special_tokens=False).ids
        if len(ids) >= needed:
            texts.append(Text(f"{path.stem}-{tokens}", f"{tokens} tokens", ids[:tokens], ids[tokens:needed]))
    return texts
