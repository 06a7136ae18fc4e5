"""The verbs of schemas/api.md on asyncio. aio.py connects, sync.py offers the same verbs to threads."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Literal, get_args

from . import wire
from .arguments import integer
from .buffers import Buffer
from .errors import KvferryError, expected
from .memory import MemoryVerbs, nothing
from .model import Model
from .session import Session
from .transfers import Offer, Transfer
from .values import GroupBlocks, Keyed, Range, Stats, is_handle_of

OFFER_MAX_S = 120.0
READERS_MAX = 1024

#: What goes before what on the sender's lanes; "background" yields to others' traffic as well.
Priority = Literal["urgent", "normal", "background"]


class AsyncFerry(MemoryVerbs):
    """The verbs of schemas/api.md. Each may be called without waiting for the one before; they reach the sidecar in order.

    Every verb takes `timeout_s`, which bounds the wait for its answer. Whoever stops waiting loses nothing: blocks and leases of an
    answer that comes too late are given back, and transfers are cancelled."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._undo |= {
            "offer": Offer.withdraw,
            **dict.fromkeys(("fetch", "push", "read", "write"), Transfer.cancel),
        }

    async def fetch(
        self,
        peer: str,
        model: Model,
        source: str | Keyed,
        into: Sequence[GroupBlocks],
        *,
        deadline_s: float | None = None,
        heads: tuple[int, int] | None = None,
        readers: int = 1,
        on_layer: Callable[[int], None] | None = None,
        exact: bool = False,
        priority: Priority | None = None,
        trace: str | None = None,
        timeout_s: float | None = None,
    ) -> Transfer:
        """Starts to fill blocks held here with what `peer` has: an offer's handle, or Keyed. `heads`: first and count.
        `readers`: how many fetches read the offer in all, such as one for each rank of an engine. `priority`, of every transfer: "normal"
        unless it is said; one that would miss its deadline goes as "urgent" by itself where that helps.
        `exact`: through no profile that loses something, whatever the sidecar takes.
        `on_layer` is called on the client's loop with the index of each layer as it is in place, and must be short."""
        if isinstance(source, str):
            wanted: dict[str, object] = {"handle": source}
        else:
            wanted = wire.present(keys=source.keys, group=source.group, tokens=source.tokens, position=source.position)
        of_all = integer(readers, "readers", 1, READERS_MAX)
        fields = wire.present(
            peer=peer,
            model=model.number,
            source=wanted,
            into=self._groups(into),
            deadlineMs=_milliseconds(deadline_s),
            heads=None if heads is None else {"first": integer(heads[0], "heads"), "count": integer(heads[1], "heads")},
            readers=None if of_all == 1 else of_all,
            layers=None if on_layer is None else True,
            exact=True if exact else None,
            priority=_priority(priority),
            trace=trace,
        )
        return await self._start("fetch", fields, deadline_s, timeout_s, on_layer)

    async def push(
        self,
        peer: str,
        model: Model,
        blocks: GroupBlocks,
        keys: bytes,
        *,
        position: int | None = None,
        deadline_s: float | None = None,
        priority: Priority | None = None,
        trace: str | None = None,
        timeout_s: float | None = None,
    ) -> Transfer:
        """Starts to copy held or leased blocks to `peer`, which publishes the whole ones under these keys. `position`: as of `offer`."""
        fields = wire.present(
            peer=peer,
            model=model.number,
            group=blocks.group,
            blocks=self._ours(blocks.blocks),
            tokens=blocks.tokens,
            keys=keys,
            position=_position(position),
            deadlineMs=_milliseconds(deadline_s),
            priority=_priority(priority),
            trace=trace,
        )
        return await self._start("push", fields, deadline_s, timeout_s)

    async def read(
        self,
        peer: str,
        remote: str,
        local: Buffer,
        ranges: Sequence[Range],
        *,
        deadline_s: float | None = None,
        priority: Priority | None = None,
        timeout_s: float | None = None,
    ) -> Transfer:
        """Starts to copy ranges of the peer's buffer with the handle `remote` into ours."""
        return await self._ranges("read", peer, remote, local, ranges, deadline_s, priority, timeout_s)

    async def write(
        self,
        peer: str,
        remote: str,
        local: Buffer,
        ranges: Sequence[Range],
        *,
        deadline_s: float | None = None,
        priority: Priority | None = None,
        timeout_s: float | None = None,
    ) -> Transfer:
        """Starts to copy ranges of our buffer into the peer's."""
        return await self._ranges("write", peer, remote, local, ranges, deadline_s, priority, timeout_s)

    async def cancel(self, transfer: Transfer, *, timeout_s: float | None = None) -> None:
        """Of a transfer that has ended: nothing happens. `Transfer.cancel` is the same without waiting for the answer."""
        if not transfer.done():
            await self._session.ask("cancel", {"transfer": transfer.number}, nothing, timeout_s)

    async def offer(
        self,
        model: Model,
        groups: Sequence[GroupBlocks],
        *,
        ready: bool = True,
        handle: str | None = None,
        peers: Sequence[str] | None = None,
        position: int | None = None,
        deadline_s: float | None = None,
        trace: str | None = None,
        timeout_s: float | None = None,
    ) -> Offer:
        """Makes held or leased blocks fetchable once, or by as many readers as the fetches say. `ready=False`: each layer follows by
        `ready` as prefill makes it. `handle`: one of `new_handle`, so that it can be passed on before this returns; else the sidecar
        chooses. One whose offer has not ended is refused with invalid_argument. `peers`: identities of certificates; a peer that has
        none of them hears what it would of a handle that was never given. `position`: of the first token of every group in its
        sequence, 0 for a prompt from its beginning; without it the KV does not travel through profiles that turn keys back."""
        session = self._session
        # As the sidecar says; asked here as well, because the open one would be replaced before it could answer.
        if handle is not None and session.registry.offer(handle) is not None:
            raise KvferryError("invalid_argument", "an offer with this handle is open")
        listed = tuple(groups)
        # A fetch that began in time goes on until its own deadline.
        lasts_s = (OFFER_MAX_S if deadline_s is None else deadline_s) + wire.DEADLINE_MAX_S
        expires_s = lasts_s + session.options.timeout_s
        fields = wire.present(
            model=model.number,
            groups=self._groups(listed),
            ready=None if ready else False,
            handle=handle,
            peers=None if peers is None else list(peers),
            position=_position(position),
            deadlineMs=_milliseconds(deadline_s),
            trace=trace,
        )
        # Whoever was told a chosen handle may fetch before the answer is here, so its end may come first as well.
        early = None if handle is None else session.registry.add_offer(Offer(session, handle, listed), expires_s)

        def take(message: wire.Message) -> Offer:
            return early or session.registry.add_offer(Offer(session, wire.text(message, "handle"), listed), expires_s)

        try:
            return await session.ask("offer", fields, take, timeout_s, self._undo["offer"])
        except KvferryError as error:
            if early is not None:
                early._fail(KvferryError(error.code, error.detail))
            raise

    async def ready(self, offer: Offer | str, layer: int, *, timeout_s: float | None = None) -> None:
        """That layer (its index) is complete in every block of the offer. `Offer.ready` does not wait for the answer."""
        fields = {"handle": self._handle(offer), "layer": integer(layer, "layer")}
        await self._session.ask("ready", fields, nothing, timeout_s)

    async def withdraw(self, offer: Offer | str, *, timeout_s: float | None = None) -> None:
        await self._session.ask("withdraw", {"handle": self._handle(offer)}, nothing, timeout_s)

    async def prewarm(
        self,
        peer: str,
        size: int,
        *,
        in_s: float = 0.0,
        direction: Literal["in", "out"] = "in",
        timeout_s: float | None = None,
    ) -> None:
        """About so many bytes will be fetched from the peer ("in") or sent there ("out") in so many seconds: connections are made
        meanwhile, and their windows opened. A hint: nothing waits for it and nothing fails without it."""
        if not 0 <= in_s <= wire.DEADLINE_MAX_S:
            raise expected(f"seconds from 0 to {wire.DEADLINE_MAX_S:g}", "in_s", in_s)
        if direction not in ("in", "out"):
            raise expected('"in" or "out"', "direction", direction)
        fields = {
            "peer": peer,
            "bytes": integer(size, "size", 1),
            "inMs": math.ceil(in_s * 1000),
            "direction": direction,
        }
        await self._session.ask("prewarm", fields, nothing, timeout_s)

    async def discard(self, peer: str, handle: str, *, timeout_s: float | None = None) -> None:
        """Tells a peer that nobody will fetch its offer, whose blocks need not wait for their deadline then. A hint: it may be lost."""
        await self._session.ask("discard", {"peer": peer, "handle": handle}, nothing, timeout_s)

    async def stats(self, *, timeout_s: float | None = None) -> Stats:
        return await self._session.ask("stats", {}, Stats.from_message, timeout_s)

    async def close(self) -> None:
        """Gives everything back and ends the connection, once: whoever calls it meanwhile waits for that. In a forked process nothing
        happens."""
        try:
            self._session.check_process()
        except KvferryError:
            return
        await self._session.close()

    async def __aenter__(self) -> AsyncFerry:
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _start(
        self,
        op: str,
        fields: dict[str, object],
        deadline_s: float | None,
        timeout_s: float | None,
        on_layer: Callable[[int], None] | None = None,
    ) -> Transfer:
        session = self._session
        expires_s = (wire.DEADLINE_MAX_S if deadline_s is None else deadline_s) + session.options.timeout_s

        def take(message: wire.Message) -> Transfer:
            return session.registry.add_transfer(
                Transfer(session, wire.integer(message, "transfer"), on_layer), expires_s
            )

        return await session.ask(op, fields, take, timeout_s, self._undo[op])

    async def _ranges(
        self,
        op: str,
        peer: str,
        remote: str,
        local: Buffer,
        ranges: Sequence[Range],
        deadline_s: float | None,
        priority: Priority | None,
        timeout_s: float | None,
    ) -> Transfer:
        self._check_incarnation(local.incarnation, "buffer")
        listed = [{"local": part.local, "remote": part.remote, "bytes": part.bytes} for part in ranges]
        fields = wire.present(
            peer=peer,
            remote=remote,
            local=local.handle,
            ranges=listed,
            deadlineMs=_milliseconds(deadline_s),
            priority=_priority(priority),
        )
        return await self._start(op, fields, deadline_s, timeout_s)

    def _handle(self, offer: Offer | str) -> str:
        handle = offer if isinstance(offer, str) else offer.handle
        if self._session.incarnation and not is_handle_of(handle, self._session.incarnation):
            raise KvferryError("incarnation_mismatch", f"the offer {handle[:9]}... is not of this life of the pool")
        return handle


def _milliseconds(deadline_s: float | None) -> int | None:
    if deadline_s is None:
        return None
    if not 0 < deadline_s <= wire.DEADLINE_MAX_S:
        raise expected(f"seconds up to {wire.DEADLINE_MAX_S:g}", "deadline_s", deadline_s)
    return max(1, math.ceil(deadline_s * 1000))


def _position(position: int | None) -> int | None:
    return None if position is None else integer(position, "position")


def _priority(priority: str | None) -> str | None:
    known = get_args(Priority)
    if priority is not None and priority not in known:
        raise expected(f"one of {', '.join(known)}", "priority", priority)
    return priority
