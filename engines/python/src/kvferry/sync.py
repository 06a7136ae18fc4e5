"""The client for threads. Its loop runs in one daemon thread; every verb exists twice:

blocks = ferry.alloc(3)              waits for the answer
future = ferry.submit.alloc(3)       returns a concurrent.futures.Future at once"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from functools import partial, wraps
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, TypeVar

from . import aio, events
from .errors import KvferryError
from .verbs import AsyncFerry

P = ParamSpec("P")
Result = TypeVar("Result")
Verb = Callable[Concatenate[AsyncFerry, P], Coroutine[Any, Any, Result]]

#: How long the loop's thread is waited for when the client is closed or the interpreter ends.
JOIN_S = 5.0


class LoopThread:
    """One event loop in one daemon thread."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._process_id = os.getpid()
        self._stopping = False
        #: What is submitted is in the loop's queue before its end is, so that it ends at the latest with the loop.
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="kvferry", daemon=True)
        self._thread.start()
        # A daemon thread that runs while the interpreter is torn down would end in noise.
        atexit.register(self.stop)

    def submit(
        self, coroutine: Coroutine[Any, Any, Result], undo: Callable[[Result], None] | None = None
    ) -> Future[Result]:
        """`undo` gets, on the loop, a result that came when the future was cancelled already. As asyncio's run_coroutine_threadsafe, which
        drops such a result."""
        future: Future[Result] = Future()
        # A forked process must not wait for a lock that a thread of its parent held.
        if os.getpid() == self._process_id:
            with self._lock:
                if not self._stopping:
                    self.loop.call_soon_threadsafe(self._start, coroutine, future, undo)
                    return future
        coroutine.close()
        raise KvferryError(
            "closed", "the client is closed, or a forked process's parent's; a forked process connects anew"
        )

    def _start(
        self, coroutine: Coroutine[Any, Any, Result], future: Future[Result], undo: Callable[[Result], None] | None
    ) -> None:
        task = self.loop.create_task(coroutine)

        def ended(task: asyncio.Task[Result]) -> None:
            error = None if task.cancelled() else task.exception()
            if not future.set_running_or_notify_cancel():
                if undo is not None and error is None and not task.cancelled():
                    undo(task.result())
            elif task.cancelled():
                # Not by whoever waits: the loop ends.
                future.set_exception(KvferryError("closed", "the client is closed"))
            elif error is not None:
                future.set_exception(error)
            else:
                future.set_result(task.result())

        def cancelled(future: Future[Result]) -> None:
            if future.cancelled() and not self.loop.is_closed():
                self.loop.call_soon_threadsafe(task.cancel)

        task.add_done_callback(ended)
        future.add_done_callback(cancelled)

    def wait(self, coroutine: Coroutine[Any, Any, Result], undo: Callable[[Result], None] | None = None) -> Result:
        if threading.current_thread() is self._thread:
            coroutine.close()
            raise KvferryError("unsupported", "a verb that waits, called on the client's own loop: use submit")
        future = self.submit(coroutine, undo)
        try:
            return future.result()
        except BaseException:
            # Interrupted: what the answer gives is given back.
            if not future.cancel() and undo is not None and future.exception() is None:
                self.loop.call_soon_threadsafe(undo, future.result())
            raise

    def stop(self) -> None:
        """Whoever calls it, first or not, waits for the thread's end."""
        atexit.unregister(self.stop)
        if os.getpid() != self._process_id:
            return
        with self._lock:
            if not self._stopping:
                self._stopping = True
                self.loop.call_soon_threadsafe(self.loop.stop)
        if threading.current_thread() is not self._thread:
            self._thread.join(JOIN_S)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
            tasks = asyncio.all_tasks(self.loop)
            for task in tasks:
                task.cancel()
            self.loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        finally:
            with self._lock:
                self._stopping = True
            self.loop.close()


def _waiting(verb: Verb[P, Result]) -> Callable[Concatenate[Ferry, P], Result]:
    @wraps(verb)
    def call(ferry: Ferry, /, *arguments: P.args, **options: P.kwargs) -> Result:
        return ferry._thread.wait(verb(ferry._ferry, *arguments, **options), ferry._ferry._undo.get(verb.__name__))

    return call


def _submitting(verb: Verb[P, Result]) -> Callable[Concatenate[Submit, P], Future[Result]]:
    @wraps(verb)
    def call(submit: Submit, /, *arguments: P.args, **options: P.kwargs) -> Future[Result]:
        return submit._thread.submit(verb(submit._ferry, *arguments, **options), submit._ferry._undo.get(verb.__name__))

    return call


