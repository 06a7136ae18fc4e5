"""The client on asyncio: `async with await kvferry.aio.connect(path) as ferry: ...`. Use it on the loop that connected it."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from functools import partial

from . import events
from .channel import Target
from .session import Options, Session
from .verbs import AsyncFerry

__all__ = ["AsyncFerry", "connect"]


async def connect(
    target: str,
    *,
    token: str = "",
    client: str = "",
    attach: bool = True,
    wait: bool = True,
    timeout_s: float = 30.0,
    connect_timeout_s: float = 5.0,
    lost_after_s: float = 2.0,
    quiesce: Callable[[], Awaitable[None] | None] | None = None,
    quiesce_timeout_s: float = 30.0,
    on_restart: Callable[[events.Restarted], Awaitable[None] | None] | None = None,
) -> AsyncFerry:
    """Connects to a sidecar and stays connected: a lost connection is dialled again in the background.

    target: path of the sidecar's unix socket, or ws://HOST:PORT on this host, with `token`.
    client: this client's name in the sidecar's log.
    attach: False for a client that maps no memory, such as a router in another PID namespace; what it holds ends with its connection.
    wait: False returns at once, also without a sidecar; verbs fail at once with connect_failed or connection_lost until there is one.
    timeout_s: how long each answer may take. Transfers and offers have deadlines of their own.
    connect_timeout_s: how long dialling and hello may take together.
    lost_after_s: how long a lost connection may stay lost before its transfers and offers end with connection_lost. If it comes back
        earlier they end then, with incarnation_mismatch if the sidecar has restarted.
    quiesce: called after the sidecar has restarted. When it returns, nothing of this process (no thread, no GPU stream) touches blocks
        of the former pool any more, and what was kept in quarantine for it becomes free. Without it, or when it fails, that memory
        stays in quarantine until this process ends.
    on_restart: called when this client is connected again and what it held is gone. Pool and models are in place by then.

    Raises connect_failed, connect_timeout, peer_not_allowed, or what hello is refused with."""
    options = Options(
        client=client or f"python {os.getpid()}",
        attach=attach,
        timeout_s=timeout_s,
        connect_timeout_s=connect_timeout_s,
        lost_after_s=lost_after_s,
        quiesce_timeout_s=quiesce_timeout_s,
        quiesce=None if quiesce is None else partial(_awaited, quiesce),
        on_restart=None if on_restart is None else partial(_awaited, on_restart),
    )
    session = Session(Target.parse(target, token), options)
    await session.start(wait)
    return AsyncFerry(session)


async def _awaited(callback: Callable[..., Awaitable[None] | None], *arguments: object) -> None:
    result = callback(*arguments)
    if result is not None:
        await result
