/** Tiles for the tests of native codecs: elements and floats in plain JavaScript, random specs, and what a spec may lose. */
import assert from "node:assert/strict";
import type { NativeCodec, NativeCodecSpec, NativeEncoded, NativeMergingSpec } from "../../transport/native-codec.ts";
import { native } from "../../transport/native.ts";
import type { Random } from "../fuzz/random.ts";

export type Element = NativeCodecSpec["element"];

export const HEADER_BYTES = 48;
export const elementBytes = (element: Element): number => (element === "f32" ? 4 : 2);
export const widthOf = (spec: NativeCodecSpec): number => spec.parts * spec.heads * spec.channels;

const word = new DataView(new ArrayBuffer(8));

export function toBf16(value: number): number {
  word.setFloat32(0, value);
  const bits = word.getUint32(0);
  if (Number.isNaN(value)) return 0x7fc0;
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff;
}

export function fromBf16(half: number): number {
  word.setUint32(0, (half << 16) >>> 0);
  return word.getFloat32(0);
}

export function fromF16(half: number): number {
  const sign = (half & 0x8000) === 0 ? 1 : -1;
  const exponent = (half >> 10) & 31;
  const fraction = half & 0x3ff;
  if (exponent === 31) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return sign * (exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15));
}

/** By the neighbours: the nearer one, of two as near the even one. */
export function toF16(value: number): number {
  const magnitude = Math.abs(value);
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
  if (Number.isNaN(value)) return 0x7e00;
  if (magnitude >= 65_520) return sign | 0x7c00;
  let low = 0;
  for (let bit = 0x4000; bit > 0; bit >>= 1) if ((low | bit) < 0x7c00 && fromF16(low | bit) <= magnitude) low |= bit;
  const [below, above] = [fromF16(low), low + 1 < 0x7c00 ? fromF16(low + 1) : 65_536];
  const isUp = above - magnitude < magnitude - below || (above - magnitude === magnitude - below && (low & 1) === 1);
  return sign | (isUp ? low + 1 : low);
}

export function floatsOf(element: Element, bytes: Uint8Array): Float32Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Float32Array.from({ length: bytes.length / elementBytes(element) }, (_, at) => {
    if (element === "f32") return view.getFloat32(4 * at, true);
    const half = view.getUint16(2 * at, true);
    return element === "bf16" ? fromBf16(half) : fromF16(half);
  });
}

export function bytesOf(element: Element, floats: ArrayLike<number>): Uint8Array {
  const bytes = new Uint8Array(floats.length * elementBytes(element));
  const view = new DataView(bytes.buffer);
  for (let at = 0; at < floats.length; at++) {
    const value = floats[at] as number;
    if (element === "f32") view.setFloat32(4 * at, value, true);
    else view.setUint16(2 * at, element === "bf16" ? toBf16(value) : toF16(value), true);
  }
  return bytes;
}

/** Near a Gaussian of deviation 1. */
export function gaussian(random: Random): number {
  let sum = -6;
  for (let times = 0; times < 12; times++) sum += random.uint32() / 2 ** 32;
  return sum;
}

/** One array of elements for each part. Columns differ in size, and a value here and there is far out. */
export function randomParts(
  spec: Pick<NativeCodecSpec, "element" | "parts" | "heads" | "channels">,
  tokens: number,
  random: Random,
): Uint8Array[] {
  return Array.from({ length: spec.parts }, () => {
    const sizes = Float32Array.from({ length: spec.heads * spec.channels }, () => 2 ** (random.below(8) - 5));
    const floats = new Float32Array(tokens * sizes.length);
    for (let at = 0; at < floats.length; at++) {
      floats[at] = gaussian(random) * (sizes[at % sizes.length] as number) * (random.chance(1, 500) ? 40 : 1);
    }
    return bytesOf(spec.element, floats);
  });
}

/** Rows of a tile as floats: part by part within a token. */
export function rowsOf(spec: NativeCodecSpec, parts: readonly Uint8Array[], tokens: number): Float32Array[] {
  const ofPart = spec.heads * spec.channels;
  const floats = parts.map((part) => floatsOf(spec.element, part));
  return Array.from({ length: tokens }, (_, token) => {
    const row = new Float32Array(widthOf(spec));
    for (const [part, values] of floats.entries()) row.set(values.subarray(token * ofPart, (token + 1) * ofPart), part * ofPart);
    return row;
  });
}

export function make(spec: NativeCodecSpec | NativeMergingSpec): NativeCodec {
  assert.ok(native !== undefined, "there is an addon");
  return new native.NativeCodec(spec);
}

export interface Block extends NativeEncoded {
  readonly block: Uint8Array;
}

export function encode(codec: NativeCodec, parts: readonly Uint8Array[], tokens: number, position: number, end?: number): Block {
  const out = new Uint8Array(codec.bound(tokens));
  const encoded = codec.encode(parts, tokens, position, out, end);
  return { ...encoded, block: out.subarray(0, encoded.bytes) };
}

export function emptyParts(spec: NativeCodecSpec, tokens: number): Uint8Array[] {
  const bytes = tokens * spec.heads * spec.channels * elementBytes(spec.element);
  return Array.from({ length: spec.parts }, () => new Uint8Array(bytes).fill(0xa5));
}

