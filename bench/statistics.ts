/** Numbers about numbers: percentiles of samples, and how sure their mean is. */

export interface Distribution {
  readonly min: number;
  readonly avg: number;
  readonly p50: number;
  readonly p95: number;
  readonly p99: number;
  readonly p999: number;
  readonly max: number;
  readonly stdev: number;
}

/** Samples of a run, bounded: beyond `most` every second one is dropped, and from then on every second one is taken, and so on. */
export class Samples {
  readonly #most: number;
  #values: Float64Array;
  #count = 0;
  #stride = 1;
  #seen = 0;

  constructor(most = 1 << 20) {
    this.#most = most;
    this.#values = new Float64Array(Math.min(most, 1024));
  }

  /** How many were added, dropped ones included. */
  get seen(): number {
    return this.#seen;
  }

  add(value: number): void {
    if (this.#seen++ % this.#stride !== 0) return;
    if (this.#count === this.#most) this.#thin();
    if (this.#count === this.#values.length) {
      const larger = new Float64Array(Math.min(this.#most, this.#values.length * 2));
      larger.set(this.#values);
      this.#values = larger;
    }
    this.#values[this.#count++] = value;
  }

  values(): Float64Array {
    return this.#values.slice(0, this.#count);
  }

  #thin(): void {
    let kept = 0;
    for (let index = 0; index < this.#count; index += 2) this.#values[kept++] = this.#values[index]!;
    this.#count = kept;
    this.#stride *= 2;
  }
}

/** undefined of nothing. Percentiles are values that were measured (nearest rank), never between two. */
export function distribution(values: ArrayLike<number>): Distribution | undefined {
  if (values.length === 0) return undefined;
  const sorted = Float64Array.from(values).sort();
  const avg = mean(sorted);
  const at = (part: number): number => sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(part * sorted.length) - 1))]!;
  return {
    min: sorted[0]!,
    avg,
    p50: at(0.5),
    p95: at(0.95),
    p99: at(0.99),
    p999: at(0.999),
    max: sorted[sorted.length - 1]!,
    stdev: deviation(sorted, avg),
  };
}

export function median(values: ArrayLike<number>): number {
  const sorted = Float64Array.from(values).sort();
  const middle = sorted.length >> 1;
  if (sorted.length === 0) return Number.NaN;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

export function mean(values: ArrayLike<number>): number {
  let sum = 0;
  for (let index = 0; index < values.length; index++) sum += values[index]!;
  return sum / values.length;
}

/** Sample standard deviation; 0 of one value. */
export function deviation(values: ArrayLike<number>, avg = mean(values)): number {
  let squares = 0;
  for (let index = 0; index < values.length; index++) squares += (values[index]! - avg) ** 2;
  return values.length < 2 ? 0 : Math.sqrt(squares / (values.length - 1));
}

export type ConfidenceLevel = 90 | 95 | 99;

/**
 * Width of the confidence interval of the mean, in percent of the mean (netperf's meaning: 5 = plus or minus 2.5 %).
 * Infinity below three values.
 */
export function intervalWidthPercent(values: ArrayLike<number>, level: ConfidenceLevel): number {
  if (values.length < 3) return Number.POSITIVE_INFINITY;
  const half = (studentT(level, values.length - 1) * deviation(values)) / Math.sqrt(values.length);
  return (200 * half) / mean(values);
}

/** Two-sided quantiles of Student's t; beyond 30 degrees of freedom the last row is near enough. */
const STUDENT: Readonly<Record<ConfidenceLevel, readonly number[]>> = {
  90: [
    6.314, 2.92, 2.353, 2.132, 2.015, 1.943, 1.895, 1.86, 1.833, 1.812, 1.796, 1.782, 1.771, 1.761, 1.753, 1.746, 1.74, 1.734, 1.729, 1.725,
  ],
  95: [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.16, 2.145, 2.131, 2.12, 2.11, 2.101, 2.093,
    2.086,
  ],
  99: [
    63.657, 9.925, 5.841, 4.604, 4.032, 3.707, 3.499, 3.355, 3.25, 3.169, 3.106, 3.055, 3.012, 2.977, 2.947, 2.921, 2.898, 2.878, 2.861,
    2.845,
  ],
};

function studentT(level: ConfidenceLevel, degrees: number): number {
  const row = STUDENT[level];
  return row[Math.min(degrees, row.length) - 1]!;
}
