"""One request's KV on its way in: claimed at each prefill rank that has heads of ours, fetched chunk by chunk, copied into our pages."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from kvferry import KvferryError, Transfer

from .claims import keep_alive
from .contract import KVPoll
from .directory import RankInfo, Topology, fetch_rank
from .facts import Facts, heads_of
from .messages import LINE_BYTES_MAX, Chunk, Claim, failure_in, line, parse
from .node import Node
from .options import Options
from .room import Cargo, Room, give_back, make_room
from .settle import settle
from .status import Status

log = logging.getLogger("sglang.kvferry")
CONNECT_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Source:
    """A prefill rank, and the KV heads that are had from it; none: it only must not wait."""

    rank: int
    heads: tuple[int, int] | None
    #: Decode ranks that claim from it.
    claims: int


@dataclass(frozen=True, slots=True)
class Wish:
    """What `send_metadata` tells: our own rows for everything that comes."""

    cargo: Cargo
    prefix_tokens: int


def sources_of(facts: Facts, prefill_tp: int) -> list[Source]:
    """SGLang's pairing of ranks, and of heads that several hold only one. Raises layout_unconvertible."""
    if max(facts.tp_size, prefill_tp) % min(facts.tp_size, prefill_tp):
        raise KvferryError(
            "layout_unconvertible", f"tensor parallelism of {prefill_tp} does not divide {facts.tp_size} or back"
        )
    if facts.tp_size >= prefill_tp:
        share = facts.tp_size // prefill_tp
        return [Source(facts.tp_rank // share, facts.heads, share)]
    share = prefill_tp // facts.tp_size
    first, end = facts.heads[0], sum(facts.heads)
    found = []
    for rank in range(facts.tp_rank * share, (facts.tp_rank + 1) * share):
        held, count = heads_of(facts.total_kv_heads, rank, prefill_tp)
        start, stop = max(first, held), min(end, held + count)
        found.append(Source(rank, (start, stop - start) if start < stop else None, 1))
        first = max(first, stop)
    if first < end:
        raise KvferryError("layout_unconvertible", f"no prefill rank has the KV heads from {first} on")
    return found


class Fetching:
    """Lives on the client's loop until nothing writes into our pages, and nothing in the pool is its own any more."""

    def __init__(
        self,
        node: Node,
        options: Options,
        facts: Facts,
        requests: ThreadPoolExecutor,
        address: str,
        room: int,
        status: Status,
    ) -> None:
        self.room = room
        self.status = status
        self.bytes = 0
        self._node, self._options, self._facts, self._requests = node, options, facts, requests
        self._address = address
        self._wish: asyncio.Future[Wish] = node.loop.create_future()
        self._task: asyncio.Task[None] | None = None
        self.given_up = False
        self._writers: list[asyncio.StreamWriter] = []

    async def run(self, topology: Topology, dp_rank: int) -> None:
        self._task = asyncio.current_task()
        error: KvferryError | None = None
        try:
            if self.status.ended:
                raise asyncio.CancelledError
            await self._fetch_all(topology, dp_rank)
        except KvferryError as problem:
            error = problem
        except asyncio.CancelledError:
            error = KvferryError("cancelled", "the decode engine has given the request up")
        except (asyncio.TimeoutError, TimeoutError):
            error = KvferryError(
                "deadline_exceeded", f"the KV was not here within {self._options.waiting_timeout_s:g} s"
            )
        except (OSError, EOFError, ValueError) as problem:
            error = KvferryError("connection_lost", f"the prefill engine at {self._address} is gone: {problem!r}")
        except Exception as problem:
            log.exception("kvferry: fetching room %d", self.room)
            error = KvferryError("internal", repr(problem))
        finally:
            for writer in self._writers:
                if error is None and not writer.is_closing():
                    writer.write(line({"done": True}))
                writer.close()
        if error is None:
            self.status.advance(KVPoll.Success)
        else:
            self.status.fail(error)
            log.info("kvferry: the KV of room %d was not fetched: %s", self.room, error)

    def begin(self, wish: Wish) -> None:
        if not self._wish.done():
            self._wish.set_result(wish)

    def give_up(self) -> None:
        if self._task is not None and not self.given_up:
            self.given_up = True
            self._task.cancel()

    async def _fetch_all(self, topology: Topology, dp_rank: int) -> None:
        sources = sources_of(self._facts, topology.attn_tp_size)
        if len(self._node.cut.states) > 0 and len(sources) > 1 and self._facts.total_kv_heads:
            raise KvferryError("layout_unconvertible", "state of several prefill ranks is not put together")
        ranks = [
            await self._node.loop.run_in_executor(self._requests, fetch_rank, self._address, dp_rank, source.rank)
            for source in sources
        ]
        for rank in ranks:
            self._options.check_host(rank.rank_ip)
        self.status.advance(KVPoll.WaitingForInput)
        # The engine tells its pages when it has some, which may take any time; it gives up with `abort`.
        wish = await self._wish
        listening = [
            asyncio.ensure_future(self._claim(source, rank, wish)) for source, rank in zip(sources, ranks, strict=True)
        ]
        try:
            await asyncio.wait_for(asyncio.gather(*listening), self._options.waiting_timeout_s)
        finally:
            await settle(_cancel(listening))

    async def _claim(self, source: Source, rank: RankInfo, wish: Wish) -> None:
        opening = asyncio.open_connection(rank.rank_ip, rank.rank_port, limit=LINE_BYTES_MAX)
        try:
            reader, writer = await asyncio.wait_for(opening, CONNECT_TIMEOUT_S)
        except (OSError, asyncio.TimeoutError, TimeoutError) as cause:
            raise KvferryError("connect_failed", f"prefill rank {source.rank}: {cause!r}") from cause
        self._writers.append(writer)
        keep_alive(writer)
        claim = Claim(
            token=rank.token,
            room=self.room,
            target=self._facts.tp_rank,
            claims=source.claims,
            wanted=source.heads is not None,
            prefix_tokens=wish.prefix_tokens,
            page_size=self._node.cut.page_size,
            fingerprint=self._node.identity.fingerprint,
            counts=tuple(wish.cargo.counts),
        )
        writer.write(claim.line())
        await self._follow(source, reader, wish)

    async def _follow(self, source: Source, reader: asyncio.StreamReader, wish: Wish) -> None:
        pages = 0
        while True:
            message = parse(await reader.readuntil())
            error = failure_in(message)
            if error is not None:
                raise error
            if source.heads is None:
                if message.get("finished") is True:
                    return
                continue
            chunk = Chunk.parse(message)
            total = len(wish.cargo.rows[0])
            if (
                chunk.first_page != pages
                or pages + chunk.pages > total
                or (chunk.last and pages + chunk.pages != total)
            ):
                raise KvferryError(
                    "protocol_error",
                    f"a chunk of {chunk.pages} pages from {chunk.first_page} on, behind {pages} of {total}",
                )
            self.status.advance(KVPoll.Transferring)
            await self._fetch(chunk, source.heads, wish)
            pages += chunk.pages
            if chunk.last:
                return

    async def _fetch(self, chunk: Chunk, heads: tuple[int, int], wish: Wish) -> None:
        end = chunk.first_page + chunk.pages
        others = [rows if chunk.last else rows[:0] for rows in wish.cargo.rows[1:]]
        cargo = Cargo((wish.cargo.rows[0][chunk.first_page : end], *others))
        node = self._node
        model = await node.model()
        room = await make_room(node.ferry, node.cut, model, cargo.counts, self._options.room_timeout_s)
        loading: dict[int, asyncio.Future[int]] = {}

        def load(layer: int) -> None:
            if 0 <= layer < len(room.layers) and layer not in loading:
                loading[layer] = asyncio.ensure_future(node.copy(room.load, layer, cargo, heads, self.status))

        transfer: Transfer | None = None
        try:
            transfer = await node.ferry.fetch(
                chunk.peer,
                model,
                chunk.handle,
                room.groups,
                deadline_s=self._options.transfer_timeout_s,
                heads=None if self._facts.total_kv_heads == 0 else heads,
                on_layer=load,
            )
            await transfer
            for layer in range(len(room.layers)):
                load(layer)
            self.bytes += sum(await asyncio.gather(*loading.values()))
        finally:
            await settle(self._end(transfer, loading, room))

    async def _end(self, transfer: Transfer | None, loading: dict[int, asyncio.Future[int]], room: Room) -> None:
        """Until all of it has ended, the blocks may still be written or read."""
        if transfer is not None:
            transfer.cancel()
            await asyncio.gather(transfer, return_exceptions=True)
        # Only now does no layer come any more.
        await _cancel(list(loading.values()))
        await give_back(self._node.ferry, room.blocks)


async def _cancel(tasks: Sequence[asyncio.Future[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
