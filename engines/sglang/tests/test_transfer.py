"""KV from a prefill engine to a decode engine over two real sidecars, byte for byte: chunks, metadata, state, heads, MLA."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from conftest import Make
from engines import Cluster, Pools, Shape, indices, reaches
from kvferry_sglang.contract import KVPoll
from kvferry_sglang.facts import heads_of

SOURCE = [5, 9, 2, 7, 1, 30, 31, 32]
TARGET = [40, 3, 22, 8, 11, 60, 59, 58]


def hand_over(cluster: Cluster, room: int, chunks: list[int], prefix: int = 0) -> None:
    """The whole exchange as SGLang's schedulers do it, with the prompt's pages in chunks of these sizes."""
    senders, receivers = cluster.senders(room), cluster.receivers(room)
    states = [np.array([3, 1, 2], np.int32) for _ in cluster.shape.states] or None
    assert all(sender.poll() == KVPoll.Bootstrapping for sender in senders)
    reaches(receivers, KVPoll.WaitingForInput)
    for receiver in receivers:
        receiver.send_metadata(indices(TARGET), 6, states, decode_prefix_len=prefix)
    reaches(senders, KVPoll.WaitingForInput)
    for sender in senders:
        assert sender.pop_decode_prefix_len() == prefix
        sender.init(len(SOURCE), 2)
    start = 0
    for size in chunks:
        end = start + size
        for sender in senders:
            assert sender.should_send_kv_chunk(size, end == len(SOURCE))
            sender.send(indices(SOURCE[start:end]), states if end == len(SOURCE) else None, num_kv_tokens=size)
            assert sender.poll() in (KVPoll.Transferring, KVPoll.Success)
        start = end
    reaches([*senders, *receivers], KVPoll.Success)
    handles: list[Any] = [*senders, *receivers]
    for handle in handles:
        handle.clear()
        assert handle.poll() == KVPoll.Success


def check_heads(cluster: Cluster) -> None:
    """Every head of every decode rank is what the prefill ranks hold of it."""
    shape, total = cluster.shape, cluster.shape.total_heads
    for rank, pools in enumerate(cluster.decode_pools):
        first, count = heads_of(total, rank, len(cluster.decode_pools))
        for buffer in range(len(pools.kv)):
            there = pools.pages(buffer, TARGET)
            for head in range(first, first + count):
                for source, held in enumerate(cluster.prefill_pools):
                    start, held_count = heads_of(total, source, len(cluster.prefill_pools))
                    if start <= head < start + held_count:
                        here = held.pages(buffer, SOURCE)[:, :, head - start]
                        assert np.array_equal(there[:, :, head - first], here), (rank, buffer, head)
                        break
    assert shape.total_heads == total


def untouched(pools: Pools, before: Pools) -> None:
    """Nothing but the pages that were named has changed."""
    others = [page for page in range(len(pools.kv[0])) if page not in TARGET]
    for buffer, was in zip(pools.kv, before.kv, strict=True):
        assert np.array_equal(buffer[others], was[others])
    for buffer, was in zip(pools.aux, before.aux, strict=True):
        assert np.array_equal(np.delete(buffer, 6, 0), np.delete(was, 6, 0))


@pytest.mark.parametrize("chunks", [[8], [3, 4, 1], [1] * 8])
def test_pages_metadata_and_the_rest_of_memory(cluster: Make, chunks: list[int]) -> None:
    made = cluster()
    hand_over(made, 17, chunks, prefix=12)
    check_heads(made)
    for here, there in zip(made.prefill_pools[0].aux, made.decode_pools[0].aux, strict=True):
        assert np.array_equal(here[2], there[6])
    untouched(made.decode_pools[0], Pools(made.shape, 0, 1, 200))
    assert made.prefill[0].node.ferry.up


@pytest.mark.parametrize("page_size", [1, 4, 32])
def test_page_sizes(cluster: Make, page_size: int) -> None:
    made = cluster(shape=Shape(page_size=page_size))
    hand_over(made, 1, [5, 3])
    check_heads(made)


def test_state_travels_with_the_last_chunk(cluster: Make) -> None:
    # A row that shares blocks with others, of two tensors, and one that is a block of its own.
    made = cluster(shape=Shape(page_size=32, states=(("swa", (48, 16)), ("mamba", (70_000,)))))
    hand_over(made, 2, [4, 4])
    check_heads(made)
    for here, there in zip(made.prefill_pools[0].states, made.decode_pools[0].states, strict=True):
        for mine, theirs in zip(here, there, strict=True):
            assert np.array_equal(mine[[3, 1, 2]], theirs[[3, 1, 2]])


@pytest.mark.parametrize(
    ("prefill_tp", "decode_tp", "heads"), [(2, 2, 4), (2, 1, 4), (1, 2, 4), (4, 2, 4), (4, 2, 2), (2, 4, 2)]
)
def test_tensor_parallelism(cluster: Make, prefill_tp: int, decode_tp: int, heads: int) -> None:
    made = cluster(shape=Shape(total_heads=heads), prefill_tp=prefill_tp, decode_tp=decode_tp)
    hand_over(made, 3, [2, 6])
    check_heads(made)


@pytest.mark.parametrize(("prefill_tp", "decode_tp"), [(1, 1), (2, 1), (1, 2)])
def test_latent_kv_is_had_from_one_rank(cluster: Make, prefill_tp: int, decode_tp: int) -> None:
    made = cluster(shape=Shape(mla=True), prefill_tp=prefill_tp, decode_tp=decode_tp)
    hand_over(made, 4, [7, 1])
    for pools in made.decode_pools:
        for buffer in range(len(pools.kv)):
            assert np.array_equal(pools.pages(buffer, TARGET), made.prefill_pools[0].pages(buffer, SOURCE))


def test_a_prompt_that_decode_has_all_of_sends_metadata_alone(cluster: Make) -> None:
    made = cluster()
    (sender,), (receiver,) = made.senders(5), made.receivers(5)
    reaches([receiver], KVPoll.WaitingForInput)
    receiver.send_metadata(indices([]), 6, None, decode_prefix_len=64)
    reaches([sender], KVPoll.WaitingForInput)
    sender.init(0, 2)
    assert sender.should_send_kv_chunk(0, True)
    assert not sender.should_send_kv_chunk(0, False)
    sender.send(indices([]), None)
    reaches([sender, receiver], KVPoll.Success)
    assert np.array_equal(made.prefill_pools[0].aux[0][2], made.decode_pools[0].aux[0][6])


def test_many_rooms_at_once_and_a_room_again(cluster: Make) -> None:
    made = cluster()
    for _ in range(2):
        rooms = list(range(10, 22))
        # Decode may come before prefill: its claims wait.
        receivers = [made.receivers(room)[0] for room in rooms]
        reaches(receivers, KVPoll.WaitingForInput)
        for at, receiver in enumerate(receivers):
            receiver.send_metadata(indices([at, 50 + at]), at % 8, None)
        senders = [made.senders(room)[0] for room in rooms]
        reaches(senders, KVPoll.WaitingForInput)
        for at, sender in enumerate(senders):
            sender.init(2, (at + 1) % 8)
            sender.send(indices([2 * at, 2 * at + 1]))
        reaches([*senders, *receivers], KVPoll.Success)
        for at in range(len(rooms)):
            for here, there in zip(made.prefill_pools[0].kv, made.decode_pools[0].kv, strict=True):
                assert np.array_equal(here[[2 * at, 2 * at + 1]], there[[at, 50 + at]])
        metric = senders[0].get_transfer_metric()
        assert metric.transfer_total_bytes == 2 * made.prefill[0].node.cut.page_bytes + sum((64, 40, 8))
