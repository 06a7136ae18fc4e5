"""Python client of kvferry: KV cache of LLM engines, moved by a sidecar. See `connect`, and `kvferry.aio` for asyncio."""

from . import aio, events
from .buffers import Buffer
from .errors import ERRORS, ErrorKind, KvferryError
from .keys import Identity, KeyChain, Seed, page_keys, page_tokens, state_key
from .layout import ELEMENT_BYTES, Component, Group, Layout, Part, packed
from .model import Model
from .pool import Pool, PoolInfo
from .sync import Ferry, Submit, connect
from .transfers import Offer, Transfer
from .values import Blocks, GroupBlocks, Keyed, NodeInfo, PeerStats, Place, Range, Report, Stats, new_handle
from .verbs import AsyncFerry, Priority

__all__ = [
    "ELEMENT_BYTES",
    "ERRORS",
    "AsyncFerry",
    "Blocks",
    "Buffer",
    "Component",
    "ErrorKind",
    "Ferry",
    "Group",
    "GroupBlocks",
    "Identity",
    "KeyChain",
    "Keyed",
    "KvferryError",
    "Layout",
    "Model",
    "NodeInfo",
    "Offer",
    "Part",
    "PeerStats",
    "Place",
    "Pool",
    "PoolInfo",
    "Priority",
    "Range",
    "Report",
    "Seed",
    "Stats",
    "Submit",
    "Transfer",
    "aio",
    "connect",
    "events",
    "new_handle",
    "packed",
    "page_keys",
    "page_tokens",
    "state_key",
]

__version__ = "0.1.0"
