"""Another vLLM than the tested one is refused by name, unless the operator has said so."""

from __future__ import annotations

import logging

import pytest

from kvferry import KvferryError
from kvferry_vllm.version import SERIES, check_version, installed


@pytest.mark.parametrize("version", ["0.32", "0.32.0", "0.32.1+cpu", "0.32.0rc2"])
def test_the_tested_series_is_taken(version: str) -> None:
    check_version(version, untested=False)


@pytest.mark.parametrize("version", ["0.31.9", "0.3.2", "1.32.0", "0.33.0", "0.320.0", "dev", "none"])
def test_others_are_refused_by_name(version: str, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(KvferryError) as raised:
        check_version(version, untested=False)
    assert raised.value.code == "version_unsupported"
    assert version in str(raised.value) and SERIES in str(raised.value) and "untested_vllm" in str(raised.value)
    with caplog.at_level(logging.WARNING, "vllm.kvferry"):
        check_version(version, untested=True)
    assert version in caplog.text


def test_the_installed_one_is_tested() -> None:
    assert installed().startswith(f"{SERIES}.")
