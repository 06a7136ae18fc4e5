"""How fast an engine's own memory gets into the pool: copied by the engine itself (memcpy, by NumPy), or read out of the engine by
another process (process_vm_readv). Both move the same runs to the same shuffled places, and what arrived is compared.

    python -m kvferry.measure_copy --run-bytes 16384 --total-bytes 268435456 [--socket PATH]"""

from __future__ import annotations

import argparse
import ctypes
import ctypes.util
import json
import multiprocessing
import os
import time
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import numpy.typing as npt

from .buffers import Memfd
from .errors import KvferryError, expected
from .pool import map_shared
from .sync import connect

Bytes = npt.NDArray[np.uint8]

#: Pairs of ranges that one call of process_vm_readv takes (IOV_MAX).
RANGES_MAX = 1024
PR_SET_PTRACER = 0x59616D61
REPLY_TIMEOUT_S = 120.0


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(ctypes.util.find_library("c") or "libc.so.6", use_errno=True)


def shuffled(count: int) -> npt.NDArray[np.int64]:
    """Where each run goes: as blocks of a pool that has been in use for a while."""
    return np.random.default_rng(1).permutation(count)


def copy_runs(source: Bytes, target: Bytes, run_bytes: int) -> float:
    """Seconds that NumPy takes to copy the runs."""
    places = shuffled(len(source) // run_bytes)
    rows, targets = source.reshape(-1, run_bytes), target.reshape(-1, run_bytes)
    started = time.perf_counter()
    targets[places] = rows
    return time.perf_counter() - started


def read_runs(process_id: int, address: int, target: Bytes, run_bytes: int) -> float:
    """Seconds that process_vm_readv takes for them. Raises memory_unavailable where the kernel does not allow it."""
    libc = _libc()
    call = libc.process_vm_readv
    call.restype = ctypes.c_ssize_t
    call.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_ulong]
    count = len(target) // run_bytes
    # Addresses and lengths as pairs of u64, which is what struct iovec is on a 64-bit host.
    local = np.empty((count, 2), np.uint64)
    local[:, 0] = shuffled(count).astype(np.uint64) * np.uint64(run_bytes) + np.uint64(target.ctypes.data)
    local[:, 1] = run_bytes
    remote = np.empty((count, 2), np.uint64)
    remote[:, 0] = np.arange(count, dtype=np.uint64) * np.uint64(run_bytes) + np.uint64(address)
    remote[:, 1] = run_bytes
    started = time.perf_counter()
    for first in range(0, count, RANGES_MAX):
        ranges = min(RANGES_MAX, count - first)
        wanted = ranges * run_bytes
        got = call(process_id, local[first:].ctypes.data, ranges, remote[first:].ctypes.data, ranges, 0)
        if got != wanted:
            problem = os.strerror(ctypes.get_errno()) if got < 0 else f"{got} of {wanted} bytes"
            raise KvferryError("memory_unavailable", f"process_vm_readv: {problem}")
    return time.perf_counter() - started


def reader(channel: Connection, path: str, file_bytes: int, offset: int, run_bytes: int) -> None:
    """The other process: maps the pool and reads into it for as long as it is asked to."""
    try:
        mapped = np.frombuffer(map_shared(path, file_bytes), np.uint8)
        channel.send(os.getpid())
        while (task := channel.recv()) is not None:
            process_id, address, size = task
            channel.send(read_runs(process_id, address, mapped[offset : offset + size], run_bytes))
    except KvferryError as error:
        channel.send(error)


