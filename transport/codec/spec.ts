/**
 * From a profile, a calibration and a model's shape to what the native codec does with one tile: a step, a table, a factor for each column of a row. PURE.
 *
 * The arithmetic (research: "w" and "x" profiles; KVQuant, Hooper et al. 2024, and KVTC, Staniszewski and Lancucki 2025, have its parts):
 *   weight w   of a channel: K, RMS of the queries that meet it before RoPE; V, 1 / RMS of its head; both times the root of the layer's relative sensitivity
 *   step       q / w, so that an error of K makes the same noise in every logit, and one of V in every head
 *   scale, klt columns are multiplied by w first and then have one step for all: equal steps behind an orthonormal transform share out bits as reverse water-filling does
 *   affine     a column's range, or its head's, is so many deviations to either side of its mean; a step behind it is of that range, and the weights do not count
 *   table      of a column: its calibrated deviation in steps
 */
import { KvferryError } from "../errors.ts";
import { limits } from "../limits.ts";
import type { NativeCodecSpec } from "../native-codec.ts";
import type { Calibration, Klt, Moments, Rope, SideCalibration } from "./calibration.ts";
import { has, isLossless, needsCalibration } from "./fit.ts";
import { gaussianClass } from "./gaussian.ts";
import type { Levels, Pipeline, Profile, Side } from "./profile.ts";

/** Of the KV that is compressed. */
export interface ModelShape {
  readonly model: string;
  readonly element: "bf16" | "f16" | "f32";
  /** Up to the last one, in the model's numbering. */
  readonly layers: number;
  readonly heads: number;
  /**
   * Where the heads stand among the model's, if KV of a part of its layers or heads is meant as well; undefined: the numbers above are the model's. Then what was
   * measured of more layers or heads is of another model, unless it names this one.
   */
  readonly firstHead?: number | undefined;
  readonly channels: number;
  /** Undefined: unknown, so that only a calibration may know it. */
  readonly rope: Rope | undefined;
}

/** K or V of `layers` layers from `firstLayer` on. */
export interface TileLayers {
  readonly side: Side;
  readonly firstLayer: number;
  readonly layers: number;
}

/** All layers of a model, K and V, in tiles of the profile's number of layers; the last have what is left. */
export function tilesOf(profile: Profile, layers: number): TileLayers[] {
  const tiles: TileLayers[] = [];
  for (let firstLayer = 0; firstLayer < layers; firstLayer += profile.layers) {
    for (const side of ["k", "v"] as const) tiles.push({ side, firstLayer, layers: Math.min(profile.layers, layers - firstLayer) });
  }
  return tiles;
}

/** Throws KvferryError invalid_argument, in words, on a profile that this model or this calibration does not fit. */
export function specOf(profile: Profile, tile: TileLayers, model: ModelShape, calibration?: Calibration): NativeCodecSpec {
  const pipeline = profile[tile.side];
  if (profile.merge !== undefined) throw misfit("tokens are merged before there are tiles of K and of V");
  const measured = needsCalibration(pipeline) ? checkCalibration(model, calibration) : undefined;
  const width = tile.layers * model.heads * model.channels;
  if (width > limits.codecWidthMax)
    throw misfit(`${tile.layers} layers make rows of ${width} values, and ${limits.codecWidthMax} is the most`);
  if (pipeline.codec.kind === "lz4") throw misfit("the codec lz4 is a yardstick for files: kvferry codec");
  if (pipeline.codec.kind === "exponent" && model.element === "f32") throw misfit("the codec exponent is for bf16 and f16");
  const columns = measured === undefined ? undefined : columnsOf(profile, tile, model, measured);
  const delta = pipeline.transform.find((one) => one.kind === "delta");
  return {
    element: model.element,
    parts: tile.layers,
    heads: model.heads,
    channels: model.channels,
    exempt: isLossless(pipeline) ? 0 : profile.exempt,
    transform: {
      ...(has(pipeline, "unrotate") ? { rope: ropeOf(model, calibration) } : {}),
      ...(has(pipeline, "mean") || has(pipeline, "affine") ? { mean: columns!.mean } : {}),
      ...(has(pipeline, "scale") || has(pipeline, "affine") ? { scale: columns!.scale } : {}),
      ...(has(pipeline, "hadamard") ? { signs: signsOf(pipeline, tile, model) } : {}),
      ...(columns?.klt === undefined ? {} : { klt: { block: columns.klt.matrices.length / width, matrices: columns.klt.matrices } }),
      ...(delta === undefined ? {} : { delta: { anchor: delta.anchor } }),
    },
    quantizer: quantizerOf(pipeline, tile, model, columns),
    codec: codecOf(pipeline, columns),
  };
}

