"""What a client makes of a server that answers wrongly, late, or not at all: typed errors in bounded time, and nothing lost."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import kvferry
from fake_server import FakeServer, Reply, Request
from kvferry import KvferryError, events
from sidecars import WAIT_S, eventually

BLOCK = {"ids": np.array([7], "<u4").tobytes(), "generations": np.array([3], "<u4").tobytes()}


def ok(fields: dict[str, Any]) -> Callable[[Request], Reply]:
    return lambda request: [{"id": request["id"], "ok": fields}]


def code_of(call: Callable[[], object]) -> str:
    with pytest.raises(KvferryError) as caught:
        call()
    return caught.value.code


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"ids": BLOCK["ids"]},
        {"ids": BLOCK["ids"], "generations": b""},
        {"ids": b"123", "generations": b"123"},
        {"ids": [7], "generations": [3]},
    ],
)
def test_blocks_of_the_wrong_shape(fields: dict[str, Any]) -> None:
    with FakeServer({"alloc": ok(fields)}) as server, kvferry.connect(server.socket) as ferry:
        assert code_of(lambda: ferry.alloc(1)) == "protocol_error"
        assert ferry.up


@pytest.mark.parametrize("fields", [{"name": 1, "address": "", "link": ""}, {"name": "x", "address": ""}])
def test_fields_of_the_wrong_type(fields: dict[str, Any]) -> None:
    with FakeServer({"info": ok(fields)}) as server, kvferry.connect(server.socket) as ferry:
        assert code_of(ferry.info) == "protocol_error"


@pytest.mark.parametrize(
    "message", [b"\xc1", b"\x93\x01\x02\x03", "text", b"", {"id": "x"}, b"\xd4\x05\x00", b"\x81\x01\x02"]
)
def test_what_is_no_message_ends_the_connection(message: Any) -> None:
    with FakeServer({"info": lambda _: [message]}) as server, kvferry.connect(server.socket) as ferry:
        told: list[events.Event] = []
        ferry.on(told.append)
        assert code_of(ferry.info) == "connection_lost"
        eventually(lambda: any(isinstance(event, events.Back) for event in told))
        assert code_of(ferry.info) == "connection_lost"


def test_an_answer_with_neither_ok_nor_error() -> None:
    with FakeServer({"info": lambda r: [{"id": r["id"]}]}) as server, kvferry.connect(server.socket) as ferry:
        assert code_of(ferry.info) == "protocol_error"


def test_unknown_fields_events_and_answers_are_ignored() -> None:
    def answer(request: Request) -> Reply:
        surprise = [{"event": "fromTheFuture", "x": [1]}, {"id": 999_999, "ok": {}}]
        return [*surprise, {"id": request["id"], "ok": {"name": "n", "address": "", "link": "tcp", "more": None}}]

    with FakeServer({"info": answer}) as server, kvferry.connect(server.socket) as ferry:
        assert ferry.info().name == "n"


def test_an_unknown_error_is_internal() -> None:
    refuse = lambda r: [{"id": r["id"], "error": {"code": "novel", "detail": "d"}}]  # noqa: E731
    with FakeServer({"info": refuse}) as server, kvferry.connect(server.socket) as ferry:
        assert code_of(ferry.info) == "internal"


def test_versions_that_do_not_meet() -> None:
    refuse = lambda r: [{"id": r["id"], "error": {"code": "version_unsupported", "detail": "2 to 3"}}, 4006]  # noqa: E731
    with FakeServer({"hello": refuse}) as server:
        assert code_of(lambda: kvferry.connect(server.socket)) == "version_unsupported"
    newer = ok({"version": 2, "incarnation": "0" * 32, "resume": "t", "resumed": False, "limits": {}})
    with FakeServer({"hello": newer}) as server:
        assert code_of(lambda: kvferry.connect(server.socket)) == "version_unsupported"


def test_a_server_that_says_nothing() -> None:
    with FakeServer({"hello": lambda _: []}) as server:
        assert code_of(lambda: kvferry.connect(server.socket, connect_timeout_s=0.2)) in (
            "connect_timeout",
            "deadline_exceeded",
        )
    with FakeServer({}) as server, kvferry.connect(server.socket, timeout_s=0.1) as ferry:
        assert code_of(ferry.info) == "deadline_exceeded"
        assert code_of(lambda: ferry.submit.info().result(WAIT_S)) == "deadline_exceeded"


def test_nobody_there() -> None:
    assert code_of(lambda: kvferry.connect("/tmp/kvferry-absent.sock")) == "connect_failed"
    assert code_of(lambda: kvferry.connect("x" * 101)) == "invalid_argument"
    assert code_of(lambda: kvferry.connect("/tmp/kvferry-absent.sock", timeout_s=-1)) == "invalid_argument"
    with kvferry.connect("/tmp/kvferry-absent.sock", wait=False) as ferry:
        assert not ferry.up
        assert code_of(lambda: ferry.alloc(1)) == "connect_failed"
        assert code_of(lambda: ferry.submit.alloc(1).result(WAIT_S)) == "connect_failed"
        assert code_of(lambda: ferry.connected(0.1)) == "connect_failed"
        assert code_of(lambda: ferry.pool(timeout_s=0.1)) == "connect_failed"


def test_answers_that_come_too_late_are_given_back() -> None:
    held: list[Request] = []

    def keep(request: Request) -> Reply:
        held.append(request)
        return []

    answers: dict[str, Callable[[Request], Reply]] = dict.fromkeys(("alloc", "lease", "fetch", "offer"), keep)
    with FakeServer(answers) as server, kvferry.connect(server.socket, attach=False) as ferry:
        model = kvferry.Model(kvferry.Identity("m"), kvferry.Layout(1, ()))
        model.take({"fingerprint": model.fingerprint, "model": 5})
        blocks = kvferry.Blocks(np.array([1], np.uint32), np.array([1], np.uint32), ferry.incarnation)
        group = [kvferry.GroupBlocks(0, blocks, 16)]
        calls: list[Callable[[], object]] = [
            lambda: ferry.alloc(1, timeout_s=0.05),
            lambda: ferry.lease(model, 0, bytes(32), timeout_s=0.05),
            lambda: ferry.fetch("p", model, "handle", group, timeout_s=0.05),
            lambda: ferry.offer(model, group, timeout_s=0.05),
        ]
        for call in calls:
            assert code_of(call) == "deadline_exceeded"
        handle = kvferry.new_handle(ferry.incarnation)
        given = {"alloc": BLOCK, "lease": BLOCK, "fetch": {"transfer": 9}, "offer": {"handle": handle}}
        for request in held:
            server.send({"id": request["id"], "ok": given[request["op"]]})
        eventually(lambda: server.asked("withdraw"))
        assert server.asked("free")[0]["blocks"] == BLOCK
        assert server.asked("release")[0]["blocks"] == BLOCK
        assert server.asked("cancel")[0]["transfer"] == 9
        assert server.asked("withdraw")[0]["handle"] == handle


def test_an_event_that_comes_at_once_finds_its_transfer() -> None:
    report = {
        "transfer": 4,
        "bytes": 1,
        "wireBytes": 1,
        "seconds": 0,
        "chunks": 1,
        "retries": 0,
        "link": "",
        "order": "",
        "resumed": 0,
    }

    def fetch(request: Request) -> Reply:
        assert request["layers"] is True
        layers = [{"event": "layer", "transfer": 4, "layer": layer} for layer in (0, 1)]
        return [
            {"id": request["id"], "ok": {"transfer": 4}},
            *layers,
            {"event": "done", "transfer": 4, "report": report},
        ]

    with FakeServer({"fetch": fetch}) as server, kvferry.connect(server.socket, attach=False) as ferry:
        model = kvferry.Model(kvferry.Identity("m"), kvferry.Layout(1, ()))
        model.take({"fingerprint": model.fingerprint, "model": 5})
        layers: list[int] = []

        def on_layer(layer: int) -> None:
            layers.append(layer)
            raise RuntimeError("a listener's own mistake")

        assert ferry.fetch("p", model, "handle", [], on_layer=on_layer).result(WAIT_S).bytes == 1
        assert layers == [0, 1]


def test_a_chosen_handle_may_end_before_its_answer() -> None:
    def offer(request: Request) -> Reply:
        return [
            {"event": "offerEnded", "handle": request["handle"], "ok": True, "code": ""},
            {"id": request["id"], "ok": {"handle": request["handle"]}},
        ]

    with FakeServer({"offer": offer}) as server, kvferry.connect(server.socket, attach=False) as ferry:
        model = kvferry.Model(kvferry.Identity("m"), kvferry.Layout(1, ()))
        model.take({"fingerprint": model.fingerprint, "model": 5})
        ferry.offer(model, [], handle=kvferry.new_handle(ferry.incarnation)).result(WAIT_S)


def test_too_many_requests_and_too_large_ones() -> None:
    with FakeServer({}) as server, kvferry.connect(server.socket, timeout_s=5) as ferry:
        futures = [ferry.submit.info() for _ in range(4097)]
        assert code_of(lambda: futures[-1].result(WAIT_S)) == "full"
        for future in futures:
            future.cancel()
    with FakeServer({}) as server, kvferry.connect(server.socket, timeout_s=5) as ferry:
        many = kvferry.Blocks(np.zeros(1 << 21, np.uint32), np.zeros(1 << 21, np.uint32), ferry.incarnation)
        assert code_of(lambda: ferry.free(many)) == "message_too_large"


def test_requests_that_cannot_leave_are_bounded() -> None:
    """The server's side of the socket is full: it reads nothing while it is held up in an answer."""
    release = threading.Event()

    def hold(_request: Request) -> Reply:
        release.wait(WAIT_S)
        return []

    with FakeServer({"stats": hold}) as server, kvferry.connect(server.socket, timeout_s=20) as ferry:
        held_up = ferry.submit.stats()
        keys = bytes(7 << 20)
        model = kvferry.Model(kvferry.Identity("m"), kvferry.Layout(1, ()))
        model.take({"fingerprint": model.fingerprint, "model": 5})
        futures = [ferry.submit.lookup(model, 0, keys) for _ in range(14)]
        assert code_of(lambda: futures[-1].result(WAIT_S)) == "full"
        for future in futures:
            future.cancel()
        held_up.cancel()
        release.set()


def test_what_one_thread_asks_arrives_in_its_order() -> None:
    nothing = ok({})
    offered: Callable[[Request], Reply] = lambda r: [{"id": r["id"], "ok": {"handle": r["handle"]}}]  # noqa: E731
    with FakeServer({"offer": offered, "ready": nothing, "free": nothing}) as server:
        ferry = kvferry.connect(server.socket, attach=False)
        model = kvferry.Model(kvferry.Identity("m"), kvferry.Layout(1, ()))
        model.take({"fingerprint": model.fingerprint, "model": 5})
        handle = kvferry.new_handle(ferry.incarnation)
        early = ferry.submit.offer(model, [], ready=False, handle=handle)
        for layer in range(50):
            ferry.submit.ready(handle, layer)
        offer = early.result(WAIT_S)
        for layer in range(50, 100, 2):
            ferry.submit.ready(handle, layer)
            offer.ready(layer + 1)
        ferry.ready(offer, 100)
        assert [request["layer"] for request in server.asked("ready")] == list(range(101))
        assert server.requests.index(server.asked("offer")[0]) < server.requests.index(server.asked("ready")[0])
        ferry.close()
