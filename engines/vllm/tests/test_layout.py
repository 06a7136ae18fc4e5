"""Method: values are written into caches as vLLM's backends would (its own CPU kernel where there is one), copied into a pool, and read
there by the strides of the described layout alone. What comes out must be what went in, at each (block, head, token, channel)."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from vllm.v1.kv_cache_interface import FullAttentionSpec, MambaSpec, MLAAttentionSpec, SlidingWindowSpec

from fakes import FakePool, config, names, read
from kvferry import KvferryError
from kvferry_vllm.copier import Copier, kernel_blocks
from kvferry_vllm.layout import CacheMap, Heads, attention_cache, map_caches

BLOCKS, HEADS, TOKENS, CHANNELS, LAYERS = 6, 3, 32, 64, 3
DTYPE = torch.bfloat16
ALL = Heads(0, HEADS)


def attention(
    tokens: int = TOKENS, heads: int = HEADS, channels: int = CHANNELS, dtype: torch.dtype = DTYPE
) -> FullAttentionSpec:
    return FullAttentionSpec(block_size=tokens, num_kv_heads=heads, head_size=channels, dtype=dtype)


def random_like(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape) + sum(shape))).to(DTYPE)


def saved(caches: CacheMap, blocks: list[int], group: int = 0) -> FakePool:
    """A pool with these blocks of every layer of a group, in its blocks 0, 1, ..."""
    count = len(kernel_blocks(caches.groups[group], blocks))
    pool = FakePool((count + 1) * caches.block_bytes)
    copier = Copier(caches)
    for layer in range(len(caches.groups[group].layers)):
        copier.save(pool, group, layer, np.arange(count, dtype=np.uint32), blocks)  # type: ignore[arg-type]
    return pool


def cpu_caches(isa: str) -> tuple[dict[str, torch.Tensor], list[torch.Tensor], list[torch.Tensor], list[int]]:
    """Caches that vLLM's CPU kernel has written, keys and values [tokens, heads, channels] by layer, and the blocks written, in order."""
    from vllm import _custom_ops as ops

    order = [4, 1, 5]
    keys = [random_like(len(order) * TOKENS, HEADS, CHANNELS) + layer for layer in range(LAYERS)]
    values = [key * 2 - 1 for key in keys]
    slots = torch.cat([torch.arange(block * TOKENS, (block + 1) * TOKENS) for block in order])
    caches = {}
    for name, key, value in zip(names(LAYERS), keys, values, strict=True):
        cache = torch.zeros(BLOCKS, HEADS, TOKENS, 2 * CHANNELS, dtype=DTYPE)
        # As vllm/v1/attention/backends/cpu_attn.py cuts it.
        halves = cache.view(BLOCKS, HEADS, TOKENS * 2, -1).chunk(2, dim=2)
        ops.cpu_attn_reshape_and_cache(key, value, halves[0], halves[1], slots, isa)
        caches[name] = cache
    return caches, keys, values, order


@pytest.mark.parametrize("isa", ["vec", "vec16", "amx"])
def test_the_cpu_kernels_blocks_are_read_by_strides(isa: str) -> None:
    # Writing for AMX needs none; computing with it would.
    caches, keys, values, order = cpu_caches(isa)
    mapped = map_caches(caches, config(BLOCKS, (names(LAYERS), attention())), ALL, isa, unpack=isa == "amx")
    assert mapped.packing == "" and mapped.element == "bf16"
    pool = saved(mapped, order)
    k, v = mapped.groups[0].components
    assert (k.name, v.name, k.heads, k.channels) == ("k", "v", HEADS, CHANNELS)
    for layer, place in itertools.product(range(LAYERS), range(len(order))):
        tokens = slice(place * TOKENS, (place + 1) * TOKENS)
        assert torch.equal(read(pool, k, layer, place, TOKENS, DTYPE), keys[layer][tokens])
        assert torch.equal(read(pool, v, layer, place, TOKENS, DTYPE), values[layer][tokens])


