"""Copies between the engine's blocks and the pool's, a layer at a time."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from kvferry import Pool

from .layout import CachedGroup, CachedLayer, CacheMap

MADV_POPULATE_WRITE = 23

_libc = ctypes.CDLL(None)


class Copier:
    """For caches in host memory. The engine's threads and the client's may copy at once, in different blocks."""

    def __init__(self, caches: CacheMap) -> None:
        self._caches = caches
        for cached in caches.groups:
            for layer in cached.layers:
                _populate(layer.pages)
        self._engine = {
            (group, layer): _rows(cached)
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
        engine = self._engine[group, layer]
        size = cached.layers[layer].page_bytes
        stride, start = self._caches.block_bytes, cached.layers[layer].offset
        view = pool.view
        for place, block in zip(places, kernel_blocks(cached, blocks), strict=True):
            at = int(place) * stride + start
            if to_pool:
                view[at : at + size].reshape(engine.shape[1:])[:] = engine[block]
            else:
                engine[block] = view[at : at + size].reshape(engine.shape[1:])
        return size * len(places)


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


def _rows(layer: CachedLayer) -> npt.NDArray[Any]:
    """The layer's blocks as bytes: axes that lie without gaps are one, so that a copy is as few runs as it can be."""
    pages = layer.pages
    size = pages.element_size()
    shape, strides = [size], [1]
    for extent, stride in zip(reversed(pages.shape[1:]), reversed(pages.stride()[1:]), strict=True):
        if stride * size == shape[0] * strides[0]:
            shape[0] *= extent
        else:
            shape.insert(0, extent)
            strides.insert(0, stride * size)
    memory = np.ctypeslib.as_array(
        _bytes_at(pages.data_ptr(), _extent_bytes(pages)),
    )
    return np.ndarray((pages.shape[0], *shape), np.uint8, buffer=memory, strides=(pages.stride(0) * size, *strides))


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


def _bytes_at(address: int, size: int) -> Any:
    return (ctypes.c_uint8 * size).from_address(address)


def _pin(pool: Pool) -> None:
    """Page-locks the pool, without which copies to it are neither fast nor asynchronous."""
    memory = torch.from_numpy(pool.view)
    code = torch.cuda.cudart().cudaHostRegister(memory.data_ptr(), memory.numel(), 0)
    if int(code) != 0:
        raise RuntimeError(
            f"cudaHostRegister of {memory.numel()} bytes: error {int(code)} (is `ulimit -l` large enough?)"
        )
