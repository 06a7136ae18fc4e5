/**
 * KV of a dump as tiles see it: as it is, or after the stage `merge`. Then each head has fewer tokens, and not all as many: those of a tile are filled up to the
 * longest, and a map says which tokens each stands for (schemas/codec.md).
 */
import { expected } from "../../check.ts";
import { rulesOf } from "../../codec/merge-spec.ts";
import type { Merge, Profile, Side } from "../../codec/profile.ts";
import type { TileLayers } from "../../codec/spec.ts";
import { floats, type TensorFile } from "../../config/tensor-file.ts";
import { KvferryError } from "../../errors.ts";
import { native, nativeProblem } from "../../native.ts";
import type { NativeMergedLayer, NativeMergeMap, NativeMerging } from "../../native-codec.ts";
import type { Dump, KvShape } from "./dump.ts";

export const MAP = "merge_map";

/** Of each layer, of each head. */
export type Maps = readonly (readonly NativeMergeMap[])[];

export interface TileSource {
  /** bf16 [heads, rows, channels]. */
  readonly plane: (side: Side, layer: number) => Uint16Array;
  readonly rowsOf: (tile: TileLayers) => number;
  /** Undefined: nothing is merged. */
  readonly maps: Maps | undefined;
  /** U8 [layers, heads, bytes]; empty if nothing is merged. */
  readonly mapBytes: Uint8Array;
}

/** Throws invalid_argument, unsupported. */
export function sourceOf(dump: Dump, { merge, layers: tileLayers }: Profile): TileSource {
  if (merge === undefined) return { plane: dump.plane, rowsOf: () => dump.tokens, maps: undefined, mapBytes: new Uint8Array(0) };
  const attention = attentionOf(dump, merge);
  const merged = Array.from({ length: dump.layers }, (_, layer) => mergeOf(dump, merge, layer, attention));
  const bytes = Buffer.concat(merged.map(({ map }) => map));
  const maps = mapsOf(bytes, dump, dump.name);
  const rows = rowsOfLayers(maps, tileLayers);
  return {
    plane: (side, layer) => filledUp(merged[layer]!, side, rows[layer]!, dump),
    rowsOf: ({ firstLayer }) => rows[firstLayer]!,
    maps,
    mapBytes: bytes,
  };
}

/** Of what `encode` wrote. Throws invalid_argument, unsupported. */
export function readMapsOf(file: TensorFile, shape: KvShape): Maps {
  const { dtype, shape: found } = file.tensor(MAP);
  const wanted = [shape.layers, shape.heads, mapBytes(shape.tokens)];
  if (dtype !== "U8" || found.join() !== wanted.join())
    throw expected(`U8 [${wanted.join(", ")}]`, `${MAP} (of ${file.path})`, `${dtype} [${found.join(", ")}]`);
  return mapsOf(file.read(MAP), shape, file.path);
}

/** Of each layer: tokens of the tile that it is in. */
export function rowsOfLayers(maps: Maps, tileLayers: number): number[] {
  return maps.map((_, layer) => {
    const first = layer - (layer % tileLayers);
    return Math.max(...maps.slice(first, first + tileLayers).flatMap((heads) => heads.map(({ sizes }) => sizes.length)));
  });
}

/** [tokens, channels] of an expansion: each token has what its set has. @param rows [sets, channels] at least */
export function expandHead({ setOf }: NativeMergeMap, rows: Uint16Array, channels: number, out: Uint16Array): void {
  setOf.forEach((set, token) => out.set(rows.subarray(set * channels, (set + 1) * channels), token * channels));
}

export function mapBytes(tokens: number): number {
  return Math.ceil(tokens / 2);
}

function attentionOf({ file, layers, heads, tokens, name }: Dump, { pivot }: Merge): Float32Array | undefined {
  if (pivot !== "attention") return undefined;
  if (!file.head.tensors.has("attention"))
    throw new KvferryError("invalid_argument", `${name} has no \`attention\`, which the merge goes by; there is the pivot key-norm`);
  return floats(file, "attention", [layers, heads, tokens], 0);
}

function mergeOf(dump: Dump, merge: Merge, layer: number, attention: Float32Array | undefined): NativeMergedLayer {
  const { heads, tokens, channels } = dump;
  const ofLayer = attention?.subarray(layer * heads * tokens, (layer + 1) * heads * tokens);
  const [keys, values] = [bytesOf(dump.plane("k", layer)), bytesOf(dump.plane("v", layer))];
  const shape = { element: "bf16", heads, tokens, channels } as const;
  const merged = merging().mergeLayer(rulesOf(merge), shape, keys, values, ofLayer, merge.skip.includes(layer));
  return merged ?? { map: unmerged(heads, tokens), counts: new Uint32Array(heads).fill(tokens), keys, values };
}

/** Each token is left alone, and stands for itself. */
function unmerged(heads: number, tokens: number): Uint8Array {
  const map = new Uint8Array(heads * mapBytes(tokens)).fill(0x66);
  if (tokens % 2 === 1) for (let head = 1; head <= heads; head++) map[head * mapBytes(tokens) - 1] = 0x06;
  return map;
}

function mapsOf(bytes: Uint8Array, { layers, heads, tokens }: KvShape, name: string): Maps {
  const each = mapBytes(tokens);
  return Array.from({ length: layers }, (_, layer) =>
    Array.from({ length: heads }, (_, head) => {
      const at = (layer * heads + head) * each;
      const map = merging().readMap(bytes.subarray(at, at + each), tokens);
      if (typeof map !== "string") return map;
      throw new KvferryError("invalid_argument", `${MAP} of ${name}, layer ${layer}, head ${head}, is no map of merged tokens: ${map}`);
    }),
  );
}

function merging(): NativeMerging {
  if (native === undefined) throw new KvferryError("unsupported", `codecs need the addon: ${nativeProblem}`);
  return native.codecMerging;
}

function bytesOf({ buffer, byteOffset, byteLength }: Uint16Array): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}

/** Each head with its last row, which costs next to nothing. */
function filledUp({ counts, ...sides }: NativeMergedLayer, side: Side, rows: number, { heads, tokens, channels }: KvShape): Uint16Array {
  const { buffer, byteOffset, length } = side === "k" ? sides.keys : sides.values;
  const made = new Uint16Array(buffer, byteOffset, length / 2);
  const plane = new Uint16Array(heads * rows * channels);
  counts.forEach((count, head) => {
    const first = head * tokens * channels;
    const end = first + count * channels;
    plane.set(made.subarray(first, end), head * rows * channels);
    for (let row = count; row < rows; row++) plane.set(made.subarray(end - channels, end), (head * rows + row) * channels);
  });
  return plane;
}
