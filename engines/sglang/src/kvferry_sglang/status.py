"""Where a request is, as SGLang polls it: it only goes forward, and ends once."""

from __future__ import annotations

import threading

from kvferry import KvferryError

from .contract import KVPoll


class KvferryTransferError(Exception):
    """What `failure_exception` raises. SGLang reads the attributes of its own KVTransferError."""

    def __init__(self, bootstrap_room: int, cause: KvferryError | None) -> None:
        reason = "failed on another rank" if cause is None else str(cause)
        super().__init__(f"room {bootstrap_room}: {reason}")
        self.bootstrap_room = bootstrap_room
        self.failure_reason = reason
        self.is_from_another_rank = cause is None
        self.code = "internal" if cause is None else cause.code


class Status:
    """Set by the client's loop and by the scheduler's thread, read by the latter."""

    def __init__(self) -> None:
        #: Held by whoever writes into the engine's pages, so that none is written once it has ended.
        self.lock = threading.RLock()
        self._value = KVPoll.Bootstrapping
        self.error: KvferryError | None = None

    @property
    def value(self) -> int:
        return self._value

    @property
    def ended(self) -> bool:
        return self._value in (KVPoll.Failed, KVPoll.Success)

    def advance(self, value: int) -> None:
        with self.lock:
            if not self.ended:
                self._value = max(self._value, value)

    def fail(self, error: KvferryError) -> None:
        with self.lock:
            if not self.ended:
                self._value, self.error = KVPoll.Failed, error
