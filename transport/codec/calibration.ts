/**
 * What was measured on a model's KV, as a safetensors file: means, deviations, weights and KLT matrices of each channel. Matrices are large, so they are read
 * when a tile needs them. Tensors are float32; those of a side stand behind "k." or "v.", [layers, heads, channels] unless said otherwise. PURE.
 */
import { expected, integer, finiteFrom, LOWEST } from "../check.ts";
import { KvferryError } from "../errors.ts";
import { limits } from "../limits.ts";
import type { Side } from "./profile.ts";
import { type SafetensorsHead, bytesOf } from "./safetensors.ts";

export interface Rope {
  /** Radians for each position, one for each pair of channels. */
  readonly inverseFrequencies: Float32Array;
  /** Channel i turns with i + pairs ("half"), or 2i with 2i + 1 ("adjacent"). */
  readonly pairing: "half" | "adjacent";
}

export interface Moments {
  readonly mean: Float32Array;
  /** Around the mean. */
  readonly sigma: Float32Array;
}

export interface SideCalibration {
  /** As the KV lies in an engine: K with its rotary embedding. */
  readonly stored: Moments;
  /** K without it; the same as `stored` for V. */
  readonly plain: Moments;
  /** Of `plain` channels: what `scale` multiplies by, sensitivity of the layer included. */
  readonly weight: Float32Array;
}

export interface Klt {
  /** Block after block, each block x block; rows are components, the largest deviation first. */
  readonly matrices: Float32Array;
  /** Of each component, in the order of the rows. */
  readonly sigma: Float32Array;
}

/** A part of a tensor of float32. */
export interface FloatRange {
  readonly tensor: string;
  readonly from: number;
  readonly count: number;
}

/** Where a Klt lies in the file. */
export interface KltPlace {
  readonly matrices: FloatRange;
  readonly sigma: FloatRange;
}

/** Which one: that of the tile of `layers` layers that begins at `firstLayer`; `tileLayers` as in `klt`. */
export type KltWish = [side: Side, tileLayers: number, firstLayer: number, layers: number];

export interface CalibrationShape {
  readonly model: string;
  readonly layers: number;
  readonly heads: number;
  readonly channels: number;
}

export interface Calibration extends CalibrationShape {
  /** Hex SHA-256 of the file. */
  readonly hash: string;
  readonly rope: Rope | undefined;
  readonly k: SideCalibration;
  readonly v: SideCalibration;
  /** Layers of a tile that there are KLT matrices for; 0: of each head alone. */
  readonly klt: readonly number[];
  /** Throws invalid_argument if the file has none. */
  readonly kltOf: (...wish: KltWish) => Klt;
  /** For who reads it otherwise. Throws as kltOf does, but of what reading finds out. */
  readonly kltPlace: (...wish: KltWish) => KltPlace;
}

/** What stands in the metadata, as JSON. */
export interface CalibrationHead extends CalibrationShape {
  readonly version: 1;
  readonly pairing: "" | "half" | "adjacent";
  readonly klt: readonly number[];
  /** That all was measured on. */
  readonly tokens: number;
}

export const METADATA_KEY = "kvferry_calibration";
export const INVERSE_FREQUENCIES = "rope.inverse_frequencies";

/** What steps are divided by has a reciprocal. */
const WEIGHT_LEAST = 1e-30;

/** Matrices of `tileLayers` layers together; 0: [layers, heads, channels, channels]. */
export function kltName(side: Side, tileLayers: number, tile: number): string {
  return tileLayers === 0 ? `${side}.klt.head` : `${side}.klt.${tileLayers}.${tile}`;
}

export function kltSigmaName(side: Side, tileLayers: number, tile: number): string {
  return tileLayers === 0 ? `${side}.klt_sigma.head` : `${side}.klt_sigma.${tileLayers}.${tile}`;
}

