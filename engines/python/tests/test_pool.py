"""Arrays over a pool: each value of a layout lies where the formula of schemas/api.md says, and what leaves the pool is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kvferry import Component, Group, KvferryError, Layout, Part, Pool, PoolInfo, packed

BLOCKS, BLOCK_BYTES, OFFSET = 5, 4096, 4096


@pytest.fixture
def pool(tmp_path: Path) -> Pool:
    path = tmp_path / "pool"
    data = np.random.default_rng(1).integers(0, 256, OFFSET + BLOCKS * BLOCK_BYTES, np.uint8)
    path.write_bytes(data.tobytes())
    return Pool(PoolInfo(str(path), data.size, OFFSET, BLOCK_BYTES, BLOCKS, "0" * 32))


@pytest.mark.parametrize("order", ["NHD", "HND"])
@pytest.mark.parametrize("element", ["bf16", "f32", "u8"])
def test_every_value_lies_where_the_layout_says(pool: Pool, order: str, element: str) -> None:
    parts = [Part("k", element, 2, 4), Part("v", element, 2, 4)]  # type: ignore[arg-type]
    group = packed(BLOCK_BYTES, 16, [0, 1, 2], parts, order)  # type: ignore[arg-type]
    layout = Layout(BLOCKS, (group,))
    for index, component in enumerate(group.components):
        array = pool.array(layout, 0, index)
        assert array.shape == (BLOCKS, 3, 2, 16, 4)
        for block, layer, head, token, channel in [(0, 0, 0, 0, 0), (4, 2, 1, 15, 3), (3, 1, 0, 7, 2)]:
            at = component.offsets[layer] + block * component.block_stride + token * component.token_stride
            at += head * component.head_stride + channel * component.channel_stride
            value = pool.view[at : at + array.itemsize].tobytes()
            assert array[block, layer, head, token, channel].tobytes() == value
            assert pool.array(layout, 0, index, layer)[block, head, token, channel].tobytes() == value


def test_packed_parts_do_not_overlap(pool: Pool) -> None:
    group = packed(BLOCK_BYTES, 16, [4, 5], [Part("k", "f16", 2, 8), Part("v", "f16", 2, 16)])
    layout = Layout(BLOCKS, (group,))
    pool.view[:] = 0
    for index in range(2):
        array = pool.array(layout, 0, index).view(np.uint16)
        assert not array.any()
        array[:] = index + 1
    used = 2 * 16 * 2 * (8 + 16) * 2
    assert all(np.count_nonzero(pool.block(block)) == used // 2 for block in range(BLOCKS))


def test_arrays_are_the_memory_itself(pool: Pool) -> None:
    layout = Layout(BLOCKS, (packed(BLOCK_BYTES, 16, [0], [Part("latent", "u8", 1, 32)]),))
    pool.array(layout, 0, 0, 0)[2, 0, 3] = 7
    assert (pool.block(2)[3 * 32 : 4 * 32] == 7).all()
    assert Path(pool.info.path).read_bytes()[OFFSET + 2 * BLOCK_BYTES + 3 * 32] == 7


def test_state_has_one_token(pool: Pool) -> None:
    layout = Layout(BLOCKS, (packed(BLOCK_BYTES, 0, [0, 1], [Part("state", "f32", 1, 100)]),))
    assert pool.array(layout, 0, 0).shape == (BLOCKS, 2, 1, 1, 100)


def test_transposed_insides(pool: Pool) -> None:
    component = Component("k", "f32", 1, 8, (0,), BLOCK_BYTES, 4, 0, 64)
    array = pool.array(Layout(BLOCKS, (Group(16, (0,), (component,)),)), 0, 0, 0)
    assert array[1, 0, 3, 5].tobytes() == pool.block(1)[5 * 64 + 3 * 4 :][:4].tobytes()


def test_layers_that_are_not_evenly_spaced_come_one_by_one(pool: Pool) -> None:
    component = Component("k", "u8", 1, 8, (0, 128, 512), BLOCK_BYTES, 8, 8, 1)
    layout = Layout(BLOCKS, (Group(16, (0, 1, 2), (component,)),))
    assert pool.array(layout, 0, 0, 2)[0, 0, 0, 0] == pool.block(0)[512]
    with pytest.raises(KvferryError, match="evenly spaced"):
        pool.array(layout, 0, 0)


def test_a_layout_that_leaves_the_pool_is_refused(pool: Pool) -> None:
    component = Component("k", "u8", 1, 8, (BLOCK_BYTES,), BLOCK_BYTES, 8, 8, 1)
    with pytest.raises(KvferryError, match="leaves the pool"):
        pool.array(Layout(BLOCKS, (Group(512, (0,), (component,)),)), 0, 0, 0)
    with pytest.raises(KvferryError, match="at least"):
        packed(BLOCK_BYTES, 512, [0], [Part("k", "u8", 2, 8)])
    with pytest.raises(KvferryError, match="from 0 to 4"):
        pool.block(5)


def test_a_pool_that_cannot_be_mapped_is_an_error(pool: Pool, tmp_path: Path) -> None:
    for wrong in (replace(pool.info, bytes=10**9), replace(pool.info, path=str(tmp_path / "absent"))):
        with pytest.raises(KvferryError) as caught:
            Pool(wrong)
        assert caught.value.code == "memory_unavailable"
    with pytest.raises(KvferryError, match="leave its file"):
        Pool(replace(pool.info, block_count=6))
    with pytest.raises(KvferryError) as caught:
        _ = Pool(replace(pool.info, path="")).view
    assert caught.value.code == "attach_unavailable"
