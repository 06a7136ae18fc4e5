"""SGLang's buffers, which it tells by address, as rows: pages of KV, slots of state, slots of metadata."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from kvferry import KvferryError

Bytes = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Window:
    """The KV heads of a page that a copy is about, of pages that lie as (token, head, channel)."""

    tokens: int
    heads: int
    first: int
    count: int


class Region(Protocol):
    row_bytes: int
    row_count: int

    def take(self, rows: Rows) -> Bytes: ...

    def put(self, rows: Rows, values: Bytes, window: Window | None) -> None: ...


class HostRegion:
    def __init__(self, address: int, size: int, row_bytes: int) -> None:
        self.row_bytes = row_bytes
        self.row_count = check_region(address, size, row_bytes)
        memory = (ctypes.c_uint8 * (self.row_count * row_bytes)).from_address(address)
        self._array: Bytes = np.ctypeslib.as_array(memory).reshape(self.row_count, row_bytes)

    def take(self, rows: Rows) -> Bytes:
        taken: Bytes = self._array[rows]
        return taken

    def put(self, rows: Rows, values: Bytes, window: Window | None) -> None:
        if window is None:
            self._array[rows] = values
            return
        shape = (window.tokens, window.heads, -1)
        heads = slice(window.first, window.first + window.count)
        self._array.reshape(self.row_count, *shape)[rows, :, heads] = values.reshape(len(rows), *shape)[:, :, heads]


class CudaRegion:
    """The same in a GPU's memory, by way of torch. Never run on a GPU, for want of one: see README.md."""

    def __init__(self, address: int, size: int, row_bytes: int, device: int) -> None:
        import torch

        self.row_bytes = row_bytes
        self.row_count = check_region(address, size, row_bytes)
        self._torch = torch
        self._device = torch.device("cuda", device)
        # One stream for all copies: they are ordered among themselves, and wait for nothing that the engine computes later.
        self._stream = torch.cuda.Stream(self._device)
        self.__cuda_array_interface__ = {
            "shape": (self.row_count, row_bytes),
            "typestr": "|u1",
            "data": (address, False),
            "version": 3,
        }
        self._tensor = torch.as_tensor(self, device=self._device)

    def take(self, rows: Rows) -> Bytes:
        with self._torch.cuda.stream(self._stream):
            taken: Bytes = self._tensor.index_select(0, self._ids(rows)).cpu().numpy()
        return taken

    def put(self, rows: Rows, values: Bytes, window: Window | None) -> None:
        with self._torch.cuda.stream(self._stream):
            there = self._torch.from_numpy(values).to(self._device)
            if window is None:
                self._tensor.index_copy_(0, self._ids(rows), there)
            else:
                shape = (window.tokens, window.heads, -1)
                heads = slice(window.first, window.first + window.count)
                self._tensor.view(self.row_count, *shape)[self._ids(rows), :, heads] = there.view(len(rows), *shape)[
                    :, :, heads
                ]
            self._stream.synchronize()

    def _ids(self, rows: Rows) -> Any:
        return self._torch.from_numpy(rows).to(self._device)


def check_region(address: int, size: int, row_bytes: int) -> int:
    """How many rows there are. Raises invalid_config."""
    if address <= 0 or row_bytes <= 0 or size < row_bytes:
        raise KvferryError(
            "invalid_config", f"SGLang's buffer of {size} bytes at {address:#x} has no row of {row_bytes}"
        )
    return size // row_bytes


def checked_rows(indices: Any, row_count: int, name: str) -> Rows:
    """Raises invalid_argument: an index outside of the buffer would be another's memory."""
    rows = np.asarray(indices, np.int64).reshape(-1)
    if rows.size and (int(rows.min()) < 0 or int(rows.max()) >= row_count):
        raise KvferryError("invalid_argument", f"Expected rows below {row_count} for {name} but received {rows.max()}")
    return rows
