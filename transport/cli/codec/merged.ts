/**
 * KV of a dump as tiles see it: as it is, or after the stage `merge`. Then each head has fewer tokens, and not all as many: those of a tile are filled up to the
 * longest, and a map says which tokens each stands for (schemas/codec.md).
 */
import { expected } from "../../check.ts";
import { mergeLayer, readMaps } from "../../codec/merge-layer.ts";
import { mapBytes, type MergeMap } from "../../codec/merge-map.ts";
import type { Profile, Side } from "../../codec/profile.ts";
import type { TileLayers } from "../../codec/spec.ts";
import { type Dump, type KvShape } from "./dump.ts";
import { floats, type TensorFile } from "../../config/tensor-file.ts";

export const MAP = "merge_map";

/** Of each layer, of each head. */
export type Maps = readonly (readonly MergeMap[])[];

export interface TileSource {
  /** bf16 [heads, rows, channels]. */
  readonly plane: (side: Side, layer: number) => Uint16Array;
  readonly rowsOf: (tile: TileLayers) => number;
  /** Undefined: nothing is merged. */
  readonly maps: Maps | undefined;
  /** U8 [layers, heads, bytes]; empty if nothing is merged. */
  readonly mapBytes: Uint8Array;
}

/** Throws invalid_argument. */
export function sourceOf(dump: Dump, { merge, layers: tileLayers }: Profile): TileSource {
  if (merge === undefined) return { plane: dump.plane, rowsOf: () => dump.tokens, maps: undefined, mapBytes: new Uint8Array(0) };
  const { file, layers, heads, tokens, channels } = dump;
  const hasAttention = merge.pivot === "attention" && file.head.tensors.has("attention");
  const attention = hasAttention ? floats(file, "attention", [layers, heads, tokens], 0) : undefined;
  const merged = Array.from({ length: layers }, (_, layer) =>
    mergeLayer(merge, { ...dump, layer, attention: attention?.subarray(layer * heads * tokens, (layer + 1) * heads * tokens) }),
  );
  const bytes = new Uint8Array(layers * heads * mapBytes(tokens));
  merged.flat().forEach(({ map }, at) => bytes.set(map, at * map.length));
  const maps = mapsOf(bytes, dump, dump.name);
  const rows = rowsOfLayers(maps, tileLayers);
  return {
    plane: (side, layer) =>
      filledUp(
        merged[layer]!.map((head) => head[side]),
        rows[layer]!,
        channels,
      ),
    rowsOf: ({ firstLayer }) => rows[firstLayer]!,
    maps,
    mapBytes: bytes,
  };
}

/** Of what `encode` wrote. Throws invalid_argument. */
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
    return Math.max(...maps.slice(first, first + tileLayers).flatMap((heads) => heads.map(({ sets }) => sets.length)));
  });
}

function mapsOf(bytes: Uint8Array, { layers, heads, tokens }: KvShape, name: string): Maps {
  const each = bytes.length / layers;
  return Array.from({ length: layers }, (_, layer) =>
    readMaps(bytes.subarray(layer * each, (layer + 1) * each), heads, tokens, `${MAP} of ${name}, layer ${layer}`),
  );
}

/** With its last token, which costs next to nothing. */
function filledUp(heads: readonly Uint16Array[], rows: number, channels: number): Uint16Array {
  const plane = new Uint16Array(heads.length * rows * channels);
  heads.forEach((head, at) => {
    plane.set(head, at * rows * channels);
    const last = head.subarray(head.length - channels);
    for (let row = head.length / channels; row < rows; row++) plane.set(last, (at * rows + row) * channels);
  });
  return plane;
}
