"""A connection that is cut, a sidecar that is killed and comes back: what fails, with what, and what works again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial

import pytest

import kvferry
from fake_server import FakeServer, Request, pool, welcome
from kvferry import GroupBlocks, KvferryError, events, new_handle
from sidecars import BLOCK_TOKENS, IDENTITY, WAIT_S, Sidecar, eventually, layout_of


def code_of(call: Callable[[], object]) -> str:
    with pytest.raises(KvferryError) as caught:
        call()
    return caught.value.code


def cut(ferry: kvferry.Ferry) -> None:
    """As a network would: no close frame, no word."""
    session = ferry._ferry._session
    channel = session._channel
    assert channel is not None
    session.loop.call_soon_threadsafe(channel._websocket.transport.abort)


def test_a_lost_connection_comes_back_with_all_that_was_held(sidecars: tuple[Sidecar, Sidecar]) -> None:
    told: list[events.Event] = []
    asked: list[str] = []
    with sidecars[0].connect(
        quiesce=lambda: asked.append("quiesce"), on_restart=lambda _: asked.append("restart")
    ) as ferry:
        ferry.on(told.append)
        model = ferry.register_model(IDENTITY, layout_of(ferry.pool()))
        pool = ferry.pool()
        blocks = ferry.alloc(2)
        offer = ferry.offer(model, [GroupBlocks(0, blocks, 2 * BLOCK_TOKENS)])
        cut(ferry)
        assert code_of(lambda: offer.result(WAIT_S)) == "connection_lost"
        ferry.connected(WAIT_S)
        assert [type(event) for event in told if isinstance(event, events.Lost | events.Back)] == [
            events.Lost,
            events.Back,
        ]
        assert ferry.pool() is pool
        assert pool.valid
        eventually(lambda: code_of_free(ferry, blocks) == "")
        assert asked == []


def test_what_an_answer_gave_that_never_came_is_named_by_the_next_hello() -> None:
    with FakeServer({"alloc": lambda _: []}) as server, kvferry.connect(server.socket) as ferry:
        late, lost = ferry.submit.alloc(1, timeout_s=0.05), ferry.submit.alloc(2)
        assert code_of(lambda: late.result(WAIT_S)) == "deadline_exceeded"
        eventually(lambda: len(server.asked("alloc")) == 2)
        server.cut()
        assert code_of(lambda: lost.result(WAIT_S)) == "connection_lost"
        ferry.connected(WAIT_S)
        resumed = [hello for hello in server.asked("hello") if "resume" in hello]
        assert [hello["unanswered"] for hello in resumed] == [[request["id"] for request in server.asked("alloc")]]


def test_a_sidecar_takes_back_what_nobody_heard_of(sidecars: tuple[Sidecar, Sidecar]) -> None:
    with sidecars[0].connect() as ferry:
        blocks, before = ferry.alloc(1), ferry.stats().pool["held"]
        channel = ferry._ferry._session._channel
        assert channel is not None
        # The answer is on its way, and lost: as if the connection had been cut a moment before.
        channel._handle = lambda message: None  # type: ignore[method-assign]
        # The reader already waits for one message with the handler that it had.
        ferry.stats()
        lost = ferry.submit.alloc(5)
        with sidecars[0].connect() as other:
            eventually(lambda: other.stats().pool["held"] == before + 5)
            cut(ferry)
            assert code_of(lambda: lost.result(WAIT_S)) == "connection_lost"
            ferry.connected(WAIT_S)
            assert other.stats().pool["held"] == before
        ferry.free(blocks)


def code_of_free(ferry: kvferry.Ferry, blocks: kvferry.Blocks) -> str:
    """The offer's end frees its blocks a moment after the connection's."""
    try:
        ferry.free(blocks)
    except KvferryError as error:
        return error.code
    return ""


def test_a_killed_sidecar_comes_back_as_another(sidecar: Sidecar) -> None:
    told: list[events.Event] = []
    calls: list[tuple[str, object]] = []

    def quiesce() -> None:
        calls.append(("quiesce", (first.valid, ferry.up)))

    def on_restart(restarted: events.Restarted) -> None:
        # It may use the client, and finds models and pool in place.
        calls.append(("restart", restarted))
        ferry.free(ferry.alloc(1))
        calls.append(("model", model.number))

    ferry = sidecar.connect(quiesce=quiesce, on_restart=on_restart, lost_after_s=WAIT_S)
    silent = sidecar.connect()
    with ferry, silent:
        ferry.on(told.append)
        first = ferry.pool()
        model = ferry.register_model(IDENTITY, layout_of(first))
        blocks, former = ferry.alloc(3), ferry.incarnation
        kept = silent.alloc(2)
        buffer = ferry.register_buffer(4096)
        offer = ferry.offer(model, [GroupBlocks(0, blocks, 3 * BLOCK_TOKENS)], ready=False)
        transfer = ferry.fetch(
            "127.0.0.1:9", model, new_handle(former), [GroupBlocks(0, ferry.alloc(1), 16)], deadline_s=60
        )
        # A stopped sidecar takes the request and does not answer it.
        waiting = [ferry.submit.lookup(model, 0, bytes(32), ["127.0.0.1:9"]) for _ in range(3)]
        sidecar.kill()
        for future in waiting:
            assert code_of(partial(future.result, WAIT_S)) == "connection_lost"
        eventually(lambda: not ferry.up)
        assert code_of(lambda: ferry.alloc(1)) == "connection_lost"
        offer.ready(0)
        sidecar.start()
        ferry.connected(WAIT_S)
        silent.connected(WAIT_S)
        assert code_of(lambda: transfer.result(WAIT_S)) in ("incarnation_mismatch", "connect_failed")
        assert code_of(lambda: offer.result(WAIT_S)) in ("incarnation_mismatch", "connection_lost")
        eventually(lambda: len(calls) == 3)
        assert [name for name, _ in calls] == ["quiesce", "restart", "model"]
        assert calls[0][1] == (False, False)
        restarted = calls[1][1]
        assert isinstance(restarted, events.Restarted)
        assert (restarted.former, restarted.incarnation) == (former, ferry.incarnation)
        assert restarted.incarnation_changed
        assert not first.valid
        assert ferry.pool() is restarted.pool
        assert code_of(lambda: ferry.free(blocks)) == "incarnation_mismatch"
        assert code_of(lambda: silent.free(kept)) == "incarnation_mismatch"
        assert code_of(lambda: ferry.unregister_buffer(buffer)) == "incarnation_mismatch"
        assert code_of(lambda: ferry.ready(offer, 0)) == "incarnation_mismatch"
        # The first has promised that nothing of it writes any more; the second has not, and what it held stays in quarantine.
        eventually(lambda: ferry.stats().pool["quarantined"] == 2)
        again = ferry.alloc(2)
        ferry.publish(model, 0, again, kvferry.page_keys(model.fingerprint, BLOCK_TOKENS, range(2 * BLOCK_TOKENS)))
        assert ferry.stats().pool["published"] == 2


def test_a_sidecar_that_stays_away(sidecar: Sidecar) -> None:
    with sidecar.connect(lost_after_s=0.1) as ferry:
        model = ferry.register_model(IDENTITY, layout_of(ferry.pool()))
        offer = ferry.offer(model, [GroupBlocks(0, ferry.alloc(1), BLOCK_TOKENS)])
        sidecar.kill()
        assert code_of(lambda: offer.result(WAIT_S)) == "connection_lost"
        assert code_of(lambda: ferry.connected(0.1)) == "connection_lost"
        assert code_of(lambda: ferry.alloc(1)) == "connection_lost"


def test_a_client_may_be_there_before_its_sidecar() -> None:
    own = Sidecar("late")
    try:
        with kvferry.connect(own.socket, wait=False) as ferry:
            assert code_of(lambda: ferry.alloc(1)) == "connect_failed"
            own.start()
            pool = ferry.pool(timeout_s=WAIT_S)
            assert len(ferry.alloc(1)) == 1
            assert pool.incarnation == ferry.incarnation
    finally:
        own.close()


class Restarting(FakeServer):
    """Another incarnation with each call of `restart`."""

    def __init__(self) -> None:
        super().__init__({"hello": lambda r: welcome(r, self.life), "pool": lambda r: pool(r, self.life)})
        self.lives = 1

    @property
    def life(self) -> str:
        return f"{self.lives:032x}"

    def restart(self) -> None:
        self.lives += 1
        self.cut()

    def promises(self) -> list[Request]:
        return [request for request in self.asked("hello") if "resume" in request]


def test_the_token_is_only_said_once_nothing_is_touched_any_more() -> None:
    said: list[int] = []
    with Restarting() as server:

        def quiesce() -> None:
            time.sleep(0.2)
            said.append(len(server.promises()))

        with kvferry.connect(server.socket, quiesce=quiesce) as ferry:
            server.restart()
            eventually(lambda: ferry.incarnation == server.life)
            assert said == [0]
            assert len(server.promises()) == 1
            server.cut()
            eventually(lambda: len(server.promises()) == 2 and ferry.up)
            assert said == [0], "the same sidecar needs no promise"


@pytest.mark.parametrize("fails", ["absent", "raises", "hangs"])
def test_without_the_promise_the_token_is_never_said(fails: str) -> None:
    def quiesce() -> None:
        if fails == "raises":
            raise RuntimeError("a stream does not end")
        time.sleep(0.5)

    with Restarting() as server:
        options = {} if fails == "absent" else {"quiesce": quiesce, "quiesce_timeout_s": 0.1}
        with kvferry.connect(server.socket, **options) as ferry:  # type: ignore[arg-type]
            server.restart()
            eventually(lambda: ferry.incarnation == server.life)
            assert server.promises() == []


def test_a_model_that_no_longer_fits_says_so_when_it_is_used() -> None:
    with Restarting() as server:
        identity = kvferry.Identity("m")
        server.answers["registerModel"] = lambda r: [
            {"id": r["id"], "ok": {"model": 1, "fingerprint": identity.fingerprint}}
        ]
        with kvferry.connect(server.socket) as ferry:
            model = ferry.register_model(identity, kvferry.Layout(1, ()))
            server.answers["registerModel"] = lambda r: [
                {"id": r["id"], "error": {"code": "layout_conflict", "detail": "other"}}
            ]
            server.restart()
            eventually(lambda: ferry.incarnation == server.life)
            assert code_of(lambda: ferry.lookup(model, 0, b"")) == "layout_conflict"
            assert ferry.up


def test_on_restart_may_close_the_client() -> None:
    with Restarting() as server:
        closed = threading.Event()

        def on_restart(_restarted: events.Restarted) -> None:
            ferry.close()
            closed.set()

        ferry = kvferry.connect(server.socket, on_restart=on_restart)
        server.restart()
        assert closed.wait(WAIT_S)
        assert code_of(ferry.info) == "closed"


def test_close_does_not_wait_for_a_callback() -> None:
    release = threading.Event()
    with Restarting() as server:

        def on_restart(_restarted: events.Restarted) -> None:
            release.wait(WAIT_S)

        ferry = kvferry.connect(server.socket, on_restart=on_restart)
        server.restart()
        eventually(lambda: ferry.incarnation == server.life)
        ferry.close()
        assert not release.is_set()
        release.set()
