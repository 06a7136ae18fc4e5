/** KV made of known numbers, and calibrations of it that never touch a disk. */
import { type Calibration, openCalibration, type Rope } from "../../transport/codec/calibration.ts";
import { calibrate, type CalibrationRequest } from "../../transport/codec/calibrate.ts";
import { hashOf } from "../../transport/codec/identity.ts";
import { parseHead, type TensorShape, writeHead } from "../../transport/codec/safetensors.ts";
import type { KvSource, Rotation } from "../../transport/codec/source.ts";
import type { Side } from "../../transport/codec/profile.ts";

export interface MadeShape {
  readonly layers: number;
  readonly heads: number;
  readonly channels: number;
  readonly tokens: number;
}

export const ROPE = (channels: number, pairing: Rope["pairing"] = "half"): Rope => ({
  pairing,
  inverseFrequencies: Float32Array.from({ length: channels / 2 }, (_, pair) => 10_000 ** ((-2 * pair) / channels)),
});

export function rotation({ inverseFrequencies }: Rope, tokens: number): Rotation {
  const pairs = inverseFrequencies.length;
  const angles = Float64Array.from({ length: tokens * pairs }, (_, at) => Math.floor(at / pairs) * inverseFrequencies[at % pairs]!);
  return { cosine: angles.map(Math.cos), sine: angles.map(Math.sin) };
}

/** The same numbers on every machine. */
export function noise(seed: number): () => number {
  let state = seed;
  const uniform = (): number => {
    state = Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) + 0x9e3779b9;
    state = Math.imul(state ^ (state >>> 12), 0x297a2d39);
    return ((state ^ (state >>> 15)) >>> 0) / 2 ** 32;
  };
  return () => Math.sqrt(-2 * Math.log(uniform() || 1e-9)) * Math.cos(2 * Math.PI * uniform());
}

export function toBf16(value: number): number {
  const bits = new Uint32Array(Float32Array.of(value).buffer)[0]!;
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
}

/** @param plain a row of a layer before any rotary embedding: [heads, channels], called once for each side, layer and token in turn */
export function madeSource(
  shape: MadeShape,
  plain: (side: Side, layer: number, token: number) => readonly number[],
  rope?: Rope,
): KvSource {
  const { layers, heads, channels, tokens } = shape;
  const turns = rope === undefined ? undefined : rotation(rope, tokens);
  const planes = new Map<string, Uint16Array>();
  for (const side of ["k", "v"] as const) {
    for (let layer = 0; layer < layers; layer++) {
      const plane = new Uint16Array(heads * tokens * channels);
      for (let token = 0; token < tokens; token++) {
        const row = [...plain(side, layer, token)];
        if (side === "k" && rope !== undefined) rotate(row, token, shape, rope, turns!);
        row.forEach((value, at) => {
          plane[(Math.floor(at / channels) * tokens + token) * channels + (at % channels)] = toBf16(value);
        });
      }
      planes.set(`${side}${layer}`, plane);
    }
  }
  const plane = (side: Side, layer: number): Uint16Array => planes.get(`${side}${layer}`)!;
  return { name: "made", model: "made", ...shape, rope, plane, querySquare: undefined };
}

function rotate(row: number[], token: number, { heads, channels }: MadeShape, { pairing }: Rope, { cosine, sine }: Rotation): void {
  const pairs = channels / 2;
  for (let head = 0; head < heads; head++) {
    for (let pair = 0; pair < pairs; pair++) {
      const one = head * channels + (pairing === "half" ? pair : 2 * pair);
      const other = pairing === "half" ? one + pairs : one + 1;
      const [c, s] = [cosine[token * pairs + pair]!, sine[token * pairs + pair]!];
      const [x, y] = [row[one]!, row[other]!];
      row[one] = x * c - y * s;
      row[other] = x * s + y * c;
    }
  }
}

/** Independent channels, each with a deviation and a mean of its own. */
export function plainSource(shape: MadeShape, rope?: Rope, seed = 1): KvSource {
  const next = noise(seed);
  const row = shape.heads * shape.channels;
  return madeSource(
    shape,
    (_side, layer) => Array.from({ length: row }, (_, at) => ((at % 7) - 3) / 2 + next() * (0.1 + ((at * 5 + layer) % 11) / 4)),
    rope,
  );
}

/** Written as a file and opened again, in memory. */
export function calibrationOf(request: Partial<CalibrationRequest> & Pick<CalibrationRequest, "sources">): Calibration {
  const parts = calibrate({ exempt: 4, klt: [], sensitivity: undefined, rotation, onStep: () => undefined, ...request });
  const head = writeHead(parts.shapes, parts.metadata);
  const values = [...parts.values()].map((value) => Buffer.from(value.buffer, value.byteOffset, value.byteLength));
  const bytes = Buffer.concat([head, ...values]);
  const parsed = parseHead(head, bytes.length, "made");
  const read = (tensor: string, from: number, count: number): Uint8Array => {
    const at = parsed.tensors.get(tensor)!.offset + from;
    return Uint8Array.from(bytes.subarray(at, at + count));
  };
  return openCalibration(parsed, read, hashOf(bytes), "made");
}

/** The bytes of a dump. KV whose channels of neighbouring layers go together, as a model's do. */
export function madeDump(seed: number, shape: MadeShape, metadata: Readonly<Record<string, string>>): Buffer {
  const next = noise(seed);
  const row = shape.heads * shape.channels;
  const shared = new Map<string, number[]>();
  const source = madeSource(
    shape,
    (side, _layer, token) => {
      const key = `${side} ${token}`;
      const common = shared.get(key) ?? Array.from({ length: row }, (_, channel) => next() * (1 + (channel % 5)));
      shared.set(key, common);
      return common.map((value, channel) => (channel % 3) - 1 + value + 0.3 * next());
    },
    ROPE(shape.channels),
  );
  const planes = Array.from({ length: shape.layers }, (_, layer) => [source.plane("k", layer), source.plane("v", layer)]).flat();
  const queries = Float32Array.from({ length: shape.layers * row }, (_, channel) => 0.5 + (channel % 4));
  const { layers, heads, tokens, channels } = shape;
  const shapes: TensorShape[] = [
    { name: "query_square", dtype: "F32", shape: [layers, heads, channels] },
    { name: "token_ids", dtype: "I32", shape: [tokens] },
    { name: "kv", dtype: "BF16", shape: [layers, 2, heads, tokens, channels] },
  ];
  const values = [queries, Int32Array.from({ length: tokens }, (_, token) => token * 3), ...planes];
  const parts = values.map(({ buffer, byteOffset, byteLength }) => Buffer.from(buffer, byteOffset, byteLength));
  return Buffer.concat([writeHead(shapes, metadata), ...parts]);
}
