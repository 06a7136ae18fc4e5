"""A server that answers as a test tells it to, wrong answers included."""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgpack
from websockets.asyncio.server import ServerConnection, unix_serve
from websockets.exceptions import ConnectionClosed

from sidecars import WAIT_S

Request = dict[str, Any]
#: Messages or bytes to send; a number closes the connection with that code.
Reply = list[Any]

Self = TypeVar("Self", bound="FakeServer")

INCARNATION = "0123456789abcdef" * 2


def welcome(request: Request, incarnation: str = INCARNATION) -> Reply:
    limits = {"batchMax": 65536, "messageBytes": 1 << 23, "pendingMax": 4096, "idleSeconds": 32}
    ok = {"version": 1, "incarnation": incarnation, "resume": "token", "resumed": "resume" in request, "limits": limits}
    return [{"id": request["id"], "ok": ok}]


def pool(request: Request, incarnation: str = INCARNATION) -> Reply:
    fields = {"path": "", "bytes": 0, "dataOffset": 0, "blockBytes": 64, "blockCount": 1, "incarnation": incarnation}
    return [{"id": request["id"], "ok": fields}]


class FakeServer:
    """`answers` are by the name of the request; hello and pool are answered well unless they are in it."""

    def __init__(self, answers: dict[str, Callable[[Request], Reply]]) -> None:
        self.answers = {
            "hello": welcome,
            "pool": pool,
            "close": lambda request: [{"id": request["id"], "ok": {}}],
            **answers,
        }
        self.requests: list[Request] = []
        self._folder = tempfile.TemporaryDirectory(prefix="kvferry-fake-")
        self.socket = str(Path(self._folder.name) / "s")
        self._loop = asyncio.new_event_loop()
        self._connections: set[ServerConnection] = set()
        self._serving = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._serving.wait(WAIT_S)

    def send(self, message: Any) -> None:
        """To all who are connected."""
        for connection in list(self._connections):
            asyncio.run_coroutine_threadsafe(self._reply(connection, [message]), self._loop).result(WAIT_S)

    def cut(self) -> None:
        """Every connection, without a word."""
        for connection in list(self._connections):
            self._loop.call_soon_threadsafe(connection.transport.abort)

    def asked(self, op: str) -> list[Request]:
        return [request for request in self.requests if request["op"] == op]

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(WAIT_S)
        self._folder.cleanup()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._ended = asyncio.Event()
        async with unix_serve(self._connected, self.socket, compression=None, close_timeout=0.1):
            self._serving.set()
            await self._ended.wait()

    async def _connected(self, connection: ServerConnection) -> None:
        self._connections.add(connection)
        try:
            async for data in connection:
                assert isinstance(data, bytes)
                request = msgpack.unpackb(data)
                self.requests.append(request)
                answer = self.answers.get(request["op"])
                await self._reply(connection, [] if answer is None else answer(request))
        except ConnectionClosed:
            pass
        finally:
            self._connections.discard(connection)

    async def _reply(self, connection: ServerConnection, reply: Reply) -> None:
        for message in reply:
            if isinstance(message, int):
                await connection.close(message, "as told")
            elif isinstance(message, bytes | str):
                await connection.send(message)
            else:
                await connection.send(msgpack.packb(message))
