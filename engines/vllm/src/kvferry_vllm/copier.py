"""Copies between the engine's blocks and the pool's, a layer at a time."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from kvferry import Pool

from .layout import CachedGroup, CachedLayer, CacheMap

MADV_POPULATE_WRITE = 23

#: AMX's tiles: rows of 16 places, each with two neighbours of the axis that a product sums over.
TILE_PLACES = 16
TILE_PAIR = 2

_libc = ctypes.CDLL(None)


@dataclass(frozen=True, slots=True)
class _Part:
    """What one strided copy moves of a layer's block."""

    #: [blocks, ...]
    engine: npt.NDArray[Any]
    #: Of the same axes in a block of the pool, without the first.
    offset: int
    strides: tuple[int, ...]


class Copier:
    """For caches in host memory. The engine's threads and the client's may copy at once, in different blocks."""

    def __init__(self, caches: CacheMap) -> None:
        self._caches = caches
        for cached in caches.groups:
            for layer in cached.layers:
                _populate(layer.pages)
        self._parts = {
            (group, layer): _tiles(cached) if map_.tiled else [_plain(cached)]
            for group, map_ in enumerate(caches.groups)
            for layer, cached in enumerate(map_.layers)
        }

    def save(self, pool: Pool, group: int, layer: int, places: npt.NDArray[np.uint32], blocks: Sequence[int]) -> int:
        """Engine to pool: `places` are the pool's ids for the scheduler's `blocks`, `split` of them for each. Returns bytes."""
        return self._copy(pool, group, layer, places, blocks, to_pool=True)

    def load(self, pool: Pool, group: int, layer: int, places: npt.NDArray[np.uint32], blocks: Sequence[int]) -> int:
        return self._copy(pool, group, layer, places, blocks, to_pool=False)

    def finish(self) -> None:
        """When it returns, all copies are done."""

    def _copy(
        self, pool: Pool, group: int, layer: int, places: npt.NDArray[np.uint32], blocks: Sequence[int], to_pool: bool
    ) -> int:
        cached = self._caches.groups[group]
        parts = self._parts[group, layer]
        view, stride = pool.view, self._caches.block_bytes
        for place, block in zip(places, kernel_blocks(cached, blocks), strict=True):
            for part in parts:
                ours = part.engine[block]
                at = int(place) * stride + part.offset
                theirs: npt.NDArray[Any] = np.ndarray(ours.shape, ours.dtype, view, at, part.strides)
                if to_pool:
                    theirs[...] = ours
                else:
                    ours[...] = theirs
        return cached.layers[layer].page_bytes * len(places)


class DeviceCopier:
    """For caches on a GPU: gathered there, copied on a stream of its own to and from the pinned pool. Untested on hardware."""

    def __init__(self, caches: CacheMap, device: torch.device) -> None:
        self._caches = caches
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._pinned: Pool | None = None

    def save(self, pool: Pool, group: int, layer: int, places: npt.NDArray[np.uint32], blocks: Sequence[int]) -> int:
        cached = self._caches.groups[group].layers[layer]
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            rows = cached.pages.index_select(0, self._ids(group, blocks)).contiguous()
            for row, place in zip(rows, places, strict=True):
                self._place(pool, cached, place).copy_(row.view(torch.uint8).reshape(-1), non_blocking=True)
            rows.record_stream(self._stream)
        return cached.page_bytes * len(places)

    def load(self, pool: Pool, group: int, layer: int, places: npt.NDArray[np.uint32], blocks: Sequence[int]) -> int:
        cached = self._caches.groups[group].layers[layer]
        with torch.cuda.stream(self._stream):
            rows = torch.empty((len(places), *cached.pages.shape[1:]), dtype=cached.pages.dtype, device=self._device)
            for row, place in zip(rows, places, strict=True):
                row.view(torch.uint8).reshape(-1).copy_(self._place(pool, cached, place), non_blocking=True)
            cached.pages.index_copy_(0, self._ids(group, blocks), rows)
            rows.record_stream(self._stream)
        return cached.page_bytes * len(places)

    def finish(self) -> None:
        self._stream.synchronize()

    def _ids(self, group: int, blocks: Sequence[int]) -> torch.Tensor:
        return torch.tensor(kernel_blocks(self._caches.groups[group], blocks), dtype=torch.long, device=self._device)

    def _place(self, pool: Pool, cached: CachedLayer, place: Any) -> torch.Tensor:
        if self._pinned is not pool:
            _pin(pool)
            self._pinned = pool
        at = int(place) * self._caches.block_bytes + cached.offset
        return torch.from_numpy(pool.view[at : at + cached.page_bytes])