/** What a calibration says of a tile's columns, before and behind the transform. */
interface Columns {
  /** What is subtracted first, and what is multiplied by then: zeros and ones if nothing is. */
  readonly mean: Float32Array;
  readonly scale: Float32Array;
  readonly klt: Klt | undefined;
  /** Steps, if the quantizer has them. */
  readonly steps: Float32Array;
  /** Deviation of what is quantized. */
  readonly sigma: Float32Array;
}

/** Of the heads that are there: what is measured is known of all, and no head's numbers depend on another's but through a KLT that joins them. */
function columnsOf(profile: Profile, tile: TileLayers, model: ModelShape, calibration: Calibration): Columns {
  const { heads, firstHead = 0, channels } = model;
  const isPart = heads !== calibration.heads;
  if (kltBlock(profile[tile.side]) === "tile") {
    if (isPart) throw misfit(`its KLT joins all ${calibration.heads} heads of a layer, and ${heads} are here`);
    if (tile.firstLayer % profile.layers !== 0)
      throw misfit(`its KLT joins ${profile.layers} layers, and none of those begin with ${tile.firstLayer}`);
  }
  const all = allColumnsOf(profile, tile, { ...model, heads: calibration.heads }, calibration);
  if (!isPart) return all;
  const { mean, scale, klt, steps, sigma } = all;
  const cut = (whole: Float32Array, columnValues = 1): Float32Array => {
    const row = heads * channels * columnValues;
    const part = new Float32Array(tile.layers * row);
    for (let layer = 0; layer < tile.layers; layer++) {
      const from = (layer * calibration.heads + firstHead) * channels * columnValues;
      part.set(whole.subarray(from, from + row), layer * row);
    }
    return part;
  };
  return {
    mean: cut(mean),
    scale: cut(scale),
    klt: klt === undefined ? undefined : { matrices: cut(klt.matrices, channels), sigma: cut(klt.sigma) },
    steps: steps.length === 0 ? steps : cut(steps),
    sigma: cut(sigma),
  };
}

function allColumnsOf(profile: Profile, tile: TileLayers, model: ModelShape, calibration: Calibration): Columns {
  const pipeline = profile[tile.side];
  const side = calibration[tile.side];
  const isPlain = tile.side === "v" || has(pipeline, "unrotate");
  const moments = sliceMoments(isPlain ? side.plain : side.stored, tile, model);
  const weight = weightOf(side, isPlain ? undefined : calibration.rope, tile, model);
  const block = kltBlock(pipeline);
  const klt =
    block === undefined ? undefined : calibration.kltOf(tile.side, block === "head" ? 0 : profile.layers, tile.firstLayer, tile.layers);
  const center = centerOf(pipeline, moments, weight, model);
  const sigma = klt?.sigma ?? sigmaOf(pipeline, moments, center, model);
  // Behind a delta most tokens are differences, at most as wide as those of tokens that have nothing in common.
  return {
    ...center,
    klt,
    steps: stepsOf(pipeline, weight, tile, model),
    sigma: has(pipeline, "delta") ? sigma.map((one) => Math.sqrt(2) * one) : sigma,
  };
}

function kltBlock({ transform }: Pipeline): "tile" | "head" | undefined {
  return transform.find((one) => one.kind === "klt")?.block;
}

type Center = Pick<Columns, "mean" | "scale">;

