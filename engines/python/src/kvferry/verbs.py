"""The verbs of schemas/api.md on asyncio. aio.py connects, sync.py offers the same verbs to threads."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType
from typing import Any

from . import events, wire
from .arguments import integer
from .buffers import Buffer, Memfd
from .errors import KvferryError, expected
from .keys import Identity
from .layout import Layout
from .model import Model
from .pool import Pool
from .session import Session
from .transfers import Offer, Transfer
from .values import Blocks, GroupBlocks, Keyed, NodeInfo, Place, Range, Stats, is_handle_of

OFFER_MAX_S = 120.0
READERS_MAX = 1024


def _nothing(_message: wire.Message) -> None:
    return None


class AsyncFerry:
    """The verbs of schemas/api.md. Each may be called without waiting for the one before; they reach the sidecar in order.

    Every verb takes `timeout_s`, which bounds the wait for its answer. Whoever stops waiting loses nothing: blocks and leases of an
    answer that comes too late are given back, and transfers are cancelled."""

    def __init__(self, session: Session) -> None:
        self._session = session
        #: By verb: how what it gave is given back where nobody takes it any more.
        self._undo: dict[str, Callable[[Any], None]] = {
            "alloc": partial(self._give_back, "free"),
            "lease": partial(self._give_back, "release"),
            "register_buffer": lambda buffer: session.post("unregisterBuffer", {"handle": buffer.handle}),
            "offer": Offer.withdraw,
            **dict.fromkeys(("fetch", "push", "read", "write"), Transfer.cancel),
        }

    @property
    def up(self) -> bool:
        """Connected right now."""
        return self._session.up

    @property
    def incarnation(self) -> str:
        """Of the pool as last heard of; "" before the first connection."""
        return self._session.incarnation

    async def connected(self, timeout_s: float) -> None:
        """Waits until there is a connection. Raises what keeps it from being there."""
        self._session.check_process()
        await self._session.connected(timeout_s)

    def on(self, listener: Callable[[events.Event], object]) -> Callable[[], None]:
        """Tells every event; the function that is returned ends it. Listeners run on the client's loop and must be short."""
        self._session.check_process()
        return self._session.listen(listener)

    async def info(self, *, timeout_s: float | None = None) -> NodeInfo:
        def take(message: wire.Message) -> NodeInfo:
            return NodeInfo(wire.text(message, "name"), wire.text(message, "address"), wire.text(message, "link"))

        return await self._session.ask("info", {}, take, timeout_s)

    async def pool(self, *, timeout_s: float | None = None) -> Pool:
        """The pool, mapped once in each of its lives. Waits for a connection if there is none yet."""
        if self._session.pool is None or not self._session.up:
            await self.connected(self._session.options.timeout_s if timeout_s is None else timeout_s)
        self._session.check_process()
        assert self._session.pool is not None
        return self._session.pool

    async def alloc(self, count: int, *, timeout_s: float | None = None) -> Blocks:
        """All or nothing. pool_exhausted."""
        return await self._session.ask(
            "alloc", {"count": integer(count, "count")}, self._take_blocks, timeout_s, self._undo["alloc"]
        )

    async def free(self, blocks: Blocks, *, timeout_s: float | None = None) -> None:
        """The memory may be another's when this returns. Never needed after `publish`."""
        await self._session.ask("free", {"blocks": self._ours(blocks)}, _nothing, timeout_s)

    async def register_buffer(self, size: int, path: str = "", *, timeout_s: float | None = None) -> Buffer:
        """New memory of that size which both sides map; or, with a path, memory that the caller has made: a memfd with
        MFD_ALLOW_SEALING as /proc/PID/fd/N."""
        size = integer(size, "size", 1)
        memory = None if path else Memfd(size)
        incarnation = self._session.incarnation

        def take(message: wire.Message) -> Buffer:
            view = None if memory is None else memory.view
            return Buffer(wire.text(message, "handle"), wire.integer(message, "bytes"), incarnation, view)

        try:
            fields = {"path": path if memory is None else memory.path, "bytes": size}
            return await self._session.ask("registerBuffer", fields, take, timeout_s, self._undo["register_buffer"])
        finally:
            if memory is not None:
                memory.close()

    async def unregister_buffer(self, buffer: Buffer, *, timeout_s: float | None = None) -> None:
        self._check_incarnation(buffer.incarnation, "buffer")
        await self._session.ask("unregisterBuffer", {"handle": buffer.handle}, _nothing, timeout_s)

    async def register_model(self, identity: Identity, layout: Layout, *, timeout_s: float | None = None) -> Model:
        """The same object for the same identity and layout. After a restart of the sidecar it is registered again by itself."""
        for known in self._session.models:
            if known.identity == identity and known.layout == layout:
                return known
        model = Model(identity, layout)
        await self._session.ask("registerModel", model.fields(), model.take, timeout_s)
        self._session.models.append(model)
        return model

    async def publish(
        self, model: Model, group: int, blocks: Blocks, keys: bytes, *, timeout_s: float | None = None
    ) -> None:
        """The hold on the blocks ends with this call; when it returns they can be found."""
        fields = {
            "model": model.number,
            "group": integer(group, "group"),
            "blocks": self._ours(blocks),
            "keys": keys,
        }
        await self._session.ask("publish", fields, _nothing, timeout_s)

    async def lookup(
        self, model: Model, group: int, keys: bytes, peers: Sequence[str] = (), *, timeout_s: float | None = None
    ) -> list[Place]:
        """How many keys, from the first, are published here (peer "") and at each named peer, all asked at once."""

        def take(message: wire.Message) -> list[Place]:
            return [
                Place(wire.text(place, "peer"), wire.integer(place, "matched"), wire.text(place, "code"))
                for place in wire.mappings(message, "places")
            ]

        fields = wire.present(model=model.number, group=integer(group, "group"), keys=keys, peers=list(peers) or None)
        return await self._session.ask("lookup", fields, take, timeout_s)

    async def lease(
        self, model: Model, group: int, keys: bytes, *, prefix: bool = False, timeout_s: float | None = None
    ) -> Blocks:
        """The right to read published blocks until `release`. With `prefix`, as many from the first as there are."""
        fields = wire.present(model=model.number, group=integer(group, "group"), keys=keys, prefix=prefix or None)
        return await self._session.ask("lease", fields, self._take_blocks, timeout_s, self._undo["lease"])

    async def release(self, blocks: Blocks, *, timeout_s: float | None = None) -> None:
        await self._session.ask("release", {"blocks": self._ours(blocks)}, _nothing, timeout_s)

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
        trace: str | None = None,
        timeout_s: float | None = None,
    ) -> Transfer:
        """Starts to fill blocks held here with what `peer` has: an offer's handle, or Keyed. `heads`: first and count.
        `readers`: how many fetches read the offer in all, such as one for each rank of an engine.
        `on_layer` is called on the client's loop with the index of each layer as it is in place, and must be short."""
        if isinstance(source, str):
            wanted: dict[str, object] = {"handle": source}
        else:
            wanted = {"keys": source.keys, "group": source.group, "tokens": source.tokens}
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
        deadline_s: float | None = None,
        trace: str | None = None,
        timeout_s: float | None = None,
    ) -> Transfer:
        """Starts to copy held or leased blocks to `peer`, which publishes the whole ones under these keys."""
        fields = wire.present(
            peer=peer,
            model=model.number,
            group=blocks.group,
            blocks=self._ours(blocks.blocks),
            tokens=blocks.tokens,
            keys=keys,
            deadlineMs=_milliseconds(deadline_s),
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
        timeout_s: float | None = None,
    ) -> Transfer:
        """Starts to copy ranges of the peer's buffer with the handle `remote` into ours."""
        return await self._ranges("read", peer, remote, local, ranges, deadline_s, timeout_s)

    async def write(
        self,
        peer: str,
        remote: str,
        local: Buffer,
        ranges: Sequence[Range],
        *,
        deadline_s: float | None = None,
        timeout_s: float | None = None,
    ) -> Transfer:
        """Starts to copy ranges of our buffer into the peer's."""
        return await self._ranges("write", peer, remote, local, ranges, deadline_s, timeout_s)

    async def cancel(self, transfer: Transfer, *, timeout_s: float | None = None) -> None:
        """Of a transfer that has ended: nothing happens. `Transfer.cancel` is the same without waiting for the answer."""
        if not transfer.done():
            await self._session.ask("cancel", {"transfer": transfer.number}, _nothing, timeout_s)

    async def offer(
        self,
        model: Model,
        groups: Sequence[GroupBlocks],
        *,
        ready: bool = True,
        handle: str | None = None,
        deadline_s: float | None = None,
        trace: str | None = None,
        timeout_s: float | None = None,
    ) -> Offer:
        """Makes held or leased blocks fetchable once, or by as many readers as the fetches say. `ready=False`: each layer follows by
        `ready` as prefill makes it. `handle`: one of `new_handle`, so that it can be passed on before this returns; else the sidecar
        chooses. One whose offer has not ended is refused with invalid_argument."""
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
        await self._session.ask("ready", fields, _nothing, timeout_s)

    async def withdraw(self, offer: Offer | str, *, timeout_s: float | None = None) -> None:
        await self._session.ask("withdraw", {"handle": self._handle(offer)}, _nothing, timeout_s)

    async def discard(self, peer: str, handle: str, *, timeout_s: float | None = None) -> None:
        """Tells a peer that nobody will fetch its offer, whose blocks need not wait for their deadline then. A hint: it may be lost."""
        await self._session.ask("discard", {"peer": peer, "handle": handle}, _nothing, timeout_s)

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
        timeout_s: float | None,
    ) -> Transfer:
        self._check_incarnation(local.incarnation, "buffer")
        listed = [{"local": part.local, "remote": part.remote, "bytes": part.bytes} for part in ranges]
        fields = wire.present(
            peer=peer, remote=remote, local=local.handle, ranges=listed, deadlineMs=_milliseconds(deadline_s)
        )
        return await self._start(op, fields, deadline_s, timeout_s)

    def _take_blocks(self, message: wire.Message) -> Blocks:
        return Blocks.from_message(message, self._session.incarnation)

    def _give_back(self, op: str, blocks: Blocks) -> None:
        if blocks.incarnation == self._session.incarnation:
            self._session.post(op, {"blocks": blocks.to_message()})

    def _ours(self, blocks: Blocks) -> dict[str, bytes]:
        self._check_incarnation(blocks.incarnation, "blocks")
        return blocks.to_message()

    def _groups(self, groups: Sequence[GroupBlocks]) -> list[dict[str, object]]:
        for group in groups:
            self._check_incarnation(group.blocks.incarnation, "blocks")
        return [group.to_message() for group in groups]

    def _handle(self, offer: Offer | str) -> str:
        handle = offer if isinstance(offer, str) else offer.handle
        if self._session.incarnation and not is_handle_of(handle, self._session.incarnation):
            raise KvferryError("incarnation_mismatch", f"the offer {handle[:9]}... is not of this life of the pool")
        return handle

    def _check_incarnation(self, incarnation: str, what: str) -> None:
        if incarnation != self._session.incarnation and self._session.incarnation:
            raise KvferryError(
                "incarnation_mismatch",
                f"the {what} of {incarnation[:8]}..., the pool is {self._session.incarnation[:8]}...",
            )


def _milliseconds(deadline_s: float | None) -> int | None:
    if deadline_s is None:
        return None
    if not 0 < deadline_s <= wire.DEADLINE_MAX_S:
        raise expected(f"seconds up to {wire.DEADLINE_MAX_S:g}", "deadline_s", deadline_s)
    return max(1, math.ceil(deadline_s * 1000))
