"""One for each rank: the sidecar's client, and on the prefill side the door for claims."""

from __future__ import annotations

import logging
import socket
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any

from kvferry import KvferryError

from . import directory
from .claims import Claims
from .contract import BaseKVManager
from .directory import Topology
from .facts import Facts, facts_of
from .layout import cache_map
from .node import Node
from .options import Options

log = logging.getLogger("sglang.kvferry")

REGISTER_ATTEMPTS = 5
REGISTER_DELAY_S = 1.0
#: How long the scheduler waits for a bootstrap server that it has not talked to. It asks again after a second.
TOPOLOGY_WAIT_S = 0.5
HTTP_THREADS = 4


class KvferryKVManager(BaseKVManager):
    #: SGLang's scheduler asks for these.
    enable_all_cp_ranks_for_transfer = False
    is_dummy_cp_rank = False
    supports_role_switch = True

    def __init__(
        self,
        args: Any,
        disaggregation_mode: Any,
        server_args: Any,
        is_mla_backend: bool | None = False,
        *,
        facts: Facts | None = None,
        options: Options | None = None,
    ) -> None:
        """Raises KvferryError: SGLang then does not start. `facts` and `options` are found out, except in tests."""
        self.kv_args = args
        self.is_mla_backend = bool(is_mla_backend)
        self.options = options or Options.from_environment()
        self.facts = facts or facts_of(args, server_args, self.is_mla_backend, self.options.model)
        self.mode = str(getattr(disaggregation_mode, "value", disaggregation_mode))
        if self.mode not in ("prefill", "decode"):
            raise KvferryError("invalid_config", f"Expected prefill or decode but received {self.mode}")
        #: By bootstrap address; SGLang's decode scheduler looks into it.
        self.prefill_info_table: dict[str, Topology] = {}
        #: SGLang's prefill scheduler looks for rooms with staging in it: this backend has none.
        self.transfer_infos: dict[int, Any] = {}
        self.requests = ThreadPoolExecutor(HTTP_THREADS, "kvferry bootstrap")
        self._asking: dict[str, Future[Topology]] = {}
        self._lock = threading.Lock()
        cut = cache_map(args, self.facts, self.is_mla_backend)
        socket_path = self.options.socket_of(self.facts.tp_rank)
        self.node = Node(
            socket_path, f"sglang {self.mode} {self.facts.tp_rank}", cut, self._identity(cut.element, cut.states)
        )
        self.claims = Claims(self.node.identity.fingerprint, args.page_size, self.options.bootstrap_timeout_s)
        if self.mode == "prefill":
            try:
                self.register_to_bootstrap()
            except BaseException:
                self.teardown()
                raise
        log.info("kvferry: %s rank %d over %s", self.mode, self.facts.tp_rank, socket_path)

    def register_to_bootstrap(self) -> None:
        """Raises connect_failed after five attempts: an engine that nobody finds is of no use."""
        self.node.wait(self.node.address())
        host = self.options.host or own_address(self.facts.bootstrap_host)
        port = self.node.wait(self.claims.start(host))
        facts = self.facts
        message = {
            "attn_tp_size": facts.tp_size,
            "attn_tp_rank": facts.tp_rank,
            "dp_size": facts.dp_size,
            "dp_rank": facts.dp_rank,
            "page_size": self.kv_args.page_size,
            "kv_cache_dtype": str(self.kv_args.kv_cache_dtype_str).removeprefix("torch."),
            "follow_bootstrap_room": facts.follow_room,
            "prefill_http_port": facts.http_port,
            "rank_ip": host,
            "rank_port": port,
            "token": self.claims.token,
        }
        for attempt in range(REGISTER_ATTEMPTS):
            try:
                directory.put_rank(f"[{facts.bootstrap_host}]:{facts.bootstrap_port}", message)
                return
            except KvferryError as error:
                if error.code != "connect_failed" or attempt == REGISTER_ATTEMPTS - 1:
                    raise
                log.info("kvferry: attempt %d to register: %s", attempt + 1, error)
            time.sleep(REGISTER_DELAY_S * (attempt + 1))

    def try_ensure_parallel_info(self, bootstrap_addr: str) -> bool:
        """Whether the prefill engine is known. Asks it in the background; SGLang asks here again."""
        if bootstrap_addr in self.prefill_info_table:
            return True
        with self._lock:
            asking = self._asking.get(bootstrap_addr)
            if asking is None:
                asking = self._asking[bootstrap_addr] = self.requests.submit(self._ask, bootstrap_addr)
        try:
            topology = asking.result(TOPOLOGY_WAIT_S)
        except (FutureTimeoutError, TimeoutError):
            return False
        except KvferryError as error:
            log.warning("kvferry: the prefill engine at %s: %s", bootstrap_addr[:256], error)
            self._forget(bootstrap_addr)
            return False
        self.prefill_info_table[bootstrap_addr] = topology
        self._forget(bootstrap_addr)
        return True

    def forget(self, bootstrap_addr: str) -> None:
        """After a failure: the engine there may be another one by now."""
        self.prefill_info_table.pop(bootstrap_addr, None)

    def should_verify_kv_checksum(self, bootstrap_addr: str) -> bool:
        known = self.prefill_info_table.get(bootstrap_addr)
        return known is not None and known.attn_tp_size == self.facts.tp_size

    def submit_prefill_recompute(self, kv_receiver: Any, _payload: Any) -> None:
        """Retraction that computes at the prefill engine again is not done here; the request ends with an error."""
        kv_receiver.fail(KvferryError("unsupported", "kvferry does not ask a prefill engine to compute again"))

    def _ensure_prefill_recompute_executor(self) -> ThreadPoolExecutor:
        # SGLang's decode scheduler asks for data-parallel ranks of rooms in it.
        return self.requests

    def teardown(self) -> None:
        """Gives everything back. The engine's own pools are the engine's."""
        if not self.node.loop.is_closed():
            self.node.wait(self.claims.close())
        self.node.close()
        self.requests.shutdown(wait=True, cancel_futures=True)

    def _identity(self, element: str, states: tuple[str, ...]) -> Any:
        dtype = str(self.kv_args.kv_cache_dtype_str).removeprefix("torch.")
        layout = getattr(self.kv_args, "kv_layout", None)
        return self.facts.identity(element if element != "u8" else dtype, (*states, *([layout] if layout else [])))

    def _ask(self, bootstrap_addr: str) -> Topology:
        self.options.check_host(directory.split_address(bootstrap_addr)[0])
        topology = directory.fetch_topology(bootstrap_addr)
        if topology.page_size != self.kv_args.page_size:
            raise KvferryError(
                "layout_unconvertible", f"pages of {topology.page_size} tokens there, of {self.kv_args.page_size} here"
            )
        return topology

    def _forget(self, bootstrap_addr: str) -> None:
        with self._lock:
            self._asking.pop(bootstrap_addr, None)


def own_address(towards: str) -> str:
    """This host's address on the way to the bootstrap server; nothing is sent."""
    family = socket.AF_INET6 if ":" in towards else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((towards, 9))
        except OSError as cause:
            raise KvferryError(
                "address_unavailable", f"no way to {towards}: {cause}; set KVFERRY_SGLANG_HOST"
            ) from cause
        return str(probe.getsockname()[0])
