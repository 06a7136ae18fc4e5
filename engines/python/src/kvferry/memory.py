"""The verbs of schemas/api.md about memory: what the node has, blocks, buffers, models, what is published. verbs.py adds what moves it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from . import events, wire
from .arguments import integer
from .buffers import Buffer, Memfd
from .errors import KvferryError
from .keys import Identity
from .layout import Layout
from .model import Model
from .pool import Pool
from .session import Session
from .values import Blocks, GroupBlocks, NodeInfo, Place


def nothing(_message: wire.Message) -> None:
    return None


class MemoryVerbs:
    def __init__(self, session: Session) -> None:
        self._session = session
        #: By verb: how what it gave is given back where nobody takes it any more.
        self._undo: dict[str, Callable[[Any], None]] = {
            "alloc": partial(self._give_back, "free"),
            "lease": partial(self._give_back, "release"),
            "register_buffer": lambda buffer: session.post("unregisterBuffer", {"handle": buffer.handle}),
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
        await self._session.ask("free", {"blocks": self._ours(blocks)}, nothing, timeout_s)

    async def register_buffer(
        self, size: int, path: str = "", *, namespace: str = "", timeout_s: float | None = None
    ) -> Buffer:
        """New memory of that size which both sides map; or, with a path, memory that the caller has made: a memfd with
        MFD_ALLOW_SEALING as /proc/PID/fd/N. `namespace`: what rules for other tenants name."""
        size = integer(size, "size", 1)
        memory = None if path else Memfd(size)
        incarnation = self._session.incarnation

        def take(message: wire.Message) -> Buffer:
            view = None if memory is None else memory.view
            return Buffer(wire.text(message, "handle"), wire.integer(message, "bytes"), incarnation, view)

        try:
            where = path if memory is None else memory.path
            fields = wire.present(path=where, bytes=size, namespace=namespace or None)
            return await self._session.ask("registerBuffer", fields, take, timeout_s, self._undo["register_buffer"])
        finally:
            if memory is not None:
                memory.close()

    async def unregister_buffer(self, buffer: Buffer, *, timeout_s: float | None = None) -> None:
        self._check_incarnation(buffer.incarnation, "buffer")
        await self._session.ask("unregisterBuffer", {"handle": buffer.handle}, nothing, timeout_s)

    async def register_model(
        self, identity: Identity, layout: Layout, *, namespace: str = "", timeout_s: float | None = None
    ) -> Model:
        """The same object for the same arguments. After a restart of the sidecar it is registered again by itself.
        `namespace`: of what is published and offered as this model; rules for other tenants name it."""
        for known in self._session.models:
            if known.identity == identity and known.layout == layout and known.namespace == namespace:
                return known
        model = Model(identity, layout, namespace)
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
        await self._session.ask("publish", fields, nothing, timeout_s)

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
        await self._session.ask("release", {"blocks": self._ours(blocks)}, nothing, timeout_s)

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

    def _check_incarnation(self, incarnation: str, what: str) -> None:
        if incarnation != self._session.incarnation and self._session.incarnation:
            raise KvferryError(
                "incarnation_mismatch",
                f"the {what} of {incarnation[:8]}..., the pool is {self._session.incarnation[:8]}...",
            )
