"""What SGLang 0.5.23 asks of a transfer backend (disaggregation/base/conn.py), recorded: the bases where SGLang is not installed, and for
the type checker. tests/test_contract.py compares it with SGLang's own source."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int32]


class KVPoll:
    Failed = 0
    Bootstrapping = 1
    WaitingForInput = 2
    Transferring = 3
    Success = 4


@dataclass
class KVTransferMetric:
    transfer_latency_s: float | None = None
    alloc_latency_s: float | None = None
    transfer_total_bytes: int | None = None


class BaseKVManager(ABC):
    enable_deferred_decode_kv_release: bool = False
    supports_host_destination: bool = False
    supports_role_switch: bool = False
    supports_deferred_decode_kv_release: bool = False

    @abstractmethod
    def __init__(
        self, args: Any, disaggregation_mode: Any, server_args: Any, is_mla_backend: bool | None = False
    ) -> None: ...

    @abstractmethod
    def register_to_bootstrap(self) -> None: ...

    def should_verify_kv_checksum(self, bootstrap_addr: str) -> bool:
        return True

    def teardown(self) -> None:
        raise NotImplementedError


class BaseKVSender(ABC):
    @abstractmethod
    def __init__(
        self, mgr: Any, bootstrap_addr: str, bootstrap_room: int, req_has_disagg_prefill_dp_rank: bool = False
    ) -> None: ...

    @abstractmethod
    def init(self, num_kv_indices: int, aux_index: int | None = None) -> None: ...

    @abstractmethod
    def send(
        self, kv_indices: Indices, state_indices: list[Any] | None = None, num_kv_tokens: int | None = None
    ) -> None: ...

    def mark_prefill_complete(self) -> None:
        raise NotImplementedError

    def pop_decode_prefix_len(self) -> int:
        return 0

    def get_max_transfer_tokens(self) -> int | None:
        return None

    def should_send_kv_chunk(self, num_pages: int, last_chunk: bool) -> bool:
        return num_pages > 0

    @abstractmethod
    def get_transfer_metric(self) -> KVTransferMetric: ...

    @abstractmethod
    def poll(self) -> int: ...

    @abstractmethod
    def failure_exception(self) -> None: ...

    def clear(self) -> None:
        return None

    def abort(self) -> None:
        return None


class BaseKVReceiver(ABC):
    @property
    def supports_host_destination(self) -> bool:
        return False

    def is_abort_release_safe(self) -> bool:
        raise NotImplementedError

    @abstractmethod
    def __init__(self, mgr: Any, bootstrap_addr: str, bootstrap_room: int | None = None) -> None: ...

    @abstractmethod
    def init(self, prefill_dp_rank: int) -> None: ...

    @abstractmethod
    def send_metadata(
        self,
        kv_indices: Indices,
        aux_index: int | None = None,
        state_indices: list[Any] | None = None,
        decode_prefix_len: int | None = None,
        destination: Any = "device",
    ) -> None: ...

    @abstractmethod
    def poll(self) -> int: ...

    @abstractmethod
    def failure_exception(self) -> None: ...

    def clear(self) -> None:
        return None

    def abort(self) -> None:
        return None


class BaseKVBootstrapServer(ABC):
    @abstractmethod
    def __init__(self, host: str, port: int) -> None: ...