/** Mean, scale and affine in one: each is a difference and a factor. */
function centerOf(pipeline: Pipeline, moments: Moments, weight: Float32Array, { channels }: ModelShape): Center {
  const mean = has(pipeline, "mean") ? moments.mean.slice() : new Float32Array(weight.length);
  const scale = has(pipeline, "scale") ? weight.slice() : new Float32Array(weight.length).fill(1);
  const affine = pipeline.transform.find((one) => one.kind === "affine");
  if (affine === undefined) return { mean, scale };
  const width = affine.by === "head" ? channels : 1;
  for (let first = 0; first < weight.length; first += width) {
    let [low, high] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
    for (let at = first; at < first + width; at++) {
      const middle = (moments.mean[at]! - mean[at]!) * scale[at]!;
      const reach = affine.deviations * moments.sigma[at]! * scale[at]!;
      [low, high] = [Math.min(low, middle - reach), Math.max(high, middle + reach)];
    }
    const half = (high - low) / 2;
    for (let at = first; at < first + width; at++) {
      mean[at]! += (low + high) / 2 / scale[at]!;
      const factor = scale[at]! / half;
      // What never changes has no range, and what has no reciprocal is no factor.
      if (half > 0 && factor > 1e-30 && factor < 1e30) scale[at] = factor;
    }
  }
  return { mean, scale };
}

function sliceMoments({ mean, sigma }: Moments, tile: TileLayers, { heads, channels }: ModelShape): Moments {
  const from = tile.firstLayer * heads * channels;
  const to = from + tile.layers * heads * channels;
  return { mean: mean.subarray(from, to), sigma: sigma.subarray(from, to) };
}

/** Rotated keys meet rotated queries: over many positions both channels of a pair get the mean of their squares. */
function weightOf(side: SideCalibration, rope: Rope | undefined, tile: TileLayers, { heads, channels }: ModelShape): Float32Array {
  const row = heads * channels;
  const weight = side.weight.slice(tile.firstLayer * row, (tile.firstLayer + tile.layers) * row);
  if (rope === undefined) return weight;
  const pairs = rope.inverseFrequencies.length;
  for (let head = 0; head < weight.length; head += channels) {
    for (let pair = 0; pair < pairs; pair++) {
      const [one, other] = rope.pairing === "half" ? [head + pair, head + pairs + pair] : [head + 2 * pair, head + 2 * pair + 1];
      const [first, second] = [weight[one]!, weight[other]!];
      weight[one] = weight[other] = Math.sqrt((first * first + second * second) / 2);
    }
  }
  return weight;
}

function stepsOf({ transform, quantizer }: Pipeline, weight: Float32Array, tile: TileLayers, model: ModelShape): Float32Array {
  if (quantizer.kind !== "step") return new Float32Array(0);
  const { step, factors } = quantizer;
  if (factors.length > 0) checkCount("factors", factors.length, "layers", model.layers, model);
  const isScaled = transform.some(({ kind }) => kind === "scale" || kind === "affine");
  const row = model.heads * model.channels;
  return weight.map((one, at) => (step * (factors[tile.firstLayer + Math.floor(at / row)] ?? 1)) / (isScaled ? 1 : one));
}

/** Without a KLT. A Hadamard transform gives every channel of a head the same part of all of them, as far as they are independent. */
function sigmaOf(pipeline: Pipeline, { mean, sigma }: Moments, center: Center, { channels }: ModelShape): Float32Array {
  const found = sigma.map((one, at) => Math.sqrt(one * one + (mean[at]! - center.mean[at]!) ** 2) * center.scale[at]!);
  if (!has(pipeline, "hadamard")) return found;
  for (let head = 0; head < found.length; head += channels) {
    let sum = 0;
    for (let channel = 0; channel < channels; channel++) sum += found[head + channel]! * found[head + channel]!;
    found.fill(Math.sqrt(sum / channels), head, head + channels);
  }
  return found;
}

function quantizerOf(pipeline: Pipeline, tile: TileLayers, model: ModelShape, columns: Columns | undefined): NativeCodecSpec["quantizer"] {
  const { quantizer } = pipeline;
  switch (quantizer.kind) {
    case "none":
    case "fp8":
      return quantizer;
    case "step":
      return { kind: "step", steps: columns!.steps };
    case "group":
    case "mixhq": {
      const { axis, group, recent } = quantizer;
      return { kind: "group", axis, recent, levels: levelsOf(quantizer.levels, tile, model), ...(axis === "tensor" ? {} : { group }) };
    }
    case "cachegen":
      return { kind: "cachegen", levels: levelsOf(quantizer.levels, tile, { ...model, heads: 1 }) };
  }
}