export function decode(codec: NativeCodec, spec: NativeCodecSpec, block: Uint8Array, tokens: number, position: number): Uint8Array[] {
  const parts = emptyParts(spec, tokens);
  codec.decode(block, parts, tokens, position);
  return parts;
}

const list = (count: number, value: () => number): Float32Array => Float32Array.from({ length: count }, value);

/** Orthonormal rows, by Gram and Schmidt. */
export function randomMatrix(size: number, random: Random): Float32Array {
  const rows: number[][] = [];
  while (rows.length < size) {
    const row = Array.from({ length: size }, () => gaussian(random));
    for (const other of rows) {
      const dot = other.reduce((sum, value, at) => sum + value * (row[at] as number), 0);
      for (let at = 0; at < size; at++) row[at] = (row[at] as number) - dot * (other[at] as number);
    }
    const length = Math.sqrt(row.reduce((sum, value) => sum + value * value, 0));
    if (length > 0.1) rows.push(row.map((value) => value / length));
  }
  return Float32Array.from(rows.flat());
}

function randomTransform(spec: NativeCodecSpec, random: Random): NonNullable<NativeCodecSpec["transform"]> {
  const width = widthOf(spec);
  const isPower = (spec.channels & (spec.channels - 1)) === 0;
  const blocks = [1, 2, 3, 5, 8, 16, 33, 48, 64].filter((block) => width % block === 0);
  const pairs = random.between(0, Math.floor(spec.channels / 2));
  const matrices = (block: number) => Array.from({ length: width / block }, () => Array.from(randomMatrix(block, random)));
  const block = random.pick(blocks);
  return {
    ...(random.chance(1, 2) && {
      rope: {
        inverseFrequencies: list(pairs, () => 10_000 ** -random.between(0, 1) * random.below(1_000)),
        pairing: random.pick(["half", "adjacent"] as const),
      },
    }),
    ...(random.chance(1, 2) && { mean: list(width, () => gaussian(random)) }),
    ...(random.chance(1, 2) && { scale: list(width, () => 2 ** random.between(-3, 3) * random.pick([1, -1, 1.3])) }),
    ...(isPower && random.chance(1, 3) && { signs: Int8Array.from({ length: width }, () => random.pick([-1, 1])) }),
    ...(random.chance(1, 3) && { klt: { block, matrices: Float32Array.from(matrices(block).flat()) } }),
    ...(random.chance(1, 3) && { delta: { anchor: random.between(1, 12) } }),
  };
}

function randomQuantizer(spec: NativeCodecSpec, random: Random): NativeCodecSpec["quantizer"] {
  const heads = spec.parts * spec.heads;
  const kind = random.pick(["none", "step", "group", "fp8", "cachegen"] as const);
  switch (kind) {
    case "none":
      return { kind };
    case "step":
      return { kind, steps: list(widthOf(spec), () => 2 ** random.between(-6, 1)) };
    case "fp8":
      return { kind, format: random.pick(["e4m3", "e5m2"] as const) };
    case "cachegen":
      return { kind, levels: Uint16Array.from({ length: spec.parts }, () => random.between(3, 256)) };
    case "group": {
      const levels = random.between(2, 256);
      const isUniform = random.chance(1, 2);
      return {
        kind,
        levels: Uint16Array.from({ length: heads }, () => (isUniform ? levels : random.between(2, 256))),
        axis: random.pick(["token", "channel", "tensor"] as const),
        group: random.between(1, 70),
        recent: random.pick([0, 0, 3, 40]),
      };
    }
  }
}

/** Coders that go with these codes. `hasZstd`: this host's. */
export function codersOf(spec: Omit<NativeCodecSpec, "codec">, hasZstd: boolean, random: Random): NativeCodecSpec["codec"][] {
  const coders: NativeCodecSpec["codec"][] = [{ kind: "none" }];
  if (spec.quantizer.kind === "none") {
    if (spec.element !== "f32") coders.push({ kind: "exponent" });
    if (hasZstd) coders.push({ kind: "planes", level: 1 }, { kind: "zstd", level: 1 });
    return coders;
  }
  coders.push({ kind: "pack" }, { kind: "rans" });
  const width = spec.parts * spec.heads * spec.channels;
  if (spec.quantizer.kind === "step")
    coders.push({ kind: "rans-static", classes: Uint8Array.from({ length: width }, () => random.below(41)) });
  if (hasZstd) coders.push({ kind: "zstd" });
  return coders;
}

export function randomSpec(random: Random, hasZstd: boolean): NativeCodecSpec {
  const shape = {
    element: random.pick(["bf16", "bf16", "f16", "f32"] as const),
    parts: random.between(1, 3),
    heads: random.between(1, 4),
    channels: random.pick([1, 2, 3, 7, 8, 16, 24, 31, 32, 64, 80]),
    exempt: random.pick([0, 0, 4, 9]),
    verify: random.chance(1, 4),
    quantizer: { kind: "none" },
    codec: { kind: "none" },
  } as const;
  const spec = { ...shape, transform: randomTransform(shape, random), quantizer: randomQuantizer(shape, random) };
  return { ...spec, codec: random.pick(codersOf(spec, hasZstd, random)) };
}