def test_a_packing_that_strides_cannot_say_has_another_name() -> None:
    from vllm.v1.attention.backends.cpu_attn import _get_attn_isa

    isa = _get_attn_isa(DTYPE, TOKENS, CHANNELS, "auto")
    caches, keys, _, order = cpu_caches(isa)
    mapped = map_caches(caches, config(BLOCKS, (names(LAYERS), attention())), ALL, isa)
    pool = saved(mapped, order)
    plain = torch.equal(read(pool, mapped.groups[0].components[0], 0, 0, TOKENS, DTYPE), keys[0][:TOKENS])
    # Exactly where the strides tell the truth may engines with other kernels use the KV.
    assert plain == (mapped.packing == "")


def test_what_was_unpacked_is_packed_as_the_kernel_packs_it() -> None:
    plain, _, _, order = cpu_caches("vec")
    packed, _, _, _ = cpu_caches("amx")
    described = config(BLOCKS, (names(LAYERS), attention()))
    pool = saved(map_caches(plain, described, ALL, "vec"), order)
    loaded = {name: torch.zeros_like(cache) for name, cache in packed.items()}
    mapped = map_caches(loaded, described, ALL, "amx", unpack=True)
    copier = Copier(mapped)
    for layer in range(LAYERS):
        copier.load(pool, 0, layer, np.arange(len(order), dtype=np.uint32), order)  # type: ignore[arg-type]
    assert all(torch.equal(loaded[name], cache) for name, cache in packed.items())


def test_a_packing_that_nobody_can_unpack_is_refused() -> None:
    caches, _, _, _ = cpu_caches("vec")
    with pytest.raises(KvferryError) as raised:
        map_caches(caches, config(BLOCKS, (names(LAYERS), attention())), ALL, "neon", unpack=True)
    assert raised.value.code == "unsupported"


def test_such_a_packing_names_the_sizes_of_a_block_because_blocks_of_others_cannot_be_unpacked() -> None:
    def packing(tokens: int, heads: int) -> str:
        tensors = {name: torch.zeros(BLOCKS, heads, tokens, 2 * CHANNELS, dtype=DTYPE) for name in names(1)}
        described = config(BLOCKS, (names(1), attention(tokens, heads)))
        return map_caches(tensors, described, Heads(0, heads), "amx").packing

    assert packing(32, 3) == "cpu-packing=amx:3x32x128"
    assert len({packing(32, 3), packing(64, 3), packing(32, 1)}) == 3


def test_only_keys_and_values_are_packed() -> None:
    latent = MLAAttentionSpec(block_size=TOKENS, num_kv_heads=1, head_size=72, dtype=DTYPE)
    state = MambaSpec(block_size=TOKENS, shapes=((40,),), dtypes=(torch.float32,))
    tensors = {
        names(1)[0]: torch.zeros(BLOCKS, 1, TOKENS, 72, dtype=DTYPE),
        names(1, 1)[0]: torch.zeros(BLOCKS, 40),
        names(1, 2)[0]: torch.zeros(BLOCKS, HEADS, TOKENS, 2 * CHANNELS, dtype=DTYPE),
    }
    without = config(BLOCKS, (names(1), latent), (names(1, 1), state))
    assert attention_cache(tensors, without) is None
    assert map_caches(tensors, without, ALL, "amx").packing == ""
    beside = config(BLOCKS, (names(1), latent), (names(1, 1), state), (names(1, 2), attention()))
    assert attention_cache(tensors, beside) is tensors[names(1, 2)[0]], "whatever comes before it"


@pytest.mark.parametrize("isa", ["vec", "amx"])
def test_blocks_come_back_as_they_were_elsewhere_in_the_cache(isa: str) -> None:
    caches, _, _, order = cpu_caches("vec")
    before = {name: cache.clone() for name, cache in caches.items()}
    mapped = map_caches(caches, config(BLOCKS, (names(LAYERS), attention())), ALL, isa)
    pool = saved(mapped, order)
    copier, into = Copier(mapped), [0, 2, 3]
    for layer in range(LAYERS):
        copier.load(pool, 0, layer, np.arange(3, dtype=np.uint32), into)  # type: ignore[arg-type]
    for name, cache in caches.items():
        assert torch.equal(cache[into], before[name][order])
        assert torch.equal(cache[order], before[name][order]), "the blocks beside are as they were"


