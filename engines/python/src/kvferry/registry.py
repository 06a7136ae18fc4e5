"""The transfers and offers of a client that have not ended, and their ends."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from . import events
from .errors import KvferryError
from .transfers import Ending, Offer, Transfer

if TYPE_CHECKING:
    from .session import Session


class Registry:
    def __init__(self, session: Session) -> None:
        self._session = session
        self._transfers: dict[int, Transfer] = {}
        self._offers: dict[str, Offer] = {}
        #: Of a lost connection: how they end is known when the next one says whether the sidecar is the same.
        self._former: list[Transfer | Offer] = []
        self._grace: asyncio.TimerHandle | None = None

    def add_transfer(self, transfer: Transfer, timeout_s: float) -> Transfer:
        """`timeout_s` lies behind the sidecar's own deadline: only one that has forgotten the transfer is ever that late."""
        self._transfers[transfer.number] = transfer
        transfer._expire_after(timeout_s, repr(transfer))
        transfer.future.add_done_callback(lambda _: self._session.soon(self._forget, transfer))
        return transfer

    def add_offer(self, offer: Offer, timeout_s: float) -> Offer:
        self._offers[offer.handle] = offer
        offer._expire_after(timeout_s, repr(offer))
        offer.future.add_done_callback(lambda _: self._session.soon(self._forget, offer))
        return offer

    def offer(self, handle: str) -> Offer | None:
        return self._offers.get(handle)

    def handle(self, event: events.Event) -> None:
        if isinstance(event, events.LayerReady):
            transfer = self._transfers.get(event.transfer)
            if transfer is not None:
                transfer._layer(event.layer)
        elif isinstance(event, events.Done):
            transfer = self._transfers.pop(event.transfer, None)
            if transfer is not None:
                transfer._succeed(event.report)
        elif isinstance(event, events.Failed):
            transfer = self._transfers.pop(event.transfer, None)
            if transfer is not None:
                transfer._fail(KvferryError(event.code, event.detail))
        elif isinstance(event, events.OfferEnded):
            offer = self._offers.pop(event.handle, None)
            if offer is not None and event.ok:
                offer._succeed(None)
            elif offer is not None:
                offer._fail(KvferryError(event.code or "cancelled", "the offer has ended"))

    def lose(self) -> None:
        """The connection is gone, and with it all transfers and offers; they are told so when it is known why, or soon."""
        self._former += [*self._transfers.values(), *self._offers.values()]
        self._transfers, self._offers = {}, {}
        if self._grace is None and self._former:
            error = KvferryError("connection_lost", "the connection was lost and has not come back")
            self._grace = self._session.loop.call_later(self._session.options.lost_after_s, self.end_former, error)

    def end_former(self, error: KvferryError) -> None:
        if self._grace is not None:
            self._grace.cancel()
            self._grace = None
        former: list[Ending[object]] = [*self._former]  # type: ignore[list-item]
        self._former = []
        for ending in former:
            ending._fail(KvferryError(error.code, error.detail))

    def _forget(self, ended: Transfer | Offer) -> None:
        if isinstance(ended, Transfer):
            if self._transfers.get(ended.number) is ended:
                # It expired here: the sidecar is asked to end it as well.
                del self._transfers[ended.number]
                self._session.post("cancel", {"transfer": ended.number})
        elif self._offers.get(ended.handle) is ended:
            del self._offers[ended.handle]
            self._session.post("withdraw", {"handle": ended.handle})
