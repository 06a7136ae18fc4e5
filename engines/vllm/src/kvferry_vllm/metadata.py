"""What the scheduler's half tells the workers' half in each step."""

from __future__ import annotations

from dataclasses import dataclass, field

from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorMetadata

from .sharing import Part


@dataclass(frozen=True, slots=True)
class GroupCopy:
    """Blocks of one cache group: the i-th block of the sequence is the engine's block `block`."""

    group: int
    places: tuple[int, ...]
    blocks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Save:
    """Copy blocks that this step completes, or fills as far as the prompt goes."""

    request: str
    #: Of the whole prompt, so that memory for all of it is taken at once.
    tokens: int
    copies: tuple[GroupCopy, ...]
    #: The first of this prompt: memory is taken for it.
    opening: bool
    #: The last of this prompt: then layers are ready, and blocks are published.
    final: bool
    #: What the handle of the offer ends with, or "": nothing is handed over.
    secret_and_digest: str
    #: Page keys of the whole blocks from `first_key_block` on, or b"": nothing is published.
    keys: bytes
    first_key_block: int
    trace: str


@dataclass(frozen=True, slots=True)
class Load:
    """Fill the engine's blocks from an offer, or from what is published."""

    request: str
    #: Tokens that the source has, from the first.
    tokens: int
    copies: tuple[GroupCopy, ...]
    #: What each rank fetches from offers; empty: published under `keys` at `peer` ("" is our own sidecar).
    parts: tuple[tuple[Part, ...], ...]
    peer: str
    keys: bytes
    trace: str
    #: What is loaded may be published later: nothing of it may be lost on the way.
    exact: bool


@dataclass(slots=True)
class Metadata(KVConnectorMetadata):
    saves: list[Save] = field(default_factory=list)
    loads: list[Load] = field(default_factory=list)
    #: Requests that ended before their hand-over: what they saved or are loading is given up.
    dropped: list[str] = field(default_factory=list)
    #: Why hand-overs were refused before anything was loaded.
    refused: list[str] = field(default_factory=list)
    #: The step computes nothing.
    idle: bool = False
