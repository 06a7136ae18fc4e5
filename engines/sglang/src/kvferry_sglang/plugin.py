"""The entry point of the group `sglang.srt.plugins`: makes `--disaggregation-transfer-backend kvferry` known to SGLang."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any

BACKEND = "kvferry"
UTILS = "sglang.srt.disaggregation.utils"


def register() -> None:
    """Called by SGLang's load_plugins in each of its processes, which then applies the hooks."""
    from sglang.srt.arg_groups.choices import DISAGG_TRANSFER_BACKEND_CHOICES, add_disagg_transfer_backend_choices
    from sglang.srt.disaggregation import utils
    from sglang.srt.plugins.hook_registry import HookRegistry, HookType

    if BACKEND not in DISAGG_TRANSFER_BACKEND_CHOICES:
        # A list: SGLang extends its own by it, and would take a text letter by letter.
        add_disagg_transfer_backend_choices([BACKEND])
    HookRegistry.register(f"{UTILS}.TransferBackend", widened(utils.TransferBackend), HookType.REPLACE)
    HookRegistry.register(f"{UTILS}.get_kv_class", get_kv_class, HookType.AROUND)


def widened(backends: type[Enum]) -> type[Enum]:
    """SGLang's enumeration with one member more: an Enum that has members cannot be extended."""
    members = {member.name: member.value for member in backends} | {BACKEND.upper(): BACKEND}
    make: Any = Enum
    made: type[Enum] = make("TransferBackend", members, module=backends.__module__)
    return made


def get_kv_class(original: Callable[..., Any], transfer_backend: Any, class_type: Any) -> Any:
    if getattr(transfer_backend, "value", None) != BACKEND:
        return original(transfer_backend, class_type)
    if class_type.value == "kvargs":
        from sglang.srt.disaggregation.base import KVArgs

        return KVArgs
    from . import KvferryKVBootstrapServer, KvferryKVManager, KvferryKVReceiver, KvferryKVSender

    return {
        "manager": KvferryKVManager,
        "sender": KvferryKVSender,
        "receiver": KvferryKVReceiver,
        "bootstrap_server": KvferryKVBootstrapServer,
    }.get(class_type.value)
