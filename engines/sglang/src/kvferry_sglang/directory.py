"""The other end of bootstrap.py: what a prefill engine is, where its ranks take claims. Answers are bounded and not trusted."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from kvferry import KvferryError

from .messages import boolean, integer, parse, text

TIMEOUT_S = 5.0
ANSWER_BYTES_MAX = 1 << 20
RANKS_MAX = 1_024

_HOST = re.compile(r"[0-9A-Za-z.:_%-]{1,253}")
_TOKEN = re.compile(r"[0-9a-f]{32}")
_DTYPE = re.compile(r"[0-9A-Za-z_.-]{0,64}")


@dataclass(frozen=True, slots=True)
class Topology:
    """A prefill engine as a whole. SGLang's scheduler reads dp_size and follow_bootstrap_room."""

    attn_tp_size: int
    dp_size: int
    page_size: int
    kv_cache_dtype: str
    follow_bootstrap_room: bool
    prefill_http_port: int

    @classmethod
    def parse(cls, message: Mapping[str, Any]) -> Topology:
        return cls(
            attn_tp_size=integer(message, "attn_tp_size", RANKS_MAX, least=1),
            dp_size=integer(message, "dp_size", RANKS_MAX, least=1),
            page_size=integer(message, "page_size", 65_536, least=1),
            kv_cache_dtype=text(message, "kv_cache_dtype", _DTYPE),
            follow_bootstrap_room=boolean(message, "follow_bootstrap_room"),
            prefill_http_port=integer(message, "prefill_http_port", 65_535),
        )

    def to_message(self) -> dict[str, Any]:
        # SGLang's routers read these too; one rank of each is all that this backend knows.
        return {**asdict(self), "attn_cp_size": 1, "pp_size": 1}


@dataclass(frozen=True, slots=True)
class RankInfo:
    """Where one prefill rank takes claims. Who does not know the token did not ask here, and is not listened to."""

    rank_ip: str
    rank_port: int
    token: str

    @classmethod
    def parse(cls, message: Mapping[str, Any]) -> RankInfo:
        return cls(
            rank_ip=text(message, "rank_ip", _HOST),
            rank_port=integer(message, "rank_port", 65_535, least=1),
            token=text(message, "token", _TOKEN),
        )

    def to_message(self) -> dict[str, Any]:
        return asdict(self)


def rank_index(message: Mapping[str, Any], name: str, count: int = RANKS_MAX) -> int:
    return integer(message, name, count - 1)


def split_address(address: str) -> tuple[str, int]:
    """HOST:PORT, or [HOST]:PORT. Raises invalid_argument."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    if _HOST.fullmatch(host) is None or not port.isdecimal() or not 0 < int(port) <= 65_535:
        raise KvferryError("invalid_argument", f"Expected HOST:PORT but received {address[:256]!r}")
    return host, int(port)


def fetch_topology(address: str) -> Topology:
    return Topology.parse(_request(address, "GET", _route(-1, -1, -1)))


def fetch_rank(address: str, dp_rank: int, tp_rank: int) -> RankInfo:
    return RankInfo.parse(_request(address, "GET", _route(dp_rank, 0, tp_rank)))


def put_rank(address: str, message: Mapping[str, Any]) -> None:
    _request(address, "PUT", "/route", message, parsed=False)


def put_room(address: str, room: int, dp_rank: int) -> None:
    _request(address, "POST", "/register_dp_rank", {"bootstrap_room": room, "dp_rank": dp_rank}, parsed=False)


def _route(dp_rank: int, other: int, tp_rank: int) -> str:
    return f"/route?prefill_dp_rank={dp_rank}&prefill_cp_rank={other}&target_tp_rank={tp_rank}&target_pp_rank={other}"


def _request(
    address: str, method: str, path: str, message: Mapping[str, Any] | None = None, parsed: bool = True
) -> dict[str, Any]:
    """Raises connect_failed, or what the answer is wrong with."""
    host, port = split_address(address)
    body = None if message is None else json.dumps(message).encode()
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    try:
        connection.request(method, path, body)
        answer = connection.getresponse()
        content = answer.read(ANSWER_BYTES_MAX)
    except (OSError, http.client.HTTPException) as cause:
        raise KvferryError("connect_failed", f"bootstrap server {address}: {cause!r}") from cause
    finally:
        connection.close()
    if answer.status != 200:
        detail = content[:256].decode(errors="replace")
        raise KvferryError("connect_failed", f"bootstrap server {address} answers {answer.status}: {detail}")
    return parse(content) if parsed else {}
