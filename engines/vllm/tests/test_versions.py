"""Which versions of vLLM the connector takes, and what it says of the others."""

from __future__ import annotations

import importlib.util
import logging
import sys
from pathlib import Path
from types import ModuleType

import pytest
from vllm import __version__ as installed
from vllm.config import KVTransferConfig
from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorRole

from kvferry import KvferryError
from kvferry_vllm import connector as module
from kvferry_vllm.connector import KvferryConnector
from kvferry_vllm.versions import RANGE, check_version
from test_interface import CHILD, EXTRA, caches_config, vllm_config

BASE = "vllm.distributed.kv_transfer.kv_connector.v1.base"


def build(**extra: object) -> KvferryConnector:
    transfer = KVTransferConfig(**{**CHILD, "kv_connector_extra_config": {**EXTRA, **extra}})
    return KvferryConnector(vllm_config(transfer), KVConnectorRole.SCHEDULER, caches_config())


@pytest.mark.parametrize("version", [installed, "0.32.0", "0.32.7", "0.32.1rc1", "0.32.0+cpu"])
def test_versions_of_the_range_are_taken_without_a_word(version: str, caplog: pytest.LogCaptureFixture) -> None:
    check_version(version, False)
    check_version(version, True)
    assert caplog.records == []


@pytest.mark.parametrize("version", ["0.31.2", "0.33.0", "1.32.0", "0.320.0", "0.3.2", "0.1.dev1+g1234567", "dev", ""])
def test_another_version_is_refused_by_name_when_the_connector_is_built(
    version: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "vllm_version", version)
    with pytest.raises(KvferryError) as raised:
        build()
    assert raised.value.code == "version_unsupported"
    assert all(part in str(raised.value) for part in (f"vLLM {version}", RANGE, "allow_untested_vllm"))
    with caplog.at_level(logging.WARNING, "vllm.kvferry"):
        build(allow_untested_vllm=True).shutdown()
    (warning,) = [record.getMessage() for record in caplog.records if record.name == "vllm.kvferry"]
    assert f"vLLM {version}" in warning and RANGE in warning


def test_a_vllm_without_the_interface_is_named_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, BASE, ModuleType(BASE))
    path = Path(module.__file__)
    spec = importlib.util.spec_from_file_location("kvferry_vllm.connector_of_another_vllm", path)
    assert spec is not None and spec.loader is not None
    with pytest.raises(ImportError, match=r"for vLLM >=0\.32,<0\.33, and this is vLLM .*KVConnectorBase_V1"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


def test_the_range_is_the_readmes() -> None:
    assert RANGE in (Path(__file__).parents[1] / "README.md").read_text()
