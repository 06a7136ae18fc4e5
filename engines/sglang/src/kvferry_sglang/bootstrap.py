"""The prefill engine's directory, over HTTP as SGLang's own backends have it: which ranks there are and where each takes claims; and
which data-parallel rank has a room. Nobody is authenticated here, as in SGLang: keep the port inside of the cluster."""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections import OrderedDict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from kvferry import KvferryError

from .contract import BaseKVBootstrapServer, KVPoll
from .directory import RankInfo, Topology, rank_index
from .messages import ROOM_MAX, integer, parse

log = logging.getLogger("sglang.kvferry")

BODY_BYTES_MAX = 1 << 20
ROOMS_MAX = 65_536
QUERY_ROOMS_MAX = 16_384
CONNECTIONS_MAX = 256
SOCKET_TIMEOUT_S = 10.0


class Directory:
    """What is registered; used by the threads of the server."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._topology: Topology | None = None
        self._ranks: dict[tuple[int, int], RankInfo] = {}
        self._room_ranks: OrderedDict[int, int] = OrderedDict()

    def register(self, message: dict[str, Any]) -> None:
        """Raises message_malformed, or layout_conflict for a rank of another engine."""
        topology, info = Topology.parse(message), RankInfo.parse(message)
        dp = rank_index(message, "dp_rank", topology.dp_size)
        tp = rank_index(message, "attn_tp_rank", topology.attn_tp_size)
        with self._lock:
            if self._topology is not None and topology != self._topology and len(self._ranks) > 1:
                raise KvferryError(
                    "layout_conflict", f"{topology} is not {self._topology}, which other ranks registered"
                )
            self._topology = topology
            self._ranks[dp, tp] = info

    def topology(self) -> Topology | None:
        """None until every rank has registered."""
        with self._lock:
            known = self._topology
            complete = known is not None and len(self._ranks) >= known.dp_size * known.attn_tp_size
            return known if complete else None

    def rank(self, dp: int, tp: int) -> RankInfo | None:
        with self._lock:
            return self._ranks.get((dp, tp))

    def register_room(self, room: int, dp_rank: int) -> None:
        with self._lock:
            self._room_ranks[room] = dp_rank
            self._room_ranks.move_to_end(room)
            if len(self._room_ranks) > ROOMS_MAX:
                self._room_ranks.popitem(last=False)

    def query_rooms(self, rooms: list[int]) -> dict[str, int]:
        with self._lock:
            return {str(room): self._room_ranks[room] for room in rooms if room in self._room_ranks}


class KvferryKVBootstrapServer(BaseKVBootstrapServer):
    def __init__(self, host: str, port: int) -> None:
        self.directory = Directory()
        self._server = _Server(host, port, self.directory)
        self.host, self.port = host, int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, name="kvferry bootstrap", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(SOCKET_TIMEOUT_S)

    def poll(self) -> int:
        return KVPoll.Success if self._thread.is_alive() else KVPoll.Failed


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, host: str, port: int, directory: Directory) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.directory = directory
        self._slots = threading.BoundedSemaphore(CONNECTIONS_MAX)
        super().__init__((host, port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._slots.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._slots.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.debug("bootstrap: %s went away", client_address, exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = SOCKET_TIMEOUT_S

    def do_GET(self) -> None:
        path = urlsplit(self.path)
        if path.path == "/health":
            self._answer(200, "OK")
        elif path.path == "/route":
            self._guard(lambda: self._route(parse_qs(path.query)))
        else:
            self._answer(404, "unknown path")

    def do_PUT(self) -> None:
        if urlsplit(self.path).path != "/route":
            self._answer(404, "unknown path")
            return
        self._guard(lambda: self._registered(self._body()))

    def do_POST(self) -> None:
        path = urlsplit(self.path).path
        if path == "/register_dp_rank":
            self._guard(lambda: self._register_room(self._body()))
        elif path == "/query_dp_ranks":
            self._guard(lambda: self._query_rooms(self._body()))
        else:
            self._answer(404, "unknown path")

    def log_message(self, format: str, *arguments: Any) -> None:
        log.debug(format, *arguments)

    def _guard(self, act: Any) -> None:
        try:
            act()
        except KvferryError as error:
            self._answer(409 if error.code == "layout_conflict" else 400, str(error))

    def _route(self, query: dict[str, list[str]]) -> None:
        names = ("prefill_dp_rank", "prefill_cp_rank", "target_tp_rank", "target_pp_rank")
        try:
            dp, cp, tp, pp = (int(query[name][0]) for name in names)
        except (KeyError, ValueError) as cause:
            raise KvferryError("message_malformed", f"the query needs {', '.join(names)}") from cause
        topology = self.server.directory.topology()
        if topology is None:
            self._answer(503, "not every prefill rank has registered yet")
            return
        if (dp, cp, tp, pp) == (-1, -1, -1, -1):
            self._answer(200, topology.to_message())
            return
        info = self.server.directory.rank(dp, tp) if cp == 0 and pp == 0 else None
        if info is None:
            self._answer(404, "there is no such rank")
        else:
            self._answer(200, info.to_message())

    def _registered(self, message: dict[str, Any]) -> None:
        self.server.directory.register(message)
        self._answer(200, "OK")

    def _register_room(self, message: dict[str, Any]) -> None:
        self.server.directory.register_room(
            integer(message, "bootstrap_room", ROOM_MAX), rank_index(message, "dp_rank")
        )
        self._answer(200, "OK")

    def _query_rooms(self, message: dict[str, Any]) -> None:
        rooms = message.get("bootstrap_rooms")
        if not isinstance(rooms, list) or len(rooms) > QUERY_ROOMS_MAX:
            raise KvferryError("message_malformed", f"bootstrap_rooms is no list of at most {QUERY_ROOMS_MAX}")
        asked = [integer({"room": room}, "room", ROOM_MAX) for room in rooms]
        self._answer(200, self.server.directory.query_rooms(asked))

    def _body(self) -> dict[str, Any]:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > BODY_BYTES_MAX:
            raise KvferryError("message_too_large", f"a body of at most {BODY_BYTES_MAX} bytes is taken")
        return parse(self.rfile.read(int(length)))

    def _answer(self, status: int, body: object) -> None:
        written = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain" if isinstance(body, str) else "application/json")
        self.send_header("Content-Length", str(len(written)))
        self.end_headers()
        self.wfile.write(written)
