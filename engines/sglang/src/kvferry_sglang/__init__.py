"""SGLang's prefill/decode disaggregation over kvferry. SGLang loads it by plugin.py; README.md says how."""

from .bootstrap import KvferryKVBootstrapServer
from .manager import KvferryKVManager
from .receiver import KvferryKVReceiver
from .sender import KvferryKVSender
from .status import KvferryTransferError

__all__ = [
    "KvferryKVBootstrapServer",
    "KvferryKVManager",
    "KvferryKVReceiver",
    "KvferryKVSender",
    "KvferryTransferError",
]

__version__ = "0.1.0"