/** One number for each head of each layer of the tile. */
function levelsOf(levels: Levels, tile: TileLayers, model: ModelShape): Uint16Array {
  const { layers, heads, firstHead = 0 } = model;
  if (typeof levels !== "number") checkCount("levels", levels.length, "layers", layers, model);
  return Uint16Array.from({ length: tile.layers * heads }, (_, at) => {
    const ofLayer = typeof levels === "number" ? levels : levels[tile.firstLayer + Math.floor(at / heads)]!;
    if (typeof ofLayer === "number") return ofLayer;
    checkCount("levels", ofLayer.length, "heads", firstHead + heads, model);
    return ofLayer[firstHead + (at % heads)]!;
  });
}

/** Of as many as the model has, or of more if a part of it may be meant. */
function checkCount(what: string, count: number, unit: "layers" | "heads", here: number, { firstHead }: ModelShape): void {
  if (count === here || (firstHead !== undefined && count > here)) return;
  throw misfit(`${what} are of ${count} ${unit}, and the model has ${here}${firstHead === undefined ? "" : " and more"}`);
}

function codecOf({ codec }: Pipeline, columns: Columns | undefined): NativeCodecSpec["codec"] {
  if (codec.kind !== "rans-static") return codec as NativeCodecSpec["codec"];
  const { sigma, steps } = columns!;
  return { kind: "rans-static", classes: Uint8Array.from(sigma, (one, at) => gaussianClass(one / steps[at]!)) };
}

/** Of the layer and head that a column belongs to, so that no direction of the model is an axis of the transform everywhere. */
function signsOf({ transform }: Pipeline, tile: TileLayers, { heads, channels }: ModelShape): Int8Array {
  if ((channels & (channels - 1)) !== 0) throw misfit(`hadamard needs channels that are a power of two, and the model has ${channels}`);
  const seed = transform.find((one) => one.kind === "hadamard")?.seed ?? 0;
  return Int8Array.from({ length: tile.layers * heads * channels }, (_, at) => {
    const column = tile.firstLayer * heads * channels + at;
    return (mix(seed ^ mix(column)) & 1) === 0 ? 1 : -1;
  });
}

/** A hash of 32 bits (Mueller's). */
function mix(value: number): number {
  let state = value + 0x9e3779b9;
  state = Math.imul(state ^ (state >>> 16), 0x45d9f3b);
  state = Math.imul(state ^ (state >>> 16), 0x45d9f3b);
  return (state ^ (state >>> 16)) >>> 0;
}

function ropeOf(model: ModelShape, calibration: Calibration | undefined): Rope {
  const rope = calibration?.rope ?? model.rope;
  if (rope === undefined) throw misfit("unrotate needs the rotary embedding's frequencies and pairing, and nothing says them");
  if (rope.inverseFrequencies.length * 2 > model.channels) throw misfit("the rotary embedding turns more channels than a head has");
  return rope;
}

function checkCalibration(model: ModelShape, calibration: Calibration | undefined): Calibration {
  if (calibration === undefined) throw misfit("the profile needs a calibration: kvferry codec calibrate makes one");
  if (calibration.model !== "" && model.model !== "" && calibration.model !== model.model) {
    throw misfit(`the calibration is of the model ${calibration.model}, not of ${model.model}`);
  }
  if (!isOf(model, calibration)) {
    const [theirs, ours] = [calibration, model].map((one) => `${one.layers} layers of ${one.heads} heads of ${one.channels} channels`);
    throw misfit(`the calibration is of ${theirs}, and the model has ${ours}`);
  }
  if (calibration.rope !== undefined && model.rope !== undefined && !sameRope(calibration.rope, model.rope)) {
    throw misfit("the calibration's rotary embedding is not the model's");
  }
  return calibration;
}

/** What names the model may be of more layers and heads than are here. */
function isOf({ model, layers, heads, channels, firstHead }: ModelShape, calibration: Calibration): boolean {
  if (channels !== calibration.channels) return false;
  if (layers === calibration.layers && heads === calibration.heads) return (firstHead ?? 0) === 0;
  return (
    firstHead !== undefined &&
    model !== "" &&
    calibration.model === model &&
    layers <= calibration.layers &&
    firstHead + heads <= calibration.heads
  );
}

function sameRope(one: Rope, other: Rope): boolean {
  return one.pairing === other.pairing && one.inverseFrequencies.join() === other.inverseFrequencies.join();
}

function misfit(detail: string): KvferryError {
  return new KvferryError("invalid_argument", detail);
}
