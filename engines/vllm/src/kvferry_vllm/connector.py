"""The class that vLLM loads, as README.md says: KvferryConnector out of the module kvferry_vllm.connector.

It is built twice: once beside the scheduler, once in each worker. This file only says who answers which of vLLM's questions; scheduler.py
and worker.py answer them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import torch
from vllm import __version__ as vllm_version

from .versions import check_version, without_interface

try:
    from vllm.distributed.kv_transfer.kv_connector.factory import KVConnectorFactory
    from vllm.distributed.kv_transfer.kv_connector.v1.base import (
        KVConnectorBase_V1,
        KVConnectorHandshakeMetadata,
        KVConnectorMetadata,
        KVConnectorRole,
        KVConnectorTransferResults,
        SupportsHMA,
    )
    from vllm.v1.request import RequestStatus
except ImportError as error:
    raise without_interface(vllm_version, error) from error

from .identity import identity_of
from .layout import Heads, attention_cache, map_caches
from .metadata import Metadata
from .options import Options
from .scheduler import Scheduler
from .shape import Handshake
from .stats import KvferryPromMetrics, KvferryStats
from .worker import Worker

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.distributed.kv_transfer.kv_connector.v1.metrics import (
        KVConnectorPromMetrics,
        KVConnectorStats,
        PromMetric,
        PromMetricT,
    )
    from vllm.forward_context import ForwardContext
    from vllm.v1.core.kv_cache_manager import KVCacheBlocks
    from vllm.v1.core.sched.output import SchedulerOutput
    from vllm.v1.kv_cache_interface import KVCacheConfig
    from vllm.v1.request import Request

log = logging.getLogger("vllm.kvferry")


class KvferryConnector(KVConnectorBase_V1, SupportsHMA):
    def __init__(self, vllm_config: VllmConfig, role: KVConnectorRole, kv_cache_config: KVCacheConfig) -> None:
        transfer = vllm_config.kv_transfer_config
        assert transfer is not None
        self._options = Options.parse(transfer.kv_connector_extra_config or {})
        # Before anything of vLLM's is called.
        check_version(vllm_version, self._options.allow_untested_vllm)
        super().__init__(vllm_config, role, kv_cache_config)
        self._config = vllm_config
        self._caches_config = kv_cache_config
        self._handshake: Handshake | None = None
        self._scheduler: Scheduler | None = None
        self._worker: Worker | None = None
        if role == KVConnectorRole.SCHEDULER:
            self._scheduler = Scheduler(self._options, kv_cache_config.transfer_group_ids)

    # In each worker.

    def register_kv_caches(self, kv_caches: dict[str, torch.Tensor]) -> None:
        rank, heads = _heads_of(self._config)
        isa = _isa_of(attention_cache(kv_caches, self._caches_config), self._config)
        caches = map_caches(kv_caches, self._caches_config, heads, isa, self._options.unpack)
        identity = identity_of(self._config, self._options, caches.element, caches.packing)
        self._handshake = Handshake(identity, caches.shape, heads.first, heads.count)
        self._worker = Worker(self._options, rank, heads)
        self._worker.start(caches, identity)

    def get_handshake_metadata(self) -> KVConnectorHandshakeMetadata | None:
        return self._handshake

    def bind_connector_metadata(self, connector_metadata: KVConnectorMetadata) -> None:
        super().bind_connector_metadata(connector_metadata)
        if self._worker is not None:
            self._worker.begin(self._metadata())

    def start_load_kv(self, forward_context: ForwardContext, **kwargs: Any) -> None:
        if self._worker is not None:
            self._worker.load(self._metadata())

    def wait_for_layer_load(self, layer_name: str) -> None:
        """Loads are complete before their request is scheduled."""

    def save_kv_layer(self, layer_name: str, kv_layer: torch.Tensor, attn_metadata: Any, **kwargs: Any) -> None:
        if self._worker is not None:
            self._worker.save_layer(layer_name, self._metadata())

    def wait_for_save(self) -> None:
        if self._worker is not None:
            self._worker.end_step(self._metadata())

    def get_finished(self, finished_req_ids: set[str]) -> tuple[set[str] | None, set[str] | None]:
        results = self.get_transfer_results(finished_req_ids)
        return results.finished_sending, results.finished_recving

    def get_transfer_results(self, finished_req_ids: set[str]) -> KVConnectorTransferResults:
        """Nothing is ever sent from the engine's own blocks, so none of them waits for a transfer to end."""
        if self._worker is None:
            return KVConnectorTransferResults()
        received, failed = self._worker.results(idle=self._metadata().idle)
        return KVConnectorTransferResults(finished_recving=received, failed_recving=failed)

    def get_kv_connector_stats(self) -> KVConnectorStats | None:
        return None if self._worker is None else self._worker.stats.take()

    def shutdown(self) -> None:
        if self._worker is not None:
            self._worker.close()
        if self._scheduler is not None:
            self._scheduler.close()

    # Beside the scheduler.

    def set_xfer_handshake_metadata_pp_aware(
        self, metadata: dict[tuple[int, int], KVConnectorHandshakeMetadata]
    ) -> None:
        ranks = {tensor: shake for (pipeline, tensor), shake in metadata.items() if pipeline == 0}
        if len(ranks) != len(metadata):
            raise ValueError("kvferry moves KV of engines without pipeline parallelism")
        if not all(isinstance(shake, Handshake) for shake in ranks.values()):
            # vLLM's MultiConnector passes on what the first of its connectors says that says anything.
            raise ValueError(
                "of MultiConnector's connectors, KvferryConnector must be the first that exchanges anything between workers"
            )
        self._the_scheduler().meet([shake for _, shake in sorted(ranks.items()) if isinstance(shake, Handshake)])

    def on_new_request(self, request: Request) -> None:
        self._the_scheduler().new_request(request)

    def get_num_new_matched_tokens(self, request: Request, num_computed_tokens: int) -> tuple[int | None, bool]:
        return self._the_scheduler().matched_tokens(request, num_computed_tokens)

    def get_loaded_kv_cache_group_ids(self, request: Request) -> tuple[int, ...]:
        return tuple(self._caches_config.transfer_group_ids)

    def update_state_after_alloc(self, request: Request, blocks: KVCacheBlocks, num_external_tokens: int) -> None:
        self._the_scheduler().allocated(request, blocks.get_block_ids(), num_external_tokens)

    def build_connector_meta(self, scheduler_output: SchedulerOutput) -> KVConnectorMetadata:
        return self._the_scheduler().step(scheduler_output)

    def request_finished(self, request: Request, block_ids: list[int]) -> tuple[bool, dict[str, Any] | None]:
        return self.request_finished_all_groups(request, (block_ids,))

    def request_finished_all_groups(
        self, request: Request, block_ids: tuple[list[int], ...]
    ) -> tuple[bool, dict[str, Any] | None]:
        complete = request.status in (RequestStatus.FINISHED_STOPPED, RequestStatus.FINISHED_LENGTH_CAPPED)
        return False, self._the_scheduler().finished(request, complete)

    # Of the class.

    @classmethod
    def requires_piecewise_for_cudagraph(cls, extra_config: dict[str, Any]) -> bool:
        """Layers are saved one by one, between the pieces."""
        return True

    @classmethod
    def build_kv_connector_stats(cls, data: dict[str, Any] | None = None) -> KVConnectorStats | None:
        return KvferryStats(data=data) if data is not None else KvferryStats()

    @classmethod
    def build_prom_metrics(
        cls,
        vllm_config: VllmConfig,
        metric_types: dict[type[PromMetric], type[PromMetricT]],
        labelnames: list[str],
        per_engine_labelvalues: dict[int, list[object]],
    ) -> KVConnectorPromMetrics | None:
        return KvferryPromMetrics(vllm_config, metric_types, labelnames, per_engine_labelvalues)

    def _metadata(self) -> Metadata:
        metadata = self._get_connector_metadata()
        assert isinstance(metadata, Metadata)
        return metadata

    def _the_scheduler(self) -> Scheduler:
        assert self._scheduler is not None
        return self._scheduler


