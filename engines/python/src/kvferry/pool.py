"""The pool's memory, mapped into this process, and the arrays that a layout makes of it."""

from __future__ import annotations

import mmap
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from . import wire
from .arguments import integer
from .errors import KvferryError, expected
from .layout import Component, Layout

Bytes = npt.NDArray[np.uint8]

#: bf16 has no type in NumPy: it is there as the 16 bits that it is. The two kinds of f8 are bytes likewise.
DTYPES: dict[str, npt.DTypeLike] = {
    "bf16": np.uint16,
    "f16": np.float16,
    "f32": np.float32,
    "f8_e4m3": np.uint8,
    "f8_e5m2": np.uint8,
    "u8": np.uint8,
}


@dataclass(frozen=True, slots=True)
class PoolInfo:
    #: "" where nothing can be mapped.
    path: str
    bytes: int
    data_offset: int
    block_bytes: int
    block_count: int
    incarnation: str

    @classmethod
    def from_message(cls, message: wire.Message) -> PoolInfo:
        return cls(
            path=wire.text(message, "path"),
            bytes=wire.integer(message, "bytes"),
            data_offset=wire.integer(message, "dataOffset"),
            block_bytes=wire.integer(message, "blockBytes"),
            block_count=wire.integer(message, "blockCount"),
            incarnation=wire.text(message, "incarnation"),
        )


class Pool:
    """One life of the pool. The mapping lives as long as an array of it does; only blocks that this client holds may be written."""

    def __init__(self, info: PoolInfo) -> None:
        self.info = info
        #: False once the sidecar has restarted: nothing of this pool may be touched any more.
        self.valid = True
        self._view: Bytes | None = None
        if info.path:
            memory = map_shared(info.path, info.bytes)
            if info.data_offset + info.block_count * info.block_bytes > info.bytes:
                raise KvferryError("protocol_error", "the pool's blocks leave its file")
            self._view = np.frombuffer(memory, np.uint8)[info.data_offset :]

    @property
    def incarnation(self) -> str:
        return self.info.incarnation

    @property
    def block_count(self) -> int:
        return self.info.block_count

    @property
    def block_bytes(self) -> int:
        return self.info.block_bytes

    @property
    def view(self) -> Bytes:
        """The data area as bytes: block b starts at b * block_bytes, unless the layout divides it otherwise."""
        if self._view is None:
            raise KvferryError(
                "attach_unavailable", "this client was connected with attach=False, or the pool cannot be shared"
            )
        return self._view

    def block(self, block: int) -> Bytes:
        """The bytes of one block."""
        block = integer(block, "block", 0, self.block_count - 1)
        return self.view[block * self.block_bytes : (block + 1) * self.block_bytes]

    def array(self, layout: Layout, group: int, component: int, layer: int | None = None) -> npt.NDArray[Any]:
        """A component of a layout as a strided array with the axes (block, head, token, channel) for one layer (its index), or
        (block, layer, head, token, channel) for all, if they are evenly spaced. Groups of state have one token."""
        described = layout.groups[group]
        part = described.components[component]
        shape = [layout.block_count, part.heads, max(described.block_tokens, 1), part.channels]
        strides = [part.block_stride, part.head_stride, part.token_stride, part.channel_stride]
        offset = part.offsets[0 if layer is None else layer]
        if layer is None:
            shape.insert(1, len(part.offsets))
            strides.insert(1, _spacing(part))
        try:
            array: npt.NDArray[Any] = np.ndarray(
                shape, DTYPES[part.element], buffer=self.view, offset=offset, strides=strides
            )
        except ValueError as cause:
            raise KvferryError("invalid_argument", f"the layout leaves the pool: {cause}") from cause
        return array


def map_shared(path: str, size: int) -> mmap.mmap:
    """Raises memory_unavailable."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            if os.fstat(descriptor).st_size < size:
                raise KvferryError("memory_unavailable", f"{path} is shorter than {size} bytes")
            return mmap.mmap(descriptor, size, flags=mmap.MAP_SHARED)
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as cause:
        raise KvferryError("memory_unavailable", f"{path} cannot be mapped: {cause}") from cause


def _spacing(part: Component) -> int:
    steps = {after - before for before, after in zip(part.offsets, part.offsets[1:], strict=False)}
    if len(steps) > 1:
        raise expected("evenly spaced layers, or the index of one", "layer", part.offsets)
    return steps.pop() if steps else 0
