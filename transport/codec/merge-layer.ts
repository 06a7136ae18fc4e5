/** What the stage `merge` of a profile does to one layer of KV, each of its KV heads with a map of its own. PURE. */
import { bf16OfFloats, floatsOfBf16 } from "./bf16.ts";
import { KvferryError } from "../errors.ts";
import { KEPT, mergeTokens, planMerge } from "./merge.ts";
import { type MergeMap, readMap, writeMap } from "./merge-map.ts";
import type { Merge, Side } from "./profile.ts";

export interface LayerKv {
  /** Named in what is wrong. */
  readonly name: string;
  readonly layer: number;
  readonly heads: number;
  readonly tokens: number;
  readonly channels: number;
  /** bf16 [heads, tokens, channels]; K with its rotary embedding. */
  readonly plane: (side: Side, layer: number) => Uint16Array;
  /** [heads, tokens]: attention that each token got. */
  readonly attention: Float32Array | undefined;
}

/** Of one head; bf16 [sets, channels]. */
export interface MergedHead {
  readonly map: Uint8Array;
  readonly k: Uint16Array;
  readonly v: Uint16Array;
}

/** Throws invalid_argument on values that are no numbers, and where attention is missing that the profile goes by. */
export function mergeLayer(merge: Merge, kv: LayerKv): MergedHead[] {
  const { heads, tokens, channels, layer } = kv;
  const [keys, values] = [headsOf(kv, "k"), headsOf(kv, "v")];
  const ranks = ranksOf(merge, kv, keys.floats);
  const isSkipped = merge.skip.includes(layer);
  const shared =
    merge.scope === "layer" && !isSkipped
      ? planMerge(sideBySide(keys.floats, tokens, channels), sumOf(ranks, tokens), optionsOf(merge))
      : undefined;
  return Array.from({ length: heads }, (_, head) => {
    const rank = shared === undefined ? ranks[head]! : sumOf(ranks, tokens);
    const marks = isSkipped ? new Uint8Array(tokens).fill(KEPT) : (shared ?? planMerge(keys.floats[head]!, rank, optionsOf(merge)));
    const sigma = merge.weights === "adaptive" ? "adaptive" : merge.weights === "mean" ? Number.POSITIVE_INFINITY : merge.sigma;
    const merged = mergeTokens(marks, keys.floats[head]!, values.floats[head]!, rank, { sigma, values: merge.values });
    return { map: writeMap(marks, merged), k: bf16OfFloats(merged.keys), v: bf16OfFloats(merged.values) };
  });
}

/** [tokens, channels] of an expansion: each token has what its set has. @param rows [sets, channels] at least */
export function expandHead({ sets }: MergeMap, rows: Uint16Array, channels: number, out: Uint16Array): void {
  sets.forEach((members, set) => {
    for (const token of members) out.set(rows.subarray(set * channels, (set + 1) * channels), token * channels);
  });
}

/** Of all heads of a layer, [heads, mapBytes] one behind the other. Throws invalid_argument. */
export function readMaps(bytes: Uint8Array, heads: number, tokens: number, name: string): MergeMap[] {
  const each = bytes.length / heads;
  return Array.from({ length: heads }, (_, head) =>
    readMap(bytes.subarray(head * each, (head + 1) * each), tokens, `${name}, head ${head},`),
  );
}

function optionsOf({ by, budget, cosine, sinks, recent, heavy, members }: Merge): Parameters<typeof planMerge>[2] {
  return { ...(by === "budget" ? { budget } : { cosine }), sinks, recent, heavy, membersMax: members };
}

function headsOf({ plane, layer, heads, tokens, channels, name }: LayerKv, side: Side): { floats: Float32Array[] } {
  const floats = floatsOfBf16(plane(side, layer));
  if (!floats.every(Number.isFinite)) {
    throw new KvferryError(
      "invalid_argument",
      `${name} has values that are no numbers in ${side.toUpperCase()} of layer ${layer}, and none is merged with others`,
    );
  }
  const each = tokens * channels;
  return { floats: Array.from({ length: heads }, (_, head) => floats.subarray(head * each, (head + 1) * each)) };
}

/** What ranks the tokens of each head: a key that is short gets much attention (Devoto et al. 2024). */
function ranksOf({ pivot }: Merge, { name, tokens, channels, attention }: LayerKv, keys: readonly Float32Array[]): Float32Array[] {
  if (pivot === "attention" && attention === undefined) {
    throw new KvferryError("invalid_argument", `${name} has no \`attention\`, which the merge goes by; there is the pivot key-norm`);
  }
  return keys.map((head, at) => {
    if (pivot === "attention") return attention!.subarray(at * tokens, (at + 1) * tokens);
    return Float32Array.from({ length: tokens }, (_, token) => {
      let squares = 0;
      for (let channel = token * channels; channel < (token + 1) * channels; channel++) squares += head[channel]! * head[channel]!;
      return -squares;
    });
  });
}

function sumOf(ranks: readonly Float32Array[], tokens: number): Float32Array {
  return Float32Array.from({ length: tokens }, (_, token) => ranks.reduce((sum, rank) => sum + rank[token]!, 0));
}

/** [tokens, heads x channels]. */
function sideBySide(heads: readonly Float32Array[], tokens: number, channels: number): Float32Array {
  const rows = new Float32Array(tokens * heads.length * channels);
  heads.forEach((head, at) => {
    for (let token = 0; token < tokens; token++)
      rows.set(head.subarray(token * channels, (token + 1) * channels), (token * heads.length + at) * channels);
  });
  return rows;
}
