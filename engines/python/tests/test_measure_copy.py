"""The measuring command: it moves and compares real bytes between two processes, and reports a speed for each way."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kvferry import KvferryError, measure_copy
from kvferry.buffers import Memfd
from sidecars import BLOCK_BYTES, Sidecar


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    source = str(Path(__file__).parents[1] / "src")
    command = [sys.executable, "-m", "kvferry.measure_copy", "--rounds", "1", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, env={**os.environ, "PYTHONPATH": source}, check=False
    )


def test_both_ways_into_a_pool(sidecars: tuple[Sidecar, Sidecar]) -> None:
    """More runs than one call takes, into a real pool."""
    ended = run("--json", "--run-bytes", "512", "--total-bytes", str(40 * BLOCK_BYTES), "--socket", sidecars[0].socket)
    if ended.returncode == 1 and f"process_vm_readv: {os.strerror(errno.EPERM)}" in ended.stderr:
        pytest.skip("the kernel lets no process read another one's memory here")
    assert ended.returncode == 0, ended.stderr
    result = json.loads(ended.stdout)
    assert (result["runBytes"], result["totalBytes"]) == (512, 40 * BLOCK_BYTES)
    assert result["memcpyGigabytesPerSecond"] > 0
    assert result["processVmReadvGigabytesPerSecond"] > 0


def test_a_total_that_the_pool_cannot_hold_is_an_error(sidecars: tuple[Sidecar, Sidecar]) -> None:
    ended = run("--total-bytes", str(1 << 30), "--socket", sidecars[0].socket)
    assert ended.returncode == 1
    assert "the pool" in ended.stderr


def test_runs_go_to_their_places() -> None:
    memory = Memfd(10 * 64)
    try:
        source = np.random.default_rng(3).integers(0, 256, 10 * 64, np.uint8)
        measure_copy.copy_runs(source, memory.view, 64)
        for run_number, place in enumerate(measure_copy.shuffled(10)):
            assert np.array_equal(memory.view[place * 64 :][:64], source[run_number * 64 :][:64])
        memory.view[:] = 0
        measure_copy.read_runs(os.getpid(), source.ctypes.data, memory.view, 64)
        measure_copy._compare(source, memory.view, 64)
        memory.view[0] ^= 1
        with pytest.raises(KvferryError):
            measure_copy._compare(source, memory.view, 64)
    finally:
        memory.close()


def test_memory_that_cannot_be_read_is_an_error() -> None:
    memory = Memfd(64)
    try:
        with pytest.raises(KvferryError) as caught:
            measure_copy.read_runs(os.getpid(), 4096, memory.view, 64)
        assert caught.value.code == "memory_unavailable"
    finally:
        memory.close()
