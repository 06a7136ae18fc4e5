"""What a sidecar tells without being asked, and what the client itself tells of its connection."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import wire
from .values import Report

if TYPE_CHECKING:
    from .pool import Pool


@dataclass(frozen=True, slots=True)
class LayerReady:
    """The layer (its index) is in place in every block of a fetch that asked for layers."""

    transfer: int
    layer: int


@dataclass(frozen=True, slots=True)
class Stalled:
    transfer: int
    silent_ms: int


@dataclass(frozen=True, slots=True)
class Moving:
    transfer: int


@dataclass(frozen=True, slots=True)
class Done:
    transfer: int
    report: Report


@dataclass(frozen=True, slots=True)
class Failed:
    transfer: int
    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class OfferEnded:
    handle: str
    ok: bool
    code: str


@dataclass(frozen=True, slots=True)
class PublishedHere:
    """Blocks became findable here; `origin` is the peer that pushed them, or ""."""

    model: int
    group: int
    keys: bytes
    origin: str


@dataclass(frozen=True, slots=True)
class Evicted:
    keys: bytes


@dataclass(frozen=True, slots=True)
class PeerChanged:
    peer: str
    up: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Lost:
    """The connection is gone; the client dials again by itself."""

    detail: str


@dataclass(frozen=True, slots=True)
class Back:
    """Connected again, and what this client held is still its own."""


@dataclass(frozen=True, slots=True)
class Restarted:
    """Connected again, but what was held is gone: blocks, leases, offers and buffers mean nothing any more."""

    former: str
    incarnation: str
    pool: Pool
    #: The old pool is another life of the memory. False: the sidecar is the same, and has forgotten this client.
    incarnation_changed: bool


Event = (
    LayerReady
    | Stalled
    | Moving
    | Done
    | Failed
    | OfferEnded
    | PublishedHere
    | Evicted
    | PeerChanged
    | Lost
    | Back
    | Restarted
)

_PARSERS: dict[str, Callable[[wire.Message], Event]] = {
    "layer": lambda m: LayerReady(wire.integer(m, "transfer"), wire.integer(m, "layer")),
    "stalled": lambda m: Stalled(wire.integer(m, "transfer"), int(wire.number(m, "silentMs"))),
    "moving": lambda m: Moving(wire.integer(m, "transfer")),
    "done": lambda m: Done(wire.integer(m, "transfer"), Report.from_message(wire.mapping(m, "report"))),
    "failed": lambda m: Failed(wire.integer(m, "transfer"), wire.text(m, "code"), wire.text(m, "detail")),
    "offerEnded": lambda m: OfferEnded(wire.text(m, "handle"), wire.boolean(m, "ok"), wire.text(m, "code")),
    "published": lambda m: PublishedHere(
        wire.integer(m, "model"), wire.integer(m, "group"), wire.binary(m, "keys"), wire.text(m, "from")
    ),
    "evicted": lambda m: Evicted(wire.binary(m, "keys")),
    "peer": lambda m: PeerChanged(wire.text(m, "peer"), wire.boolean(m, "up"), wire.text(m, "detail")),
}


def event_of(message: wire.Message) -> Event | None:
    """None for an event that this version does not know: newer servers may tell more. Raises protocol_error."""
    parse = _PARSERS.get(wire.text(message, "event"))
    return None if parse is None else parse(message)