def make_copier(caches: CacheMap) -> Copier | DeviceCopier:
    device = caches.groups[0].layers[0].pages.device
    return Copier(caches) if device.type == "cpu" else DeviceCopier(caches, device)


def kernel_blocks(group: CachedGroup, blocks: Sequence[int]) -> list[int]:
    """The tensors' blocks for the scheduler's, which may be larger."""
    if group.split == 1:
        return list(blocks)
    return [block * group.split + part for block in blocks for part in range(group.split)]


def _plain(layer: CachedLayer) -> _Part:
    """As bytes. Axes that lie without gaps are one, so that a copy is as few runs as it can be."""
    pages = layer.pages
    size = pages.element_size()
    shape, strides = [size], [1]
    for extent, stride in zip(reversed(pages.shape[1:]), reversed(pages.stride()[1:]), strict=True):
        if stride * size == shape[0] * strides[0]:
            shape[0] *= extent
        else:
            shape.insert(0, extent)
            strides.insert(0, stride * size)
    engine = np.ndarray(
        (pages.shape[0], *shape), np.uint8, buffer=_memory(pages), strides=(pages.stride(0) * size, *strides)
    )
    return _Part(engine, layer.offset, np.empty(shape, np.uint8).strides)


def _tiles(layer: CachedLayer) -> list[_Part]:
    """K and V of vLLM's kernels for AMX, [heads, tokens, content] of 16-bit values. K lies as [tokens/16, channels/2, 16, 2] and becomes
    [channels, tokens]; V lies as [channels/16, tokens/2, 16, 2] and becomes [tokens, channels]. Source: what the kernel
    cpu_attn_reshape_and_cache writes, with which a test compares it."""
    pages = layer.pages
    blocks, heads, tokens, content = pages.shape
    channels, size = content // 2, pages.element_size()
    row = TILE_PLACES * TILE_PAIR * size
    parts = []
    for half, (places, pairs) in enumerate(((tokens, channels), (channels, tokens))):
        tiles, pairs = places // TILE_PLACES, pairs // TILE_PAIR
        start = half * tokens * channels * size
        engine: npt.NDArray[Any] = np.ndarray(
            (blocks, heads, pairs, TILE_PAIR, tiles, TILE_PLACES),
            np.uint16,
            buffer=_memory(pages),
            offset=start,
            strides=(pages.stride(0) * size, pages.stride(1) * size, row, size, pairs * row, TILE_PAIR * size),
        )
        line = places * size
        strides = (tokens * content * size, TILE_PAIR * line, line, TILE_PLACES * size, size)
        parts.append(_Part(engine, layer.offset + start, strides))
    return parts


def _memory(pages: torch.Tensor) -> Any:
    return np.ctypeslib.as_array((ctypes.c_uint8 * _extent_bytes(pages)).from_address(pages.data_ptr()))


def _populate(pages: torch.Tensor) -> None:
    """Has the kernel back the memory now, which vLLM has only reserved: the first load would wait for it, page by page. Kernels before
    5.14 cannot, and then it does wait."""
    page = mmap.PAGESIZE
    start = -(-pages.data_ptr() // page) * page
    size = (pages.data_ptr() + _extent_bytes(pages) - start) // page * page
    if size > 0:
        _libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(size), MADV_POPULATE_WRITE)


def _extent_bytes(tensor: torch.Tensor) -> int:
    last = sum((extent - 1) * stride for extent, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return (last + 1) * tensor.element_size()


def _pin(pool: Pool) -> None:
    """Page-locks the pool, without which copies to it are neither fast nor asynchronous."""
    memory = torch.from_numpy(pool.view)
    code = torch.cuda.cudart().cudaHostRegister(memory.data_ptr(), memory.numel(), 0)
    if int(code) != 0:
        raise RuntimeError(
            f"cudaHostRegister of {memory.numel()} bytes: error {int(code)} (is `ulimit -l` large enough?)"
        )
