"""Memory outside the pool that this process and its sidecar both map, for `read` and `write` between nodes."""

from __future__ import annotations

import mmap
import os

import numpy as np
import numpy.typing as npt

from .errors import KvferryError


class Buffer:
    """A sealed memfd. `handle` is what the other side must know; it is void after `unregister_buffer` and after a restart of
    the sidecar. The memory lives as long as an array of it does."""

    def __init__(self, handle: str, size: int, incarnation: str, view: npt.NDArray[np.uint8] | None) -> None:
        self.handle = handle
        self.bytes = size
        self.incarnation = incarnation
        self._view = view

    @property
    def view(self) -> npt.NDArray[np.uint8]:
        if self._view is None:
            raise KvferryError(
                "attach_unavailable", "this buffer was registered by its path: whoever made it has it mapped"
            )
        return self._view

    def __repr__(self) -> str:
        return f"<Buffer of {self.bytes} bytes>"


class Memfd:
    """Open until the sidecar has mapped it."""

    def __init__(self, size: int) -> None:
        try:
            self._descriptor = os.memfd_create("kvferry", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            try:
                os.ftruncate(self._descriptor, size)
                memory = mmap.mmap(self._descriptor, size, flags=mmap.MAP_SHARED)
            except BaseException:
                os.close(self._descriptor)
                raise
        except (OSError, ValueError, AttributeError) as cause:
            raise KvferryError("memory_unavailable", f"a memfd of {size} bytes: {cause}") from cause
        self.path = f"/proc/{os.getpid()}/fd/{self._descriptor}"
        self.view = np.frombuffer(memory, np.uint8)

    def close(self) -> None:
        os.close(self._descriptor)
