"""Every verb, on real sidecars, by threads and on asyncio. Blocks that a test takes are counted back at its end."""

from __future__ import annotations

import asyncio
import concurrent.futures
import re
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, get_args

import numpy as np
import pytest

import kvferry
from conftest import Connect
from kvferry import Blocks, Ferry, GroupBlocks, Keyed, KvferryError, Priority, Range, events, new_handle
from sidecars import BLOCK_BYTES, BLOCK_TOKENS, IDENTITY, LAYERS, WAIT_S, Sidecar, eventually, layout_of


@pytest.fixture(autouse=True)
def _given_back(sidecars: tuple[Sidecar, Sidecar]) -> Iterator[None]:
    yield
    for sidecar in sidecars:
        with sidecar.connect() as ferry:
            eventually(partial(nothing_held, ferry))


def nothing_held(ferry: Ferry) -> bool:
    pool = ferry.stats().pool
    return pool["held"] == 0 and pool["leased"] == 0


def fill(ferry: Ferry, blocks: Blocks, seed: int) -> None:
    pool = ferry.pool()
    for place, block in enumerate(blocks.ids):
        pool.block(int(block))[:] = np.random.default_rng([seed, place]).integers(0, 256, BLOCK_BYTES, np.uint8)


def same(one: Ferry, ours: Blocks, other: Ferry, theirs: Blocks) -> bool:
    pairs = zip(ours.ids, theirs.ids, strict=True)
    return all(np.array_equal(one.pool().block(int(x)), other.pool().block(int(y))) for x, y in pairs)


def code_of(call: Callable[[], object]) -> str:
    with pytest.raises(KvferryError) as caught:
        call()
    return caught.value.code


def test_the_node_and_its_memory(connect: Connect) -> None:
    ferry = connect()
    assert ferry.info().name == "a"
    assert re.fullmatch(r"127\.0\.0\.1:\d+", ferry.info().address)
    pool = ferry.pool()
    assert pool is ferry.pool()
    assert pool.incarnation == ferry.incarnation
    assert len(pool.view) >= pool.block_count * BLOCK_BYTES
    blocks = ferry.alloc(3)
    assert len(blocks) == len(set(blocks.ids)) == 3
    assert blocks.incarnation == ferry.incarnation
    assert ferry.stats().pool["held"] == 3
    ferry.free(blocks)
    assert code_of(lambda: ferry.free(blocks)) == "generation_mismatch"
    assert code_of(lambda: ferry.alloc(pool.block_count + 1)) == "pool_exhausted"
    assert code_of(lambda: ferry.alloc(0)) == "message_malformed"


def test_numbers_of_verbs_are_integers_of_any_type(connect: Connect) -> None:
    a, b = connect(), connect(1)
    model, there = a.register_model(IDENTITY, layout_of(a.pool())), b.register_model(IDENTITY, layout_of(b.pool()))
    number = np.int64
    blocks, mine = a.alloc(number(2)), b.alloc(np.uint8(2))
    fill(a, blocks, 5)
    tokens = np.array([BLOCK_TOKENS]) * 2
    offer = a.offer(model, [GroupBlocks(number(0), blocks, tokens[0])], ready=False)
    a.ready(offer, number(0))
    for layer in range(1, LAYERS):
        offer.ready(number(layer))
    into = [GroupBlocks(0, mine, tokens[0])]
    b.fetch(a.info().address, there, offer.handle, into, heads=(number(0), number(2))).result(WAIT_S)
    assert same(a, blocks, b, mine)
    assert np.array_equal(a.pool().block(blocks.ids[1]), a.pool().block(int(blocks.ids[1])))
    keys = kvferry.page_keys(model.fingerprint, number(BLOCK_TOKENS), np.arange(2 * BLOCK_TOKENS))
    a.publish(model, number(0), blocks, keys)
    assert a.lookup(model, number(0), keys)[0].matched == 2
    a.release(a.lease(model, number(0), keys))
    assert len(a.register_buffer(number(4096)).view) == 4096
    b.free(mine)
    wrong: list[Callable[[Any], object]] = [
        a.alloc,
        a.register_buffer,
        a.pool().block,
        offer.ready,
        lambda bad: a.ready(offer, bad),
        lambda bad: a.publish(model, bad, blocks, keys),
        lambda bad: a.lookup(model, bad, keys),
        lambda bad: a.lease(model, bad, keys),
        lambda bad: b.fetch("x", there, offer.handle, into, heads=(bad, 1)),
        lambda bad: b.fetch("x", there, offer.handle, into, heads=(0, bad)),
    ]
    for call in wrong:
        for bad in (1.5, "1", None, -1, 2**64, True):
            assert code_of(partial(call, bad)) == "invalid_argument"


