"""What SGLang's prefill scheduler holds for a request. Called on its thread; nothing here waits."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from kvferry import KvferryError

from .contract import BaseKVSender, Indices, KVPoll, KVTransferMetric
from .directory import put_room
from .manager import KvferryKVManager
from .room import Cargo
from .sending import Job, Sending
from .status import KvferryTransferError, Status

log = logging.getLogger("sglang.kvferry")


class KvferryKVSender(BaseKVSender):
    def __init__(
        self,
        mgr: KvferryKVManager,
        bootstrap_addr: str,
        bootstrap_room: int,
        req_has_disagg_prefill_dp_rank: bool = False,
    ) -> None:
        self.kv_mgr = mgr
        self.bootstrap_room = bootstrap_room
        #: SGLang puts a CUDA event here when it sends pages that are still being computed.
        self._early_send_wait_event: Any = None
        self._aux_index: int | None = None
        self._pages = 0
        self._sent_pages = 0
        self._status = Status()
        self._sending = Sending(mgr.node, mgr.claims, mgr.options, bootstrap_room, self._status)
        facts = mgr.facts
        if facts.dp_size > 1 and not req_has_disagg_prefill_dp_rank:
            if not facts.follow_room:
                mgr.requests.submit(_tell_rank, bootstrap_addr, bootstrap_room, facts.dp_rank)
            elif bootstrap_room % facts.dp_size != facts.dp_rank:
                self._status.fail(
                    KvferryError("invalid_argument", f"room {bootstrap_room} is not this data-parallel rank's")
                )
        mgr.node.submit(self._sending.run())

    @property
    def conclude_state(self) -> int | None:
        return self._status.value if self._status.ended else None

    def init(self, num_kv_indices: int, aux_index: int | None = None) -> None:
        self._pages, self._aux_index = num_kv_indices, aux_index
        expected = self._sending.counts
        if expected and expected[0] != num_kv_indices:
            self._fail(KvferryError("layout_unconvertible", f"{num_kv_indices} pages here, decode has {expected[0]}"))

    def pop_decode_prefix_len(self) -> int:
        return self._sending.prefix_tokens

    def should_send_kv_chunk(self, num_pages: int, last_chunk: bool) -> bool:
        return num_pages > 0 or last_chunk

    def mark_prefill_complete(self) -> None:
        """Only SGLang's allocation policy prefill_complete wants to know, and that is refused at the start."""

    def send(
        self, kv_indices: Indices, state_indices: list[Any] | None = None, num_kv_tokens: int | None = None
    ) -> None:
        """The pages are the engine's to keep until `poll` says that it has ended."""
        if self._status.ended:
            return
        after, self._early_send_wait_event = self._early_send_wait_event, None
        try:
            first, last = self._sent_pages, self._sent_pages + len(kv_indices) == self._pages
            cargo = cargo_of(self.kv_mgr, kv_indices, self._aux_index, state_indices, last)
            self._sent_pages += len(kv_indices)
            if self._sent_pages > self._pages:
                raise KvferryError("invalid_argument", f"{self._sent_pages} pages sent, {self._pages} announced")
        except KvferryError as error:
            self._fail(error)
            return
        self._status.advance(KVPoll.Transferring)
        self.kv_mgr.node.soon(self._sending.put, Job(cargo, first, last, after))

    def poll(self) -> int:
        return self._status.value

    def poll_pp_consensus(self) -> int:
        return self._status.value

    def get_transfer_metric(self) -> KVTransferMetric:
        sending = self._sending
        return KVTransferMetric(transfer_latency_s=sending.seconds or None, transfer_total_bytes=sending.bytes)

    def failure_exception(self) -> None:
        """Raises KvferryTransferError."""
        error = self._status.error
        self._fail(KvferryError("cancelled", "the request failed on another rank"))
        raise KvferryTransferError(self.bootstrap_room, error)

    def clear(self) -> None:
        self._fail(KvferryError("cancelled", "the prefill engine has let go of the request"))

    def abort(self) -> None:
        self._fail(KvferryError("cancelled", "the prefill engine has aborted the request"))

    def _fail(self, error: KvferryError) -> None:
        """Of one that has ended well: nothing happens."""
        self._status.fail(error)
        if self._status.value == KVPoll.Failed:
            self.kv_mgr.node.soon(self._sending.give_up, self._status.error or error)


def cargo_of(
    mgr: KvferryKVManager, kv_indices: Any, aux_index: int | None, state_indices: list[Any] | None, last: bool
) -> Cargo:
    """Our rows of everything that travels with this chunk. Raises invalid_argument."""
    kinds = mgr.node.cut.kinds
    nothing = np.empty(0, np.int64)
    rows = [kinds[0].checked(np.array(kv_indices, np.int64))]
    rows.append(kinds[1].checked([aux_index]) if last and aux_index is not None else nothing)
    listed = state_indices if last and state_indices is not None else [None] * (len(kinds) - 2)
    if len(listed) != len(kinds) - 2:
        raise KvferryError("invalid_argument", f"{len(listed)} lists of state, {len(kinds) - 2} kinds of it")
    for kind, indices in zip(kinds[2:], listed, strict=True):
        rows.append(nothing if indices is None else kind.checked(np.array(indices, np.int64)))
    return Cargo(tuple(rows))


def _tell_rank(bootstrap_addr: str, room: int, dp_rank: int) -> None:
    try:
        put_room(bootstrap_addr, room, dp_rank)
    except KvferryError as error:
        log.warning("kvferry: room %d was not told to the bootstrap server: %s", room, error)