#: How [blocks, heads, tokens, content] may lie in memory: by the axes in the order in which they lie.
ORDERS = {"HND": (0, 1, 2, 3), "NHD": (0, 2, 1, 3), "heads first": (1, 0, 2, 3), "tokens and heads first": (2, 1, 0, 3)}


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS.keys())
def test_any_order_in_memory_is_read_by_strides(order: tuple[int, ...]) -> None:
    shape = (BLOCKS, HEADS, TOKENS, 2 * CHANNELS)
    tensors = {}
    for index, name in enumerate(names(LAYERS)):
        memory = torch.empty([shape[axis] for axis in order], dtype=DTYPE)
        tensor = memory.permute(*[order.index(axis) for axis in range(4)])
        assert tensor.shape == shape
        tensor.copy_(random_like(*shape) + index)
        tensors[name] = tensor
    mapped = map_caches(tensors, config(BLOCKS, (names(LAYERS), attention())), Heads(5, HEADS), "")
    (component,) = mapped.groups[0].components
    assert (component.name, component.first_head) == ("kv", 5)
    blocks = [3, 0, 5]
    pool = saved(mapped, blocks)
    for layer, (place, block) in itertools.product(range(LAYERS), enumerate(blocks)):
        expected = tensors[names(LAYERS)[layer]][block].transpose(0, 1)
        assert torch.equal(read(pool, component, layer, place, TOKENS, DTYPE), expected)


def test_blocks_between_others_in_memory_leave_these_alone() -> None:
    """All layers in one tensor, block by block: a layer's blocks do not lie side by side."""
    memory = random_like(BLOCKS, LAYERS, HEADS, TOKENS, 2 * CHANNELS)
    before = memory.clone()
    tensors = {name: memory[:, layer] for layer, name in enumerate(names(LAYERS))}
    mapped = map_caches(tensors, config(BLOCKS, (names(LAYERS), attention())), ALL, "")
    pool = saved(mapped, [2])
    (component,) = mapped.groups[0].components
    for layer in range(LAYERS):
        assert torch.equal(read(pool, component, layer, 0, TOKENS, DTYPE), before[2, layer].transpose(0, 1))
    Copier(mapped).load(pool, 0, 1, np.array([0], np.uint32), [4])  # type: ignore[arg-type]
    assert torch.equal(memory[4, 1], before[2, 1])
    memory[4, 1] = before[4, 1]
    assert torch.equal(memory, before)


