"""Run by test_contract.py in a process of its own: our classes and the plugin on SGLang's own source, as far as it runs without torch.

Real: disaggregation/base/conn.py, plugins/hook_registry.py, arg_groups/choices.py, and of disaggregation/utils.py TransferBackend,
KVClassType and get_kv_class. Put in their place: the packages above them, whose own __init__ imports all of SGLang, and ServerArgs,
which is named in an annotation only."""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
from enum import Enum
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType


def package(root: Path, name: str) -> ModuleType:
    module = ModuleType(name)
    folder = str(root.joinpath(*name.split(".")))
    module.__path__ = [folder]
    module.__spec__ = ModuleSpec(name, None, is_package=True)
    sys.modules[name] = module
    return module


def excerpt(root: Path, name: str, wanted: tuple[str, ...]) -> ModuleType:
    """A module of these definitions alone."""
    path = root.joinpath(*name.split(".")).with_suffix(".py")
    tree = ast.parse(path.read_text("utf-8"))
    tree.body = [node for node in tree.body if getattr(node, "name", None) in wanted or _is_future(node)]
    module = ModuleType(name)
    module.__dict__.update(Enum=Enum, overload=lambda function: function)
    sys.modules[name] = module
    exec(compile(tree, str(path), "exec"), module.__dict__)
    return module


def _is_future(node: ast.stmt) -> bool:
    return isinstance(node, ast.ImportFrom) and node.module == "__future__"


def main(root: Path) -> None:
    for name in ("sglang", "sglang.srt", "sglang.srt.disaggregation", "sglang.srt.plugins", "sglang.srt.arg_groups"):
        package(root, name)
    server_args = ModuleType("sglang.srt.server_args")
    server_args.ServerArgs = object  # type: ignore[attr-defined]
    sys.modules["sglang.srt.server_args"] = server_args
    utils = excerpt(root, "sglang.srt.disaggregation.utils", ("TransferBackend", "KVClassType", "get_kv_class"))
    sys.modules["sglang.srt.disaggregation"].utils = utils  # type: ignore[attr-defined]
    base = importlib.import_module("sglang.srt.disaggregation.base.conn")
    hooks = importlib.import_module("sglang.srt.plugins.hook_registry")
    choices = importlib.import_module("sglang.srt.arg_groups.choices")
    # As SGLang's own modules do, which have these names before the hooks are applied.
    importer = ModuleType("importer")
    importer.TransferBackend, importer.get_kv_class = utils.TransferBackend, utils.get_kv_class  # type: ignore[attr-defined]
    sys.modules["importer"] = importer

    import kvferry_sglang
    from kvferry_sglang import plugin

    for kind in ("Manager", "Sender", "Receiver", "BootstrapServer"):
        ours, theirs = getattr(kvferry_sglang, f"KvferryKV{kind}"), getattr(base, f"BaseKV{kind}")
        assert issubclass(ours, theirs), ours
        assert not inspect.isabstract(ours), ours.__abstractmethods__
    plugin.register()
    hooks.HookRegistry.apply_hooks()
    assert choices.DISAGG_TRANSFER_BACKEND_CHOICES.count("kvferry") == 1
    assert "k" not in choices.DISAGG_TRANSFER_BACKEND_CHOICES
    for module in (utils, importer):
        backend = module.TransferBackend("kvferry")
        assert module.TransferBackend("mooncake") is utils.TransferBackend.MOONCAKE
        found = [module.get_kv_class(backend, kind).__name__ for kind in utils.KVClassType]
        assert found == [
            "KVArgs", "KvferryKVManager", "KvferryKVSender", "KvferryKVReceiver", "KvferryKVBootstrapServer",
        ], found  # fmt: skip
    try:
        utils.get_kv_class(utils.TransferBackend.FAKE, utils.KVClassType.SENDER)
    except ImportError:
        # SGLang's own branch was taken: it looks for its own backend, which needs all of SGLang.
        print("ok")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