def measure(run_bytes: int, total_bytes: int, rounds: int, socket: str = "") -> dict[str, Any]:
    """The median of `rounds` of each, after one that warms up."""
    if run_bytes < 1 or total_bytes < run_bytes or rounds < 1:
        raise expected(
            "at least one run and one round", "run_bytes, total_bytes, rounds", (run_bytes, total_bytes, rounds)
        )
    total_bytes -= total_bytes % run_bytes
    # Anonymous memory, as an engine's is; random, so that a comparison means something.
    source = np.random.default_rng(2).integers(0, 256, total_bytes, np.uint8)
    if not socket:
        memory = Memfd(total_bytes)
        try:
            return _measure(source, memory.view, (memory.path, total_bytes, 0), run_bytes, rounds)
        finally:
            memory.close()
    with connect(socket, client="measure_copy") as ferry:
        pool = ferry.pool()
        blocks = ferry.alloc(pool.block_count)
        if len(blocks) * pool.block_bytes < total_bytes:
            raise expected(f"at most {len(blocks) * pool.block_bytes} bytes (the pool)", "total_bytes", total_bytes)
        place = (pool.info.path, pool.info.bytes, pool.info.data_offset)
        return _measure(source, pool.view[:total_bytes], place, run_bytes, rounds)


def _measure(source: Bytes, target: Bytes, place: tuple[str, int, int], run_bytes: int, rounds: int) -> dict[str, Any]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=reader, args=(theirs, *place, run_bytes), daemon=True)
    process.start()
    try:
        # Where Yama guards processes from each other, only a named one may read this one's memory.
        _libc().prctl(PR_SET_PTRACER, ctypes.c_ulong(_receive(ours)), 0, 0, 0)
        copied, read = [], []
        for _ in range(rounds + 1):
            target[:] = 0
            copied.append(copy_runs(source, target, run_bytes))
            _compare(source, target, run_bytes)
            target[:] = 0
            ours.send((os.getpid(), source.ctypes.data, len(source)))
            read.append(_receive(ours))
            _compare(source, target, run_bytes)
        ours.send(None)
        process.join(5)
    finally:
        process.kill()
        process.join()
    speed = [len(source) / float(np.median(seconds[1:])) / 1e9 for seconds in (copied, read)]
    return {
        "runBytes": run_bytes,
        "totalBytes": len(source),
        "rounds": rounds,
        "memcpyGigabytesPerSecond": speed[0],
        "processVmReadvGigabytesPerSecond": speed[1],
    }


def _receive(channel: Connection) -> Any:
    if not channel.poll(REPLY_TIMEOUT_S):
        raise KvferryError("deadline_exceeded", f"the reading process says nothing for {REPLY_TIMEOUT_S:g} s")
    answer = channel.recv()
    if isinstance(answer, KvferryError):
        raise answer
    return answer


def _compare(source: Bytes, target: Bytes, run_bytes: int) -> None:
    places = shuffled(len(source) // run_bytes)
    if not np.array_equal(target.reshape(-1, run_bytes)[places], source.reshape(-1, run_bytes)):
        raise KvferryError("internal", "what was copied is not what was there")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m kvferry.measure_copy", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument(
        "--run-bytes", type=int, default=16_384, help="bytes that lie in one piece (default: %(default)s)"
    )
    parser.add_argument("--total-bytes", type=int, default=256 << 20, help="bytes of a round (default: %(default)s)")
    parser.add_argument(
        "--rounds", type=int, default=5, help="rounds of each, of which the median counts (default: %(default)s)"
    )
    parser.add_argument(
        "--socket", default="", help="a sidecar whose whole pool is free; without it memory like a pool's is used"
    )
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    options = parser.parse_args()
    try:
        result = measure(options.run_bytes, options.total_bytes, options.rounds, options.socket)
    except KvferryError as error:
        parser.exit(1, f"measure_copy: {error}\n")
    if options.json:
        print(json.dumps(result))
        return
    print(f"{result['totalBytes']} bytes in runs of {result['runBytes']}, median of {result['rounds']} rounds")
    print(f"  memcpy (NumPy)     {result['memcpyGigabytesPerSecond']:8.2f} GB/s")
    print(f"  process_vm_readv   {result['processVmReadvGigabytesPerSecond']:8.2f} GB/s")


if __name__ == "__main__":
    main()
