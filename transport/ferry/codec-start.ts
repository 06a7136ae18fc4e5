/**
 * What a codec does before it has coded anything of a transfer: a tile is made up, encoded and decoded a few times, off the JavaScript thread. The tile is
 * such as the spec expects: codes drawn from the deviation of each column's table and decoded, where there are tables, and normal values otherwise; so the
 * ratio is about that of real KV too.
 */
import { deviationOfClass, gaussianClass } from "../codec/gaussian.ts";
import { crc32c } from "../kv/crc32c.ts";
import { limits } from "../limits.ts";
import type { NativeCodec, NativeCodecSpec, NativeMergingSpec } from "../native-codec.ts";
import type { CodecSpeed } from "../policy/codec-speed.ts";

export type NewCodec = (spec: NativeCodecSpec | NativeMergingSpec) => Promise<NativeCodec>;

/** As large as a chunk is on most paths, but a tile of at least so many tokens. */
const TILE_BYTES = 256 * 1024;
const TOKENS_LEAST = 16;
/** Each way; the first call makes memory for the others, so there are two at least, however long they take. */
const BUDGET_MS = 7;
const CALLS_LEAST = 2;
const CALLS_MOST = 8;
const HEAD_BYTES = 48;
const END = 2 ** 31 - 1;
/** Of what has no tables: a deviation of four steps. */
const CLASS_WITHOUT = gaussianClass(4);
const CODE_MOST = 127;
/** As many as are drawn; a prime, so that columns do not repeat each other. */
const DRAWN = 4_093;

/** Rejects with what `newCodec` does. @param codec made of the spec */
export async function measureCodec(newCodec: NewCodec, codec: NativeCodec, spec: NativeCodecSpec | NativeMergingSpec): Promise<CodecSpeed> {
  const sides = "merge" in spec ? [spec.k, spec.v] : [spec];
  const { element, heads, channels } = sides[0]!;
  const parts = sides.reduce((sum, side) => sum + side.parts, 0);
  const exempt = Math.max("merge" in spec ? spec.merge.sinks : 0, ...sides.map((side) => side.exempt ?? 0));
  const rowBytes = heads * channels * (element === "f32" ? 4 : 2);
  const tokens = Math.min(Math.max(Math.floor(TILE_BYTES / (rowBytes * parts)), TOKENS_LEAST), limits.codecTokensMax);
  const tile = Array.from({ length: parts }, () => new Uint8Array(rowBytes * tokens));
  for (const [at, side] of sides.entries()) await fillTile(newCodec, side, tile.slice(at * side.parts, (at + 1) * side.parts), tokens);
  const block = new Uint8Array(codec.bound(tokens));
  let bytes = 0;
  const encodeNs = await bestNs(async () => {
    // Most tokens of a sequence are not its last ones.
    const encoded = await codec.encodeLater(tile, tokens, exempt, block, END);
    bytes = encoded.bytes;
    return encoded.threadNs;
  });
  const coded = block.slice(0, bytes);
  const decodeNs = await bestNs(async () => (await codec.decodeLater(coded, tile, tokens, exempt)).threadNs);
  const original = rowBytes * parts * tokens;
  const rate = (ns: number): number => (original * 1e9) / Math.max(ns, 1);
  return { encodeBytesPerSecond: rate(encodeNs), decodeBytesPerSecond: rate(decodeNs), ratio: original / Math.min(bytes, original) };
}

/**
 * The best of some calls, by the processor's time: on a busy machine one of a fifth of a millisecond may wait for fifty, and a profile that looks so slow is
 * never chosen, so that nothing would be learnt of it. Too high a speed is found out by its first chunks.
 */
async function bestNs(call: () => Promise<number>): Promise<number> {
  const startMs = performance.now();
  let best = Number.POSITIVE_INFINITY;
  for (let turn = 0; turn < CALLS_LEAST || (turn < CALLS_MOST && performance.now() - startMs < BUDGET_MS); turn++)
    best = Math.min(best, await call());
  return best;
}

async function fillTile(newCodec: NewCodec, spec: NativeCodecSpec, tile: readonly Uint8Array[], tokens: number): Promise<void> {
  const { codec, quantizer, exempt = 0 } = spec;
  if (quantizer.kind !== "step") return fillNormal(spec.element, tile);
  // Codes of a codec that packs nothing are bytes, and it decodes any.
  const plain = await newCodec({ ...spec, codec: { kind: "none" }, verify: false });
  const width = quantizer.steps.length;
  const classes = codec.kind === "rans-static" ? codec.classes : new Uint8Array(width).fill(CLASS_WITHOUT);
  await plain.decodeLater(blockOf(plain.id, tokens, exempt, drawCodes(classes, tokens)), tile, tokens, exempt);
}

/** schemas/codec.md describes a block. */
function blockOf(id: string, tokens: number, position: number, codes: Uint8Array): Uint8Array {
  const block = new Uint8Array(HEAD_BYTES + codes.length);
  const view = new DataView(block.buffer);
  view.setUint32(0, 0x4b564642);
  view.setUint8(4, 1);
  view.setBigUint64(8, BigInt(`0x${id}`), true);
  view.setUint32(16, tokens, true);
  view.setUint32(20, position, true);
  view.setUint32(28, codes.length, true);
  view.setUint32(HEAD_BYTES - 4, crc32c(block.subarray(0, HEAD_BYTES - 4)), true);
  block.set(codes, HEAD_BYTES);
  return block;
}

/** Zigzags of normal values, of the deviation that each column's table is for; none of them is 255, an escape. */
function drawCodes(classes: Uint8Array, tokens: number): Uint8Array {
  const deviations = Float64Array.from(classes, deviationOfClass);
  const normal = drawNormal();
  return Uint8Array.from({ length: classes.length * tokens }, (_, at) => {
    const drawn = Math.round(normal[at % DRAWN]! * deviations[at % classes.length]!);
    const code = Math.max(-CODE_MOST, Math.min(CODE_MOST, drawn));
    return code < 0 ? -2 * code - 1 : 2 * code;
  });
}

function fillNormal(element: NativeCodecSpec["element"], tile: readonly Uint8Array[]): void {
  const normal = drawNormal();
  const wordOf = element === "bf16" ? (word: number) => word >>> 16 : halfOf;
  for (const [part, { buffer, length }] of tile.entries()) {
    const values = Float32Array.from({ length: length >> (element === "f32" ? 2 : 1) }, (_, at) => normal[(at + part) % DRAWN]!);
    if (element === "f32") new Float32Array(buffer).set(values);
    else new Uint16Array(buffer).set(new Uint32Array(values.buffer).map(wordOf));
  }
}

/** The same ones each time: sums of uniform values, of deviation 1. */
function drawNormal(): Float32Array {
  let state = 1;
  const uniform = (): number => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
  return Float32Array.from({ length: DRAWN }, () => Array.from({ length: 12 }, uniform).reduce((sum, one) => sum + one, -6));
}

/** The 16-bit float of a 32-bit one's bits, cut off. */
function halfOf(word: number): number {
  const exponent = ((word >>> 23) & 0xff) - 112;
  return exponent <= 0 ? 0 : ((word >>> 16) & 0x8000) | (exponent << 10) | ((word >>> 13) & 0x3ff);
}
