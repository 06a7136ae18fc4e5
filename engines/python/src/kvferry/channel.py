"""One connection to a sidecar: numbered requests, each with a deadline, and events. Once lost it stays lost; session.py dials again.

Everything here runs on one event loop. Requests leave in the order in which they were made."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from websockets.asyncio.client import ClientConnection, connect, unix_connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from . import wire
from .errors import KvferryError, expected

log = logging.getLogger("kvferry")
Result = TypeVar("Result")

PING_EVERY_S = 10.0
#: Longer than a busy interpreter usually holds its lock; on a socket of this host silence is rare, and requests have deadlines.
SILENT_S = 60.0
CLOSE_GRACE_S = 1.0
#: A sidecar that takes nothing must not fill an engine's memory.
OUTGOING_BYTES_MAX = 64 << 20
SOCKET_PATH_BYTES_MAX = 100


@dataclass(frozen=True, slots=True)
class Target:
    #: Path of a unix socket, or "".
    path: str
    url: str
    token: str

    @classmethod
    def parse(cls, target: str, token: str) -> Target:
        if target.startswith("ws://"):
            return cls("", target, token)
        if not target or len(target.encode()) > SOCKET_PATH_BYTES_MAX or "\0" in target:
            raise expected(
                f"ws://HOST:PORT or a socket's path of at most {SOCKET_PATH_BYTES_MAX} bytes", "target", target
            )
        return cls(target, "ws://localhost/", "")

    def __str__(self) -> str:
        return self.path or self.url


class _Pending(Generic[Result]):
    __slots__ = ("future", "op", "take", "timer", "undo")

    def __init__(
        self,
        op: str,
        future: asyncio.Future[Result],
        take: Callable[[wire.Message], Result],
        undo: Callable[[Result], None] | None,
    ) -> None:
        self.op = op
        self.future = future
        self.take = take
        self.undo = undo
        self.timer: asyncio.TimerHandle | None = None

    def expire(self, timeout_s: float) -> None:
        if not self.future.done():
            self.future.set_exception(
                KvferryError("deadline_exceeded", f"no answer to {self.op} within {timeout_s:g} s")
            )

    def fail(self, error: KvferryError) -> None:
        if self.timer is not None:
            self.timer.cancel()
        if not self.future.done():
            self.future.set_exception(error)

    def answer(self, message: wire.Message) -> None:
        if self.timer is not None:
            self.timer.cancel()
        try:
            if not isinstance(message.get("ok"), dict):
                raise wire.error_of(message)
            result = self.take(message["ok"])
        except KvferryError as error:
            self.fail(error)
            return
        if not self.future.done():
            self.future.set_result(result)
        elif self.undo is not None:
            # Nobody waits any more: what the answer gave must not be lost to everybody.
            self.undo(result)


class Channel:
    """`on_event` gets every event; `on_lost` is called once, after every request was failed, unless it was closed on purpose."""

    def __init__(
        self,
        websocket: ClientConnection,
        on_event: Callable[[wire.Message], None],
        on_lost: Callable[[Channel, str], None],
    ) -> None:
        self._websocket = websocket
        self._on_event = on_event
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._pending: dict[int, _Pending[Any]] = {}
        self._next_id = 1
        self._outgoing: deque[bytes] = deque()
        self._outgoing_bytes = 0
        self._wake = asyncio.Event()
        self._pending_max = wire.PENDING_MAX
        self._message_bytes_max = wire.MESSAGE_BYTES_MAX
        self.is_open = True
        #: Of a lost channel: requests that have had no answer. What they were given is given back by the next hello.
        self.unanswered: tuple[int, ...] = ()
        self._tasks = [self._loop.create_task(self._read()), self._loop.create_task(self._write())]

    def request(
        self,
        op: str,
        fields: dict[str, Any],
        take: Callable[[wire.Message], Result],
        timeout_s: float,
        undo: Callable[[Result], None] | None = None,
    ) -> asyncio.Future[Result]:
        """`take` turns the answer into the result at the moment it arrives, so that events behind it find what they belong to.
        `undo` gets the result of an answer for which nobody waits any more. Raises at once what can be told at once."""
        if not self.is_open:
            raise KvferryError("connection_lost", "the connection has ended")
        if len(self._pending) >= self._pending_max:
            raise KvferryError("full", f"{len(self._pending)} requests are unanswered")
        while self._next_id in self._pending:
            self._next_id = self._next_id % 0xFFFF_FFFF + 1
        request_id, self._next_id = self._next_id, self._next_id % 0xFFFF_FFFF + 1
        data = wire.encode({"id": request_id, "op": op, **fields})
        if len(data) > self._message_bytes_max:
            raise KvferryError("message_too_large", f"{op} of {len(data)} bytes; {self._message_bytes_max} at most")
        if self._outgoing_bytes + len(data) > OUTGOING_BYTES_MAX:
            raise KvferryError("full", f"{self._outgoing_bytes} bytes of requests have not left yet")
        pending = _Pending(op, self._loop.create_future(), take, undo)
        pending.timer = self._loop.call_later(timeout_s, pending.expire, timeout_s)
        self._pending[request_id] = pending
        self._outgoing.append(data)
        self._outgoing_bytes += len(data)
        self._wake.set()
        return pending.future

    def limit(self, pending_max: int, message_bytes_max: int) -> None:
        """What this sidecar takes."""
        self._pending_max = pending_max
        self._message_bytes_max = message_bytes_max

    async def close(self) -> None:
        """On purpose: nobody is told."""
        self._shut("closed by its owner")
        with contextlib.suppress(asyncio.TimeoutError, OSError):
            await asyncio.wait_for(self._websocket.close(), CLOSE_GRACE_S)
        self._websocket.transport.abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _write(self) -> None:
        # The reader tells why sending fails.
        with contextlib.suppress(ConnectionClosed, OSError):
            while True:
                while self._outgoing:
                    data = self._outgoing.popleft()
                    await self._websocket.send(data)
                    self._outgoing_bytes -= len(data)
                self._wake.clear()
                await self._wake.wait()

    async def _read(self) -> None:
        detail = "the connection ended"
        try:
            while True:
                self._handle(wire.decode(await self._websocket.recv()))
        except ConnectionClosed as closed:
            close = closed.rcvd
            detail = "cut off" if close is None else f"closed with {close.code}: {close.reason}"
        except KvferryError as error:
            detail = error.detail
        except Exception as error:
            log.exception("a message could not be handled")
            detail = f"a message could not be handled: {error}"
        finally:
            if self.is_open:
                self._shut(detail)
                self._websocket.transport.abort()
                self._on_lost(self, detail)

    def _handle(self, message: wire.Message) -> None:
        if "event" in message:
            self._on_event(message)
            return
        pending = self._pending.pop(wire.integer(message, "id"), None)
        if pending is not None:
            pending.answer(message)

    def _shut(self, detail: str) -> None:
        self.is_open = False
        self._tasks[1].cancel()
        self._outgoing.clear()
        self.unanswered = tuple(self._pending)
        pending, self._pending = list(self._pending.values()), {}
        for entry in pending:
            entry.fail(KvferryError("connection_lost", detail))


async def dial(
    target: Target,
    timeout_s: float,
    on_event: Callable[[wire.Message], None],
    on_lost: Callable[[Channel, str], None],
) -> Channel:
    """Raises connect_failed, connect_timeout or peer_not_allowed (a wrong token)."""
    options: dict[str, Any] = {
        "compression": None,
        "max_size": wire.RECEIVED_BYTES_MAX,
        "open_timeout": timeout_s,
        "ping_interval": PING_EVERY_S,
        "ping_timeout": SILENT_S,
        "user_agent_header": None,
    }
    try:
        if target.path:
            websocket = await unix_connect(target.path, target.url, **options)
        else:
            headers = {"Authorization": f"Bearer {target.token}"} if target.token else {}
            websocket = await connect(target.url, additional_headers=headers, proxy=None, **options)
    except InvalidStatus as cause:
        if cause.response.status_code == 401:
            raise KvferryError("peer_not_allowed", f"{target} refuses the token") from cause
        raise KvferryError("connect_failed", f"{target}: {cause}") from cause
    except (TimeoutError, asyncio.TimeoutError) as cause:
        raise KvferryError("connect_timeout", f"{target} did not answer within {timeout_s:g} s") from cause
    except (OSError, InvalidHandshake, ValueError, EOFError) as cause:
        raise KvferryError("connect_failed", f"{target}: {cause}") from cause
    return Channel(websocket, on_event, on_lost)
