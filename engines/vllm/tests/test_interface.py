"""The connector against the interface of the vLLM that is installed, by itself and inside vLLM's MultiConnector."""

from __future__ import annotations

import copy
import inspect
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from vllm.config import KVTransferConfig
from vllm.distributed.kv_transfer.kv_connector.factory import KVConnectorFactory
from vllm.distributed.kv_transfer.kv_connector.v1.base import (
    KVConnectorBase_V1,
    KVConnectorHandshakeMetadata,
    KVConnectorRole,
    SupportsHMA,
    supports_hma,
)
from vllm.distributed.kv_transfer.kv_connector.v1.multi_connector import MultiConnector
from vllm.v1.kv_cache_interface import FullAttentionSpec
from vllm.v1.request import RequestStatus

from fakes import FakeSidecar, config, handshake, names, new, request, step
from kvferry_vllm import scheduler as module
from kvferry_vllm.connector import KvferryConnector

ABSTRACT = sorted(KVConnectorBase_V1.__abstractmethods__ | SupportsHMA.__abstractmethods__)
OURS = sorted(
    name
    for name, value in vars(KvferryConnector).items()
    if not name.startswith("_") and callable(getattr(value, "__func__", value))
)
EXTRA = {"socket": "/run/kvferry-that-is-not-there.sock"}
CHILD = {
    "kv_connector": "KvferryConnector",
    "kv_connector_module_path": "kvferry_vllm.connector",
    "kv_role": "kv_both",
    "kv_connector_extra_config": EXTRA,
}


def base_of(name: str) -> Any:
    return next(vars(base)[name] for base in (KVConnectorBase_V1, SupportsHMA) if name in vars(base))


@pytest.mark.parametrize("name", ABSTRACT)
def test_every_abstract_method_is_there(name: str) -> None:
    assert name in vars(KvferryConnector)
    assert not KvferryConnector.__abstractmethods__


@pytest.mark.parametrize("name", OURS)
def test_what_vllm_calls_has_the_parameters_that_it_passes(name: str) -> None:
    theirs = base_of(name)
    assert isinstance(theirs, classmethod) == isinstance(vars(KvferryConnector)[name], classmethod)
    expected = list(inspect.signature(getattr(theirs, "__func__", theirs)).parameters.values())
    own = vars(KvferryConnector)[name]
    given = list(inspect.signature(getattr(own, "__func__", own)).parameters.values())
    # By name and kind: vLLM passes some of them by name.
    assert [(part.name, part.kind) for part in given] == [(part.name, part.kind) for part in expected]
    assert [part.default is part.empty for part in given] == [part.default is part.empty for part in expected]


def test_vllm_finds_it_by_its_module_and_takes_it_for_models_with_several_kinds_of_kv() -> None:
    found = KVConnectorFactory.get_connector_class(KVTransferConfig(**CHILD))
    assert found is KvferryConnector and supports_hma(found)
    assert KVConnectorFactory.supports_hma_config(KVTransferConfig(**CHILD))
    assert KvferryConnector.requires_piecewise_for_cudagraph(EXTRA)


def test_inside_a_multi_connector_its_statistics_are_understood_wherever_they_are_read() -> None:
    """vLLM's processes pass them on as plain data, beside the name of the class."""
    stats = KvferryConnector.build_kv_connector_stats()
    stats.loaded(0.5, 10**6, 10**6)  # type: ignore[union-attr]
    read = MultiConnector.build_kv_connector_stats({"KvferryConnector": stats.data})  # type: ignore[union-attr]
    assert read is not None and read.reduce()["KvferryConnector"]["KV loads"] == 1


def test_statistics_are_put_together_and_summed_up() -> None:
    stats = KvferryConnector.build_kv_connector_stats()
    other = copy.deepcopy(stats)
    stats.loaded(0.5, 10**6, 10**6)  # type: ignore[union-attr]
    other.loaded(0.5, 3 * 10**6, 10**6)  # type: ignore[union-attr]
    total = KvferryConnector.build_kv_connector_stats(data=stats.aggregate(other).data)  # type: ignore[union-attr, arg-type]
    assert total is not None and total.reduce()["KV loads"] == 2 and total.reduce()["Load rate (MB/s)"] == 4.0
    assert other.take() is not None and other.take() is None  # type: ignore[union-attr]


