/** KV shapes of real models, from their published configurations; two bytes a value (bf16). */

export interface ModelShape {
  /** As people write it. */
  readonly title: string;
  readonly layers: number;
  /** MLA: one latent a token instead of K and V. */
  readonly kind: "kv" | "mla";
  readonly kvHeads: number;
  /** Values per head and token, of K or of V; of the latent with its RoPE part. */
  readonly channels: number;
  readonly elementBytes: number;
}

export const MODELS = {
  "llama3-8b": { title: "Llama-3.1-8B", layers: 32, kind: "kv", kvHeads: 8, channels: 128, elementBytes: 2 },
  "llama3-70b": { title: "Llama-3.1-70B", layers: 80, kind: "kv", kvHeads: 8, channels: 128, elementBytes: 2 },
  "qwen2.5-7b": { title: "Qwen2.5-7B", layers: 28, kind: "kv", kvHeads: 4, channels: 128, elementBytes: 2 },
  "deepseek-v3-mla": { title: "DeepSeek-V3", layers: 61, kind: "mla", kvHeads: 1, channels: 576, elementBytes: 2 },
  "smollm2-135m": { title: "SmolLM2-135M", layers: 30, kind: "kv", kvHeads: 3, channels: 64, elementBytes: 2 },
} as const satisfies Record<string, ModelShape>;

export type ModelName = keyof typeof MODELS;

export interface KvSlice {
  readonly model: ModelName;
  readonly tokens: number;
  /** Ways of tensor parallelism: this rank holds kvHeads / tp of the heads, at least one. A latent is whole on every rank. */
  readonly tensorParallel: number;
  readonly blockTokens: number;
}

/** The same of a model that need not be one of these. */
export interface ShapedSlice extends Omit<KvSlice, "model"> {
  readonly model: ModelName | ModelShape;
}

export function shapeOf({ model }: Pick<ShapedSlice, "model">): ModelShape {
  return typeof model === "string" ? MODELS[model] : model;
}

/** The canonical workload: what a prompt of 2,048 tokens leaves behind in Llama-3.1-8B. */
export const CANONICAL: KvSlice = { model: "llama3-8b", tokens: 2_048, tensorParallel: 1, blockTokens: 16 };

export function headsOf(slice: ShapedSlice): number {
  const { kind, kvHeads } = shapeOf(slice);
  return kind === "mla" ? 1 : Math.max(1, Math.floor(kvHeads / slice.tensorParallel));
}

/** The slice as runs of memory, as a paged cache with one tensor for each layer and component holds it. */
export function runsOf(slice: ShapedSlice): { readonly runs: number; readonly runBytes: number } {
  const { layers, kind, channels, elementBytes } = shapeOf(slice);
  const blocks = Math.ceil(slice.tokens / slice.blockTokens);
  return { runs: layers * (kind === "kv" ? 2 : 1) * blocks, runBytes: slice.blockTokens * headsOf(slice) * channels * elementBytes };
}
