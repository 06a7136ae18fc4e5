"""SGLang's KV of one rank as a layout of the sidecar's pool: pages of KV in group 0, then metadata and state as rows of bytes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from kvferry import ELEMENT_BYTES, Component, Group, KvferryError, Layout, Part, packed

from .facts import Facts, element_of
from .memory import Bytes, CudaRegion, HostRegion, Region, Rows, Window, checked_rows

#: Pages of a few tokens share a block, so that SGLang's default of one token a page does not make a block of each.
BLOCK_TOKENS = 16
#: A row above this is a block of state of its own; smaller ones share blocks as if they were tokens.
ROW_BYTES_MAX = 65_536
ROWS_PER_BLOCK_MAX = 4_096
#: Rows have layer numbers of their own, above a model's: an offer counts layers by their numbers over all of its groups.
ROW_LAYER_FIRST = 500


@dataclass(frozen=True, slots=True)
class Place:
    """Where one buffer's rows lie in a block: `slots` of them, one behind the other."""

    region: Region
    offset: int
    slot_stride: int
    #: Pages of KV; rows of metadata and state know no heads.
    paged: bool = False


@dataclass(frozen=True, slots=True)
class Kind:
    """One group: what its rows are, and where each of its layers' buffers goes."""

    name: str
    group: Group
    #: Rows of SGLang's to a block, and tokens to a row.
    slots: int
    row_tokens: int
    #: By layer of the group.
    layers: tuple[tuple[Place, ...], ...]
    row_count: int

    def blocks_for(self, rows: int) -> int:
        return -(-rows // self.slots)

    def tokens(self, rows: int) -> int:
        """As GroupBlocks counts: tokens, or blocks of state."""
        return rows * self.row_tokens if self.group.block_tokens else rows

    def checked(self, indices: Any) -> Rows:
        return checked_rows(indices, self.row_count, self.name)


@dataclass(frozen=True, slots=True)
class CacheMap:
    kinds: tuple[Kind, ...]
    block_bytes: int
    element: str
    page_size: int
    heads: tuple[int, int]
    states: tuple[str, ...]
    #: Bytes of a page of KV in all layers.
    page_bytes: int

    def layout(self, data_bytes: int, block_count: int) -> Layout:
        """Raises invalid_config for a pool that cannot hold one block."""
        count = min(block_count, data_bytes // self.block_bytes)
        if count < 1:
            raise KvferryError("invalid_config", f"the pool has no room for a block of {self.block_bytes} bytes")
        return Layout(count, tuple(kind.group for kind in self.kinds))


def cache_map(args: Any, facts: Facts, is_mla: bool) -> CacheMap:
    """Raises invalid_config for pools that this backend does not know."""
    element = element_of(str(args.kv_cache_dtype_str))
    rows = [("metadata", _regions(args.aux_data_ptrs, args.aux_data_lens, args.aux_item_lens, facts, args, host=True))]
    states = tuple(str(getattr(state, "value", state)) for state in args.state_types)
    for at, state in enumerate(states):
        listed = (args.state_data_ptrs[at], args.state_data_lens[at], args.state_item_lens[at])
        rows.append((f"state {state}", _regions(*listed, facts, args, host=False)))
    page_bytes = sum(args.kv_item_lens)
    slots = max(1, BLOCK_TOKENS // args.page_size)
    block_bytes = max([slots * page_bytes, *(sum(region.row_bytes for region in regions) for _, regions in rows)])
    kinds = [_kv_kind(args, facts, is_mla, element, slots, block_bytes)]
    kinds += [_row_kind(name, ROW_LAYER_FIRST + at, regions, block_bytes) for at, (name, regions) in enumerate(rows)]
    return CacheMap(
        kinds=tuple(kinds),
        block_bytes=block_bytes,
        element=element,
        page_size=args.page_size,
        heads=facts.heads,
        states=states,
        page_bytes=page_bytes,
    )


def pool_slots(view: Bytes, cut: CacheMap, place: Place, slots: int, block_count: int) -> Bytes:
    """That buffer's rows in the whole pool: (block, slot, byte)."""
    shape = (block_count, slots, place.region.row_bytes)
    slots_of: Bytes = np.ndarray(shape, np.uint8, view, place.offset, (cut.block_bytes, place.slot_stride, 1))
    return slots_of


def _kv_kind(args: Any, facts: Facts, is_mla: bool, element: str, slots: int, block_bytes: int) -> Kind:
    if getattr(args, "num_draft_entries", 0):
        raise KvferryError("invalid_config", "kvferry's SGLang backend does not move a draft model's KV")
    regions = _regions(args.kv_data_ptrs, args.kv_data_lens, args.kv_item_lens, facts, args, host=False)
    if not regions or (not is_mla and len(regions) % 2):
        raise KvferryError(
            "invalid_config", f"Expected K and V of each layer but received {len(regions)} buffers of KV"
        )
    count = len(regions) if is_mla else len(regions) // 2
    by_layer = [[regions[layer]] if is_mla else [regions[layer], regions[count + layer]] for layer in range(count)]
    first_head, heads = facts.heads
    names: Sequence[Literal["k", "v", "latent"]] = ["latent"] if is_mla else ["k", "v"]
    parts: list[Part] = []
    for name, region in zip(names, by_layer[0], strict=True):
        row, rest = divmod(region.row_bytes, args.page_size * heads * ELEMENT_BYTES[element])
        if rest or any(layer[len(parts)].row_bytes != region.row_bytes for layer in by_layer):
            raise KvferryError(
                "invalid_config", f"{name}: {region.row_bytes} bytes are no {args.page_size} x {heads} heads"
            )
        parts.append(Part(name, element, heads, row, first_head))  # type: ignore[arg-type]
    group = packed(block_bytes, slots * args.page_size, _layer_numbers(args, count), parts)
    layers = tuple(
        tuple(
            Place(region, component.offsets[at], region.row_bytes, paged=True)
            for component, region in zip(group.components, layer, strict=True)
        )
        for at, layer in enumerate(by_layer)
    )
    return Kind("KV", group, slots, args.page_size, layers, min(region.row_count for region in regions))


def _row_kind(name: str, layer: int, regions: Sequence[Region], block_bytes: int) -> Kind:
    """Buffers whose rows with the same index belong together are one row, and one layer."""
    if not regions:
        raise KvferryError("invalid_config", f"SGLang has no buffers of {name}")
    row = sum(region.row_bytes for region in regions)
    shared = row <= ROW_BYTES_MAX
    slots = min(block_bytes // row, ROWS_PER_BLOCK_MAX) if shared else 1
    component = Component(
        name="latent" if shared else "state",
        element="u8",
        heads=1,
        channels=row,
        offsets=(0,),
        block_stride=block_bytes,
        token_stride=row if shared else 0,
        head_stride=0,
        channel_stride=1,
    )
    places, offset = [], 0
    for region in regions:
        places.append(Place(region, offset, row))
        offset += region.row_bytes
    group = Group(slots if shared else 0, (layer,), (component,))
    return Kind(name, group, slots, 1, (tuple(places),), min(region.row_count for region in regions))


def _layer_numbers(args: Any, count: int) -> list[int]:
    """SGLang tells the model's layer numbers only of hybrid models; K's come first there as well."""
    told = list(getattr(args, "kv_layer_ids", None) or [])[:count]
    rising = all(before < after for before, after in itertools.pairwise(told))
    numbers = told if len(told) == count and rising else list(range(count))
    if numbers[-1] >= ROW_LAYER_FIRST:
        raise KvferryError("invalid_config", f"a model of more than {ROW_LAYER_FIRST} layers")
    return numbers


def _regions(
    addresses: Sequence[int], sizes: Sequence[int], row_bytes: Sequence[int], facts: Facts, args: Any, host: bool
) -> list[Region]:
    listed = zip(addresses, sizes, row_bytes, strict=True)
    if host or facts.device == "cpu":
        return [HostRegion(*region) for region in listed]
    return [CudaRegion(*region, args.gpu_id) for region in listed]


def window_of(cut: CacheMap, heads: tuple[int, int]) -> Window | None:
    """None: all heads of this rank, so whole pages."""
    if heads == cut.heads:
        return None
    return Window(cut.page_size, cut.heads[1], heads[0] - cut.heads[0], heads[1])