def vllm_config(transfer: KVTransferConfig) -> Any:
    """What the connectors read of it."""
    return SimpleNamespace(
        kv_transfer_config=transfer,
        scheduler_config=SimpleNamespace(disable_hybrid_kv_cache_manager=False),
        parallel_config=SimpleNamespace(rank=0, tensor_parallel_size=1, pipeline_parallel_size=1),
    )


def caches_config() -> Any:
    spec = FullAttentionSpec(block_size=16, num_kv_heads=2, head_size=64, dtype=torch.bfloat16)
    return config(8, (names(1), spec))


@pytest.fixture
def multi(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(module, "Sidecar", FakeSidecar)
    children = {"connectors": [copy.deepcopy(CHILD), copy.deepcopy(CHILD)]}
    transfer = KVTransferConfig(kv_connector="MultiConnector", kv_role="kv_both", kv_connector_extra_config=children)
    made = MultiConnector(vllm_config(transfer), KVConnectorRole.SCHEDULER, caches_config())
    assert [type(part) for part in made.sub_connectors] == [KvferryConnector, KvferryConnector]
    yield made
    made.shutdown()


def test_inside_vllms_multi_connector_each_request_is_saved_by_all_and_answered_once(multi: Any) -> None:
    multi.set_xfer_handshake_metadata_pp_aware({(0, 0): handshake()})
    asked = request("r", range(40), {"do_remote_decode": True})
    asked.status = RequestStatus.FINISHED_LENGTH_CAPPED
    # One of the two, as when the other has nothing to say about a request.
    multi.sub_connectors[0].on_new_request(asked)
    assert multi.get_num_new_matched_tokens(asked, 0) == (0, False)
    metadata = multi.build_connector_meta(step({"r": 40}, [new("r", [[1, 2, 3]])]))
    assert [len(part.saves) for part in metadata.metadata] == [1, 0]
    held, params = multi.request_finished_all_groups(asked, ([1, 2, 3],))
    assert not held and params is not None and params["do_remote_prefill"] is True


def test_shutting_down_twice_is_once(multi: Any) -> None:
    multi.set_xfer_handshake_metadata_pp_aware({(0, 0): handshake()})
    sidecars = [part._scheduler._ranks[0][1] for part in multi.sub_connectors]
    multi.shutdown()
    assert all(part.closed >= 1 for part in sidecars)


def test_a_real_connection_that_is_over_is_closed_without_a_word() -> None:
    """At the end of the interpreter the client's loop ends before vLLM shuts the scheduler down."""
    connector = KvferryConnector(vllm_config(KVTransferConfig(**CHILD)), KVConnectorRole.SCHEDULER, caches_config())
    connector.set_xfer_handshake_metadata_pp_aware({(0, 0): handshake()})
    connector._scheduler._thread.stop()  # type: ignore[union-attr]
    connector.shutdown()
    connector.shutdown()


def test_pipeline_parallelism_is_refused() -> None:
    connector = KvferryConnector(vllm_config(KVTransferConfig(**CHILD)), KVConnectorRole.SCHEDULER, caches_config())
    with pytest.raises(ValueError, match="pipeline"):
        connector.set_xfer_handshake_metadata_pp_aware({(0, 0): handshake(), (1, 0): handshake()})
    connector.shutdown()


def test_behind_another_connector_that_exchanges_something_it_says_so() -> None:
    connector = KvferryConnector(vllm_config(KVTransferConfig(**CHILD)), KVConnectorRole.SCHEDULER, caches_config())
    with pytest.raises(ValueError, match="must be the first"):
        connector.set_xfer_handshake_metadata_pp_aware({(0, 0): KVConnectorHandshakeMetadata()})
    connector.shutdown()
