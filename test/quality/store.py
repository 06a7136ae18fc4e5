"""What is made once and kept: files named by a digest of everything that decides them."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def cache_folder() -> Path:
    """The harness's part of kvferry's cache folder; KVFERRY_CACHE or XDG_CACHE_HOME name another."""
    base = os.environ.get("KVFERRY_CACHE") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "kvferry"
    )
    return Path(base) / "quality"


def digest_of(values: object) -> str:
    """Of anything that JSON can say."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:24]


def file_digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def model_digest(folder: Path) -> str:
    """Of a model's weights and configuration. The weights are read once a run: half a second."""
    return file_digest(folder / "model.safetensors") + digest_of((folder / "config.json").read_text())


def keep(path: Path, write: Callable[[Path], object]) -> None:
    """Writes a file beside its place and moves it there, so that what is there is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".partial")
    os.close(handle)
    try:
        write(Path(name))
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
