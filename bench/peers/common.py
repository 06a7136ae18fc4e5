"""What every peer program here shares: pools, block layouts, CPU clocks, the timed loops, JSON lines.

A peer program runs as two processes. The server owns the remote pool and writes RUN/server.json {pid, ...}; the client reads it, runs the
cases and prints one JSON line for each on stdout. Everything else (the log of the peer's own library) goes to stderr.
"""
import argparse
import ctypes
import json
import mmap
import os
import random
import signal
import statistics
import time

KIB, GIB = 1 << 10, 1 << 30
# 2,048 tokens of Llama-3.1-8B: 32 layers x K,V x 128 blocks of 16 tokens.
PIECES, PIECE_BYTES = 8192, 32 * KIB
LATENCY_BYTES, LATENCY_SAMPLES, LATENCY_BUDGET_S = 4 * KIB, 4000, 2.0


def cpu_seconds(pid):
    """CPU seconds of a whole process, all threads, to the nanosecond (clock_getcpuclockid's arithmetic)."""
    return time.clock_gettime(((~pid) << 3) | 2)


class Pool:
    """Page-aligned host memory, touched once so that no page is faulted in while the clock runs."""

    def __init__(self, count, fill):
        self.map = mmap.mmap(-1, count, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.map))
        ctypes.memset(self.address, fill, count)


def layout(pool_bytes, block, batch, seed):
    """`batch` distinct block-aligned offsets in a pool: scattered, and different on each end (seed)."""
    return [i * block for i in random.Random(seed).sample(range(pool_bytes // block), batch)]


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--role", choices=["server", "client"], required=True)
    parser.add_argument("--run", required=True, help="folder that both processes see")
    parser.add_argument("--pool", type=int, default=GIB)
    parser.add_argument("--pieces", type=int, default=PIECES)
    parser.add_argument("--host", default="127.0.0.1", help="this process's own address")
    parser.add_argument("--paged-only", action="store_true", help="reads of the paged case, each told by itself, the first one cold")
    parser.add_argument("--seconds", type=float, default=3.0, help="how long a throughput case lasts")
    return parser.parse_args()


def say_ready(options, **info):
    info["pid"] = os.getpid()
    path = os.path.join(options.run, "server.json")
    with open(path + ".part", "w", encoding="utf-8") as file:
        json.dump(info, file)
    os.rename(path + ".part", path)


def wait_ready(options, timeout_s=60):
    path = os.path.join(options.run, "server.json")
    end = time.monotonic() + timeout_s
    while not os.path.exists(path):
        if time.monotonic() > end:
            raise TimeoutError("the server did not come up")
        time.sleep(0.02)
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def park():
    """The server's main thread: the peer's own threads do the work until somebody ends the process."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    while True:
        time.sleep(3600)


def emit(**fields):
    print(json.dumps(fields), flush=True)


def timed(go, count, server_pid, seconds):
    """Whole requests, one after the other; CPU of both processes over the timed ones."""
    go()
    go()
    durations = []
    client_before, server_before = cpu_seconds(os.getpid()), cpu_seconds(server_pid)
    end = time.perf_counter() + seconds
    while not durations or time.perf_counter() < end:
        begin = time.perf_counter()
        go()
        durations.append(time.perf_counter() - begin)
    cpu = cpu_seconds(os.getpid()) - client_before + cpu_seconds(server_pid) - server_before
    total = count * len(durations)
    return {
        "requests": len(durations),
        "bits_per_second": total * 8 / sum(durations),
        "median_bits_per_second": count * 8 / statistics.median(durations),
        "cpu_seconds_per_gib": cpu / (total / GIB),
    }


def latency(go):
    for _ in range(50):
        go()
    samples, end = [], time.perf_counter() + LATENCY_BUDGET_S
    while len(samples) < LATENCY_SAMPLES and time.perf_counter() < end:
        begin = time.perf_counter_ns()
        go()
        samples.append((time.perf_counter_ns() - begin) / 1000)
    samples.sort()
    return {"p50_us": samples[len(samples) // 2], "p99_us": samples[len(samples) * 99 // 100], "samples": len(samples)}


def run_reads(name, prepare, options):
    """Requests one after the other, nothing before the first: it opens the connections."""
    here, there = (layout(options.pool, PIECE_BYTES, options.pieces, seed) for seed in (1, 2))
    go = prepare("read", here, there, PIECE_BYTES)
    durations, end = [], time.monotonic() + options.seconds
    while len(durations) < 2 or time.monotonic() < end:
        begin = time.perf_counter()
        go()
        durations.append(time.perf_counter() - begin)
        emit(peer=name, op="read", case="request", seconds=durations[-1])


def run_cases(name, prepare, server_pid, options):
    """prepare(op, local offsets, remote offsets, block bytes) -> go, which returns when the peer says that it is complete."""
    if options.paged_only:
        return run_reads(name, prepare, options)
    for op in ("write", "read"):
        case = {"peer": name, "op": op}
        try:
            here, there = (layout(options.pool, PIECE_BYTES, options.pieces, seed) for seed in (1, 2))
            result = timed(prepare(op, here, there, PIECE_BYTES), PIECE_BYTES * options.pieces, server_pid, options.seconds)
            emit(**case, case="paged", block_bytes=PIECE_BYTES, batch=options.pieces, **result)
            go = prepare(op, layout(options.pool, LATENCY_BYTES, 1, 3), layout(options.pool, LATENCY_BYTES, 1, 4), LATENCY_BYTES)
            emit(**case, case="latency", block_bytes=LATENCY_BYTES, batch=1, **latency(go))
        except Exception as error:  # noqa: BLE001 - a case that fails is a result too
            emit(**case, case="failed", error=f"{type(error).__name__}: {error}"[:300])
