/** KV of one sequence as calibration reads it: planes of bf16, and columns of floats made of them. PURE. */
import { KvferryError } from "../errors.ts";
import type { Rope } from "./calibration.ts";
import type { Side } from "./profile.ts";

export interface KvSource {
  /** Named in what is wrong. */
  readonly name: string;
  readonly model: string;
  readonly layers: number;
  readonly heads: number;
  readonly channels: number;
  readonly tokens: number;
  readonly rope: Rope | undefined;
  /** bf16 [heads, tokens, channels]; K with its rotary embedding. */
  readonly plane: (side: Side, layer: number) => Uint16Array;
  /** [layers, heads, channels]: mean square of the queries of each KV head, before RoPE. */
  readonly querySquare: Float32Array | undefined;
}

/** Of each position and pair of channels, position by position. */
export interface Rotation {
  readonly cosine: Float64Array;
  readonly sine: Float64Array;
}

/** Columns of a layer, one behind the other: head by head, channel by channel, each with a number for each token from `from` on. */
export function columnsOf(source: KvSource, side: Side, layer: number, from: number): Float64Array {
  const { heads, channels, tokens } = source;
  const plane = source.plane(side, layer);
  const count = tokens - from;
  const columns = new Float64Array(heads * channels * count);
  const bits = new Uint32Array(1);
  const float = new Float32Array(bits.buffer);
  let sum = 0;
  for (let head = 0; head < heads; head++) {
    for (let token = 0; token < count; token++) {
      const row = (head * tokens + from + token) * channels;
      const column = head * channels * count + token;
      for (let channel = 0; channel < channels; channel++) {
        bits[0] = plane[row + channel]! << 16;
        sum += columns[column + channel * count] = float[0]!;
      }
    }
  }
  if (Number.isFinite(sum)) return columns;
  throw new KvferryError(
    "invalid_argument",
    `${source.name} has values that are no numbers, or as good as infinite, in ${side.toUpperCase()} of layer ${layer}`,
  );
}

/** Takes the rotary embedding off, in place. @param from the position of the first token of the columns */
export function unrotate(columns: Float64Array, { heads, channels, tokens, rope }: KvSource, rotation: Rotation, from: number): void {
  if (rope === undefined) return;
  const pairs = rope.inverseFrequencies.length;
  const count = tokens - from;
  const [step, apart] = rope.pairing === "half" ? [1, pairs] : [2, 1];
  for (let head = 0; head < heads; head++) {
    for (let pair = 0; pair < pairs; pair++) {
      const one = (head * channels + pair * step) * count;
      const other = one + apart * count;
      for (let token = 0; token < count; token++) {
        const angle = (from + token) * pairs + pair;
        const [cosine, sine] = [rotation.cosine[angle]!, rotation.sine[angle]!];
        const [x, y] = [columns[one + token]!, columns[other + token]!];
        columns[one + token] = x * cosine + y * sine;
        columns[other + token] = y * cosine - x * sine;
      }
    }
  }
}
