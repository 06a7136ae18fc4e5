"""What the workers count, for vLLM's log lines and its Prometheus metrics."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vllm.distributed.kv_transfer.kv_connector.v1.metrics import KVConnectorPromMetrics, KVConnectorStats
from vllm.v1.metrics.utils import create_metric_per_engine

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.distributed.kv_transfer.kv_connector.v1.metrics import PromMetric, PromMetricT

SECONDS_BUCKETS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0]


@dataclass
class KvferryStats(KVConnectorStats):
    """Lists, because several workers and steps are put together by appending."""

    def __post_init__(self) -> None:
        if not self.data:
            self.reset()

    def reset(self) -> None:
        self.data: dict[str, list[Any]] = {
            "load_seconds": [],
            "load_bytes": [],
            "wire_bytes": [],
            "save_bytes": [],
            "failed_loads": [],
            "failed_saves": [],
            "hook_seconds": [],
        }

    def loaded(self, seconds: float, size: int, wire_size: int) -> None:
        self.data["load_seconds"].append(seconds)
        self.data["load_bytes"].append(size)
        self.data["wire_bytes"].append(wire_size)

    def take(self) -> KvferryStats | None:
        """What was counted since the last call, or None."""
        if self.is_empty():
            return None
        taken = copy.copy(self)
        self.reset()
        return taken

    def is_empty(self) -> bool:
        return not any(self.data.values())

    def aggregate(self, other: KVConnectorStats) -> KVConnectorStats:
        for name, values in other.data.items():
            self.data.setdefault(name, []).extend(values)
        return self

    def reduce(self) -> dict[str, int | float]:
        loads = self.data["load_seconds"]
        seconds = sum(loads)
        megabytes = sum(self.data["load_bytes"]) / 1e6
        return {
            "KV loads": len(loads),
            "Avg load (ms)": round(1e3 * seconds / len(loads), 3) if loads else 0,
            "Loaded (MB)": round(megabytes, 3),
            "Load rate (MB/s)": round(megabytes / seconds, 1) if seconds > 0 else 0,
            "Saved (MB)": round(sum(self.data["save_bytes"]) / 1e6, 3),
            "Failed loads": len(self.data["failed_loads"]),
            "Failed saves": len(self.data["failed_saves"]),
            "Hooks (ms)": round(1e3 * sum(self.data["hook_seconds"]), 3),
        }


class KvferryPromMetrics(KVConnectorPromMetrics):
    def __init__(
        self,
        vllm_config: VllmConfig,
        metric_types: dict[type[PromMetric], type[PromMetricT]],
        labelnames: list[str],
        per_engine_labelvalues: dict[int, list[object]],
    ) -> None:
        super().__init__(vllm_config, metric_types, labelnames, per_engine_labelvalues)
        self._load_seconds = self._each(
            self._histogram_cls(
                name="vllm:kvferry_load_seconds",
                documentation="Seconds from a request for KV to all of it in the engine's blocks.",
                buckets=SECONDS_BUCKETS,
                labelnames=labelnames,
            )
        )
        self._counters = {
            "load_bytes": self._counter("load_bytes", "Bytes of KV that were loaded into the engine's blocks."),
            "wire_bytes": self._counter("wire_bytes", "Bytes that crossed a link for them."),
            "save_bytes": self._counter("save_bytes", "Bytes of KV that were copied into the pool."),
        }
        self._failures = {
            "failed_loads": self._counter("failed_loads", "Loads that failed; their prompts were computed instead."),
            "failed_saves": self._counter("failed_saves", "Prompts whose KV was not handed over or published."),
        }
        self._hook_seconds = self._counter("hook_seconds", "Seconds that the connector took from the model runner.")

    def observe(self, transfer_stats_data: dict[str, Any], engine_idx: int = 0) -> None:
        for seconds in transfer_stats_data.get("load_seconds", ()):
            self._load_seconds[engine_idx].observe(seconds)
        for name, counter in self._counters.items():
            counter[engine_idx].inc(sum(transfer_stats_data.get(name, ())))
        for name, counter in self._failures.items():
            counter[engine_idx].inc(len(transfer_stats_data.get(name, ())))
        self._hook_seconds[engine_idx].inc(sum(transfer_stats_data.get("hook_seconds", ())))

    def _counter(self, name: str, documentation: str) -> Any:
        return self._each(
            self._counter_cls(name=f"vllm:kvferry_{name}", documentation=documentation, labelnames=self._labelnames)
        )

    def _each(self, metric: Any) -> Any:
        return create_metric_per_engine(metric, self.per_engine_labelvalues)