def test_tcp_with_a_token(sidecars: tuple[Sidecar, Sidecar]) -> None:
    found = re.search(r"http://(127\.0\.0\.1:\d+) with the token", sidecars[0].log)
    assert found is not None, sidecars[0].log
    address = f"ws://{found[1]}"
    with kvferry.connect(address, token="0123456789abcdef", attach=False) as ferry:
        assert ferry.info().name == "a"
        assert code_of(lambda: ferry.pool().view) == "attach_unavailable"
    assert code_of(lambda: kvferry.connect(address, token="another token, and long")) == "peer_not_allowed"


def test_published_blocks_are_found_leased_and_fetched(connect: Connect) -> None:
    a, b = connect(), connect(1)
    model, there = a.register_model(IDENTITY, layout_of(a.pool())), b.register_model(IDENTITY, layout_of(b.pool()))
    assert a.register_model(IDENTITY, layout_of(a.pool())) is model
    chain = kvferry.KeyChain(model.fingerprint, BLOCK_TOKENS)
    chain.extend(range(1000, 1000 + 3 * BLOCK_TOKENS))
    told: list[events.Event] = []
    stop = a.on(told.append)
    blocks = a.alloc(3)
    fill(a, blocks, 1)
    a.publish(model, 0, blocks, chain.keys)
    eventually(lambda: any(isinstance(event, events.PublishedHere) and event.keys == chain.keys for event in told))
    stop()
    address = a.info().address
    assert [place.matched for place in b.lookup(there, 0, chain.keys, [address])] == [0, 3]
    assert b.lookup(there, 0, chain.keys)[0].peer == ""
    longer = chain.keys + bytes(32)
    assert code_of(lambda: a.lease(model, 0, longer)) == "key_not_found"
    leased = a.lease(model, 0, longer, prefix=True)
    assert list(leased.ids) == list(blocks.ids)
    mine = b.alloc(3)
    keyed = Keyed(chain.keys, 0, 3 * BLOCK_TOKENS)
    report = b.fetch(address, there, keyed, [GroupBlocks(0, mine, 3 * BLOCK_TOKENS)], trace="t-1").result(WAIT_S)
    assert report.bytes == 3 * BLOCK_BYTES
    assert same(a, leased, b, mine)
    b.free(mine)
    pushed = a.push(b.info().address, model, GroupBlocks(0, leased, 3 * BLOCK_TOKENS), chain.keys)
    pushed.result(WAIT_S)
    arrived = b.lease(there, 0, chain.keys)
    assert same(a, leased, b, arrived)
    b.release(arrived)
    a.release(leased)
    assert code_of(lambda: a.release(leased)) == "not_owner"


def test_a_hand_over_layer_by_layer(connect: Connect) -> None:
    a, b = connect(), connect(1)
    model, there = a.register_model(IDENTITY, layout_of(a.pool())), b.register_model(IDENTITY, layout_of(b.pool()))
    blocks, mine = a.alloc(4), b.alloc(4)
    tokens = 4 * BLOCK_TOKENS
    handle = new_handle(a.incarnation)
    offer = a.offer(model, [GroupBlocks(0, blocks, tokens)], ready=False, handle=handle, deadline_s=30)
    assert offer.handle == handle
    arrived: list[int] = []
    layers = threading.Semaphore(0)

    def on_layer(layer: int) -> None:
        arrived.append(layer)
        layers.release()

    transfer = b.fetch(
        a.info().address, there, handle, [GroupBlocks(0, mine, tokens)], on_layer=on_layer, deadline_s=30
    )
    fill(a, blocks, 2)
    for layer in range(LAYERS):
        assert not transfer.done()
        offer.ready(layer)
        assert layers.acquire(timeout=WAIT_S)
        assert arrived[-1] == layer
    assert transfer.result(WAIT_S).chunks >= LAYERS
    offer.result(WAIT_S)
    assert same(a, blocks, b, mine)
    again = b.fetch(a.info().address, there, handle, [GroupBlocks(0, mine, tokens)])
    assert code_of(lambda: again.result(WAIT_S)) == "handle_unknown"
    a.free(blocks)
    b.free(mine)


