"""What SGLang says of this engine: its model, and this rank's place in it. The only file that reads SGLang's runtime."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from kvferry import Identity, KvferryError

ELEMENTS = {
    "bfloat16": "bf16",
    "bf16": "bf16",
    "float16": "f16",
    "half": "f16",
    "float32": "f32",
    "float": "f32",
    "fp8_e4m3": "f8_e4m3",
    "float8_e4m3fn": "f8_e4m3",
    "fp8_e5m2": "f8_e5m2",
    "float8_e5m2": "f8_e5m2",
}


@dataclass(frozen=True, slots=True)
class Facts:
    model: str
    #: The model's KV heads over all ranks; 0 with MLA, whose ranks hold the same.
    total_kv_heads: int
    tp_rank: int = 0
    tp_size: int = 1
    dp_rank: int = 0
    dp_size: int = 1
    follow_room: bool = True
    revision: str = ""
    rope: str = ""
    quantization: str = ""
    #: Where this engine's bootstrap server listens.
    bootstrap_host: str = "127.0.0.1"
    bootstrap_port: int = 8998
    http_port: int = 0
    #: "cuda" or "cpu": where the KV pools lie.
    device: str = "cpu"

    @property
    def heads(self) -> tuple[int, int]:
        """First KV head of this rank, and how many."""
        return heads_of(self.total_kv_heads, self.tp_rank, self.tp_size)

    def identity(self, element: str, states: tuple[str, ...]) -> Identity:
        parts = (f"quantization={self.quantization}" if self.quantization else "", f"states={','.join(states)}")
        return Identity(
            model=self.model,
            revision=self.revision,
            element=element,
            rope=self.rope,
            extra=";".join(filter(None, parts)),
        )


def heads_of(total: int, rank: int, size: int) -> tuple[int, int]:
    """As SGLang shards them: whole heads, and copies of them where there are more ranks than heads."""
    if total == 0:
        return (0, 1)
    if size > total:
        return (rank * total // size, 1)
    return (rank * (total // size), total // size)


def element_of(cache_dtype: str) -> str:
    """ "u8" for types without a name in kvferry: they move as bytes, between equal ranks only."""
    return ELEMENTS.get(cache_dtype.removeprefix("torch."), "u8")


def facts_of(args: Any, server_args: Any, is_mla: bool, model: str) -> Facts:
    """Raises invalid_config for what this backend does not do."""
    from sglang.srt import runtime_context as runtime
    from sglang.srt.configs.model_config import ModelConfig

    parallel, disagg, serving = runtime.get_parallel(), runtime.get_disagg(), runtime.get_serving()
    _refuse_unsupported(parallel, disagg, args)
    config = ModelConfig.from_server_args(server_args)
    system_dp = parallel.dp_size > 1
    host = parallel.dist_init_addr.rsplit(":", 1)[0] if parallel.dist_init_addr else serving.host
    return Facts(
        model=model or PurePath(str(server_args.model_path)).name,
        revision=str(getattr(server_args, "revision", None) or ""),
        rope=_rope_of(config.hf_text_config),
        quantization=str(getattr(server_args, "quantization", None) or ""),
        total_kv_heads=0 if is_mla else int(config.get_total_num_kv_heads()),
        tp_rank=parallel.attn_tp_rank,
        tp_size=parallel.attn_tp_size,
        dp_rank=int(args.system_dp_rank or 0) if system_dp else parallel.attn_dp_rank,
        dp_size=parallel.dp_size if system_dp else parallel.attn_dp_size,
        follow_room=parallel.load_balance_method == "follow_bootstrap_room",
        # A wildcard is no address to connect to; its listener is there on the loopback address too.
        bootstrap_host={"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host.strip("[]"), host.strip("[]")),
        bootstrap_port=disagg.disaggregation_bootstrap_port,
        http_port=serving.port,
        device="cpu" if str(runtime.get_device().device).startswith("cpu") else "cuda",
    )


def _refuse_unsupported(parallel: Any, disagg: Any, args: Any) -> None:
    wrong = [
        what
        for what, present in (
            ("pipeline parallelism", parallel.pp_size > 1),
            ("context parallelism", parallel.attn_cp_size > 1 or parallel.attn_dcp_size > 1),
            ("a sharded KV cache", parallel.enable_kv_cache_sharding),
            ("the Rust server's registry", getattr(args, "rust_http_port", None) is not None),
            ("decode_allocation_policy=prefill_complete", disagg.disaggregation_decode_allocation_policy != "early"),
        )
        if present
    ]
    if wrong:
        raise KvferryError("invalid_config", f"kvferry's SGLang backend does not do {', '.join(wrong)}")


def _rope_of(config: Any) -> str:
    names = ("rope_theta", "rope_scaling", "rope_parameters", "max_position_embeddings", "partial_rotary_factor")
    values = {name: getattr(config, name) for name in names if getattr(config, name, None) is not None}
    return json.dumps(values, sort_keys=True, separators=(",", ":"), default=str)
