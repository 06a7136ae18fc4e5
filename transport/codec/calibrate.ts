/**
 * Makes a calibration of KV of several sequences. Two passes: moments of every channel, then, tile by tile, the products of the centered and weighted columns, whose
 * eigenvectors are the KLT. One tile's matrices are held at a time. PURE: what turns is handed in.
 */
import { expected } from "../check.ts";
import { KvferryError } from "../errors.ts";
import { limits } from "../limits.ts";
import {
  type CalibrationHead,
  INVERSE_FREQUENCIES,
  type Klt,
  kltName,
  kltSigmaName,
  METADATA_KEY,
  type Moments,
  type Rope,
} from "./calibration.ts";
import { addProducts, kltOf } from "./covariance.ts";
import { layerWeights, MomentSums, weightsOfKeys, weightsOfValues } from "./moments.ts";
import { type Side, SIDES } from "./profile.ts";
import type { TensorShape } from "./safetensors.ts";
import { columnsOf, type KvSource, type Rotation, unrotate } from "./source.ts";

export interface CalibrationRequest {
  readonly sources: readonly KvSource[];
  /** So many first tokens are left out: they are not like the others, and travel as they are. */
  readonly exempt: number;
  /** As in `Calibration`. */
  readonly klt: readonly number[];
  /** [layers, 2], K and V; undefined: all layers alike. */
  readonly sensitivity: Float32Array | undefined;
  readonly rotation: (rope: Rope, tokens: number) => Rotation;
  readonly onStep: (what: string) => void;
}

export interface CalibrationParts {
  readonly shapes: readonly TensorShape[];
  readonly metadata: Readonly<Record<string, string>>;
  /** Of the tensors, in the order of the shapes. Each is worked out when it is asked for. */
  readonly values: () => Generator<Float32Array>;
}

interface Measured {
  readonly plain: Moments;
  readonly rms: Float32Array;
  readonly weight: Float32Array;
}

/** Throws invalid_argument on sources that are not of one model, or are too short. */
export function calibrate(request: CalibrationRequest): CalibrationParts {
  const first = checkSources(request);
  const { layers, heads, channels, rope } = first;
  const tokens = request.sources.reduce((sum, source) => sum + source.tokens - request.exempt, 0);
  const head: CalibrationHead = {
    version: 1,
    model: first.model,
    layers,
    heads,
    channels,
    pairing: rope?.pairing ?? "",
    klt: request.klt,
    tokens,
  };
  const shapes = [...momentShapes(first, request), ...request.klt.flatMap((tileLayers) => kltShapes(tileLayers, first))];
  return {
    shapes: shapes.map(({ name, shape }) => ({ name, dtype: "F32", shape })),
    metadata: { [METADATA_KEY]: JSON.stringify(head) },
    values: () => valuesOf(request, first),
  };
}

function* valuesOf(request: CalibrationRequest, first: KvSource): Generator<Float32Array> {
  const queryRms = queryRmsOf(request.sources);
  const sums = { k: new MomentSums(width(first)), v: new MomentSums(width(first)), stored: new MomentSums(width(first)) };
  for (const source of request.sources) {
    request.onStep(`moments of ${source.name}`);
    addMoments(request, source, sums);
  }
  const weightsOf = (side: Side, rms: Float32Array): Float32Array => {
    const layers = layerWeights(sensitivityOf(request, first, side));
    return side === "k" ? weightsOfKeys(queryRms, rms, first.channels, layers) : weightsOfValues(rms, first.channels, layers);
  };
  if (first.rope !== undefined) yield first.rope.inverseFrequencies;
  yield request.sensitivity ?? new Float32Array(first.layers * 2).fill(1);
  if (queryRms !== undefined) yield queryRms;
  const measured = { k: measure("k"), v: measure("v") };
  function measure(side: Side): Measured {
    const rms = sums[side].rms();
    return { plain: sums[side].moments(), rms, weight: weightsOf(side, rms) };
  }
  if (first.rope !== undefined) {
    const stored = sums.stored.moments();
    yield stored.mean;
    yield stored.sigma;
  }
  for (const side of SIDES) {
    const { plain, rms, weight } = measured[side];
    yield* [plain.mean, plain.sigma, rms, weight];
  }
  for (const tileLayers of request.klt) for (const side of SIDES) yield* kltValues(request, side, tileLayers, measured[side]);
}

