/** Means and deviations of channels, summed up over many sequences; and the weights that follow from them. PURE. */
import type { Moments } from "./calibration.ts";

export class MomentSums {
  count = 0;
  readonly #sum: Float64Array;
  readonly #square: Float64Array;

  constructor(channels: number) {
    this.#sum = new Float64Array(channels);
    this.#square = new Float64Array(channels);
  }

  /** @param columns of channels from `first` on, each with `tokens` numbers */
  add(columns: Float64Array, first: number, tokens: number): void {
    for (let column = 0; column * tokens < columns.length; column++) {
      let sum = 0;
      let square = 0;
      for (let at = column * tokens, end = at + tokens; at < end; at++) {
        const value = columns[at]!;
        sum += value;
        square += value * value;
      }
      this.#sum[first + column]! += sum;
      this.#square[first + column]! += square;
    }
  }

  moments(): Moments {
    const mean = Float32Array.from(this.#sum, (sum) => sum / this.count);
    const sigma = Float32Array.from(this.#square, (square, at) => {
      const center = this.#sum[at]! / this.count;
      return Math.sqrt(Math.max(0, square / this.count - center * center));
    });
    return { mean, sigma };
  }

  /** Of each channel, the mean counted in. */
  rms(): Float32Array {
    return Float32Array.from(this.#square, (square) => Math.sqrt(square / this.count));
  }
}

/** A channel that nothing reads keeps a thousandth of what its head's others have, so that its step stays a number. */
const WEIGHT_FLOOR = 1e-3;
/** Sensitivities are measured on few tokens: a layer below this part of the mean counts as having it. */
const SENSITIVITY_FLOOR = 1 / 16;

/** For each layer: the root of its sensitivity against the mean of all. The noise that all layers make together stays what it was, at less bits. */
export function layerWeights(sensitivity: Float32Array): Float64Array {
  const mean = sensitivity.reduce((sum, one) => sum + one, 0) / sensitivity.length;
  return Float64Array.from(sensitivity, (one) => (mean > 0 ? Math.sqrt(Math.max(one / mean, SENSITIVITY_FLOOR)) : 1));
}

/** K: the RMS of queries, or 1 / RMS of the head's keys where no dump has queries. @param queryRms of each channel */
export function weightsOfKeys(queryRms: Float32Array | undefined, rms: Float32Array, channels: number, layers: Float64Array): Float32Array {
  if (queryRms === undefined) return weightsOfValues(rms, channels, layers);
  const row = rms.length / layers.length;
  return queryRms.map((one, at) => {
    const floor = WEIGHT_FLOOR * rootMeanSquare(queryRms, at - (at % channels), channels);
    return positive(Math.max(one, floor)) * layers[Math.floor(at / row)]!;
  });
}

/** V: 1 / RMS of the head. */
export function weightsOfValues(rms: Float32Array, channels: number, layers: Float64Array): Float32Array {
  const row = rms.length / layers.length;
  return rms.map((_, at) => (1 / positive(rootMeanSquare(rms, at - (at % channels), channels))) * layers[Math.floor(at / row)]!);
}

function rootMeanSquare(numbers: Float32Array, from: number, count: number): number {
  let square = 0;
  for (let at = from; at < from + count; at++) square += numbers[at]! * numbers[at]!;
  return Math.sqrt(square / count);
}

/** What is all zeros has no RMS to be weighed by, and is as good with any weight: 1. */
function positive(value: number): number {
  return value > 1e-20 && value < 1e20 ? value : 1;
}