def test_transfers_and_offers_can_be_ended(connect: Connect) -> None:
    a, b = connect(), connect(1)
    model, there = a.register_model(IDENTITY, layout_of(a.pool())), b.register_model(IDENTITY, layout_of(b.pool()))
    blocks, mine = a.alloc(1), b.alloc(1)
    offer = a.offer(model, [GroupBlocks(0, blocks, BLOCK_TOKENS)], ready=False)
    a.ready(offer, 0)
    transfer = b.fetch(a.info().address, there, offer.handle, [GroupBlocks(0, mine, BLOCK_TOKENS)], deadline_s=60)
    transfer.cancel()
    assert code_of(lambda: transfer.result(WAIT_S)) == "cancelled"
    error = transfer.error()
    assert error is not None and error.code == "cancelled"
    b.cancel(transfer)
    second = a.offer(model, [GroupBlocks(0, a.alloc(1), BLOCK_TOKENS)])
    a.withdraw(second)
    assert code_of(lambda: second.result(WAIT_S)) == "cancelled"
    unwanted = a.offer(model, [GroupBlocks(0, a.alloc(1), BLOCK_TOKENS)])
    b.discard(a.info().address, unwanted.handle)
    assert code_of(lambda: unwanted.result(WAIT_S)) == "cancelled"
    third = a.offer(model, [GroupBlocks(0, a.alloc(1), BLOCK_TOKENS)], ready=False)
    third.ready(1_000_000)
    assert code_of(lambda: third.result(WAIT_S)) == "message_malformed"
    late = a.offer(model, [GroupBlocks(0, a.alloc(1), BLOCK_TOKENS)], deadline_s=0.05)
    assert code_of(lambda: late.result(WAIT_S)) == "deadline_exceeded"
    nobody = b.fetch(
        "127.0.0.1:9", there, new_handle(a.incarnation), [GroupBlocks(0, mine, BLOCK_TOKENS)], deadline_s=1
    )
    assert code_of(lambda: nobody.result(WAIT_S)) in ("connect_failed", "deadline_exceeded", "connect_timeout")


def test_a_handle_is_of_one_offer_until_that_has_ended(connect: Connect) -> None:
    a, b = connect(), connect(1)
    model, there = a.register_model(IDENTITY, layout_of(a.pool())), b.register_model(IDENTITY, layout_of(b.pool()))
    group = GroupBlocks(0, a.alloc(1), BLOCK_TOKENS)
    handle = new_handle(a.incarnation)
    offer = a.offer(model, [group], handle=handle)
    assert code_of(lambda: a.offer(model, [group], handle=handle)) == "invalid_argument"
    # Another client has no such offer; the sidecar has.
    other = connect()
    theirs = GroupBlocks(0, other.alloc(1), BLOCK_TOKENS)
    its = other.register_model(IDENTITY, layout_of(other.pool()))
    assert code_of(lambda: other.offer(its, [theirs], handle=handle)) == "invalid_argument"
    assert not offer.done()
    mine = b.alloc(1)
    b.fetch(a.info().address, there, handle, [GroupBlocks(0, mine, BLOCK_TOKENS)]).result(WAIT_S)
    offer.result(WAIT_S)
    again = a.offer(model, [group], handle=handle)
    again.withdraw()
    assert code_of(lambda: again.result(WAIT_S)) == "cancelled"


