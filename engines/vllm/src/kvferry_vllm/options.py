"""What the operator says in `kv_connector_extra_config`, parsed once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from kvferry import KvferryError

Absent = Literal["serve", "refuse"]


@dataclass(frozen=True, slots=True)
class Options:
    #: Path of the sidecar's unix socket; `{rank}` stands for the tensor-parallel rank, because each rank has a sidecar of its own.
    socket: str
    #: Publish the KV of whole blocks, and look for it here and at `peers` before a prefill.
    prefix: bool
    #: Have connections to a request's prefill engine opened while it waits for its turn.
    prewarm: bool
    #: Names or HOST:PORT of sidecars that are asked for prefixes, beside our own.
    peers: tuple[str, ...]
    #: What the weights are called; two engines with the same name must hold the same weights. "": found out from the files.
    model: str
    revision: str
    tenant: str
    #: Without a sidecar at start: "serve" goes on without transfers (and uses it when it comes), "refuse" does not start.
    absent: Absent
    #: A prompt with fewer tokens to load is computed instead.
    min_tokens: int
    #: How long a request may wait for its KV before it is computed instead.
    load_timeout_s: float
    #: How long a producer keeps KV that nobody has fetched.
    offer_timeout_s: float
    #: How long a request may wait to learn where its prefix lies.
    lookup_timeout_s: float
    #: On CPUs with AMX: KV lies plainly in the pool, as engines without AMX or with other sizes of a block can use it.
    unpack: bool
    #: Take a vLLM that the connector has not been tested with.
    allow_untested_vllm: bool

    @classmethod
    def parse(cls, extra: Mapping[str, Any]) -> Options:
        unknown = set(extra) - set(cls.__slots__)
        if unknown:
            raise _wrong("kv_connector_extra_config", f"only {', '.join(cls.__slots__)}", sorted(unknown))
        socket = _text(extra, "socket", "")
        if socket == "":
            raise _wrong(
                "kv_connector_extra_config.socket",
                "the path of the sidecar's socket (kvferry serve --socket PATH)",
                socket,
            )
        absent = _text(extra, "absent", "serve")
        if absent not in ("serve", "refuse"):
            raise _wrong("kv_connector_extra_config.absent", '"serve" or "refuse"', absent)
        peers = extra.get("peers", ())
        if not isinstance(peers, (list, tuple)) or not all(isinstance(peer, str) and peer for peer in peers):
            raise _wrong("kv_connector_extra_config.peers", "a list of sidecars, by name or HOST:PORT", peers)
        return cls(
            socket=socket,
            prefix=_boolean(extra, "prefix", False),
            prewarm=_boolean(extra, "prewarm", True),
            peers=tuple(peers),
            model=_text(extra, "model", ""),
            revision=_text(extra, "revision", ""),
            tenant=_text(extra, "tenant", ""),
            absent=absent,  # type: ignore[arg-type]
            min_tokens=_integer(extra, "min_tokens", 1, 1, 2**31),
            load_timeout_s=_number(extra, "load_timeout_s", 30.0, 0.05, 3600.0),
            offer_timeout_s=_number(extra, "offer_timeout_s", 120.0, 0.05, 3600.0),
            lookup_timeout_s=_number(extra, "lookup_timeout_s", 0.5, 0.005, 60.0),
            unpack=_boolean(extra, "unpack", False),
            allow_untested_vllm=_boolean(extra, "allow_untested_vllm", False),
        )

    def socket_of(self, rank: int) -> str:
        return self.socket.replace("{rank}", str(rank))


def check_ranks(options: Options, ranks: int) -> None:
    if ranks > 1 and "{rank}" not in options.socket:
        raise _wrong(
            "kv_connector_extra_config.socket",
            f"a path with {{rank}} in it, for {ranks} ranks with a sidecar each",
            options.socket,
        )


def _wrong(name: str, wanted: str, received: object) -> KvferryError:
    return KvferryError("invalid_config", f"Expected {wanted} for {name} but received {received!r}")


def _text(extra: Mapping[str, Any], name: str, default: str) -> str:
    value = extra.get(name, default)
    if not isinstance(value, str):
        raise _wrong(f"kv_connector_extra_config.{name}", "text", value)
    return value


def _boolean(extra: Mapping[str, Any], name: str, default: bool) -> bool:
    value = extra.get(name, default)
    if not isinstance(value, bool):
        raise _wrong(f"kv_connector_extra_config.{name}", "true or false", value)
    return value


def _integer(extra: Mapping[str, Any], name: str, default: int, least: int, most: int) -> int:
    value = extra.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise _wrong(f"kv_connector_extra_config.{name}", f"an integer from {least} to {most}", value)
    return value


def _number(extra: Mapping[str, Any], name: str, default: float, least: float, most: float) -> float:
    value = extra.get(name, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        raise _wrong(f"kv_connector_extra_config.{name}", f"a number from {least:g} to {most:g}", value)
    return float(value)
