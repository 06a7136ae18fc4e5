"""SGLang's own base classes where it is installed, else the recorded ones."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING or find_spec("sglang") is None:
    from .recorded import (
        BaseKVBootstrapServer,
        BaseKVManager,
        BaseKVReceiver,
        BaseKVSender,
        Indices,
        KVPoll,
        KVTransferMetric,
    )
else:
    from sglang.srt.disaggregation.base.conn import (
        BaseKVBootstrapServer,
        BaseKVManager,
        BaseKVReceiver,
        BaseKVSender,
        KVPoll,
        KVTransferMetric,
    )

    from .recorded import Indices

__all__ = [
    "BaseKVBootstrapServer",
    "BaseKVManager",
    "BaseKVReceiver",
    "BaseKVSender",
    "Indices",
    "KVPoll",
    "KVTransferMetric",
]