def test_clients_of_one_sidecar_do_not_hand_over(connect: Connect) -> None:
    """README.md says so."""
    one, other = connect(), connect()
    model, same_model = (ferry.register_model(IDENTITY, layout_of(ferry.pool())) for ferry in (one, other))
    offer = one.offer(model, [GroupBlocks(0, one.alloc(1), BLOCK_TOKENS)])
    mine = other.alloc(1)
    itself = other.fetch(one.info().address, same_model, offer.handle, [GroupBlocks(0, mine, BLOCK_TOKENS)])
    with pytest.raises(KvferryError, match=r"peer_not_allowed.*that is this node itself"):
        itself.result(WAIT_S)
    assert not offer.done()


def test_buffers(connect: Connect) -> None:
    a, b = connect(), connect(1)
    ours, theirs = a.register_buffer(1 << 16), b.register_buffer(1 << 16)
    ours.view[:] = np.arange(1 << 16, dtype=np.uint32).astype(np.uint8)
    address = b.info().address
    a.write(address, theirs.handle, ours, [Range(0, 100, 5000), Range(9000, 30000, 7)]).result(WAIT_S)
    assert np.array_equal(theirs.view[100:5100], ours.view[:5000])
    assert np.array_equal(theirs.view[30000:30007], ours.view[9000:9007])
    a.read(address, theirs.handle, ours, [Range(60000, 100, 10)]).result(WAIT_S)
    assert np.array_equal(ours.view[60000:60010], theirs.view[100:110])
    beyond = a.read(address, theirs.handle, ours, [Range(0, 1 << 16, 10)])
    assert code_of(lambda: beyond.result(WAIT_S)) == "range_invalid"
    a.unregister_buffer(ours)
    assert code_of(lambda: a.unregister_buffer(ours)) == "handle_unknown"


def test_futures_keep_their_order_and_many_are_under_way(connect: Connect) -> None:
    ferry = connect()
    allocs = [ferry.submit.alloc(1) for _ in range(40)]
    given = [future.result(WAIT_S) for future in allocs]
    freed = [ferry.submit.free(blocks) for blocks in given]
    again = ferry.submit.alloc(40)
    ferry.free(again.result(WAIT_S))
    assert all(future.done() and future.exception() is None for future in freed)
    future = ferry.submit.alloc(0)
    assert code_of(lambda: future.result(WAIT_S)) == "message_malformed"


def test_whoever_stops_waiting_loses_nothing(connect: Connect) -> None:
    ferry = connect()
    for turn in range(400):
        # At any moment: before it has left, on its way, and when the answer is there.
        future = ferry.submit.alloc(2)
        time.sleep(turn % 20 * 5e-5)
        if not future.cancel():
            ferry.free(future.result(WAIT_S))
    for _ in range(5):
        try:
            ferry.free(ferry.alloc(2, timeout_s=1e-4))
        except KvferryError as error:
            assert error.code == "deadline_exceeded"
    eventually(lambda: ferry.stats().pool["held"] == 0)


def test_every_transfer_has_a_priority(connect: Connect) -> None:
    a, b = connect(), connect(1)
    model, there = a.register_model(IDENTITY, layout_of(a.pool())), b.register_model(IDENTITY, layout_of(b.pool()))
    blocks, mine = a.alloc(1), b.alloc(1)
    into, tokens = [GroupBlocks(0, mine, BLOCK_TOKENS)], BLOCK_TOKENS
    keys = kvferry.page_keys(model.fingerprint, BLOCK_TOKENS, np.arange(tokens) + 9_000)
    ours, theirs = a.register_buffer(4096), b.register_buffer(4096)
    for seed, priority in enumerate(get_args(Priority)):
        fill(a, blocks, seed)
        offer = a.offer(model, [GroupBlocks(0, blocks, tokens)])
        b.fetch(a.info().address, there, offer.handle, into, priority=priority).result(WAIT_S)
        assert same(a, blocks, b, mine)
        b.read(a.info().address, ours.handle, theirs, [Range(0, 0, 4096)], priority=priority).result(WAIT_S)
        b.write(a.info().address, ours.handle, theirs, [Range(0, 0, 4096)], priority=priority).result(WAIT_S)
    a.push(b.info().address, model, GroupBlocks(0, blocks, tokens), keys, priority="background").result(WAIT_S)
    for wrong in ("", "Urgent", 1):
        refused: list[Callable[..., object]] = [
            lambda **more: b.fetch("x", there, "handle", into, **more),
            lambda **more: b.read("x", ours.handle, theirs, [Range(0, 0, 1)], **more),
            lambda **more: a.push("x", model, GroupBlocks(0, blocks, tokens), keys, **more),
        ]
        for call in refused:
            assert code_of(partial(call, priority=wrong)) == "invalid_argument"
    a.free(blocks)
    b.free(mine)
    a.unregister_buffer(ours)
    b.unregister_buffer(theirs)


