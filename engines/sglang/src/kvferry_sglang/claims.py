"""The prefill side's door: decode ranks come in, and are led to the sender of their room."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import secrets
import socket
from typing import TYPE_CHECKING

from kvferry import KvferryError

from .messages import LINE_BYTES_MAX, Claim, failure, parse

if TYPE_CHECKING:
    from .sending import Sending

log = logging.getLogger("sglang.kvferry")

FIRST_LINE_TIMEOUT_S = 5.0
CONNECTIONS_MAX = 8_192
#: Claims of rooms whose request has not come to this engine yet.
EARLY_MAX = 4_096
UNSENT_BYTES_MAX = 1 << 20


class Claimant:
    """A decode rank that waits. Lives as long as its connection."""

    def __init__(self, claim: Claim, writer: asyncio.StreamWriter) -> None:
        self.claim = claim
        self._writer = writer
        self.done = False

    def tell(self, line: bytes) -> None:
        """Raises connection_lost."""
        if self._writer.is_closing() or self._writer.transport.get_write_buffer_size() > UNSENT_BYTES_MAX:
            raise KvferryError("connection_lost", f"decode rank {self.claim.target} does not listen any more")
        self._writer.write(line)

    def dismiss(self, line: bytes) -> None:
        """The last word, for whoever still hears it."""
        self.done = True
        if not self._writer.is_closing():
            self._writer.write(line)
            self._writer.close()


class Claims:
    """On the client's loop."""

    def __init__(self, fingerprint: str, page_size: int, early_timeout_s: float) -> None:
        self.token = secrets.token_hex(16)
        self._fingerprint = fingerprint
        self._page_size = page_size
        self._early_timeout_s = early_timeout_s
        self._sendings: dict[int, Sending] = {}
        self._early: dict[int, list[Claimant]] = {}
        self._connections: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self, host: str) -> int:
        self._server = await asyncio.start_server(self._serve, host, 0, limit=LINE_BYTES_MAX)
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def open(self, sending: Sending) -> None:
        """Raises invalid_argument for a room that is open already."""
        room = sending.room
        if room in self._sendings:
            raise KvferryError("invalid_argument", f"room {room} is another request's")
        self._sendings[room] = sending
        for claimant in self._early.pop(room, []):
            sending.add(claimant)

    def end(self, sending: Sending) -> None:
        if self._sendings.get(sending.room) is sending:
            del self._sendings[sending.room]

    @property
    def open_count(self) -> int:
        return len(self._sendings) + sum(map(len, self._early.values()))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._connections) >= CONNECTIONS_MAX:
            writer.close()
            return
        self._connections.add(task)
        try:
            await self._listen(reader, writer)
        except KvferryError as error:
            log.info("kvferry: a claim is refused: %s", error)
            with contextlib.suppress(OSError):
                writer.write(failure(error))
        except (OSError, EOFError, ValueError, asyncio.TimeoutError, TimeoutError) as error:
            log.debug("kvferry: a claim went away: %r", error)
        except asyncio.CancelledError:
            # Only this server's end cancels it, and asyncio's streams log a task that ends by it.
            pass
        finally:
            self._connections.discard(task)
            writer.close()

    async def _listen(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        keep_alive(writer)
        claim = Claim.parse(await asyncio.wait_for(reader.readuntil(), FIRST_LINE_TIMEOUT_S))
        self._check(claim)
        claimant = Claimant(claim, writer)
        self._arrive(claimant)
        try:
            while True:
                # The only other word is that it is done; what ends without it, was given up.
                word = parse(await reader.readuntil())
                claimant.done = claimant.done or word.get("done") is True
        finally:
            self._depart(claimant)

    def _check(self, claim: Claim) -> None:
        if not hmac.compare_digest(claim.token, self.token):
            raise KvferryError("peer_not_allowed", "a claim without this rank's token")
        if claim.fingerprint != self._fingerprint:
            raise KvferryError("fingerprint_mismatch", "the decode engine has another model, revision or KV type")
        if claim.page_size != self._page_size:
            raise KvferryError("layout_unconvertible", f"pages of {claim.page_size} tokens, here {self._page_size}")

    def _arrive(self, claimant: Claimant) -> None:
        room = claimant.claim.room
        sending = self._sendings.get(room)
        if sending is not None:
            sending.add(claimant)
            return
        if sum(map(len, self._early.values())) >= EARLY_MAX:
            raise KvferryError("full", "too many claims of rooms that no request has opened")
        self._early.setdefault(room, []).append(claimant)
        asyncio.get_running_loop().call_later(self._early_timeout_s, self._expire, claimant)

    def _expire(self, claimant: Claimant) -> None:
        if self._forget_early(claimant):
            error = KvferryError("deadline_exceeded", f"no request has opened room {claimant.claim.room}")
            claimant.dismiss(failure(error))

    def _forget_early(self, claimant: Claimant) -> bool:
        waiting = self._early.get(claimant.claim.room, [])
        if claimant not in waiting:
            return False
        waiting.remove(claimant)
        if not waiting:
            del self._early[claimant.claim.room]
        return True

    def _depart(self, claimant: Claimant) -> None:
        if self._forget_early(claimant) or claimant.done:
            return
        sending = self._sendings.get(claimant.claim.room)
        if sending is not None:
            sending.lost(claimant)


def keep_alive(writer: asyncio.StreamWriter) -> None:
    """A host that vanishes without a word is noticed within a minute."""
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in ((socket.TCP_KEEPIDLE, 20), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 4)):
        connection.setsockopt(socket.IPPROTO_TCP, option, value)
