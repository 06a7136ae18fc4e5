"""What the operator sets, by environment: SGLang has no place for a backend's own options."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from kvferry import KvferryError

SECONDS_MAX = 3600.0


@dataclass(frozen=True, slots=True)
class Options:
    #: Unix socket of the sidecar beside this rank. "{rank}" becomes the attention TP rank.
    socket: str
    #: Hosts that a request may name as its prefill engine; empty: any, as with SGLang's own backends.
    bootstrap_hosts: frozenset[str] = frozenset()
    #: Names the model in place of its path, so that both sides may keep it in different folders.
    model: str = ""
    #: Address that decode ranks reach this prefill rank at; "": found out.
    host: str = ""
    #: How long a sender waits for its decode ranks, and a receiver for all of its KV. SGLang's own variables.
    bootstrap_timeout_s: float = 300.0
    waiting_timeout_s: float = 300.0
    #: How long a chunk waits for room in the pool.
    room_timeout_s: float = 10.0
    #: How long one fetched chunk may take once it is offered.
    transfer_timeout_s: float = 60.0

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Options:
        """Raises invalid_config."""
        socket = environment.get("KVFERRY_SOCKET", "")
        if not socket:
            raise KvferryError("invalid_config", "KVFERRY_SOCKET is not set: the path of the sidecar's --socket")
        hosts = environment.get("KVFERRY_SGLANG_BOOTSTRAP_HOSTS", "")
        return cls(
            socket=socket,
            bootstrap_hosts=frozenset(part.strip() for part in hosts.split(",") if part.strip()),
            model=environment.get("KVFERRY_SGLANG_MODEL", ""),
            host=environment.get("KVFERRY_SGLANG_HOST", ""),
            bootstrap_timeout_s=_seconds(environment, "SGLANG_DISAGGREGATION_BOOTSTRAP_TIMEOUT", 300.0),
            waiting_timeout_s=_seconds(environment, "SGLANG_DISAGGREGATION_WAITING_TIMEOUT", 300.0),
            room_timeout_s=_seconds(environment, "KVFERRY_SGLANG_ROOM_TIMEOUT", 10.0),
            transfer_timeout_s=_seconds(environment, "KVFERRY_SGLANG_TRANSFER_TIMEOUT", 60.0),
        )

    def socket_of(self, rank: int) -> str:
        return self.socket.replace("{rank}", str(rank))

    def check_host(self, host: str) -> None:
        """Raises peer_not_allowed."""
        if self.bootstrap_hosts and host not in self.bootstrap_hosts:
            raise KvferryError("peer_not_allowed", f"{host[:256]!r} is not in KVFERRY_SGLANG_BOOTSTRAP_HOSTS")


def _seconds(environment: Mapping[str, str], name: str, usual: float) -> float:
    written = environment.get(name, "")
    try:
        seconds = float(written) if written else usual
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= SECONDS_MAX:
        raise KvferryError(
            "invalid_config", f"Expected seconds up to {SECONDS_MAX:g} for {name} but received {written!r}"
        )
    return seconds