def test_a_hint_makes_connections_before_anything_is_fetched(connect: Connect) -> None:
    with_peer = connect(1).info().address
    own = Sidecar("prewarming")
    try:
        own.start()
        with own.connect() as ferry:
            assert ferry.stats().peers == ()
            ferry.prewarm(with_peer, 1 << 20, in_s=0.25)
            eventually(lambda: [peer.up for peer in ferry.stats().peers] == [True])
            assert ferry.submit.prewarm(with_peer, np.int64(1), direction="out").result(WAIT_S) is None
            for wrong in ({"size": 0}, {"in_s": -1.0}, {"in_s": 3601.0}, {"in_s": float("nan")}, {"direction": "up"}):
                arguments: dict[str, Any] = {"size": 1, **wrong}
                assert code_of(partial(ferry.prewarm, with_peer, **arguments)) == "invalid_argument"
    finally:
        own.close()


def test_a_callback_may_submit_but_not_wait(connect: Connect) -> None:
    ferry = connect()
    told: list[object] = []

    def callback(_future: object) -> None:
        told.append(code_of(ferry.stats))
        told.append(ferry.submit.stats())

    # Not added here: a future that is done already calls back at once, on this thread, which may wait.
    ferry._thread.loop.call_soon_threadsafe(lambda: ferry.submit.info().add_done_callback(callback))
    eventually(lambda: len(told) == 2)
    assert told[0] == "unsupported"
    assert isinstance(told[1], concurrent.futures.Future)
    assert told[1].result(WAIT_S).pool["held"] == 0


def test_use_after_close_is_refused_and_close_gives_back(connect: Connect) -> None:
    ferry = connect()
    pool = ferry.pool()
    ferry.alloc(5)
    ferry.close()
    ferry.close()
    assert not pool.valid
    assert code_of(lambda: ferry.alloc(1)) == "closed"
    assert code_of(lambda: ferry.submit.alloc(1)) == "closed"


def test_a_model_that_does_not_fit_is_refused(connect: Connect) -> None:
    ferry = connect()
    layout = kvferry.Layout(ferry.pool().block_count + 1, layout_of(ferry.pool()).groups)
    assert code_of(lambda: ferry.register_model(IDENTITY, layout)) == "invalid_argument"


def test_asyncio(sidecars: tuple[Sidecar, Sidecar]) -> None:
    async def run() -> None:
        async with (
            await kvferry.aio.connect(sidecars[0].socket) as a,
            await kvferry.aio.connect(sidecars[1].socket) as b,
        ):
            model = await a.register_model(IDENTITY, layout_of(await a.pool()))
            there = await b.register_model(IDENTITY, layout_of(await b.pool()))
            blocks, mine = await asyncio.gather(a.alloc(2), b.alloc(2))
            address = (await a.info()).address
            offer = await a.offer(model, [GroupBlocks(0, blocks, 20)])
            with pytest.raises(KvferryError, match="await it"):
                offer.result()
            transfer = await b.fetch(address, there, offer.handle, [GroupBlocks(0, mine, 20)])
            report = await transfer
            await offer
            assert report.bytes > 0
            waiting = asyncio.ensure_future(a.alloc(3))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            with pytest.raises(KvferryError):
                await a.alloc(0)
            # The answer is given back by a request that leaves before this one.
            await a.info()
            assert (await a.stats()).pool["held"] == 2

    asyncio.run(asyncio.wait_for(run(), WAIT_S))
