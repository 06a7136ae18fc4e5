"""A client's life across connections: dials, says hello, notices loss, comes back, and finds out whether the sidecar is still the same."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from . import events, wire
from .channel import Channel, Target, dial
from .errors import KvferryError, expected
from .hello import Welcome, probe, say_hello
from .model import Model
from .pool import Pool, PoolInfo
from .registry import Registry
from .transfers import call_listener

log = logging.getLogger("kvferry")
Result = TypeVar("Result")

BACKOFF_FIRST_S = 0.05
BACKOFF_MAX_S = 2.0
CLOSE_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Options:
    client: str
    attach: bool
    timeout_s: float
    connect_timeout_s: float
    lost_after_s: float
    quiesce_timeout_s: float
    quiesce: Callable[[], Awaitable[None]] | None
    on_restart: Callable[[events.Restarted], Awaitable[None]] | None

    def __post_init__(self) -> None:
        for name in ("timeout_s", "connect_timeout_s", "lost_after_s", "quiesce_timeout_s"):
            seconds = getattr(self, name)
            if not 0 < seconds <= wire.DEADLINE_MAX_S:
                raise expected(f"seconds up to {wire.DEADLINE_MAX_S:g}", name, seconds)


class Session:
    def __init__(self, target: Target, options: Options) -> None:
        self.loop = asyncio.get_running_loop()
        self.options = options
        self.incarnation = ""
        #: Counts connections: what is numbered by one means nothing on the next.
        self.channel_number = 0
        self.pool: Pool | None = None
        self.models: list[Model] = []
        self.registry = Registry(self)
        self._target = target
        self._process_id = os.getpid()
        self._thread = threading.get_ident()
        self._channel: Channel | None = None
        self._unanswered: tuple[int, ...] = ()
        self._welcome: Welcome | None = None
        #: The incarnation of which the user has said that nothing touches its blocks any more.
        self._quiesced = ""
        self._problem = KvferryError("connect_failed", f"{target} was not reached yet")
        self._changed = asyncio.Event()
        self._listeners: list[Callable[[events.Event], object]] = []
        self._supervisor: asyncio.Task[None] | None = None
        self._callbacks: set[asyncio.Task[None]] = set()
        self._closing: asyncio.Task[None] | None = None

    @property
    def up(self) -> bool:
        return self._channel is not None

    async def start(self, wait: bool) -> None:
        if wait:
            await self._attempt()
        self._supervisor = self.loop.create_task(self._supervise())

    async def connected(self, timeout_s: float) -> None:
        """Raises what keeps it from being connected after `timeout_s`."""

        async def until_up() -> None:
            while not self.up and self._closing is None:
                await self._changed.wait()

        try:
            await asyncio.wait_for(until_up(), timeout_s)
        except (asyncio.TimeoutError, TimeoutError) as cause:
            raise self._problem from cause
        if self._closing is not None:
            raise self._problem

    def request(
        self,
        op: str,
        fields: dict[str, Any],
        take: Callable[[wire.Message], Result],
        timeout_s: float | None = None,
        undo: Callable[[Result], None] | None = None,
    ) -> asyncio.Future[Result]:
        self.check_process()
        if self._channel is None:
            raise KvferryError(self._problem.code, self._problem.detail)
        return self._channel.request(op, fields, take, self.options.timeout_s if timeout_s is None else timeout_s, undo)

    async def ask(
        self,
        op: str,
        fields: dict[str, Any],
        take: Callable[[wire.Message], Result],
        timeout_s: float | None = None,
        undo: Callable[[Result], None] | None = None,
    ) -> Result:
        """`undo` gives back what an answer gave for which nobody waits any more."""
        future = self.request(op, fields, take, timeout_s, undo)
        try:
            return await future
        except asyncio.CancelledError:
            if undo is not None and future.done() and not future.cancelled() and future.exception() is None:
                undo(future.result())
            raise

    def post(self, op: str, fields: dict[str, Any], on_error: Callable[[KvferryError], None] | None = None) -> None:
        """A request whose answer nobody waits for."""

        def ended(future: asyncio.Future[None]) -> None:
            error = None if future.cancelled() else future.exception()
            if isinstance(error, KvferryError):
                refused(error)

        def refused(error: KvferryError) -> None:
            log.debug("%s was refused: %s", op, error)
            if on_error is not None:
                on_error(error)

        try:
            self.request(op, fields, lambda _: None).add_done_callback(ended)
        except KvferryError as error:
            refused(error)

    def soon(self, callback: Callable[..., object], *arguments: object) -> None:
        """On the loop, from whatever thread; at once if it is the loop's."""
        self.check_process()
        if threading.get_ident() == self._thread:
            callback(*arguments)
        elif not self.loop.is_closed():
            # By way of the loop's own queue, which is how long a verb's coroutine takes to start: none overtakes the other.
            self.loop.call_soon_threadsafe(self.loop.call_soon, callback, *arguments)

    def check_process(self) -> None:
        if os.getpid() != self._process_id:
            raise KvferryError("closed", f"this client is process {self._process_id}'s; a forked process connects anew")

    def refuse_in_loop(self, what: str) -> None:
        self.check_process()
        if threading.get_ident() == self._thread:
            raise KvferryError(
                "unsupported", f"{what} would wait for the very loop that it runs on: await it, or use submit"
            )

    def listen(self, listener: Callable[[events.Event], object]) -> Callable[[], None]:
        self._listeners.append(listener)

        def stop() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return stop

    async def close(self) -> None:
        """Gives everything back. Never raises: what cannot be said to a lost sidecar need not be said. Whoever else closes waits
        for the same end, and whoever stops waiting does not stop it."""
        if self._closing is None:
            self._problem = KvferryError("closed", "the client is closed")
            # Not the task that closes, which may be a callback itself.
            ours = [task for task in (self._supervisor, *self._callbacks) if task not in (None, asyncio.current_task())]
            self._closing = self.loop.create_task(self._close(ours))
        await asyncio.shield(self._closing)

    async def _close(self, tasks: list[asyncio.Task[None]]) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        channel, self._channel = self._channel, None
        if channel is not None:
            try:
                await channel.request("close", {}, lambda _: None, CLOSE_TIMEOUT_S)
            except KvferryError as error:
                log.debug("close: %s", error)
            await channel.close()
        if self.pool is not None:
            self.pool.valid = False
        self.registry.lose()
        self.registry.end_former(self._problem)
        self._listeners.clear()
        self._notify()

    async def _supervise(self) -> None:
        delay_s = BACKOFF_FIRST_S
        while True:
            if self.up:
                delay_s = BACKOFF_FIRST_S
                await self._changed.wait()
                continue
            try:
                await self._attempt()
            except Exception as error:
                # Whatever goes wrong, it goes on dialling: a client that has stopped would look like one without a sidecar.
                if not isinstance(error, KvferryError):
                    log.exception("connecting failed in a way that is not foreseen")
                    error = KvferryError("internal", repr(error))
                self._problem = error if self._welcome is None else KvferryError("connection_lost", str(error))
                # So that the clients of one sidecar do not all dial at the same moment.
                await asyncio.sleep(delay_s * (0.5 + random.random() / 2))
                delay_s = min(2 * delay_s, BACKOFF_MAX_S)

    async def _attempt(self) -> None:
        """Raises KvferryError. A sidecar that has restarted is dialled twice, around the user's own quiescing."""
        timeout_s = self.options.connect_timeout_s
        for _ in range(3):
            try:
                restarted = await asyncio.wait_for(self._enter(), timeout_s)
            except (asyncio.TimeoutError, TimeoutError) as cause:
                raise KvferryError(
                    "connect_timeout", f"{self._target} did not answer within {timeout_s:g} s"
                ) from cause
            if not restarted:
                return
            await self._quiesce()
        raise KvferryError("connect_failed", f"{self._target} restarts again and again")

    async def _enter(self) -> bool:
        """Connects, or returns True where the user must quiesce first."""
        timeout_s = self.options.connect_timeout_s
        channel = await dial(self._target, timeout_s, self._handle_event, self._handle_lost)
        try:
            former = self._welcome
            token = None
            if former is not None:
                # This connection is older than the probe's: should the sidecar restart in between, it is lost.
                restarted = await probe(self._target, self.options.client, timeout_s) != former.incarnation
                if restarted and self.options.quiesce is not None and self._quiesced != former.incarnation:
                    await channel.close()
                    return True
                # Without the user's word the token must not be said: it frees memory that our threads may still write.
                promised = not restarted or self.options.quiesce is not None
                token = (former.resume or None) if promised else None
            process_id = self._process_id if self.options.attach else 0
            unanswered = self._unanswered if token else ()
            welcome = await say_hello(channel, self.options.client, process_id, token, timeout_s, unanswered)
            pool = self.pool
            if pool is None or pool.incarnation != welcome.incarnation:
                pool = Pool(await channel.request("pool", {}, PoolInfo.from_message, timeout_s))
            for model in self.models:
                await model.register(channel, timeout_s)
            if not channel.is_open:
                raise KvferryError("connection_lost", "lost while connecting")
        except BaseException:
            await channel.close()
            raise
        self._come_up(channel, welcome, pool)
        return False

    async def _quiesce(self) -> None:
        former, quiesce = self._welcome, self.options.quiesce
        assert former is not None and quiesce is not None
        if self.pool is not None:
            self.pool.valid = False
        try:
            await asyncio.wait_for(quiesce(), self.options.quiesce_timeout_s)
        except (asyncio.TimeoutError, TimeoutError, Exception) as error:
            log.warning(
                "quiesce failed, so blocks of the former sidecar stay in quarantine until this process ends: %r", error
            )
            # The promise cannot be made, now or later: the next hello goes without the token.
            self._welcome = replace(former, resume="", resumed=False)
        self._quiesced = former.incarnation

    def _come_up(self, channel: Channel, welcome: Welcome, pool: Pool) -> None:
        former, self._welcome = self._welcome, welcome
        changed = former is not None and former.incarnation != welcome.incarnation
        if self.pool is not None and self.pool is not pool:
            self.pool.valid = False
        self.pool = pool
        self.incarnation = welcome.incarnation
        self._channel = channel
        self.channel_number += 1
        self._notify()
        if former is None:
            return
        code = "incarnation_mismatch" if changed else "connection_lost"
        self.registry.end_former(
            KvferryError(code, "the sidecar has restarted" if changed else "the connection was lost")
        )
        if welcome.resumed:
            self._tell(events.Back())
            return
        restarted = events.Restarted(former.incarnation, welcome.incarnation, pool, changed)
        self._tell(restarted)
        if self.options.on_restart is not None:
            task = self.loop.create_task(self._call_on_restart(self.options.on_restart, restarted))
            self._callbacks.add(task)
            task.add_done_callback(self._callbacks.discard)

    @staticmethod
    async def _call_on_restart(
        callback: Callable[[events.Restarted], Awaitable[None]], restarted: events.Restarted
    ) -> None:
        try:
            await callback(restarted)
        except Exception:
            log.exception("on_restart failed")

    def _handle_event(self, message: wire.Message) -> None:
        event = events.event_of(message)
        if event is not None:
            self.registry.handle(event)
            self._tell(event)

    def _handle_lost(self, channel: Channel, detail: str) -> None:
        if channel is not self._channel:
            return
        self._channel = None
        self._unanswered = channel.unanswered
        self._problem = KvferryError("connection_lost", detail)
        self.registry.lose()
        self._notify()
        self._tell(events.Lost(detail))

    def _notify(self) -> None:
        """Wakes whoever waits for a change of the connection; the next change has an event of its own."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _tell(self, event: events.Event) -> None:
        for listener in list(self._listeners):
            call_listener(listener, event)
