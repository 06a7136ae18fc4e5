"""The wheel: it builds, holds what an installed package needs, and works where it is unpacked."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import kvferry

FOLDER = Path(__file__).parents[1]


def test_a_wheel_builds_and_works(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    ended = subprocess.run(
        [*command, "--wheel-dir", str(tmp_path), str(FOLDER)], capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stderr
    (wheel,) = tmp_path.glob("kvferry-*.whl")
    unpacked = tmp_path / "unpacked"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(unpacked)
    ours = {path.name for path in (FOLDER / "src" / "kvferry").iterdir() if path.is_file()}
    assert {path.name for path in (unpacked / "kvferry").iterdir()} == ours
    assert {"py.typed", "errors.json"} <= ours
    told = subprocess.run(
        [sys.executable, "-c", "import kvferry; print(kvferry.__file__, kvferry.__version__, len(kvferry.ERRORS))"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(unpacked)},
    ).stdout.split()
    assert told == [str(unpacked / "kvferry" / "__init__.py"), kvferry.__version__, str(len(kvferry.ERRORS))]
    assert wheel.name.startswith(f"kvferry-{kvferry.__version__}-")