/** Throws invalid_argument. @param read the bytes of a tensor, aligned to four; `from` and `bytes` choose a part of it */
export function openCalibration(
  { tensors, metadata }: SafetensorsHead,
  read: (tensor: string, from: number, bytes: number) => Uint8Array,
  hash: string,
  name: string,
): Calibration {
  const head = parseCalibrationHead(metadata.get(METADATA_KEY), name);
  const place = (tensor: string, shape: readonly number[], from = 0, count = bytesOf("F32", shape) / 4): FloatRange => {
    const found = tensors.get(tensor);
    if (found === undefined) throw new KvferryError("invalid_argument", `${name} has no tensor ${tensor}`);
    if (found.dtype !== "F32" || found.shape.join() !== shape.join()) {
      throw expected(`F32 [${shape.join(", ")}]`, `${tensor} (of ${name})`, `${found.dtype} [${found.shape.join(", ")}]`);
    }
    return { tensor, from, count };
  };
  const floats = ({ tensor, from, count }: FloatRange): Float32Array => {
    const bytes = read(tensor, from * 4, count * 4);
    return new Float32Array(bytes.buffer, bytes.byteOffset, count);
  };
  const shape = [head.layers, head.heads, head.channels];
  /** Of each channel: finite, and not below `least`. */
  const numbers = (tensor: string, least: number, size: readonly number[] = shape): Float32Array =>
    finiteFrom(least, floats(place(tensor, size)), `${tensor} (of ${name})`);
  const moments = (prefix: string): Moments => ({ mean: numbers(`${prefix}mean`, LOWEST), sigma: numbers(`${prefix}sigma`, 0) });
  const side = (key: Side): SideCalibration => {
    const plain = moments(`${key}.`);
    const stored = key === "k" && head.pairing !== "" ? moments("k.stored_") : plain;
    return { plain, stored, weight: numbers(`${key}.weight`, WEIGHT_LEAST) };
  };
  const pairs = integer(tensors.get(INVERSE_FREQUENCIES)?.shape[0] ?? 0, `pairs of ${name}`, 0, Math.floor(head.channels / 2));
  const kltPlace = (...wish: KltWish): KltPlace => {
    const [, tileLayers] = wish;
    if (head.klt.includes(tileLayers)) return placeOfKlt(place, head, wish);
    const there = head.klt.map(kltWords).join(", ") || "nothing";
    throw new KvferryError("invalid_argument", `${name} has KLT matrices of ${there}, not of ${kltWords(tileLayers)}`);
  };
  return {
    ...head,
    hash,
    rope: head.pairing === "" ? undefined : { inverseFrequencies: numbers(INVERSE_FREQUENCIES, LOWEST, [pairs]), pairing: head.pairing },
    k: side("k"),
    v: side("v"),
    kltPlace,
    kltOf: (...wish) => {
      const { matrices, sigma } = kltPlace(...wish);
      return checkKlt({ matrices: floats(matrices), sigma: floats(sigma) }, name);
    },
  };
}

/** Throws invalid_argument. Of the matrices a codec finds out whether their rows have length 1. */
export function checkKlt(klt: Klt, name: string): Klt {
  finiteFrom(0, klt.sigma, `deviations behind a KLT (of ${name})`);
  return klt;
}

function kltWords(tileLayers: number): string {
  return tileLayers === 0 ? "each head" : `${tileLayers} layers`;
}

function placeOfKlt(
  place: (tensor: string, shape: readonly number[], from?: number, count?: number) => FloatRange,
  head: CalibrationHead,
  [key, tileLayers, firstLayer, layers]: KltWish,
): KltPlace {
  const { heads, channels } = head;
  if (tileLayers === 0) {
    const row = heads * channels;
    return {
      matrices: place(kltName(key, 0, 0), [head.layers, heads, channels, channels], firstLayer * row * channels, layers * row * channels),
      sigma: place(kltSigmaName(key, 0, 0), [head.layers, heads, channels], firstLayer * row, layers * row),
    };
  }
  const tile = Math.floor(firstLayer / tileLayers);
  const width = layers * heads * channels;
  return { matrices: place(kltName(key, tileLayers, tile), [width, width]), sigma: place(kltSigmaName(key, tileLayers, tile), [width]) };
}

function parseCalibrationHead(text: string | undefined, name: string): CalibrationHead {
  if (text === undefined) throw new KvferryError("invalid_argument", `${name} is no calibration: kvferry codec calibrate makes them`);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new KvferryError("invalid_argument", `${name}: ${METADATA_KEY} is no JSON`, { cause });
  }
  if (typeof value !== "object" || value === null) throw expected("an object", `${METADATA_KEY} (of ${name})`, value);
  const { version, model, layers, heads, channels, pairing, klt, tokens } = value as Readonly<Record<string, unknown>>;
  integer(version, `version of ${name}`, 1, 1);
  if (typeof model !== "string") throw expected("a text", `model of ${name}`, model);
  if (pairing !== "" && pairing !== "half" && pairing !== "adjacent") throw expected('"", half or adjacent', `pairing of ${name}`, pairing);
  if (!Array.isArray(klt)) throw expected("an array", `klt of ${name}`, klt);
  return Object.freeze({
    version: 1,
    model,
    layers: integer(layers, `layers of ${name}`, 1, limits.layersMax),
    heads: integer(heads, `heads of ${name}`, 1, limits.headsMax),
    channels: integer(channels, `channels of ${name}`, 1, limits.channelsMax),
    pairing,
    klt: Object.freeze(Array.from(klt as unknown[], (one) => integer(one, `klt of ${name}`, 0, limits.codecLayersMax))),
    tokens: integer(tokens, `tokens of ${name}`, 0, Number.MAX_SAFE_INTEGER),
  });
}
