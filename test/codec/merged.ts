/** What the addon merges, head by head; and chunks whose tokens are merged. */
import assert from "node:assert/strict";
import { crc32c } from "../../transport/kv/crc32c.ts";
import type { NativeCodecSpec, NativeMergeMap, NativeMergeRules, NativeMergingSpec } from "../../transport/native-codec.ts";
import { native, nativeProblem } from "../../transport/native.ts";
import type { Random } from "../fuzz/random.ts";
import { bytesOf, codersOf, type Element, elementBytes, gaussian, randomSpec } from "./tiles.ts";

export const skip = native === undefined ? `no addon: ${nativeProblem}` : false;

/** What became of a token that does not begin a set: the lower bits of its place in a map. */
export const [JOINED, KEPT] = [1, 2];

export const PLAIN: NativeMergeRules = {
  ...{ sinks: 0, recent: 0, heavy: 0, members: 100, sigma: Number.POSITIVE_INFINITY, isSum: false, byLayer: false },
};

export interface Shape {
  readonly element: Element;
  readonly heads: number;
  readonly tokens: number;
  readonly channels: number;
}

export interface Head extends NativeMergeMap {
  readonly map: Uint8Array;
  readonly marks: Uint8Array;
  /** Tokens of each set, ascending. */
  readonly sets: readonly (readonly number[])[];
  /** Elements [sets, channels]. */
  readonly keys: Uint8Array;
  readonly values: Uint8Array;
}

export const mapBytes = (tokens: number): number => Math.ceil(tokens / 2);

export function nibblesOf(map: Uint8Array, tokens: number): Uint8Array {
  return Uint8Array.from({ length: tokens }, (_, token) => (map[token >> 1]! >> (4 * (token & 1))) & 15);
}

export function mapOf(nibbles: ArrayLike<number>): Uint8Array {
  const map = new Uint8Array(mapBytes(nibbles.length));
  for (let token = 0; token < nibbles.length; token++) map[token >> 1]! |= nibbles[token]! << (4 * (token & 1));
  return map;
}

/** A map that is one. */
export function readMap(map: Uint8Array, tokens: number): NativeMergeMap {
  const read = native!.codecMerging.readMap(map, tokens);
  assert.ok(typeof read !== "string", String(read));
  return read;
}

export function setsOf({ setOf, sizes }: NativeMergeMap): number[][] {
  const sets: number[][] = Array.from(sizes, () => []);
  setOf.forEach((set, token) => sets[set]!.push(token));
  return sets;
}

/** Undefined: some value is no number. @param planes elements [heads, tokens, channels], of keys and of values */
export function mergeHeads(
  rules: NativeMergeRules,
  shape: Shape,
  [k, v]: readonly [Uint8Array, Uint8Array],
  attention?: Float32Array,
  isSkipped = false,
): Head[] | undefined {
  const merged = native!.codecMerging.mergeLayer(rules, shape, k, v, attention, isSkipped);
  if (merged === undefined) return undefined;
  const { heads, tokens, channels, element } = shape;
  const rowBytes = channels * elementBytes(element);
  return Array.from({ length: heads }, (_, head) => {
    const map = merged.map.slice(head * mapBytes(tokens), (head + 1) * mapBytes(tokens));
    const read = readMap(map, tokens);
    const sets = setsOf(read);
    assert.equal(merged.counts[head], sets.length);
    const rows = (of: Uint8Array): Uint8Array => of.slice(head * tokens * rowBytes, (head * tokens + sets.length) * rowBytes);
    return {
      ...read,
      map,
      marks: nibblesOf(map, tokens).map((bits) => bits & 3),
      sets,
      keys: rows(merged.keys),
      values: rows(merged.values),
    };
  });
}

/** In front of a merged chunk's maps. */
export const MERGED_HEAD_BYTES = 20;

/** The spec of a tile of keys and values, whatever is done to these. */
export function tileOf({ k }: NativeMergingSpec): NativeCodecSpec {
  return { ...k, parts: 2 * k.parts };
}

/** Of all heads of all layers of a merged chunk. */
export function mapsBytes({ k }: NativeMergingSpec, tokens: number): number {
  return k.parts * k.heads * mapBytes(tokens);
}

/** Has the checksum of a merged chunk's head and maps right again. @param maps their bytes */
export function reseal(chunk: Uint8Array, maps: number): void {
  if (chunk.length < MERGED_HEAD_BYTES + maps) return;
  const sealed = Buffer.concat([chunk.subarray(0, 16), chunk.subarray(MERGED_HEAD_BYTES, MERGED_HEAD_BYTES + maps)]);
  new DataView(chunk.buffer, chunk.byteOffset).setUint32(16, crc32c(sealed), true);
}

export function randomRules(random: Random): NativeMergeRules {
  const isByBudget = random.chance(2, 3);
  return {
    ...(isByBudget ? { budget: random.below(101) / 100 } : { cosine: random.below(100) / 100 }),
    sinks: random.pick([0, 0, 4, 9]),
    recent: random.pick([0, 0.1, 0.3]),
    heavy: random.pick([0, 0.1]),
    members: random.pick([1, 3, 1_000]),
    sigma: random.pick([0, 0.5, 5, Number.POSITIVE_INFINITY]),
    isSum: random.chance(1, 4),
    byLayer: random.chance(1, 4),
  };
}

/** K and V of one shape, each with transforms and coders of its own. `isExact`: what is left after merging comes back bit for bit. */
export function randomMergingSpec(random: Random, hasZstd: boolean, isExact: boolean): NativeMergingSpec {
  const drawn = randomSpec(random, hasZstd);
  const shape = { element: drawn.element, parts: drawn.parts, heads: drawn.heads, channels: drawn.channels };
  const side = (): NativeCodecSpec => {
    const plain = { ...shape, quantizer: { kind: "none" } } as const;
    if (isExact || random.chance(1, 3)) return { ...plain, codec: random.pick(codersOf(plain, hasZstd, random)) };
    const quantizer = { kind: "fp8", format: "e4m3" } as const;
    return { ...shape, exempt: random.pick([0, 4]), quantizer, codec: random.pick(codersOf({ ...shape, quantizer }, hasZstd, random)) };
  };
  const levels = Uint16Array.from({ length: shape.parts * shape.heads }, () => random.between(2, 256));
  const group = { kind: "group", levels, axis: "channel", group: 5, recent: random.pick([0, 3]) } as const;
  const hasGroup = !isExact && random.chance(1, 2);
  return {
    merge: randomRules(random),
    skipped: Uint8Array.from({ length: shape.parts }, () => Number(random.chance(1, 4))),
    k: hasGroup ? { ...shape, quantizer: group, codec: { kind: "pack" } } : side(),
    v: side(),
  };
}

/** Near each other, as keys of neighbours are; elements of one part [tokens, heads, channels] after the other. */
export function wanderingParts(spec: NativeMergingSpec, tokens: number, random: Random): Uint8Array[] {
  const { element, heads, channels } = spec.k;
  const row = heads * channels;
  return Array.from({ length: 2 * spec.k.parts }, () => {
    const walk = Float32Array.from({ length: row }, () => gaussian(random));
    const values = Float32Array.from({ length: tokens * row }, (_, at) => {
      if (at % row === 0 && random.chance(1, 4)) for (let column = 0; column < row; column++) walk[column] = gaussian(random);
      return walk[at % row]! + 0.1 * gaussian(random);
    });
    return bytesOf(element, values);
  });
}