/** In the order of `valuesOf`. */
function momentShapes(first: KvSource, { sources }: CalibrationRequest): { name: string; shape: readonly number[] }[] {
  const { layers, heads, channels, rope } = first;
  const shape = [layers, heads, channels];
  const named = (...names: string[]): { name: string; shape: readonly number[] }[] => names.map((name) => ({ name, shape }));
  return [
    ...(rope === undefined ? [] : [{ name: INVERSE_FREQUENCIES, shape: [rope.inverseFrequencies.length] }]),
    { name: "sensitivity", shape: [layers, 2] },
    ...named(...(sources.every(({ querySquare }) => querySquare !== undefined) ? ["k.query_rms"] : [])),
    ...named(...(rope === undefined ? [] : ["k.stored_mean", "k.stored_sigma"])),
    ...SIDES.flatMap((side) => named(`${side}.mean`, `${side}.sigma`, `${side}.rms`, `${side}.weight`)),
  ];
}

function kltShapes(tileLayers: number, { layers, heads, channels }: KvSource): { name: string; shape: readonly number[] }[] {
  return SIDES.flatMap((side) => {
    if (tileLayers === 0) {
      return [
        { name: kltName(side, 0, 0), shape: [layers, heads, channels, channels] },
        { name: kltSigmaName(side, 0, 0), shape: [layers, heads, channels] },
      ];
    }
    return Array.from({ length: Math.ceil(layers / tileLayers) }, (_, tile) => {
      const size = Math.min(tileLayers, layers - tile * tileLayers) * heads * channels;
      return [
        { name: kltName(side, tileLayers, tile), shape: [size, size] },
        { name: kltSigmaName(side, tileLayers, tile), shape: [size] },
      ];
    }).flat();
  });
}

function addMoments(request: CalibrationRequest, source: KvSource, sums: Record<Side | "stored", MomentSums>): void {
  const { exempt } = request;
  const { layers, heads, channels, tokens, rope } = source;
  const rotation = rope === undefined ? undefined : request.rotation(rope, tokens);
  for (const sum of Object.values(sums)) sum.count += tokens - exempt;
  for (let layer = 0; layer < layers; layer++) {
    const at = layer * heads * channels;
    const keys = columnsOf(source, "k", layer, exempt);
    sums.stored.add(keys, at, tokens - exempt);
    if (rotation !== undefined) unrotate(keys, source, rotation, exempt);
    sums.k.add(keys, at, tokens - exempt);
    sums.v.add(columnsOf(source, "v", layer, exempt), at, tokens - exempt);
  }
}

/** Of a side: matrices and deviations, tile by tile; of single heads all in one. */
function* kltValues(request: CalibrationRequest, side: Side, tileLayers: number, measured: Measured): Generator<Float32Array> {
  const { layers, heads, channels } = request.sources[0]!;
  const tiles = Math.ceil(layers / Math.max(1, tileLayers));
  const matrices = new Float32Array(tileLayers === 0 ? layers * heads * channels * channels : 0);
  const sigma = new Float32Array(tileLayers === 0 ? layers * heads * channels : 0);
  for (let tile = 0; tile < tiles; tile++) {
    const firstLayer = tile * Math.max(1, tileLayers);
    const count = Math.min(Math.max(1, tileLayers), layers - firstLayer);
    const block = tileLayers === 0 ? channels : count * heads * channels;
    request.onStep(`KLT of ${side.toUpperCase()}, layers ${firstLayer} to ${firstLayer + count - 1} (${block} x ${block})`);
    const klts = kltsOfTile(request, side, { firstLayer, count, block }, measured);
    if (tileLayers > 0) yield* [klts[0]!.matrices, klts[0]!.sigma];
    else {
      klts.forEach((klt, head) => {
        matrices.set(klt.matrices, (tile * heads + head) * channels * channels);
        sigma.set(klt.sigma, (tile * heads + head) * channels);
      });
    }
  }
  if (tileLayers === 0) yield* [matrices, sigma];
}

