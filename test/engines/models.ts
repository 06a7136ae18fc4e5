/**
 * Small models of vLLM's architectures: a configuration alone, whose weights engines/vllm/tests/made_weights.py makes up as an engine loads
 * it, or made_checkpoint.py before, where an engine's layers do not begin as a model's do.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { VllmPlace } from "../../bench/engines/vllm.ts";
import { ROOT } from "../../engines/demo/processes.ts";

export const VOCABULARY = 1024;
const CHECKPOINT_MS = 120_000;

const COMMON = {
  vocab_size: VOCABULARY,
  hidden_size: 256,
  intermediate_size: 512,
  num_attention_heads: 4,
  max_position_embeddings: 2048,
  torch_dtype: "bfloat16",
  bos_token_id: 1,
  eos_token_id: 2,
  pad_token_id: 0,
};

/** Keys and values alone. Two KV heads, so that two ranks have one each. */
const DENSE = {
  ...COMMON,
  model_type: "llama",
  architectures: ["LlamaForCausalLM"],
  num_hidden_layers: 4,
  num_key_value_heads: 2,
  head_dim: 64,
  hidden_act: "silu",
  rms_norm_eps: 1e-5,
  rope_theta: 10_000,
  tie_word_embeddings: false,
};

/** Three cache groups, two of them with a window. */
const WINDOWS = {
  ...COMMON,
  model_type: "gemma3_text",
  architectures: ["Gemma3ForCausalLM"],
  num_hidden_layers: 6,
  num_key_value_heads: 2,
  head_dim: 64,
  query_pre_attn_scalar: 64,
  sliding_window: 128,
  layer_types: ["sliding_attention", "sliding_attention", "full_attention", "sliding_attention", "sliding_attention", "full_attention"],
  hidden_activation: "gelu_pytorch_tanh",
  rms_norm_eps: 1e-6,
  tie_word_embeddings: true,
};

/** One head of 512 + 64 latent values a token. All layers are dense, because experts are none of KV's business. */
const LATENT = {
  ...COMMON,
  model_type: "deepseek_v2",
  architectures: ["DeepseekV2ForCausalLM"],
  num_hidden_layers: 3,
  first_k_dense_replace: 3,
  num_key_value_heads: 4,
  q_lora_rank: null,
  kv_lora_rank: 512,
  qk_rope_head_dim: 64,
  qk_nope_head_dim: 64,
  v_head_dim: 64,
  moe_intermediate_size: 64,
  n_routed_experts: 2,
  n_shared_experts: 1,
  num_experts_per_tok: 1,
  n_group: 1,
  topk_group: 1,
  topk_method: "greedy",
  hidden_act: "silu",
  rms_norm_eps: 1e-6,
  rope_theta: 10_000,
  tie_word_embeddings: false,
};

/** A group of state, which short convolutions leave behind, and one of attention. */
const STATE = {
  ...COMMON,
  model_type: "lfm2",
  architectures: ["Lfm2ForCausalLM"],
  num_hidden_layers: 4,
  layer_types: ["conv", "conv", "full_attention", "full_attention"],
  num_key_value_heads: 2,
  conv_L_cache: 3,
  conv_bias: false,
  conv_dim: 256,
  block_dim: 256,
  block_ff_dim: 512,
  block_auto_adjust_ff_dim: false,
  block_multiple_of: 256,
  block_ffn_dim_multiplier: 1,
  norm_eps: 1e-5,
  rope_theta: 10_000,
  tie_word_embeddings: true,
};

/** Mamba 2's state, of a convolution and of a recurrence, in three layers, and one of attention. */
const MAMBA = {
  ...COMMON,
  model_type: "granitemoehybrid",
  architectures: ["GraniteMoeHybridForCausalLM"],
  num_hidden_layers: 4,
  layer_types: ["mamba", "mamba", "attention", "mamba"],
  num_key_value_heads: 2,
  num_local_experts: 0,
  num_experts_per_tok: 0,
  shared_intermediate_size: 512,
  position_embedding_type: "rope",
  hidden_act: "silu",
  attention_bias: false,
  attention_multiplier: 0.125,
  embedding_multiplier: 1,
  residual_multiplier: 1,
  logits_scaling: 1,
  mamba_chunk_size: 64,
  mamba_conv_bias: true,
  mamba_d_conv: 4,
  mamba_d_head: 32,
  mamba_d_state: 64,
  mamba_expand: 2,
  mamba_n_groups: 1,
  mamba_n_heads: 16,
  mamba_proj_bias: false,
  rms_norm_eps: 1e-5,
  rope_theta: 10_000,
  tie_word_embeddings: false,
};

/** Gated DeltaNet's state in three layers, and one of attention. vLLM wants at least one layer of experts. */
const DELTA = {
  ...COMMON,
  model_type: "qwen3_next",
  architectures: ["Qwen3NextForCausalLM"],
  num_hidden_layers: 4,
  layer_types: ["linear_attention", "linear_attention", "linear_attention", "full_attention"],
  num_key_value_heads: 2,
  head_dim: 64,
  linear_conv_kernel_dim: 4,
  linear_key_head_dim: 64,
  linear_value_head_dim: 64,
  linear_num_key_heads: 2,
  linear_num_value_heads: 4,
  mlp_only_layers: [0, 1, 2],
  decoder_sparse_step: 1,
  num_experts: 2,
  num_experts_per_tok: 1,
  moe_intermediate_size: 64,
  shared_expert_intermediate_size: 64,
  partial_rotary_factor: 0.25,
  attention_bias: false,
  hidden_act: "silu",
  rms_norm_eps: 1e-6,
  rope_theta: 10_000,
  tie_word_embeddings: false,
};

const MODELS = { dense: DENSE, windows: WINDOWS, latent: LATENT, state: STATE, mamba: MAMBA, delta: DELTA };

/** The folder that vLLM is given. */
export function writeModel(folder: string, name: keyof typeof MODELS): string {
  const path = join(folder, name);
  mkdirSync(path, { recursive: true });
  writeFileSync(join(path, "config.json"), JSON.stringify(MODELS[name]));
  return path;
}

/** The same, with weights in a file. */
export function writeCheckpoint(place: VllmPlace, folder: string, name: keyof typeof MODELS): string {
  const path = writeModel(folder, name);
  const script = join(ROOT, "engines/vllm/tests/made_checkpoint.py");
  const { status, stderr } = spawnSync(place.python, [script, path], {
    encoding: "utf8",
    env: { ...process.env, HF_HUB_OFFLINE: "1" },
    timeout: CHECKPOINT_MS,
  });
  assert.equal(status, 0, stderr);
  return path;
}
