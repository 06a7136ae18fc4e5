/** What a GGUF file says about its model's KV: how many heads, which positional encoding. */
import type { KvShape } from "./blocks.ts";
import { KvferryError } from "./kvferry.ts";
import type { StateShape } from "./state.ts";

/** As node-llama-cpp reads it: the general part, and one part by the architecture's name. */
export interface Metadata {
  readonly general: { readonly name?: string; readonly architecture?: string };
  readonly [architecture: string]: unknown;
}

interface Architecture {
  readonly attention?: { readonly head_count?: number; readonly head_count_kv?: number | readonly number[] };
  readonly rope?: object;
}

/** Throws KvferryError unsupported where layers differ in their heads, or the numbers do not meet the state's. */
export function kvShapeOf(metadata: Metadata, { layers, rowValues }: StateShape): KvShape {
  const { head_count: queryHeads, head_count_kv: stated = queryHeads } = partOf(metadata).attention ?? {};
  const heads = typeof stated === "number" ? stated : stated?.[0];
  if (typeof stated !== "number" && stated?.some((count) => count !== heads)) {
    throw new KvferryError("unsupported", "layers with different numbers of KV heads");
  }
  if (heads === undefined || !Number.isSafeInteger(heads) || heads < 1 || rowValues % heads !== 0) {
    throw new KvferryError("unsupported", `the model's file says ${heads} KV heads, its state has rows of ${rowValues} values`);
  }
  return { layers, heads, channels: rowValues / heads };
}

/** All of the file's words on it, so that another base or scaling is another fingerprint. */
export function ropeOf(metadata: Metadata): string {
  return JSON.stringify(partOf(metadata).rope ?? {});
}

function partOf(metadata: Metadata): Architecture {
  return (metadata[metadata.general.architecture ?? ""] ?? {}) as Architecture;
}