def _heads_of(config: VllmConfig) -> tuple[int, Heads]:
    """This worker's rank, and its part of the model's KV heads; ranks beyond the number of heads hold copies."""
    parallel = config.parallel_config
    if parallel.pipeline_parallel_size > 1:
        raise ValueError("kvferry moves KV of engines without pipeline parallelism")
    ranks = parallel.tensor_parallel_size
    rank = parallel.rank % ranks
    total = config.model_config.get_total_num_kv_heads()
    if total >= ranks:
        count = total // ranks
        return rank, Heads(rank * count, count)
    return rank, Heads(rank * total // ranks, 1)


def _isa_of(attention: torch.Tensor | None, config: VllmConfig) -> str:
    """How the CPU backend's kernels arrange a block of keys and values, by their own answer; "" elsewhere."""
    if attention is None or attention.device.type != "cpu" or attention.dim() != 4:
        return ""
    from vllm.v1.attention.backends.cpu_attn import _get_attn_isa

    return str(
        _get_attn_isa(attention.dtype, attention.shape[2], attention.shape[3] // 2, config.cache_config.cache_dtype)
    )


def _register() -> None:
    """vLLM's MultiConnector looks up by name who understands its connectors' statistics, and finds none that came by a module's path."""
    try:
        KVConnectorFactory.register_connector(KvferryConnector.__name__, __name__, KvferryConnector.__name__)
    except ValueError as error:
        log.debug("kvferry: %s", error)


_register()
