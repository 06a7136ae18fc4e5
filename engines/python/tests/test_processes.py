"""Several processes of one engine: spawned workers, one of which is killed, and a fork that must not go on as its parent."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from multiprocessing.connection import Connection
from pathlib import Path

import kvferry
from kvferry import KvferryError
from sidecars import WAIT_S, Sidecar, eventually


def worker(channel: Connection, socket: str) -> None:
    """Takes blocks, writes them, and tells them; then does the same whenever it is asked."""
    ferry = kvferry.connect(socket, client="worker")
    blocks = ferry.alloc(3)
    for block in blocks.ids:
        ferry.pool().block(int(block))[:] = 42
    channel.send(blocks)
    while channel.recv() == "again":
        channel.send(len(ferry.alloc(1)))
    ferry.close()


def test_the_others_go_on_when_a_worker_is_killed(sidecars: tuple[Sidecar, Sidecar]) -> None:
    context = multiprocessing.get_context("spawn")
    with sidecars[0].connect() as ferry:
        ours = ferry.alloc(2)
        pipes = [context.Pipe() for _ in range(2)]
        processes = [
            context.Process(target=worker, args=(theirs, sidecars[0].socket), daemon=True) for _, theirs in pipes
        ]
        try:
            for process in processes:
                process.start()
            told: list[kvferry.Blocks] = []
            for channel, _ in pipes:
                assert channel.poll(WAIT_S)
                told.append(channel.recv())
            assert {blocks.incarnation for blocks in told} == {ferry.incarnation}
            assert (ferry.pool().block(int(told[0].ids[0])) == 42).all()
            assert ferry.stats().pool["held"] == 8
            killed = processes[0].pid
            assert killed is not None
            os.kill(killed, signal.SIGKILL)
            eventually(lambda: ferry.stats().pool["held"] == 5)
            pipes[1][0].send("again")
            assert pipes[1][0].poll(WAIT_S)
            assert pipes[1][0].recv() == 1
            pipes[1][0].send("end")
            processes[1].join(WAIT_S)
            assert processes[1].exitcode == 0
            eventually(lambda: ferry.stats().pool["held"] == 2)
            ferry.free(ours)
        finally:
            for process in processes:
                if process.pid is not None:
                    process.kill()
                    process.join(WAIT_S)


def test_a_forked_process_is_refused(sidecars: tuple[Sidecar, Sidecar]) -> None:
    with sidecars[0].connect() as ferry:
        blocks = ferry.alloc(1)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            # Nothing of pytest may run here, whatever happens.
            try:
                codes = []
                for call in (lambda: ferry.alloc(1), lambda: ferry.submit.free(blocks), lambda: ferry.on(print)):
                    try:
                        call()
                        codes.append("none")
                    except KvferryError as error:
                        codes.append(error.code)
                ferry.close()
                os.write(writer, ",".join(codes).encode())
            finally:
                os._exit(0)
        os.close(writer)
        with os.fdopen(reader, "rb") as told:
            assert told.read() == b"closed,closed,closed"
        os.waitpid(child, 0)
        # The parent's connection was not the child's to close.
        ferry.free(blocks)


def test_a_process_may_end_without_closing(sidecars: tuple[Sidecar, Sidecar]) -> None:
    code = f"import kvferry; f = kvferry.connect({sidecars[0].socket!r}); f.alloc(4); f.submit.alloc(1); print(f.up)"
    source = str(Path(__file__).parents[1] / "src")
    environment = {**os.environ, "PYTHONPATH": source}
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=WAIT_S, check=False, env=environment
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "True\n", "")
    with sidecars[0].connect() as ferry:
        eventually(lambda: ferry.stats().pool["held"] == 0)