class Submit:
    """The verbs without waiting: each returns a Future whose callbacks run on the client's loop. Cancelling a future gives back what
    its answer gives. Requests reach the sidecar in the order in which one thread made them."""

    def __init__(self, thread: LoopThread, ferry: AsyncFerry) -> None:
        self._thread = thread
        self._ferry = ferry

    connected = _submitting(AsyncFerry.connected)
    info = _submitting(AsyncFerry.info)
    pool = _submitting(AsyncFerry.pool)
    alloc = _submitting(AsyncFerry.alloc)
    free = _submitting(AsyncFerry.free)
    register_buffer = _submitting(AsyncFerry.register_buffer)
    unregister_buffer = _submitting(AsyncFerry.unregister_buffer)
    register_model = _submitting(AsyncFerry.register_model)
    publish = _submitting(AsyncFerry.publish)
    lookup = _submitting(AsyncFerry.lookup)
    lease = _submitting(AsyncFerry.lease)
    release = _submitting(AsyncFerry.release)
    fetch = _submitting(AsyncFerry.fetch)
    push = _submitting(AsyncFerry.push)
    read = _submitting(AsyncFerry.read)
    write = _submitting(AsyncFerry.write)
    cancel = _submitting(AsyncFerry.cancel)
    offer = _submitting(AsyncFerry.offer)
    ready = _submitting(AsyncFerry.ready)
    withdraw = _submitting(AsyncFerry.withdraw)
    prewarm = _submitting(AsyncFerry.prewarm)
    discard = _submitting(AsyncFerry.discard)
    stats = _submitting(AsyncFerry.stats)


class Ferry:
    """The verbs of AsyncFerry, waiting for each answer. May be used by several threads at once."""

    def __init__(self, thread: LoopThread, ferry: AsyncFerry) -> None:
        self._thread = thread
        self._ferry = ferry
        self.submit = Submit(thread, ferry)

    connected = _waiting(AsyncFerry.connected)
    info = _waiting(AsyncFerry.info)
    pool = _waiting(AsyncFerry.pool)
    alloc = _waiting(AsyncFerry.alloc)
    free = _waiting(AsyncFerry.free)
    register_buffer = _waiting(AsyncFerry.register_buffer)
    unregister_buffer = _waiting(AsyncFerry.unregister_buffer)
    register_model = _waiting(AsyncFerry.register_model)
    publish = _waiting(AsyncFerry.publish)
    lookup = _waiting(AsyncFerry.lookup)
    lease = _waiting(AsyncFerry.lease)
    release = _waiting(AsyncFerry.release)
    fetch = _waiting(AsyncFerry.fetch)
    push = _waiting(AsyncFerry.push)
    read = _waiting(AsyncFerry.read)
    write = _waiting(AsyncFerry.write)
    cancel = _waiting(AsyncFerry.cancel)
    offer = _waiting(AsyncFerry.offer)
    ready = _waiting(AsyncFerry.ready)
    withdraw = _waiting(AsyncFerry.withdraw)
    prewarm = _waiting(AsyncFerry.prewarm)
    discard = _waiting(AsyncFerry.discard)
    stats = _waiting(AsyncFerry.stats)

    @property
    def up(self) -> bool:
        """Connected right now."""
        return self._ferry.up

    @property
    def incarnation(self) -> str:
        """Of the pool as last heard of; "" before the first connection."""
        return self._ferry.incarnation

    def on(self, listener: Callable[[events.Event], object]) -> Callable[[], None]:
        """Tells every event; the function that is returned ends it. Listeners run on the client's loop and must be short."""
        return self._ferry.on(listener)

    def close(self) -> None:
        """Gives everything back and ends the connection. In a forked process, or a second time, nothing happens; while another thread
        closes it, that is waited for."""
        try:
            self._thread.wait(self._ferry.close())
        except KvferryError as error:
            if error.code != "closed":
                raise
        self._thread.stop()

    def __enter__(self) -> Ferry:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()


def connect(
    target: str,
    *,
    token: str = "",
    client: str = "",
    attach: bool = True,
    wait: bool = True,
    timeout_s: float = 30.0,
    connect_timeout_s: float = 5.0,
    lost_after_s: float = 2.0,
    quiesce: Callable[[], None] | None = None,
    quiesce_timeout_s: float = 30.0,
    on_restart: Callable[[events.Restarted], None] | None = None,
) -> Ferry:
    """As `kvferry.aio.connect`. `quiesce` and `on_restart` run in threads of their own, so they may block and use this client."""
    thread = LoopThread()
    try:
        ferry = thread.wait(
            aio.connect(
                target,
                token=token,
                client=client,
                attach=attach,
                wait=wait,
                timeout_s=timeout_s,
                connect_timeout_s=connect_timeout_s,
                lost_after_s=lost_after_s,
                quiesce=None if quiesce is None else partial(_in_thread, quiesce),
                quiesce_timeout_s=quiesce_timeout_s,
                on_restart=None if on_restart is None else partial(_in_thread, on_restart),
            )
        )
    except BaseException:
        thread.stop()
        raise
    return Ferry(thread, ferry)


async def _in_thread(callback: Callable[..., None], *arguments: object) -> None:
    await asyncio.to_thread(callback, *arguments)
