"""Transfers and offers: objects that end. Each may be awaited on an event loop or waited for with `result` from a thread."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Generator
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .arguments import integer
from .errors import KvferryError
from .values import GroupBlocks, Report

if TYPE_CHECKING:
    from .session import Session

log = logging.getLogger("kvferry")
Outcome = TypeVar("Outcome")


class Ending(Generic[Outcome]):
    """Something that ends exactly once: with a result, or with a KvferryError."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._future: Future[Outcome] = Future()
        # Whoever waits must not be able to cancel it for others: a transfer is cancelled by saying so to the sidecar.
        self._future.set_running_or_notify_cancel()
        self._timer: asyncio.TimerHandle | None = None

    def result(self, timeout_s: float | None = None) -> Outcome:
        """Blocks until it has ended; every transfer and offer has a deadline, so it ends. TimeoutError after `timeout_s`."""
        if not self._future.done():
            self._session.refuse_in_loop("result")
        try:
            return self._future.result(timeout_s)
        except KvferryError:
            raise
        except Exception as cause:
            # In Python 3.10 the future's own TimeoutError is not the builtin one.
            raise TimeoutError(f"not ended within {timeout_s} s") from cause

    def error(self) -> KvferryError | None:
        """Of one that has ended; None if it is not done or went well."""
        error = self._future.exception() if self._future.done() else None
        return error if isinstance(error, KvferryError) else None

    def done(self) -> bool:
        return self._future.done()

    @property
    def future(self) -> Future[Outcome]:
        """For `concurrent.futures.wait` and `add_done_callback`, whose callbacks run on the client's loop and must be short."""
        return self._future

    def __await__(self) -> Generator[Any, None, Outcome]:
        return asyncio.wrap_future(self._future).__await__()

    def _expire_after(self, timeout_s: float, what: str) -> None:
        self._timer = self._session.loop.call_later(timeout_s, self._expired, timeout_s, what)

    def _expired(self, timeout_s: float, what: str) -> None:
        self._fail(KvferryError("deadline_exceeded", f"no end of {what} within {timeout_s:g} s"))

    def _succeed(self, outcome: Outcome) -> None:
        self._stop_timer()
        if not self._future.done():
            self._future.set_result(outcome)

    def _fail(self, error: KvferryError) -> None:
        self._stop_timer()
        if not self._future.done():
            self._future.set_exception(error)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


class Transfer(Ending[Report]):
    """Under way. Whatever it fails with, its blocks are recomputed; until it has ended they are not to be touched."""

    def __init__(self, session: Session, number: int, on_layer: Callable[[int], None] | None) -> None:
        super().__init__(session)
        self.number = number
        self.incarnation = session.incarnation
        self._on_layer = on_layer
        self._channel = session.channel_number

    def cancel(self) -> None:
        """Asks for its end and returns at once; the end is `cancelled`, unless it was done before."""
        if not self.done():
            self._session.soon(self._cancel)

    def _cancel(self) -> None:
        # Numbers of a former connection may be another transfer's by now.
        if not self.done() and self._channel == self._session.channel_number:
            self._session.post("cancel", {"transfer": self.number})

    def _layer(self, layer: int) -> None:
        if self._on_layer is not None:
            call_listener(self._on_layer, layer)

    def __repr__(self) -> str:
        return f"<Transfer {self.number}{' ended' if self.done() else ''}>"


class Offer(Ending[None]):
    """Blocks that whoever knows `handle` may fetch, once or as often as the fetches say. It ends well when all of them have
    what they asked for; then, and whenever it ends, the blocks are its maker's alone again."""

    def __init__(self, session: Session, handle: str, groups: tuple[GroupBlocks, ...]) -> None:
        super().__init__(session)
        self.handle = handle
        self.groups = groups
        self.incarnation = session.incarnation

    def ready(self, layer: int) -> None:
        """That layer (its index) is complete in every block. Returns at once; a refusal ends the offer with its error."""
        self._session.soon(self._say, "ready", {"handle": self.handle, "layer": integer(layer, "layer")})

    def withdraw(self) -> None:
        """Returns at once."""
        self._session.soon(self._say, "withdraw", {"handle": self.handle})

    def _say(self, op: str, fields: dict[str, Any]) -> None:
        if not self.done():
            self._session.post(op, fields, self._fail if op == "ready" else None)

    def __repr__(self) -> str:
        return f"<Offer {self.handle}{' ended' if self.done() else ''}>"


def call_listener(listener: Callable[..., object], *arguments: object) -> None:
    """A listener's mistake is its own: it is logged, and the client goes on."""
    try:
        listener(*arguments)
    except Exception:
        log.exception("a listener failed")
