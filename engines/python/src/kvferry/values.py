"""What verbs take and give: blocks, where keys were found, reports, statistics. Frozen, and fit to be pickled."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from . import wire
from .arguments import Words, integers, words
from .errors import expected


@dataclass(frozen=True, slots=True, eq=False)
class Blocks:
    """Blocks of one pool, in order, each with the generation that fences it. Only good in the incarnation that gave them."""

    ids: Words
    generations: Words
    incarnation: str

    def __post_init__(self) -> None:
        for name in ("ids", "generations"):
            row = words(getattr(self, name), name)
            row.flags.writeable = False
            object.__setattr__(self, name, row)
        if len(self.ids) != len(self.generations):
            raise expected("as many generations as ids", "generations", len(self.generations))

    @classmethod
    def empty(cls, incarnation: str) -> Blocks:
        return cls(np.empty(0, np.uint32), np.empty(0, np.uint32), incarnation)

    @classmethod
    def concatenate(cls, parts: Iterable[Blocks]) -> Blocks:
        """Of one incarnation, at least one part."""
        listed = list(parts)
        incarnations = {part.incarnation for part in listed}
        if len(incarnations) != 1:
            raise expected("blocks of one incarnation", "parts", incarnations)
        return cls(
            np.concatenate([part.ids for part in listed]),
            np.concatenate([part.generations for part in listed]),
            incarnations.pop(),
        )

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int | slice | npt.NDArray[Any] | list[int]) -> Blocks:
        """Always Blocks, also for one index."""
        if isinstance(index, (int, np.integer)):
            index = [index]
        return Blocks(self.ids[index], self.generations[index], self.incarnation)

    def __add__(self, other: Blocks) -> Blocks:
        return Blocks.concatenate((self, other))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Blocks):
            return NotImplemented
        return (
            self.incarnation == other.incarnation
            and np.array_equal(self.ids, other.ids)
            and np.array_equal(self.generations, other.generations)
        )

    def __hash__(self) -> int:
        return hash((self.incarnation, self.ids.tobytes(), self.generations.tobytes()))

    def to_message(self) -> dict[str, bytes]:
        return {"ids": self.ids.astype("<u4").tobytes(), "generations": self.generations.astype("<u4").tobytes()}

    @classmethod
    def from_message(cls, message: wire.Message, incarnation: str) -> Blocks:
        ids, generations = wire.words(message, "ids"), wire.words(message, "generations")
        if len(ids) != len(generations):
            raise expected("as many generations as ids", "an answer", len(generations), "protocol_error")
        return cls(ids, generations, incarnation)


@dataclass(frozen=True, slots=True)
class GroupBlocks:
    """Blocks of one group of a model, and how many tokens lie in them (groups of state: how many blocks)."""

    group: int
    blocks: Blocks
    tokens: int

    def __post_init__(self) -> None:
        integers(self, "group", "tokens")

    def to_message(self) -> dict[str, object]:
        return {"group": self.group, "blocks": self.blocks.to_message(), "tokens": self.tokens}


@dataclass(frozen=True, slots=True)
class Keyed:
    """A source of a fetch: what a peer has published under these page keys. The other source is an offer's handle."""

    keys: bytes
    group: int
    tokens: int
    #: Of the first of these tokens in its sequence. Without it the KV does not travel through profiles that turn keys back.
    position: int | None = None

    def __post_init__(self) -> None:
        integers(self, "group", "tokens")
        if self.position is not None:
            integers(self, "position")


@dataclass(frozen=True, slots=True)
class Range:
    """A pair of ranges of equal length, in bytes from the start of each buffer."""

    local: int
    remote: int
    bytes: int

    def __post_init__(self) -> None:
        integers(self, "local", "remote", "bytes")


@dataclass(frozen=True, slots=True)
class NodeInfo:
    name: str
    #: HOST:PORT where peers reach the node, to be passed on beside a handle; "" if they cannot.
    address: str
    link: str


@dataclass(frozen=True, slots=True)
class Place:
    """How many keys, from the first, are published at a peer; "" is the node itself."""

    peer: str
    matched: int
    #: Why the peer gave no answer, or "".
    code: str


@dataclass(frozen=True, slots=True)
class Report:
    """Of a transfer that is done."""

    transfer: int
    bytes: int
    wire_bytes: int
    seconds: float
    chunks: int
    retries: int
    link: str
    order: str
    resumed: int
    #: The id of the profile that it travelled coded with, or "".
    profile: str = ""
    #: That profile loses something: these blocks are published and offered only under a model whose identity names it.
    lossy: bool = False

    @classmethod
    def from_message(cls, message: wire.Message) -> Report:
        return cls(
            transfer=wire.integer(message, "transfer"),
            bytes=wire.integer(message, "bytes"),
            wire_bytes=wire.integer(message, "wireBytes"),
            seconds=wire.number(message, "seconds"),
            chunks=wire.integer(message, "chunks"),
            retries=wire.integer(message, "retries"),
            link=wire.text(message, "link"),
            order=wire.text(message, "order"),
            resumed=wire.integer(message, "resumed"),
            # A sidecar that knows no profiles says neither.
            profile=wire.text(message, "profile") if "profile" in message else "",
            lossy=wire.boolean(message, "lossy") if "lossy" in message else False,
        )


@dataclass(frozen=True, slots=True)
class PeerStats:
    name: str
    address: str
    up: bool
    lanes: int
    link: str
    goodput_bytes_per_second: float
    confidence: float


@dataclass(frozen=True, slots=True)
class Stats:
    #: blockCount, free, held, published, leased, quarantined, pinned, evictions, evictedIdleUs.
    pool: Mapping[str, int]
    peers: tuple[PeerStats, ...]
    transfers: int
    bytes_sent: int
    bytes_received: int

    @classmethod
    def from_message(cls, message: wire.Message) -> Stats:
        pool = wire.mapping(message, "pool")
        peers = tuple(
            PeerStats(
                name=wire.text(peer, "name"),
                address=wire.text(peer, "address"),
                up=wire.boolean(peer, "up"),
                lanes=wire.integer(peer, "lanes"),
                link=wire.text(peer, "link"),
                goodput_bytes_per_second=wire.number(peer, "goodputBytesPerSecond"),
                confidence=wire.number(peer, "confidence"),
            )
            for peer in wire.mappings(message, "peers")
        )
        return cls(
            pool={name: int(wire.number(pool, name)) for name in pool},
            peers=peers,
            transfers=wire.integer(message, "transfers"),
            bytes_sent=wire.integer(message, "bytesSent"),
            bytes_received=wire.integer(message, "bytesReceived"),
        )


_HANDLE = re.compile(r"([0-9a-f]{8})-[0-9a-f]{32,55}")
_INCARNATION = re.compile(r"[0-9a-f]{32}")


def new_handle(incarnation: str, holds: str = "") -> str:
    """A handle for an offer that its maker chooses, so that others can be told before the offer is made. `holds`: up to 23 hex
    digits that say what the offer holds, for whoever can read them; they add nothing to what nobody can guess."""
    if not _INCARNATION.fullmatch(incarnation):
        raise expected("32 hex digits", "incarnation", incarnation)
    handle = f"{incarnation[:8]}-{secrets.token_hex(16)}{holds}"
    if not _HANDLE.fullmatch(handle):
        raise expected("up to 23 hex digits in lower case", "holds", holds)
    return handle


def is_handle_of(handle: str, incarnation: str) -> bool:
    """Whether the offer with this handle was made in this life of the pool."""
    matched = _HANDLE.fullmatch(handle)
    return matched is not None and incarnation.startswith(matched[1])