interface Block {
  readonly firstLayer: number;
  readonly count: number;
  /** Columns that are transformed together. */
  readonly block: number;
}

function kltsOfTile(request: CalibrationRequest, side: Side, { firstLayer, count, block }: Block, measured: Measured): Klt[] {
  const { heads, channels } = request.sources[0]!;
  const row = heads * channels;
  const blocks = (count * row) / block;
  const sums = Array.from({ length: blocks }, () => new Float64Array(block * block));
  let total = 0;
  for (const source of request.sources) {
    const tokens = source.tokens - request.exempt;
    const columns = new Float64Array(count * row * tokens);
    const rotation = side === "v" || source.rope === undefined ? undefined : request.rotation(source.rope, source.tokens);
    for (let layer = 0; layer < count; layer++) {
      const ofLayer = columnsOf(source, side, firstLayer + layer, request.exempt);
      if (rotation !== undefined) unrotate(ofLayer, source, rotation, request.exempt);
      weigh(ofLayer, measured, (firstLayer + layer) * row, tokens);
      columns.set(ofLayer, layer * row * tokens);
    }
    sums.forEach((sum, at) => addProducts(sum, columns.subarray(at * block * tokens, (at + 1) * block * tokens), block, tokens));
    total += tokens;
  }
  return sums.map((sum) => kltOf(sum, block, total));
}

function weigh(columns: Float64Array, { plain, weight }: Measured, first: number, tokens: number): void {
  for (let column = 0; column * tokens < columns.length; column++) {
    const [mean, factor] = [plain.mean[first + column]!, weight[first + column]!];
    for (let at = column * tokens, end = at + tokens; at < end; at++) columns[at] = (columns[at]! - mean) * factor;
  }
}

/** Undefined unless every source has it. */
function queryRmsOf(sources: readonly KvSource[]): Float32Array | undefined {
  if (!sources.every(({ querySquare }) => querySquare !== undefined)) return undefined;
  const tokens = sources.reduce((sum, source) => sum + source.tokens, 0);
  return sources[0]!.querySquare!.map((_, at) =>
    Math.sqrt(sources.reduce((sum, source) => sum + source.querySquare![at]! * (source.tokens / tokens), 0)),
  );
}

function sensitivityOf({ sensitivity }: CalibrationRequest, { layers }: KvSource, side: Side): Float32Array {
  return Float32Array.from({ length: layers }, (_, layer) => sensitivity?.[2 * layer + (side === "k" ? 0 : 1)] ?? 1);
}

function width({ layers, heads, channels }: KvSource): number {
  return layers * heads * channels;
}

function checkSources({ sources, exempt, klt, sensitivity }: CalibrationRequest): KvSource {
  const [first] = sources;
  if (first === undefined) throw new KvferryError("invalid_argument", "a calibration needs at least one dump");
  for (const source of sources) {
    for (const key of ["model", "layers", "heads", "channels"] as const) {
      if (source[key] !== first[key]) throw expected(`${first[key]}, as ${first.name} has`, `${key} of ${source.name}`, source[key]);
    }
    const ropes = [source, first].map(({ rope }) => `${rope?.pairing} ${rope?.inverseFrequencies.join()}`);
    if (ropes[0] !== ropes[1]) throw new KvferryError("invalid_argument", `${source.name} has another rotary embedding than ${first.name}`);
    if (source.tokens <= exempt) throw expected(`more than ${exempt} tokens`, source.name, source.tokens);
  }
  const widest = Math.max(0, ...klt.map((tileLayers) => Math.min(tileLayers, first.layers))) * first.heads * first.channels;
  if (widest > limits.codecWidthMax) throw expected(`a KLT of at most ${limits.codecWidthMax} channels`, "klt", widest);
  if (sensitivity !== undefined && sensitivity.length !== 2 * first.layers) {
    throw expected(`[${first.layers}, 2] numbers`, "sensitivity", `${sensitivity.length} numbers`);
  }
  return first;
}
