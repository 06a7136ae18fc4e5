"""What a decode rank and a prefill rank say to each other: lines of JSON over one TCP connection for each (room, source).

The connection is the claim: when it ends, so does what it was about, and each side learns at once that the other is gone. Nothing that
arrives is trusted; every number is bounded."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from kvferry import ERRORS, KvferryError

VERSION = 1
LINE_BYTES_MAX = 16_384
ROOM_MAX = 2**64 - 1
CLAIMS_MAX = 1_024
ROWS_MAX = 2**31 - 1
KINDS_MAX = 64

_HANDLE = re.compile(r"[0-9a-f]{8}-[0-9a-f]{32,55}")
_PEER = re.compile(r"[^\s\x00-\x1f]{1,256}")
_TOKEN = re.compile(r"[0-9a-f]{32}")
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Claim:
    """A decode rank's: it has room for the request's KV."""

    token: str
    room: int
    #: The decode rank, and how many of them claim from this prefill rank.
    target: int
    claims: int
    #: False: this rank's KV is had from another one; it only must not wait.
    wanted: bool
    prefix_tokens: int
    page_size: int
    fingerprint: str
    #: Rows by kind, pages of KV first.
    counts: tuple[int, ...]

    @classmethod
    def parse(cls, line: bytes) -> Claim:
        """Raises message_malformed or version_unsupported."""
        message = parse(line)
        if message.get("version") != VERSION:
            raise KvferryError("version_unsupported", f"this side speaks version {VERSION}")
        counts = message.get("counts")
        if not isinstance(counts, list) or not 1 <= len(counts) <= KINDS_MAX:
            raise _wrong("counts", counts)
        return cls(
            token=text(message, "token", _TOKEN),
            room=integer(message, "room", ROOM_MAX),
            target=integer(message, "target", CLAIMS_MAX),
            claims=integer(message, "claims", CLAIMS_MAX, least=1),
            wanted=boolean(message, "wanted"),
            prefix_tokens=integer(message, "prefix_tokens", ROWS_MAX),
            page_size=integer(message, "page_size", ROWS_MAX),
            fingerprint=text(message, "fingerprint", _FINGERPRINT),
            counts=tuple(integer({"counts": count}, "counts", ROWS_MAX) for count in counts),
        )

    def line(self) -> bytes:
        return line({"version": VERSION, **asdict(self)})


@dataclass(frozen=True, slots=True)
class Chunk:
    """A prefill rank's: this part of the claim can be fetched from its sidecar now."""

    peer: str
    handle: str
    first_page: int
    pages: int
    #: With the last chunk come metadata and state.
    last: bool

    @classmethod
    def parse(cls, message: Mapping[str, Any]) -> Chunk:
        return cls(
            peer=text(message, "peer", _PEER),
            handle=text(message, "handle", _HANDLE),
            first_page=integer(message, "first_page", ROWS_MAX),
            pages=integer(message, "pages", ROWS_MAX),
            last=boolean(message, "last"),
        )

    def line(self) -> bytes:
        return line(asdict(self))


def failure(error: KvferryError) -> bytes:
    return line({"failed": error.code, "detail": error.detail[:512]})


def failure_in(message: Mapping[str, Any]) -> KvferryError | None:
    if "failed" not in message:
        return None
    code, detail = message["failed"], message.get("detail", "")
    known = isinstance(code, str) and code in ERRORS
    return KvferryError(code if known else "internal", f"the other side: {str(detail)[:512]}")


def line(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def parse(line: bytes) -> dict[str, Any]:
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as cause:
        raise KvferryError("message_malformed", "no line of JSON") from cause
    if not isinstance(message, dict):
        raise _wrong("a message", message)
    return message


def integer(message: Mapping[str, Any], name: str, most: int, least: int = 0) -> int:
    value = message.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise _wrong(name, value)
    return value


def boolean(message: Mapping[str, Any], name: str) -> bool:
    value = message.get(name)
    if not isinstance(value, bool):
        raise _wrong(name, value)
    return value


def text(message: Mapping[str, Any], name: str, pattern: re.Pattern[str]) -> str:
    value = message.get(name)
    if not isinstance(value, str) or pattern.fullmatch(value) is None:
        raise _wrong(name, value)
    return value


def _wrong(name: str, value: object) -> KvferryError:
    written = repr(value)
    return KvferryError("message_malformed", f"{name} is {written if len(written) <= 80 else written[:77] + '...'}")
