"""One request's KV on its way out: chunks copied into the pool as prefill makes them, an offer of each for every decode rank."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import Any

from kvferry import KvferryError, Offer

from .claims import Claimant, Claims
from .contract import KVPoll
from .messages import Chunk, failure, line
from .node import Node
from .options import Options
from .room import Cargo, Room, give_back, make_room
from .settle import settle
from .status import Status

log = logging.getLogger("sglang.kvferry")


@dataclass(frozen=True, slots=True)
class Job:
    """One call of `send`."""

    cargo: Cargo
    first_page: int
    last: bool
    #: A CUDA event behind which the pages are written, if they were sent before the forward pass has ended.
    after: Any = None


class Sending:
    """Lives on the client's loop until nothing in the pool is its own any more."""

    def __init__(self, node: Node, claims: Claims, options: Options, room: int, status: Status) -> None:
        self.room = room
        self.status = status
        self.prefix_tokens = 0
        self.counts: tuple[int, ...] = ()
        self.bytes = 0
        self.started_s = 0.0
        self.seconds = 0.0
        self._node, self._claims, self._options = node, claims, options
        self._claimants: list[Claimant] = []
        self._claimed = asyncio.Event()
        self._jobs: asyncio.Queue[Job] = asyncio.Queue()
        self._shipments: list[asyncio.Task[None]] = []
        self._task: asyncio.Task[None] | None = None
        self._ending = False
        self._error = KvferryError("cancelled", "the prefill engine has given the request up")

    async def run(self) -> None:
        self._task = asyncio.current_task()
        error: KvferryError | None = None
        try:
            if self.status.ended:
                raise asyncio.CancelledError
            self._claims.open(self)
            await self._send_all()
        except KvferryError as problem:
            error = problem
        except (asyncio.TimeoutError, TimeoutError):
            error = KvferryError("deadline_exceeded", "no decode engine has asked for this request's KV in time")
        except asyncio.CancelledError:
            error = self._error
        except Exception as problem:
            log.exception("kvferry: sending room %d", self.room)
            error = KvferryError("internal", repr(problem))
        finally:
            self._ending = True
            self._claims.end(self)
            if error is not None:
                self.status.fail(error)
            for claimant in self._claimants:
                claimant.dismiss(line({"finished": True}) if error is None else failure(error))
            await settle(self._end_shipments())
        if error is None:
            self.seconds = time.monotonic() - self.started_s
            self.status.advance(KVPoll.Success)
        else:
            log.info("kvferry: the KV of room %d was not sent: %s", self.room, error)

    def add(self, claimant: Claimant) -> None:
        """A decode rank has room for the KV. What does not fit to the others ends the request."""
        claim = claimant.claim
        self._claimants.append(claimant)
        first = self._claimants[0].claim
        if [other.claim.target for other in self._claimants].count(claim.target) > 1:
            self.give_up(
                KvferryError("invalid_argument", f"decode rank {claim.target} has claimed room {self.room} before")
            )
        elif (claim.claims, claim.prefix_tokens, claim.counts) != (first.claims, first.prefix_tokens, first.counts):
            self.give_up(KvferryError("invalid_argument", f"decode ranks claim room {self.room} in different sizes"))
        elif len(self._claimants) == claim.claims:
            self.prefix_tokens, self.counts = claim.prefix_tokens, claim.counts
            self.status.advance(KVPoll.WaitingForInput)
            self._claimed.set()

    def lost(self, claimant: Claimant) -> None:
        self.give_up(KvferryError("connection_lost", f"decode rank {claimant.claim.target} has given the request up"))

    def put(self, job: Job) -> None:
        self._jobs.put_nowait(job)

    def give_up(self, error: KvferryError) -> None:
        if self.status.value != KVPoll.Success:
            self._error = error
            self.status.fail(error)
        if self._task is not None and not self._ending:
            self._task.cancel()

    async def _send_all(self) -> None:
        await asyncio.wait_for(self._claimed.wait(), self._options.bootstrap_timeout_s)
        last = False
        while not last:
            # Whoever has claimed bounds this wait: when its time is over, its connection ends.
            job = await self._jobs.get()
            last = job.last
            self.started_s = self.started_s or time.monotonic()
            copied = asyncio.Event()
            shipment = asyncio.ensure_future(self._ship(job, copied))
            shipment.add_done_callback(self._shipped)
            self._shipments.append(shipment)
            waiting = asyncio.ensure_future(copied.wait())
            try:
                await asyncio.wait([shipment, waiting], return_when=asyncio.FIRST_COMPLETED)
            finally:
                waiting.cancel()
        await asyncio.gather(*self._shipments)

    async def _ship(self, job: Job, copied: asyncio.Event) -> None:
        wanted = [claimant for claimant in self._claimants if claimant.claim.wanted]
        if not wanted:
            return
        if job.last and (1, *job.cargo.counts[2:]) != self.counts[1:]:
            raise KvferryError(
                "layout_unconvertible",
                f"{job.cargo.counts[1:]} rows of metadata and state, decode has {self.counts[1:]}",
            )
        node, ferry = self._node, self._node.ferry
        model, peer = await node.model(), await node.address()
        room = await make_room(ferry, node.cut, model, job.cargo.counts, self._options.room_timeout_s)
        offers: list[Offer] = []
        try:
            for claimant in wanted:
                deadline_s = self._options.transfer_timeout_s
                offers.append(await ferry.offer(model, room.groups, ready=False, deadline_s=deadline_s))
                chunk = Chunk(peer, offers[-1].handle, job.first_page, job.cargo.counts[0], job.last)
                claimant.tell(chunk.line())
            if job.after is not None:
                await node.copy(job.after.synchronize)
            for layer in range(len(room.layers)):
                self.bytes += await node.copy(room.save, layer, job.cargo)
                for offer in offers:
                    offer.ready(layer)
            copied.set()
            for offer in offers:
                await offer
        finally:
            await settle(self._end(offers, room))

    async def _end(self, offers: list[Offer], room: Room) -> None:
        for offer in offers:
            offer.withdraw()
        await asyncio.gather(*offers, return_exceptions=True)
        await give_back(self._node.ferry, room.blocks)

    def _shipped(self, shipment: asyncio.Task[None]) -> None:
        error = None if shipment.cancelled() else shipment.exception()
        if error is not None:
            known = isinstance(error, KvferryError)
            self.give_up(error if known else KvferryError("internal", repr(error)))  # type: ignore[arg-type]

    async def _end_shipments(self) -> None:
        for shipment in self._shipments:
            shipment.cancel()
        await asyncio.gather(*self._shipments, return_exceptions=True)
