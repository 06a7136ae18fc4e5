"""vLLM's KV caches as kvferry sees them: which bytes make a block of a layer, where they go in a block of the pool, and what they mean.

vLLM allocates its caches itself, so KV is copied once on each side between the engine's blocks and the pool's. A block of the pool holds
all layers of one group, one behind the other, each as its values lie in the engine; so equal engines exchange long plain runs, and for
all others the strides of the layout say what is what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from kvferry import Component, Group, KvferryError

from .identity import ELEMENTS
from .shape import CacheShape

if TYPE_CHECKING:
    from vllm.v1.kv_cache_interface import KVCacheConfig

#: Blocks of the pool begin at multiples of it.
ALIGNMENT = 64
#: vLLM's CPU kernels that leave K transposed, plainly, which strides can say.
PLAIN = ("", "vec", "vec16")


@dataclass(frozen=True, slots=True)
class Heads:
    """The KV heads of this rank."""

    first: int
    count: int


@dataclass(frozen=True, slots=True)
class CachedLayer:
    name: str
    #: The model's number for it.
    number: int
    #: [blocks, *inner], the inner axes ordered as they lie in memory, so that a block is as few runs as it can be.
    pages: torch.Tensor
    #: Where the layer begins in a block of the pool.
    offset: int

    @property
    def page_bytes(self) -> int:
        return self.pages[0].numel() * self.pages.element_size()


@dataclass(frozen=True, slots=True)
class CachedGroup:
    #: Tokens of one block of the tensors; 0: fixed-size state.
    block_tokens: int
    #: Blocks of the tensors in one block of the scheduler.
    split: int
    layers: tuple[CachedLayer, ...]
    components: tuple[Component, ...]
    #: Keys and values lie in AMX's tiles in the engine, and plainly in the pool.
    tiled: bool = False


@dataclass(frozen=True, slots=True)
class CacheMap:
    groups: tuple[CachedGroup, ...]
    block_bytes: int
    element: str
    #: A name for an arrangement of values that strides cannot say; "" if they can.
    packing: str

    @property
    def layer_numbers(self) -> list[int]:
        """In kvferry's order: a transfer's layers are counted by this."""
        return sorted({layer.number for group in self.groups for layer in group.layers})

    @property
    def shape(self) -> CacheShape:
        groups = tuple(
            Group(
                block_tokens=group.block_tokens,
                layers=tuple(layer.number for layer in group.layers),
                components=group.components,
            )
            for group in self.groups
        )
        return CacheShape(groups, tuple(group.split for group in self.groups), self.block_bytes)


def map_caches(
    caches: Mapping[str, Any], config: KVCacheConfig, heads: Heads, isa: str, unpack: bool = False
) -> CacheMap:
    """`caches`: what vLLM registers, by layer. `isa`: how its CPU kernels arrange a block ("": not a CPU). `unpack`: arrange it plainly in
    the pool. Raises unsupported."""
    if unpack and isa not in (*PLAIN, "amx"):
        raise KvferryError("unsupported", f"how to unpack the KV of vLLM's CPU kernels {isa!r}")
    described = []
    for group in config.kv_cache_groups:
        if getattr(group, "enable_kv_transfer", True):
            described.append(_map_group(group.layer_names, group.kv_cache_spec, caches, config.num_blocks, heads, isa))
    if not described:
        raise KvferryError("unsupported", "the model has no cache group whose KV can be transferred")
    block_bytes = max(group.layers[-1].offset + group.layers[-1].page_bytes for group in described)
    block_bytes = -(-block_bytes // ALIGNMENT) * ALIGNMENT
    placed = tuple(
        CachedGroup(
            group.block_tokens,
            group.split,
            group.layers,
            tuple(_with_block_stride(component, block_bytes) for component in group.components),
            tiled=unpack and isa == "amx" and _has_keys(group),
        )
        for group in described
    )
    elements = sorted({component.element for group in placed for component in group.components})
    return CacheMap(placed, block_bytes, "+".join(elements), packing=_packing(isa, placed))


def attention_cache(caches: Mapping[str, Any], config: KVCacheConfig) -> torch.Tensor | None:
    """Keys and values of one layer; None: the model has latent KV or state only."""
    for group in config.kv_cache_groups:
        for name in group.layer_names if getattr(group, "enable_kv_transfer", True) else ():
            if _kind_of(_spec_of(group.kv_cache_spec, name)) == "attention":
                return _tensor_of(name, caches[name])
    return None


def _map_group(
    names: Sequence[str], spec: Any, caches: Mapping[str, Any], num_blocks: int, heads: Heads, isa: str
) -> CachedGroup:
    layers: list[CachedLayer] = []
    offset = 0
    tokens = split = 0
    first: torch.Tensor | None = None
    for name in names:
        tensor = _tensor_of(name, caches[name])
        if first is not None and (tensor.shape[1:], tensor.stride()) != (first.shape[1:], first.stride()):
            raise KvferryError("unsupported", f"{name} is laid out otherwise than the other layers of its group")
        first = tensor if first is None else first
        order = sorted(range(1, tensor.dim()), key=lambda axis: (-tensor.stride(axis), axis))
        layer = CachedLayer(name, _number_of(name), tensor.permute(0, *order), offset)
        layers.append(layer)
        offset += layer.page_bytes
        split = tensor.shape[0] // num_blocks
        if split < 1 or tensor.shape[0] % num_blocks != 0:
            raise KvferryError(
                "unsupported", f"{name} has {tensor.shape[0]} blocks where the scheduler has {num_blocks}"
            )
    assert first is not None
    kind = _kind_of(_spec_of(spec, names[0]))
    offsets = tuple(layer.offset for layer in layers)
    if kind == "state":
        return CachedGroup(0, split, tuple(layers), (_state(layers[0], offsets),))
    tokens = first.shape[-2]
    if kind == "latent":
        return CachedGroup(tokens, split, tuple(layers), (_latent(first, offsets),))
    return CachedGroup(tokens, split, tuple(layers), _attention(first, offsets, heads, isa))


def _spec_of(spec: Any, name: str) -> Any:
    """Layers of one kind but different sizes have a spec each."""
    each = getattr(spec, "kv_cache_specs", None)
    return spec if each is None else each[name]


def _kind_of(spec: Any) -> str:
    bases = {base.__name__ for base in type(spec).__mro__}
    if "MambaSpec" in bases:
        return "state"
    if "MLAAttentionSpec" in bases or "SlidingWindowMLASpec" in bases:
        return "latent"
    if "AttentionSpec" in bases:
        return "attention"
    raise KvferryError("unsupported", f"KV of kind {type(spec).__name__}")


def _tensor_of(name: str, cache: Any) -> torch.Tensor:
    tensors = [cache] if isinstance(cache, torch.Tensor) else list(cache)
    if len(tensors) != 1:
        raise KvferryError("unsupported", f"{name} lies in {len(tensors)} tensors")
    return tensors[0]


def _element_of(tensor: torch.Tensor) -> str:
    element = ELEMENTS.get(str(tensor.dtype))
    if element is None:
        raise KvferryError("unsupported", f"KV of type {tensor.dtype}")
    return element


def _compact_strides(tensor: torch.Tensor) -> list[int]:
    """Bytes between neighbours along each inner axis once a block is copied without its gaps."""
    order = sorted(range(1, tensor.dim()), key=lambda axis: (-tensor.stride(axis), axis))
    strides = [0] * tensor.dim()
    step = tensor.element_size()
    for axis in reversed(order):
        strides[axis] = step
        step *= tensor.shape[axis]
    return strides


def _attention(tensor: torch.Tensor, offsets: tuple[int, ...], heads: Heads, isa: str) -> tuple[Component, ...]:
    if tensor.dim() != 4:
        raise KvferryError(
            "unsupported", f"attention KV of shape {tuple(tensor.shape)}; [blocks, heads, tokens, content] is known"
        )
    _, head_count, tokens, content = tensor.shape
    if head_count != heads.count or content % 2 != 0:
        raise KvferryError("unsupported", f"attention KV of shape {tuple(tensor.shape)} for {heads.count} heads")
    element, size = _element_of(tensor), tensor.element_size()
    _, head_stride, token_stride, channel_stride = _compact_strides(tensor)
    common: dict[str, Any] = {"element": element, "heads": head_count, "first_head": heads.first, "block_stride": 0}
    if not isa:
        return (
            Component(
                name="kv",
                channels=content,
                offsets=offsets,
                token_stride=token_stride,
                head_stride=head_stride,
                channel_stride=channel_stride,
                **common,
            ),
        )
    # The CPU kernels cut the page of a head in two halves: K as [channels, tokens], then V as [tokens, channels]
    # (vllm/v1/attention/backends/cpu_attn.py; kernels that are not plain arrange both again, see copier.py).
    channels = content // 2
    if (head_stride, token_stride, channel_stride) != (tokens * content * size, content * size, size):
        raise KvferryError("unsupported", "the CPU backend's KV is not in the order [blocks, heads, tokens, content]")
    keys = Component(
        name="k",
        channels=channels,
        offsets=offsets,
        token_stride=size,
        head_stride=head_stride,
        channel_stride=tokens * size,
        **common,
    )
    half = tokens * channels * size
    values = Component(
        name="v",
        channels=channels,
        offsets=tuple(offset + half for offset in offsets),
        token_stride=channels * size,
        head_stride=head_stride,
        channel_stride=size,
        **common,
    )
    return (keys, values)


def _latent(tensor: torch.Tensor, offsets: tuple[int, ...]) -> Component:
    _, *rest, _tokens, content = tensor.shape
    if any(extent != 1 for extent in rest):
        raise KvferryError("unsupported", f"latent KV of shape {tuple(tensor.shape)}")
    strides = _compact_strides(tensor)
    return Component(
        name="latent",
        element=_element_of(tensor),
        heads=1,
        channels=content,
        offsets=offsets,
        block_stride=0,
        token_stride=strides[-2],
        head_stride=0,
        channel_stride=strides[-1],
    )


def _state(layer: CachedLayer, offsets: tuple[int, ...]) -> Component:
    return Component(
        name="state",
        element="u8",
        heads=1,
        channels=layer.page_bytes,
        offsets=offsets,
        block_stride=0,
        token_stride=0,
        head_stride=0,
        channel_stride=1,
    )


def _with_block_stride(component: Component, block_bytes: int) -> Component:
    return Component(
        name=component.name,
        element=component.element,
        heads=component.heads,
        channels=component.channels,
        offsets=component.offsets,
        block_stride=block_bytes,
        token_stride=component.token_stride,
        head_stride=component.head_stride,
        channel_stride=component.channel_stride,
        first_head=component.first_head,
    )


def _packing(isa: str, groups: Sequence[CachedGroup]) -> str:
    """What kernels that are not plain do is exchanged among equals only, whose blocks can go as they lie: the sizes of one are part of the
    name."""
    if isa in PLAIN:
        return ""
    sizes = [
        "x".join(str(extent) for extent in group.layers[0].pages.shape[1:])
        for group in groups
        if _has_keys(group) and not group.tiled
    ]
    return f"cpu-packing={isa}:{'+'.join(sizes)}" if sizes else ""


def _has_keys(group: CachedGroup) -> bool:
    return any(component.name == "k" for component in group.components)


def _number_of(name: str) -> int:
    numbers = [int(part) for part in name.split(".") if part.isdigit()]
    if not numbers:
        raise KvferryError("unsupported", f"no layer number in {name}")
    return numbers[0]
