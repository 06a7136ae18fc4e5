"""What SGLang asks of a backend: the signatures recorded from 0.5.23 (sglang_contract.json), always; and SGLang's own source, where it is
installed or unpacked (KVFERRY_SGLANG_SOURCE, or sglang-0.5.23 in the cache folder). SGLang itself does not run without a GPU's stack."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

import kvferry_sglang
import record
from kvferry_sglang import contract, recorded

FOLDER = Path(__file__).parent
CONTRACT: dict[str, Any] = json.loads((FOLDER / "sglang_contract.json").read_text("utf-8"))
OURS = {
    "BaseKVManager": kvferry_sglang.KvferryKVManager,
    "BaseKVSender": kvferry_sglang.KvferryKVSender,
    "BaseKVReceiver": kvferry_sglang.KvferryKVReceiver,
    "BaseKVBootstrapServer": kvferry_sglang.KvferryKVBootstrapServer,
}
#: SGLang asks with hasattr whether a manager has these, or only after a manager has said that it defers the release of pages.
OPTIONAL = {
    "clear_deferred_abort_state",
    "deregister_buffer_to_engine",
    "is_abort_release_safe",
    "register_buffer_to_engine",
    "set_kv_buffer_tensors",
}


def source() -> Path:
    """The folder that holds sglang/, or a skip."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    told = os.environ.get("KVFERRY_SGLANG_SOURCE")
    places = [Path(told)] if told else [Path(cache) / "kvferry" / f"sglang-{CONTRACT['version']}", *map(Path, sys.path)]
    for place in places:
        if (place / record.BASE).is_file():
            return place
    pytest.skip("SGLang's source is not here; the recorded signatures stand for it")


@pytest.mark.parametrize("name", OURS)
def test_our_classes_take_what_the_recorded_ones_take(name: str) -> None:
    for method, signature in CONTRACT["classes"][name].items():
        ours = getattr(OURS[name], method, None)
        assert ours is not None or not signature["abstract"], method
        if callable(ours) and method in vars(OURS[name]):
            taken = [part for part in inspect.signature(ours).parameters if part != "self"]
            assert taken[: len(signature["arguments"])] == signature["arguments"], method


@pytest.mark.parametrize("name", OURS)
def test_the_bases_for_where_sglang_is_not_are_the_recorded_ones(name: str) -> None:
    base = getattr(recorded, name)
    wanted = CONTRACT["classes"][name]
    assert set(base.__abstractmethods__) == {method for method, signature in wanted.items() if signature["abstract"]}
    for method, signature in wanted.items():
        found = inspect.getattr_static(base, method)
        if not isinstance(found, property):
            taken = [part for part in inspect.signature(found).parameters if part != "self"]
            assert taken == signature["arguments"], method


def test_values_and_what_the_schedulers_use_as_recorded() -> None:
    assert {name: getattr(contract.KVPoll, name) for name in CONTRACT["KVPoll"]} == CONTRACT["KVPoll"]
    assert list(recorded.KVTransferMetric.__dataclass_fields__) == CONTRACT["KVTransferMetric"]
    for kind, name in (("sender", "KVSender"), ("receiver", "KVReceiver"), ("manager", "KVManager")):
        ours = getattr(kvferry_sglang, f"Kvferry{name}")
        written = inspect.getsource(ours)
        missing = [used for used in CONTRACT["used"][kind] if not hasattr(ours, used) and f"self.{used}" not in written]
        assert set(missing) <= OPTIONAL, (kind, missing)


def test_the_recording_is_of_sglang_s_own_source() -> None:
    assert record.record(source(), CONTRACT["version"]) == CONTRACT


def test_classes_and_plugin_on_sglang_s_own_source() -> None:
    command = [sys.executable, str(FOLDER / "on_sglang.py"), str(source())]
    path = os.pathsep.join(str(FOLDER.parent / part) for part in ("src", "../python/src"))
    environment = {**os.environ, "PYTHONPATH": path}
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert (ended.returncode, ended.stdout) == (0, "ok\n"), ended.stderr


def test_the_entry_point_is_where_sglang_looks() -> None:
    written = (FOLDER.parent / "pyproject.toml").read_text("utf-8")
    section = written.split('[project.entry-points."sglang.srt.plugins"]\n')[1].split("\n\n")[0]
    name, _, value = section.partition(" = ")
    assert callable(EntryPoint(name, value.strip().strip('"'), "sglang.srt.plugins").load())
