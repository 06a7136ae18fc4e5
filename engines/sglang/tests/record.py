"""What of SGLang's source the backend relies on, read out of its syntax trees, so without running it.

    python tests/record.py SGLANG_ROOT VERSION > tests/sglang_contract.json

SGLANG_ROOT is the folder that holds `sglang/`: of an installation, or of an unpacked wheel."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path
from typing import Any

BASE = "sglang/srt/disaggregation/base/conn.py"
CLASSES = ("BaseKVManager", "BaseKVSender", "BaseKVReceiver", "BaseKVBootstrapServer")
UTILS = "sglang/srt/disaggregation/utils.py"
ENUMS = ("TransferBackend", "KVClassType")
SCHEDULERS = ("sglang/srt/disaggregation/prefill.py", "sglang/srt/disaggregation/decode.py")
#: The names under which the schedulers hold our objects.
HELD = {
    "manager": ("kv_manager", "kv_mgr"),
    "sender": ("disagg_kv_sender", "sender"),
    "receiver": ("kv_receiver",),
}


def record(root: Path, version: str) -> dict[str, Any]:
    base = _tree(root / BASE)
    utils = _tree(root / UTILS)
    return {
        "version": version,
        "source": [BASE, UTILS, *SCHEDULERS],
        "classes": {name: _methods(_class(base, name)) for name in CLASSES},
        "KVPoll": _constants(_class(base, "KVPoll")),
        "KVTransferMetric": [
            node.target.id
            for node in _class(base, "KVTransferMetric").body
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
        ],
        **{name: _constants(_class(utils, name)) for name in ENUMS},
        "get_kv_class": _signature(_function(utils, "get_kv_class")),
        "used": _used([_tree(root / path) for path in SCHEDULERS]),
    }


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def _class(tree: ast.Module, name: str) -> ast.ClassDef:
    return next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)


def _function(tree: ast.Module, name: str) -> ast.FunctionDef:
    """The last one: the others are overloads."""
    return [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name][-1]


def _signature(function: ast.FunctionDef) -> dict[str, Any]:
    arguments = [argument.arg for argument in function.args.args if argument.arg != "self"]
    return {
        "arguments": arguments,
        "defaults": len(function.args.defaults),
        "abstract": any(isinstance(mark, ast.Name) and mark.id == "abstractmethod" for mark in function.decorator_list),
    }


def _methods(found: ast.ClassDef) -> dict[str, Any]:
    return {node.name: _signature(node) for node in found.body if isinstance(node, ast.FunctionDef)}


def _constants(found: ast.ClassDef) -> dict[str, Any]:
    return {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in found.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }


def _used(trees: list[ast.Module]) -> dict[str, list[str]]:
    """Attributes that the schedulers read from our objects, whichever class promises them."""
    used: dict[str, set[str]] = {kind: set() for kind in HELD}
    for node in (node for tree in trees for node in ast.walk(tree)):
        if not isinstance(node, ast.Attribute) or not isinstance(node.ctx, ast.Load):
            continue
        owner = node.value
        name = owner.attr if isinstance(owner, ast.Attribute) else owner.id if isinstance(owner, ast.Name) else ""
        for kind, names in HELD.items():
            if name in names:
                used[kind].add(node.attr)
    return {kind: sorted(names) for kind, names in used.items()}


if __name__ == "__main__":
    print(json.dumps(record(Path(sys.argv[1]), sys.argv[2]), indent=2, sort_keys=True))
