"""A vLLM engine in one process for test/engines/vllm*.test.ts: a command a line on standard input, an answer a line on standard output.

    in_process.py MODEL SOCKET STEP [OPTIONS]

{"text": "..."}                                      -> {"ids": [...]}
{"ids": [...], "count": 16, "params": {...} or null,
 "headers": {...}, "watch": true}                    -> {"tokens": [...], "params": {...} or null, "loads": so far,
                                                         "free": blocks free in vLLM's own cache, "logprobs": [...], "seen": {...}}

STEP is the most tokens of a prompt that a step computes. Sums of floating-point numbers depend on the shape of the batch, so two runs
are only equal bit for bit where they compute a prompt in the same steps. An engine that has loaded a prompt's KV computes its last token,
alone; where the others of its tokens are a multiple of STEP, every other run does that too.

OPTIONS, as JSON: "made": the model is a configuration alone, see made_weights.py; "beside": a folder for vLLM's ExampleConnector, which
then stands beside ours in a MultiConnector; "connector": further options of ours; "engine": further arguments of vLLM's.

"watch" adds the logarithms of the probabilities of every possible first token, and what the caches hold (watched.py), which only
an engine without workers of its own can say.

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


def transfer(socket: str, options: dict[str, Any]) -> Any:
    from vllm.config import KVTransferConfig

    beside = options.get("beside")
    connector = {"socket": socket, "offer_timeout_s": 60, "load_timeout_s": 20, **options.get("connector", {})}
    ours = {
        "kv_connector": "KvferryConnector",
        "kv_connector_module_path": "kvferry_vllm.connector",
        "kv_role": "kv_both",
        "kv_load_failure_policy": "recompute",
        "kv_connector_extra_config": connector,
    }
    if beside is None:
        return KVTransferConfig(**ours)
    other = {
        "kv_connector": "ExampleConnector",
        "kv_role": "kv_both",
        "kv_connector_extra_config": {"shared_storage_path": beside},
    }
    return KVTransferConfig(
        kv_connector="MultiConnector",
        kv_role="kv_both",
        kv_load_failure_policy="recompute",
        kv_connector_extra_config={"connectors": [ours, other]},
    )


def build(model: str, socket: str, step_tokens: int, options: dict[str, Any]) -> Any:
    import torch
    from vllm import LLM

    # vLLM leaves it to the first large product to ask the kernel for AMX, and a small model's first may be its attention's own, which
    # ends the process (SIGILL) where a prompt of one token comes first, or one all but whose last token has been loaded.
    torch.cpu._init_amx()
    arguments = {
        "dtype": "bfloat16",
        "enforce_eager": True,
        "max_model_len": 1024,
        "max_logprobs": -1,
        "enable_prefix_caching": False,
        "enable_chunked_prefill": True,
        "max_num_batched_tokens": step_tokens,
        "disable_log_stats": False,
    }
    if options.get("made"):
        import made_weights

        arguments.update(load_format=made_weights.FORMAT)
    arguments.update(options.get("engine", {}))
    return LLM(model=model, kv_transfer_config=transfer(socket, options), **arguments)


def free_blocks(engine: Any) -> int:
    """Once nothing runs any more; the engine frees blocks in the step after a request."""
    scheduler = engine.llm_engine.engine_core.engine_core.scheduler
    until = time.monotonic() + IDLE_S
    while scheduler.has_requests() and time.monotonic() < until:
        engine.llm_engine.step()
    return int(scheduler.kv_cache_manager.block_pool.get_num_free_blocks())


def loads(engine: Any) -> int:
    """By vLLM's own metrics, so these are tested as well."""
    return sum(metric.count for metric in engine.get_metrics() if metric.name == "vllm:kvferry_load_seconds")


def run(engine: Any, command: dict[str, Any]) -> dict[str, Any]:
    from vllm import SamplingParams

    watch = command.get("watch", False)
    sampling = SamplingParams(
        temperature=0,
        max_tokens=command["count"],
        ignore_eos=True,
        logprobs=-1 if watch else None,
        detokenize=not watch,
        extra_args={"kv_transfer_params": command["params"]} if command["params"] else None,
    )
    name = engine.llm_engine.add_request(
        "asked", {"prompt_token_ids": command["ids"]}, sampling, trace_headers=command.get("headers")
    )
    watched = None
    if watch and engine.llm_engine.vllm_config.parallel_config.world_size == 1:
        from watched import Watched

        watched = Watched(engine.llm_engine, name, len(command["ids"]))
    finished = []
    while engine.llm_engine.has_unfinished_requests():
        finished += [output for output in engine.llm_engine.step() if output.finished]
    (output,) = finished
    answer = {
        "tokens": list(output.outputs[0].token_ids),
        "params": output.kv_transfer_params,
        "free": free_blocks(engine),
        "loads": loads(engine),
    }
    if watch:
        first = output.outputs[0].logprobs[0]
        answer["logprobs"] = [first[token].logprob for token in range(len(first))]
        answer["seen"] = None if watched is None else watched.seen()
    return answer


def main(model: str, socket: str, step_tokens: int, options: dict[str, Any]) -> None:
    engine = build(model, socket, step_tokens, options)
    answers.write(json.dumps({"ready": True, "free": free_blocks(engine)}) + "\n")
    for line in sys.stdin:
        command = json.loads(line)
        answer = {"ids": engine.get_tokenizer().encode(command["text"])} if "text" in command else run(engine, command)
        answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4]) if len(sys.argv) > 4 else {})
