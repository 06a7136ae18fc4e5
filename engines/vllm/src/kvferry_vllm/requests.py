"""What the scheduler's half remembers of a request, and the little that it asks of one."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kvferry import KeyChain, Place

from .params import Handover
from .sharing import Part

if TYPE_CHECKING:
    from vllm.v1.request import Request


@dataclass(slots=True)
class Lookup:
    """Where the prefix of a waiting request lies."""

    chain: KeyChain
    future: Future[list[Place]] | None
    asked: float


@dataclass(slots=True)
class Outgoing:
    """A prompt whose KV is saved as it is made."""

    tokens: int
    secret_and_digest: str
    digest: str
    secret: str
    chain: KeyChain | None
    trace: str
    #: Blocks of the sequence that somebody has published already; they are not saved again.
    first_block: int = 0
    #: Tokens from the first that have been saved without a gap.
    saved: int = 0
    opened: bool = False
    done: bool = False
    block_ids: tuple[list[int], ...] = ()


@dataclass(slots=True)
class Incoming:
    handover: Handover | None
    #: Of a hand-over, by rank.
    parts: tuple[tuple[Part, ...], ...]
    place: Place | None
    keys: bytes
    #: Of the source, from the first.
    tokens: int
    #: Of them, as many as vLLM is told of: the last of a prompt is computed here in any case.
    loaded: int


def trace_of(request: Request) -> str:
    """What a router's log knows the request by."""
    headers = request.trace_headers or {}
    return str(headers.get("traceparent") or request.request_id)[:256]


def drop_last_token(request: Request) -> None:
    """State cannot be taken back by a token, so a prefill for somebody else ends before the token that the decode engine computes. What it
    samples then is nobody's answer, and one is enough."""
    assert request.prompt_token_ids is not None
    del request.prompt_token_ids[-1:]
    del request._all_token_ids[-1:]
    request.num_prompt_tokens -= 1
    request.max_tokens = 1
