"""Copies between GPU memory and the pool, beside the engine's own work: the pool is pinned, a side stream copies, events order.

Untested on hardware: the project's machines have no GPU. Its tests run it over a stand-in for torch.cuda and check order and bounds."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from typing import Any

import torch

from .errors import KvferryError, expected
from .pool import Pool

POLL_S = 50e-6


class Copies:
    """A batch that was started. The memory on both sides is not to be touched until it is done."""

    def __init__(self, event: Any, kept: list[torch.Tensor]) -> None:
        self._event = event
        # Tensors must not be given back to an allocator while a copy uses them.
        self._kept = kept

    def done(self) -> bool:
        if self._kept and self._event.query():
            self._kept = []
        return not self._kept

    def wait(self, timeout_s: float) -> None:
        """Raises deadline_exceeded. Polls, because waiting for an event in CUDA itself has no deadline."""
        until = time.monotonic() + timeout_s
        while not self.done():
            if time.monotonic() >= until:
                raise KvferryError("deadline_exceeded", f"a copy has not ended within {timeout_s:g} s")
            time.sleep(POLL_S)

    def before(self, stream: Any | None = None) -> None:
        """What `stream` (default: the current one) is given from now on runs after these copies. Waits for nothing itself."""
        (torch.cuda.current_stream() if stream is None else stream).wait_event(self._event)


class PinnedPool:
    """A mapped pool, pinned for one GPU. Copies are only asynchronous between tensors that are contiguous on both sides: a block, or
    a layer of one, as `packed` lays them out. One thread uses it."""

    def __init__(
        self, pool: Pool, device: int | str | torch.device = "cuda", under_way_max: int = 64, timeout_s: float = 30.0
    ) -> None:
        if under_way_max < 1:
            raise expected("a positive number", "under_way_max", under_way_max)
        self.pool = pool
        self._under_way_max = under_way_max
        self._timeout_s = timeout_s
        self._under_way: deque[Copies] = deque()
        view = pool.view
        self._address = view.ctypes.data
        runtime = torch.cuda.cudart()
        outcome = int(runtime.cudaHostRegister(self._address, view.nbytes, 0))
        if outcome != 0:
            raise KvferryError(
                "memory_unavailable", f"cudaHostRegister of {view.nbytes} bytes gives CUDA error {outcome}"
            )
        self._pinned = True
        self.stream = torch.cuda.Stream(device)

    def to_pool(self, pairs: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> Copies:
        """Starts to copy each (GPU tensor, pool tensor), after all that the current stream was given so far."""
        return self._start([(target, source) for source, target in pairs])

    def to_gpu(self, pairs: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> Copies:
        """Starts to copy each (pool tensor, GPU tensor), after all that the current stream was given so far."""
        return self._start([(target, source) for source, target in pairs])

    def quiesce(self, timeout_s: float | None = None) -> None:
        """Returns when no copy touches the pool any more: what `connect(quiesce=...)` asks for. Raises deadline_exceeded."""
        until = time.monotonic() + (self._timeout_s if timeout_s is None else timeout_s)
        while self._under_way:
            self._under_way[0].wait(max(0.0, until - time.monotonic()))
            self._under_way.popleft()

    def close(self) -> None:
        """Unpins. Raises deadline_exceeded, and leaves the memory pinned, while a copy does not end."""
        if not self._pinned:
            return
        self.quiesce()
        self._pinned = False
        outcome = int(torch.cuda.cudart().cudaHostUnregister(self._address))
        if outcome != 0:
            raise KvferryError("internal", f"cudaHostUnregister gives CUDA error {outcome}")

    def _start(self, pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> Copies:
        if not self._pinned:
            raise KvferryError("closed", "the pool is not pinned any more")
        if not self.pool.valid:
            raise KvferryError("incarnation_mismatch", "the sidecar has restarted: pin the pool of its new life")
        for target, source in pairs:
            if not (target.is_contiguous() and source.is_contiguous()):
                raise expected("contiguous tensors", "pairs", (tuple(target.stride()), tuple(source.stride())))
            if target.shape != source.shape or target.dtype != source.dtype:
                raise expected("two tensors of one shape and type", "pairs", (target.shape, source.shape))
        while self._under_way and self._under_way[0].done():
            self._under_way.popleft()
        if len(self._under_way) >= self._under_way_max:
            self._under_way[0].wait(self._timeout_s)
            self._under_way.popleft()
        self.stream.wait_stream(torch.cuda.current_stream())
        event = torch.cuda.Event()
        with torch.cuda.stream(self.stream):
            for target, source in pairs:
                target.copy_(source, non_blocking=True)
            event.record(self.stream)
        copies = Copies(event, [tensor for pair in pairs for tensor in pair])
        self._under_way.append(copies)
        return copies