def test_a_schedulers_block_may_be_several_of_the_kernels() -> None:
    tensors = {name: random_like(2 * BLOCKS, HEADS, TOKENS // 2, 2 * CHANNELS) for name in names(1)}
    mapped = map_caches(tensors, config(BLOCKS, (names(1), attention())), ALL, "")
    group = mapped.groups[0]
    assert (group.split, group.block_tokens, mapped.shape.block_tokens) == (2, TOKENS // 2, (TOKENS,))
    assert kernel_blocks(group, [3, 1]) == [6, 7, 2, 3]
    pool = saved(mapped, [3, 1])
    for place, block in enumerate([6, 7, 2, 3]):
        expected = tensors[names(1)[0]][block].transpose(0, 1)
        assert torch.equal(read(pool, group.components[0], 0, place, TOKENS // 2, DTYPE), expected)


def test_latent_kv_has_one_head() -> None:
    spec = MLAAttentionSpec(block_size=TOKENS, num_kv_heads=1, head_size=72, dtype=DTYPE)
    tensors = {name: random_like(BLOCKS, 1, TOKENS, 72) + index for index, name in enumerate(names(2))}
    mapped = map_caches(tensors, config(BLOCKS, (names(2), spec)), Heads(0, 1), "")
    (component,) = mapped.groups[0].components
    assert (component.name, component.heads, component.channels) == ("latent", 1, 72)
    pool = saved(mapped, [5, 1])
    for layer, (place, block) in itertools.product(range(2), enumerate([5, 1])):
        assert torch.equal(
            read(pool, component, layer, place, TOKENS, DTYPE), tensors[names(2)[layer]][block].transpose(0, 1)
        )


def test_groups_of_several_kinds_share_blocks_of_the_pool() -> None:
    window = SlidingWindowSpec(
        block_size=TOKENS, num_kv_heads=HEADS, head_size=CHANNELS, dtype=DTYPE, sliding_window=64
    )
    state = MambaSpec(block_size=TOKENS, shapes=((40,),), dtypes=(torch.float32,))
    full, windowed, recurrent = names(2), names(1, 2), names(1, 3)
    tensors = {name: random_like(BLOCKS, HEADS, TOKENS, 2 * CHANNELS) for name in [*full, *windowed]}
    tensors[recurrent[0]] = torch.arange(BLOCKS * 40, dtype=torch.float32).reshape(BLOCKS, 40)
    mapped = map_caches(tensors, config(BLOCKS, (full, attention()), (windowed, window), (recurrent, state)), ALL, "")
    assert mapped.shape.block_tokens == (TOKENS, TOKENS, 0)
    assert mapped.layer_numbers == [0, 1, 2, 3]
    assert all(
        component.block_stride == mapped.block_bytes for group in mapped.groups for component in group.components
    )
    assert mapped.block_bytes >= 2 * HEADS * TOKENS * 2 * CHANNELS * 2
    pool = saved(mapped, [2, 4], group=2)
    (component,) = mapped.groups[2].components
    assert component.name == "state"
    for place, block in enumerate([2, 4]):
        raw = read(pool, component, 0, place, 1, torch.uint8).reshape(-1)
        assert torch.equal(raw.view(torch.float32), tensors[recurrent[0]][block])


@pytest.mark.parametrize("tensor, spec", [
    (torch.zeros(BLOCKS + 1, HEADS, TOKENS, 2 * CHANNELS, dtype=DTYPE), attention()),
    (torch.zeros(BLOCKS, HEADS + 1, TOKENS, 2 * CHANNELS, dtype=DTYPE), attention()),
    (torch.zeros(BLOCKS, TOKENS, 2 * CHANNELS, dtype=DTYPE), attention()),
    (torch.zeros(BLOCKS, HEADS, TOKENS, 2 * CHANNELS, dtype=torch.float64), attention()),
    ([torch.zeros(BLOCKS, HEADS, TOKENS, CHANNELS, dtype=DTYPE)] * 2, attention()),
    (torch.zeros(BLOCKS, HEADS, TOKENS, 2 * CHANNELS, dtype=DTYPE), object()),
], ids=["blocks", "heads", "axes", "element", "tensors", "kind"])  # fmt: skip
def test_what_is_not_known_is_refused(tensor: object, spec: object) -> None:
    with pytest.raises(KvferryError) as raised:
        map_caches({names(1)[0]: tensor}, config(BLOCKS, (names(1), spec)), ALL, "")
    assert raised.value.code == "unsupported"


def test_a_pool_smaller_than_a_block_is_refused_with_what_to_do() -> None:
    tensors = {name: torch.zeros(BLOCKS, HEADS, TOKENS, 2 * CHANNELS, dtype=DTYPE) for name in names(1)}
    shape = map_caches(tensors, config(BLOCKS, (names(1), attention())), ALL, "").shape
    assert shape.layout(10 * shape.block_bytes, 100).block_count == 10
    with pytest.raises(KvferryError, match="--pool-bytes") as raised:
        shape.layout(shape.block_bytes - 1, 100)
    assert raised.value.code == "invalid_config"
