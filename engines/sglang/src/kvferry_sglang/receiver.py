"""What SGLang's decode scheduler holds for a request. Called on its thread; nothing here waits, except for a copy in the middle of
a page when the request is given up: then none follows, and its pages are the engine's at once."""

from __future__ import annotations

from typing import Any

from kvferry import KvferryError

from .contract import BaseKVReceiver, Indices, KVPoll
from .fetching import Fetching, Wish
from .manager import KvferryKVManager
from .messages import ROOM_MAX, ROWS_MAX
from .sender import cargo_of
from .status import KvferryTransferError, Status


class KvferryKVReceiver(BaseKVReceiver):
    #: SGLang's scheduler asks for these: nothing is written into an engine's memory by anybody else, so nobody is told of an abort.
    require_staging = False
    abort_notified = False

    def __init__(self, mgr: KvferryKVManager, bootstrap_addr: str, bootstrap_room: int | None = None) -> None:
        self.kv_mgr = mgr
        self.bootstrap_addr = bootstrap_addr
        self.bootstrap_room = -1 if bootstrap_room is None else bootstrap_room
        self.bootstrap_infos: list[Any] = []
        self._status = Status()
        self._fetching: Fetching | None = None
        if not 0 <= self.bootstrap_room <= ROOM_MAX:
            self._status.fail(KvferryError("invalid_argument", f"a room of {bootstrap_room}"))

    @property
    def conclude_state(self) -> int | None:
        return self._status.value if self._status.ended else None

    def init(self, prefill_dp_rank: int) -> None:
        topology = self.kv_mgr.prefill_info_table.get(self.bootstrap_addr)
        if topology is None:
            self._status.fail(
                KvferryError("connect_failed", f"the prefill engine at {self.bootstrap_addr} is not known")
            )
        if topology is None or self._status.ended or self._fetching is not None:
            return
        mgr = self.kv_mgr
        self._fetching = Fetching(
            mgr.node, mgr.options, mgr.facts, mgr.requests, self.bootstrap_addr, self.bootstrap_room, self._status
        )
        mgr.node.submit(self._run(self._fetching, topology, prefill_dp_rank))

    def send_metadata(
        self,
        kv_indices: Indices,
        aux_index: int | None = None,
        state_indices: list[Any] | None = None,
        decode_prefix_len: int | None = None,
        destination: Any = "device",
    ) -> None:
        """The pages are kvferry's to write from here on until `poll` says that it has ended, or `abort` returns."""
        if self._status.ended:
            return
        try:
            if self._fetching is None:
                raise KvferryError("invalid_argument", "send_metadata before init")
            if str(getattr(destination, "value", destination)) != "device":
                raise KvferryError("unsupported", "KV is not received into host pools")
            prefix = decode_prefix_len or 0
            if not 0 <= prefix <= ROWS_MAX:
                raise KvferryError("invalid_argument", f"a prefix of {prefix} tokens")
            cargo = cargo_of(self.kv_mgr, kv_indices, aux_index, state_indices, last=True)
            if aux_index is None:
                raise KvferryError("invalid_argument", "no slot for metadata")
        except KvferryError as error:
            self.fail(error)
            return
        self.kv_mgr.node.soon(self._fetching.begin, Wish(cargo, prefix))

    def poll(self) -> int:
        return self._status.value

    def failure_exception(self) -> None:
        """Raises KvferryTransferError."""
        error = self._status.error
        self.fail(KvferryError("cancelled", "the request failed on another rank"))
        raise KvferryTransferError(self.bootstrap_room, error)

    def is_abort_release_safe(self) -> bool:
        return self._status.ended

    def ensure_abort_notified(self, *, force_arm: bool = False) -> None:
        """The prefill engine learns of it by the end of the connection."""

    def clear(self) -> None:
        self.fail(KvferryError("cancelled", "the decode engine has let go of the request"))

    def abort(self) -> None:
        self.fail(KvferryError("cancelled", "the decode engine has aborted the request"))

    def fail(self, error: KvferryError) -> None:
        """Of one that has ended well: nothing happens."""
        self._status.fail(error)
        if self._fetching is not None and self._status.value == KVPoll.Failed:
            self.kv_mgr.node.soon(self._fetching.give_up)

    async def _run(self, fetching: Fetching, topology: Any, dp_rank: int) -> None:
        await fetching.run(topology, dp_rank)
        if self._status.value == KVPoll.Failed and not fetching.given_up:
            self.kv_mgr.forget(self.bootstrap_addr)
