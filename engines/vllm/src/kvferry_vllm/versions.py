"""Which vLLM the connector is for. Its interface changes from version to version, and what it means does, too."""

from __future__ import annotations

import logging
import re

from kvferry import KvferryError

log = logging.getLogger("vllm.kvferry")

#: Of vLLM, the versions that are tested: major and minor number.
TESTED = (0, 32)
RANGE = ">=0.32,<0.33"


def check_version(version: str, allow_untested: bool) -> None:
    """Raises version_unsupported for a vLLM out of the range, or warns where the operator wants to go on all the same."""
    numbers = re.match(r"(\d+)\.(\d+)\.", version)
    if numbers is not None and (int(numbers[1]), int(numbers[2])) == TESTED:
        return
    found = f"this is vLLM {version}, and the connector is tested with {RANGE}"
    if not allow_untested:
        raise KvferryError(
            "version_unsupported",
            f'{found}; "allow_untested_vllm": true in kv_connector_extra_config takes it all the same',
        )
    log.warning("kvferry: %s; taken all the same, as allow_untested_vllm says", found)


def without_interface(version: str, error: ImportError) -> ImportError:
    """For a vLLM that lacks what the connector is written against, so that no option helps."""
    return ImportError(
        f"kvferry's connector is for vLLM {RANGE}, and this is vLLM {version}, which lacks something: {error}"
    )
