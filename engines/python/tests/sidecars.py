"""Real sidecars from this tree, each in a temporary folder of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import kvferry

ROOT = Path(__file__).resolve().parents[3]
BLOCK_TOKENS = 16
LAYERS = 4
BLOCK_BYTES = 32_768
#: A machine that is busy starts a sidecar slowly.
START_S = 60.0
WAIT_S = 30.0


class Sidecar:
    """The same folder and name find the same pool again."""

    def __init__(self, name: str, *more: str) -> None:
        self.name = name
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.folder = Path(tempfile.mkdtemp(prefix="kvferry-python-", dir=memory))
        self.socket = str(self.folder / "api.sock")
        self._more = more
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = ["node", "--import", "tsx", "transport/cli.ts", "serve", "--name", self.name, "--socket", self.socket]
        command += ["--listen", "127.0.0.1:0", "--pool-bytes", "4MiB", "--pool-block-bytes", str(BLOCK_BYTES)]
        command += ["--pool-directory", str(self.folder), "--log-level", "info", *self._more]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("KVFERRY_")}
        with open(self.folder / "log", "ab") as log:
            self._process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text("utf-8", "replace")

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(WAIT_S)
            self._process = None

    def connect(self, **options: object) -> kvferry.Ferry:
        return self.connect_to(self.socket, **options)

    def connect_to(self, socket: str, /, **options: object) -> kvferry.Ferry:
        """Also while it is still starting. `socket`: its own, or one of its tenants'."""
        until = time.monotonic() + START_S
        while True:
            try:
                return kvferry.connect(socket, **options)  # type: ignore[arg-type]
            except kvferry.KvferryError as error:
                ended = self._process is None or self._process.poll() is not None
                if error.code not in ("connect_failed", "connect_timeout") or ended or time.monotonic() > until:
                    raise AssertionError(f"{self.name} cannot be reached: {error}\n{self.log}") from error
                time.sleep(0.05)

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


def layout_of(pool: kvferry.Pool) -> kvferry.Layout:
    parts = [kvferry.Part("k", "bf16", 2, 64), kvferry.Part("v", "bf16", 2, 64)]
    group = kvferry.packed(pool.block_bytes, BLOCK_TOKENS, range(LAYERS), parts)
    return kvferry.Layout(pool.block_count, (group,))


IDENTITY = kvferry.Identity("tiny", "1", "bf16")


def eventually(condition: Callable[[], object]) -> None:
    """Waits for an event that nobody tells; the deadline only fails the test."""
    until = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.01)
