"""`kv_transfer_params`: what a prefill engine's answer says about where its KV is, and the decode engine's request brings back.

It comes through clients and proxies, so nothing in it is trusted: numbers are bounded, the peer must be on the sidecar's allow-list, and
the handle itself names the prompt (`prompt_digest`): an offer with another prompt's KV has another handle."""

from __future__ import annotations

import re
import reprlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kvferry import KvferryError, Seed, state_key

VERSION = 1
SOURCES_MAX = 64
HEADS_MAX = 4096
TOKENS_MAX = 2**31
#: Of the 55 hex digits that a handle has room for: 32 that nobody can guess, 22 of the prompt's digest.
SECRET_BYTES = 16
DIGEST_BYTES = 11

SHOWN_CHARACTERS = 80
_SHOWN = reprlib.Repr()
_SHOWN.maxlevel = 3
_SHOWN.maxstring = _SHOWN.maxother = _SHOWN.maxlong = SHOWN_CHARACTERS

_HANDLE = re.compile(r"[0-9a-f]{8}-[0-9a-f]{54}")
_PEER = re.compile(r"[^\s\x00-\x1f]{1,256}")


@dataclass(frozen=True, slots=True)
class Source:
    """One prefill rank: its sidecar, the handle of its offer, and the KV heads that it holds."""

    peer: str
    handle: str
    first_head: int
    heads: int


@dataclass(frozen=True, slots=True)
class Handover:
    sources: tuple[Source, ...]
    tokens: int
    fingerprint: str

    def to_params(self) -> dict[str, Any]:
        return {
            "do_remote_prefill": True,
            "do_remote_decode": False,
            "kvferry": VERSION,
            "tokens": self.tokens,
            "fingerprint": self.fingerprint,
            "sources": [[part.peer, part.handle, part.first_head, part.heads] for part in self.sources],
        }


def new_secret() -> str:
    return secrets.token_hex(SECRET_BYTES)


def prompt_digest(fingerprint: str, tokens: Sequence[int], seed: Seed) -> str:
    """Of the whole prompt and everything else that its KV depends on."""
    return state_key(fingerprint, tokens, seed)[:DIGEST_BYTES].hex()


def handle_of(incarnation: str, secret: str, digest: str) -> str:
    return f"{incarnation[:8]}-{secret}{digest}"


def wants_handover(params: Mapping[str, Any] | None) -> bool:
    """The request is a prefill whose KV somebody else will decode with."""
    return params is not None and params.get("do_remote_decode") is True


def offers_handover(params: Mapping[str, Any] | None) -> bool:
    """The request brings KV along."""
    return params is not None and params.get("do_remote_prefill") is True


def parse_handover(params: Mapping[str, Any], fingerprint: str, digest: str) -> Handover:
    """Raises invalid_argument, version_unsupported or fingerprint_mismatch."""
    version = params.get("kvferry")
    if version != VERSION:
        raise KvferryError(
            "version_unsupported", f"kv_transfer_params of version {_short(version)}, this connector speaks {VERSION}"
        )
    if params.get("fingerprint") != fingerprint:
        raise KvferryError(
            "fingerprint_mismatch",
            f"the KV is of {_short(params.get('fingerprint'))}, this engine has {fingerprint[:16]}",
        )
    listed = params.get("sources")
    if not isinstance(listed, (list, tuple)) or not 1 <= len(listed) <= SOURCES_MAX:
        raise _wrong("sources", f"a list of 1 to {SOURCES_MAX}", listed)
    return Handover(
        sources=tuple(_source(part, digest) for part in listed),
        tokens=_integer("tokens", params.get("tokens"), 1, TOKENS_MAX),
        fingerprint=fingerprint,
    )


def _source(part: Any, digest: str) -> Source:
    if not isinstance(part, (list, tuple)) or len(part) != 4:
        raise _wrong("a source", "[peer, handle, first head, heads]", part)
    peer, handle, first_head, heads = part
    if not isinstance(peer, str) or _PEER.fullmatch(peer) is None:
        raise _wrong("a source's peer", "a name or HOST:PORT", peer)
    if not isinstance(handle, str) or _HANDLE.fullmatch(handle) is None:
        raise _wrong("a source's handle", "a handle", handle)
    if not handle.endswith(digest):
        raise KvferryError("invalid_argument", "the KV is another prompt's")
    return Source(
        peer=peer,
        handle=handle,
        first_head=_integer("a source's first head", first_head, 0, HEADS_MAX),
        heads=_integer("a source's heads", heads, 1, HEADS_MAX),
    )


def _integer(name: str, value: Any, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise _wrong(name, f"an integer from {least} to {most}", value)
    return value


def _wrong(name: str, wanted: str, received: object) -> KvferryError:
    return KvferryError(
        "invalid_argument", f"Expected {wanted} for {name} of kv_transfer_params but received {_short(received)}"
    )


def _short(value: object) -> str:
    """Of what comes through clients: it may be nested deeper, or be longer, than repr can take."""
    try:
        written = _SHOWN.repr(value)
    except Exception:
        written = f"<{type(value).__name__}>"
    return written if len(written) <= SHOWN_CHARACTERS else f"{written[: SHOWN_CHARACTERS - 3]}..."
