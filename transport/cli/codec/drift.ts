/**
 * How well a calibration fits KV that it was not made of. A table made for deviation s costs a Gaussian of deviation r s more than its own table would by
 * (r^2 - 1 - ln r^2) / 2 nats for each value (Cover and Thomas, relative entropy of normal laws; r^2 is taken around the calibrated mean, so that means count too).
 */
import type { Calibration } from "../../codec/calibration.ts";
import { columnsOf, type KvSource, unrotate } from "../../codec/source.ts";
import { type Side, SIDES } from "../../codec/profile.ts";
import { rotationOf } from "./dump.ts";

export interface Drift {
  readonly side: Side;
  /** 0: channels as they are; else the KLT of so many layers. */
  readonly klt: number;
  /** Bits lost for each value, on average. */
  readonly bits: number;
  /** Where it is worst. */
  readonly worstLayer: number;
  readonly worstBits: number;
}

/** Tokens of a dump that a KLT is tried on: every product costs as much as the transform. */
const TOKENS_MAX = 512;

export function driftOf(calibration: Calibration, sources: readonly KvSource[], exempt: number): Drift[] {
  const widths = [0, ...calibration.klt.filter((layers) => layers > 0)];
  return SIDES.flatMap((side) =>
    widths.map((klt) => {
      const bits = klt === 0 ? channelBits(calibration, sources, side, exempt) : kltBits(calibration, sources, side, klt, exempt);
      const worstBits = Math.max(...bits);
      const perLayer = Math.max(1, klt);
      return {
        side,
        klt,
        bits: bits.reduce((sum, one) => sum + one, 0) / bits.length,
        worstLayer: bits.indexOf(worstBits) * perLayer,
        worstBits,
      };
    }),
  );
}

/** Mean over the channels of each layer. */
function channelBits(calibration: Calibration, sources: readonly KvSource[], side: Side, exempt: number): number[] {
  const { layers, heads, channels } = calibration;
  const { sigma } = calibration[side].plain;
  const row = heads * channels;
  return Array.from({ length: layers }, (_, layer) => {
    const squares = new Float64Array(row);
    const tokens = eachTile(calibration, sources, side, { firstLayer: layer, layers: 1, exempt }, (columns, count) => {
      for (let column = 0; column < row; column++) squares[column]! += squareOf(columns, column * count, count);
    });
    const { weight } = calibration[side];
    return meanBits(squares, tokens, (column) => sigma[layer * row + column]! * weight[layer * row + column]!);
  });
}

/** Mean over the components of each tile. */
function kltBits(calibration: Calibration, sources: readonly KvSource[], side: Side, klt: number, exempt: number): number[] {
  const row = calibration.heads * calibration.channels;
  return Array.from({ length: Math.ceil(calibration.layers / klt) }, (_, tile) => {
    const layers = Math.min(klt, calibration.layers - tile * klt);
    const { matrices, sigma } = calibration.kltOf(side, klt, tile * klt, layers);
    const size = layers * row;
    const squares = new Float64Array(size);
    const tokens = eachTile(
      calibration,
      sources,
      side,
      { firstLayer: tile * klt, layers, exempt, tokensMax: TOKENS_MAX },
      (columns, count) => {
        const component = new Float64Array(count);
        for (let row = 0; row < size; row++) {
          component.fill(0);
          for (let column = 0; column < size; column++) {
            const factor = matrices[row * size + column]!;
            for (let token = 0, at = column * count; token < count; token++) component[token]! += factor * columns[at + token]!;
          }
          squares[row]! += squareOf(component, 0, count);
        }
      },
    );
    return meanBits(squares, tokens, (column) => sigma[column]!);
  });
}

interface Part {
  readonly firstLayer: number;
  readonly layers: number;
  readonly exempt: number;
  readonly tokensMax?: number;
}

/** Centered, weighted columns of some layers, of one source after the other. Returns how many tokens there were. */
function eachTile(
  calibration: Calibration,
  sources: readonly KvSource[],
  side: Side,
  { firstLayer, layers, exempt, tokensMax = Infinity }: Part,
  onColumns: (columns: Float64Array, count: number) => void,
): number {
  const row = calibration.heads * calibration.channels;
  const { plain, weight } = calibration[side];
  let tokens = 0;
  for (const source of sources) {
    const count = source.tokens - exempt;
    const taken = Math.min(count, tokensMax);
    const columns = new Float64Array(layers * row * taken);
    for (let layer = 0; layer < layers; layer++) {
      const all = columnsOf(source, side, firstLayer + layer, exempt);
      if (side === "k" && source.rope !== undefined) unrotate(all, source, rotationOf(source.rope, source.tokens), exempt);
      for (let column = 0; column < row; column++) {
        const at = (firstLayer + layer) * row + column;
        for (let token = 0; token < taken; token++) {
          columns[(layer * row + column) * taken + token] = (all[column * count + token]! - plain.mean[at]!) * weight[at]!;
        }
      }
    }
    onColumns(columns, taken);
    tokens += taken;
  }
  return tokens;
}

function squareOf(numbers: Float64Array, from: number, count: number): number {
  let square = 0;
  for (let at = from; at < from + count; at++) square += numbers[at]! * numbers[at]!;
  return square;
}

/** Columns that hold nothing cost nothing. */
function meanBits(squares: Float64Array, tokens: number, deviation: (column: number) => number): number {
  const bits = Array.from(squares, (square, column) => {
    const ratio = square / tokens / deviation(column) ** 2;
    return ratio > 0 && Number.isFinite(ratio) ? (ratio - 1 - Math.log(ratio)) / 2 / Math.LN2 : 0;
  });
  return bits.reduce((sum, one) => sum + one, 0) / bits.length;
}
