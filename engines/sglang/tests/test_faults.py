"""What goes wrong, and what then: each request ends with a typed error on both sides, every block is free again, the next one works."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import time
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import pytest
from sidecars import WAIT_S, eventually

from conftest import Make
from engines import Cluster, Fleet, Shape, failure_of, indices, reaches
from kvferry import KvferryError
from kvferry_sglang import KvferryKVManager, KvferryKVReceiver, KvferryKVSender, KvferryTransferError
from kvferry_sglang.contract import KVPoll
from kvferry_sglang.directory import fetch_rank
from kvferry_sglang.options import Options

PAGES = [1, 2, 3, 4]


def opened(cluster: Cluster, room: int) -> tuple[KvferryKVSender, KvferryKVReceiver]:
    (sender,), (receiver,) = cluster.senders(room), cluster.receivers(room)
    reaches([receiver], KVPoll.WaitingForInput)
    return sender, receiver


def claimed(cluster: Cluster, room: int) -> tuple[KvferryKVSender, KvferryKVReceiver]:
    sender, receiver = opened(cluster, room)
    receiver.send_metadata(indices(PAGES), 1, None)
    reaches([sender], KVPoll.WaitingForInput)
    sender.init(len(PAGES), 1)
    return sender, receiver


def both_ended(sender: KvferryKVSender, receiver: KvferryKVReceiver) -> bool:
    return sender.conclude_state is not None and receiver.conclude_state is not None


def works(cluster: Cluster, room: int) -> None:
    sender, receiver = claimed(cluster, room)
    sender.send(indices(PAGES))
    reaches([sender, receiver], KVPoll.Success)
    for here, there in zip(cluster.prefill_pools[0].kv, cluster.decode_pools[0].kv, strict=True):
        assert np.array_equal(here[PAGES], there[PAGES])


def test_the_decode_side_aborts_in_each_phase(cluster: Make) -> None:
    made = cluster()
    sender, receiver = opened(made, 1)
    receiver.abort()
    assert failure_of(receiver) == "cancelled"
    assert sender.poll() == KVPoll.Bootstrapping
    sender.abort()
    assert failure_of(sender) == "cancelled"

    sender, receiver = claimed(made, 2)
    receiver.abort()
    assert (failure_of(receiver), failure_of(sender)) == ("cancelled", "connection_lost")

    sender, receiver = claimed(made, 3)
    sender.send(indices(PAGES[:2]))
    reaches([receiver], KVPoll.Transferring)
    receiver.abort()
    assert receiver.is_abort_release_safe()
    # From here on the pages are another request's: nothing may be written into them.
    before = [buffer.copy() for buffer in made.decode_pools[0].kv]
    assert (failure_of(receiver), failure_of(sender)) == ("cancelled", "connection_lost")
    made.check_nothing_held()
    assert all(np.array_equal(was, now) for was, now in zip(before, made.decode_pools[0].kv, strict=True))
    works(made, 4)


def test_the_prefill_side_aborts_in_each_phase(cluster: Make) -> None:
    made = cluster()
    sender, receiver = claimed(made, 1)
    sender.abort()
    assert (failure_of(sender), failure_of(receiver)) == ("cancelled", "cancelled")

    sender, receiver = claimed(made, 2)
    sender.send(indices(PAGES[:2]))
    reaches([receiver], KVPoll.Transferring)
    sender.abort()
    assert failure_of(sender) == "cancelled"
    # It may just be asking for an offer that is gone.
    assert failure_of(receiver) in ("cancelled", "handle_unknown")
    sender.send(indices(PAGES[2:]))
    assert sender.poll() == KVPoll.Failed
    works(made, 2)


def test_aborts_at_any_moment_leave_nothing_behind(cluster: Make) -> None:
    made = cluster()
    for room in range(40):
        sender, receiver = claimed(made, room)
        sender.send(indices(PAGES))
        time.sleep(room * 0.0002)
        for handle in (receiver, sender) if room % 2 else (sender, receiver):
            # As SGLang does, more than once: each may come in the middle of what the one before has begun.
            handle.abort()
            handle.clear()
            handle.abort()
        eventually(partial(both_ended, sender, receiver))
        # The one that was not aborted may have been done before.
        assert {sender.poll(), receiver.poll()} <= {KVPoll.Success, KVPoll.Failed}
    made.check_nothing_held()
    works(made, 99)


def test_failed_on_another_rank(cluster: Make) -> None:
    made = cluster()
    sender, receiver = claimed(made, 1)
    with pytest.raises(KvferryTransferError, match="another rank") as told:
        sender.failure_exception()
    assert told.value.is_from_another_rank
    assert sender.poll() == KVPoll.Failed
    assert failure_of(receiver) == "cancelled"


def test_nobody_comes(cluster: Make) -> None:
    made = cluster(bootstrap_timeout_s=0.3, waiting_timeout_s=0.3)
    (sender,) = made.senders(1)
    assert failure_of(sender) == "deadline_exceeded"
    (receiver,) = made.receivers(2)
    reaches([receiver], KVPoll.WaitingForInput)
    receiver.send_metadata(indices(PAGES), 1, None)
    assert failure_of(receiver) == "deadline_exceeded"


def test_another_model_another_page_size_another_number_of_pages(cluster: Make) -> None:
    made = cluster(decode_model="another")
    (sender,), (receiver,) = made.senders(1), made.receivers(1)
    reaches([receiver], KVPoll.WaitingForInput)
    receiver.send_metadata(indices(PAGES), 1, None)
    assert failure_of(receiver) == "fingerprint_mismatch"
    assert sender.poll() == KVPoll.Bootstrapping
    sender.abort()

    other = cluster(decode_shape=Shape(page_size=8))
    assert not other.decode[0].try_ensure_parallel_info(other.address)
    (receiver,) = [KvferryKVReceiver(other.decode[0], other.address, 2)]
    receiver.init(0)
    assert failure_of(receiver) == "connect_failed"

    third = cluster()
    sender, receiver = opened(third, 3)
    receiver.send_metadata(indices(PAGES), 1, None)
    reaches([sender], KVPoll.WaitingForInput)
    sender.init(3, 1)
    assert (failure_of(sender), failure_of(receiver)) == ("layout_unconvertible", "layout_unconvertible")


def test_state_of_another_size(cluster: Make) -> None:
    made = cluster(shape=Shape(states=(("mamba", (64,)),)), decode_shape=Shape(states=(("mamba", (32,)),)))
    (sender,), (receiver,) = made.senders(1), made.receivers(1)
    reaches([receiver], KVPoll.WaitingForInput)
    receiver.send_metadata(indices(PAGES), 1, [indices([1])])
    reaches([sender], KVPoll.WaitingForInput)
    sender.init(len(PAGES), 1)
    sender.send(indices(PAGES), [indices([1])])
    assert failure_of(receiver) == "layout_unconvertible"
    failure_of(sender)


def test_indices_outside_of_the_pools(cluster: Make) -> None:
    made = cluster()
    sender, receiver = opened(made, 1)
    receiver.send_metadata(indices([1, 96]), 1, None)
    assert failure_of(receiver) == "invalid_argument"
    sender.init(2, 1)
    sender.send(indices([-1, 3]))
    assert failure_of(sender) == "invalid_argument"


def test_a_pool_without_room(cluster: Make) -> None:
    made = cluster(room_timeout_s=0.3)
    with made.sidecars[0].connect() as greedy:
        held = greedy.alloc(greedy.stats().pool["free"])
        sender, receiver = claimed(made, 1)
        sender.send(indices(PAGES))
        assert (failure_of(sender), failure_of(receiver)) == ("pool_exhausted", "pool_exhausted")
        greedy.free(held)
    with made.sidecars[1].connect() as greedy:
        held = greedy.alloc(greedy.stats().pool["free"])
        sender, receiver = claimed(made, 2)
        sender.send(indices(PAGES))
        assert (failure_of(receiver), failure_of(sender)) == ("pool_exhausted", "connection_lost")
        greedy.free(held)
    works(made, 3)


def lines(address: tuple[str, int], *sent: bytes) -> bytes:
    """What a stranger hears who says this."""
    with socket.create_connection(address, WAIT_S) as stranger:
        stranger.sendall(b"".join(sent))
        heard = b""
        while True:
            try:
                part = stranger.recv(4096)
            except ConnectionResetError:
                part = b""
            if not part:
                return heard
            heard += part


def test_strangers_at_the_door(cluster: Make) -> None:
    made = cluster()
    rank = fetch_rank(made.address, 0, 0)
    door = (rank.rank_ip, rank.rank_port)
    sender, receiver = claimed(made, 7)
    good: dict[str, Any] = {
        "version": 1, "token": rank.token, "room": 7, "target": 1, "claims": 1, "wanted": True, "prefix_tokens": 0,
        "page_size": 4, "fingerprint": made.prefill[0].node.identity.fingerprint, "counts": [4, 1],
    }  # fmt: skip
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"token": "0" * 32}, "peer_not_allowed"),
        ({"token": 7}, "message_malformed"),
        ({"version": 2}, "version_unsupported"),
        ({"room": -1}, "message_malformed"),
        ({"room": 2**64}, "message_malformed"),
        ({"room": True}, "message_malformed"),
        ({"claims": 0}, "message_malformed"),
        ({"counts": []}, "message_malformed"),
        ({"counts": [1] * 65}, "message_malformed"),
        ({"fingerprint": "0" * 64}, "fingerprint_mismatch"),
        ({"page_size": 3}, "layout_unconvertible"),
    ]
    for change, code in wrong:
        told = json.loads(lines(door, json.dumps({**good, **change}).encode() + b"\n"))
        assert told["failed"] == code, (change, told)
    assert json.loads(lines(door, b"\x00\xff\n"))["failed"] == "message_malformed"
    assert json.loads(lines(door, b"[" * 9_000 + b"\n"))["failed"] == "message_malformed"
    assert lines(door, b"x" * 100_000 + b"\n") == b""
    # None of them has come near the request.
    sender.send(indices(PAGES))
    reaches([sender, receiver], KVPoll.Success)


def test_a_second_claim_of_a_room_ends_it(cluster: Make) -> None:
    made = cluster()
    sender, receiver = claimed(made, 8)
    (second,) = made.receivers(8)
    reaches([second], KVPoll.WaitingForInput)
    second.send_metadata(indices([9, 10, 11, 12]), 2, None)
    assert failure_of(sender) == "invalid_argument"
    assert {failure_of(receiver), failure_of(second)} == {"invalid_argument"}
    (sender,) = made.senders(9)
    (again,) = made.senders(9)
    assert failure_of(again) == "invalid_argument"
    assert sender.poll() == KVPoll.Bootstrapping
    sender.abort()


def test_a_forged_handle_and_a_peer_that_lies(cluster: Make) -> None:
    """The decode side against a false prefill rank that knows the room."""
    made = cluster()
    peer = made.prefill[0].node.wait(made.prefill[0].node.address())
    good = {"peer": peer, "handle": "00000000-" + "0" * 32, "first_page": 0, "pages": 4, "last": True}
    cases: list[tuple[bytes, set[str]]] = [
        (json.dumps(good).encode(), {"handle_unknown", "incarnation_mismatch"}),
        (json.dumps({**good, "handle": "../../x"}).encode(), {"message_malformed"}),
        (json.dumps({**good, "peer": "a b\n"}).encode(), {"message_malformed"}),
        (json.dumps({**good, "pages": 5}).encode(), {"protocol_error"}),
        (json.dumps({**good, "first_page": 1}).encode(), {"protocol_error"}),
        (json.dumps({**good, "pages": 3}).encode(), {"protocol_error"}),
        (json.dumps({"failed": "no such code"}).encode(), {"internal"}),
        (b"nonsense", {"message_malformed"}),
        (b"", {"connection_lost", "message_malformed"}),
    ]
    for at, (said, codes) in enumerate(cases):
        with socket.create_server(("127.0.0.1", 0)) as false_rank:
            registered = {
                "attn_tp_size": 1, "attn_tp_rank": 0, "dp_size": 1, "dp_rank": 0, "page_size": 4, "kv_cache_dtype": "bfloat16",
                "follow_bootstrap_room": True, "prefill_http_port": 0, "rank_ip": "127.0.0.1",
                "rank_port": false_rank.getsockname()[1], "token": "0" * 32,
            }  # fmt: skip
            made.bootstrap.directory.register(registered)
            (receiver,) = made.receivers(at)
            reaches([receiver], KVPoll.WaitingForInput)
            before = [buffer.copy() for buffer in made.decode_pools[0].kv]
            receiver.send_metadata(indices(PAGES), 1, None)
            false_rank.settimeout(WAIT_S)
            connection, _ = false_rank.accept()
            with connection:
                connection.sendall(said + b"\n")
                assert failure_of(receiver) in codes, (said, receiver._status.error)
            assert all(np.array_equal(was, now) for was, now in zip(before, made.decode_pools[0].kv, strict=True))


def test_hosts_outside_of_the_list(cluster: Make) -> None:
    made = cluster(bootstrap_hosts=frozenset({"10.1.1.1"}))
    assert not made.decode[0].try_ensure_parallel_info(made.address)
    assert not made.decode[0].try_ensure_parallel_info("not an address")
    with pytest.raises(KvferryError, match="peer_not_allowed"):
        Options("", frozenset({"a"})).check_host("b")


@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_sidecar_and_its_next_life(own_fleet: Fleet, killed: int) -> None:
    made = Cluster(own_fleet)
    try:
        works(made, 1)
        sender, receiver = claimed(made, 2)
        sender.send(indices(PAGES[:2]))
        reaches([receiver], KVPoll.Transferring)
        made.sidecars[killed].kill()
        sender.send(indices(PAGES[2:]))
        failure_of(sender)
        failure_of(receiver)
        made.sidecars[killed].start()
        manager = (made.prefill, made.decode)[killed][0]
        eventually(lambda: manager.node.ferry.up)
        works(made, 3)
        made.watchers[killed].close()
        made.watchers[killed] = made.sidecars[killed].connect(attach=False, client="watcher")
        made.check_nothing_held()
    finally:
        made.close()


def prefill_process(channel: Connection, socket_path: str) -> None:
    """A prefill engine that sends half of a prompt, and then nothing more."""
    from dataclasses import replace

    from engines import Pools
    from kvferry_sglang import KvferryKVBootstrapServer
    from kvferry_sglang.facts import Facts

    bootstrap = KvferryKVBootstrapServer("127.0.0.1", 0)
    pools = Pools(Shape(), 0, 1, 100)
    facts = replace(Facts("tiny", 4), bootstrap_port=bootstrap.port)
    manager = KvferryKVManager(pools.args(), "prefill", None, False, facts=facts, options=Options(socket_path))
    sender = KvferryKVSender(manager, "", 5)
    channel.send(bootstrap.port)
    reaches([sender], KVPoll.WaitingForInput)
    sender.init(len(PAGES), 1)
    sender.send(indices(PAGES[:2]))
    channel.recv()


def test_a_killed_prefill_engine(cluster: Make) -> None:
    made = cluster()
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=prefill_process, args=(theirs, made.sidecars[0].socket), daemon=True)
    process.start()
    try:
        assert ours.poll(WAIT_S)
        address = f"127.0.0.1:{ours.recv()}"
        eventually(lambda: made.decode[0].try_ensure_parallel_info(address))
        receiver = KvferryKVReceiver(made.decode[0], address, 5)
        receiver.init(0)
        reaches([receiver], KVPoll.WaitingForInput)
        receiver.send_metadata(indices(PAGES), 1, None)
        reaches([receiver], KVPoll.Transferring)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        # Its offers end with it, so the fetch under way may be the first to notice.
        assert failure_of(receiver) in ("connection_lost", "handle_unknown", "cancelled")
        eventually(lambda: address not in made.decode[0].prefill_info_table)
    finally:
        process.kill()
        process.join(WAIT_S)
