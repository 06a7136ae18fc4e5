"""A vLLM engine in one process for test/engines/vllm.test.ts: a command a line on standard input, an answer a line on standard output.

    in_process.py MODEL SOCKET STEP

{"text": "..."}                                     -> {"ids": [...]}
{"ids": [...], "count": 16, "params": {...} or null} -> {"tokens": [...], "params": {...} or null, "free": blocks free in vLLM's own cache}

STEP is the most tokens of a prompt that a step computes. Sums of floating-point numbers depend on the shape of the batch, so two runs
are only equal bit for bit where they compute a prompt in the same steps. An engine that has loaded a prompt's KV computes its last token,
alone; with a STEP of all tokens but one, every other run does that too.

Everything else that vLLM prints goes to standard error."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

# Before vLLM is imported. One thread that does not spin, because two engines share the cores.
os.environ.update(
    HF_HUB_OFFLINE="1",
    VLLM_NO_USAGE_STATS="1",
    VLLM_CPU_KVCACHE_SPACE="1",
    VLLM_CPU_OMP_THREADS_BIND="nobind",
    OMP_NUM_THREADS="1",
    OMP_WAIT_POLICY="PASSIVE",
    VLLM_ENABLE_V1_MULTIPROCESSING="0",
)
answers = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)

IDLE_S = 10.0


def transfer(socket: str) -> Any:
    from vllm.config import KVTransferConfig

    return KVTransferConfig(
        kv_connector="KvferryConnector",
        kv_connector_module_path="kvferry_vllm.connector",
        kv_role="kv_both",
        kv_load_failure_policy="recompute",
        kv_connector_extra_config={"socket": socket, "offer_timeout_s": 60, "load_timeout_s": 20},
    )


def free_blocks(engine: Any) -> int:
    """Once nothing runs any more; the engine frees blocks in the step after a request."""
    scheduler = engine.llm_engine.engine_core.engine_core.scheduler
    until = time.monotonic() + IDLE_S
    while scheduler.has_requests() and time.monotonic() < until:
        engine.llm_engine.step()
    return int(scheduler.kv_cache_manager.block_pool.get_num_free_blocks())


def main(model: str, socket: str, step_tokens: int) -> None:
    from vllm import LLM, SamplingParams

    engine = LLM(
        model=model,
        dtype="bfloat16",
        enforce_eager=True,
        max_model_len=1024,
        enable_prefix_caching=False,
        enable_chunked_prefill=True,
        max_num_batched_tokens=step_tokens,
        kv_transfer_config=transfer(socket),
    )
    answers.write(json.dumps({"ready": True, "free": free_blocks(engine)}) + "\n")
    for line in sys.stdin:
        command = json.loads(line)
        if "text" in command:
            answers.write(json.dumps({"ids": engine.get_tokenizer().encode(command["text"])}) + "\n")
            continue
        extra = {"kv_transfer_params": command["params"]} if command["params"] else None
        sampling = SamplingParams(temperature=0, max_tokens=command["count"], ignore_eos=True, extra_args=extra)
        output = engine.generate({"prompt_token_ids": command["ids"]}, sampling, use_tqdm=False)[0]
        answer = {
            "tokens": list(output.outputs[0].token_ids),
            "params": output.kv_transfer_params,
            "free": free_blocks(engine),
        }
        answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
