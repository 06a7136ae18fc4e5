/**
 * Eigenvectors of a symmetric matrix: Householder's reduction to three diagonals, then implicit QL (EISPACK's tred2 and imtql2), arranged so that every inner loop runs
 * along rows. 960 x 960 takes seconds, 5,120 x 5,120 minutes. PURE.
 */
import { assert } from "../check.ts";

export interface Eigen {
  /** The largest first. */
  readonly values: Float64Array;
  /** Rows, of length 1, in the order of the values. */
  readonly vectors: Float64Array;
}

const ROUNDS_MAX = 60;
/** A square so small that its reciprocal is not sure to exist. */
const NOTHING = 1e-290;

/** @param matrix size x size; its upper triangle counts, and is overwritten */
export function eigenOf(matrix: Float64Array, size: number): Eigen {
  assert(matrix.length === size * size, "a square matrix");
  const diagonal = new Float64Array(size);
  const beside = new Float64Array(size);
  reduce(matrix, size, diagonal, beside);
  const rows = unreduced(matrix, size);
  rotateToDiagonal(diagonal, beside, rows, size);
  const order = Array.from(diagonal, (_, index) => index).sort((one, other) => diagonal[other]! - diagonal[one]! || one - other);
  const vectors = new Float64Array(size * size);
  order.forEach((from, to) => vectors.set(rows.subarray(from * size, (from + 1) * size), to * size));
  return { values: Float64Array.from(order, (index) => diagonal[index]!), vectors };
}

/** Reflects the last row and column to three diagonals, then the one before it, and so on. Row i keeps its reflector, of i numbers; all zero: none. */
function reduce(matrix: Float64Array, size: number, diagonal: Float64Array, beside: Float64Array): void {
  const reflector = new Float64Array(size);
  const product = new Float64Array(size);
  for (let last = size - 1; last > 0; last--) {
    let others = 0;
    for (let k = 0; k < last - 1; k++) {
      const value = matrix[k * size + last]!;
      reflector[k] = value;
      others += value * value;
    }
    diagonal[last] = matrix[last * size + last]!;
    const edge = matrix[(last - 1) * size + last]!;
    const square = others + edge * edge;
    const isReduced = others <= NOTHING;
    const target = isReduced ? edge : edge > 0 ? -Math.sqrt(square) : Math.sqrt(square);
    beside[last] = target;
    // Of u, with H = 1 - u u' / half: half = u'u / 2.
    const half = isReduced ? 0 : square - edge * target;
    reflector[last - 1] = edge - target;
    const kept = matrix.subarray(last * size, last * size + last);
    if (half === 0) kept.fill(0);
    else reflect(matrix, size, last, reflector, product, half);
    // Of length 2^(1/2), so that H = 1 - u u'.
    const length = half === 0 ? 0 : 1 / Math.sqrt(half);
    for (let k = 0; k < last; k++) kept[k] = half === 0 ? 0 : reflector[k]! * length;
  }
  diagonal[0] = matrix[0]!;
}

/** A := H A H in the upper triangle of the first `count` rows and columns. */
function reflect(matrix: Float64Array, size: number, count: number, u: Float64Array, product: Float64Array, half: number): void {
  product.fill(0, 0, count);
  for (let j = 0; j < count; j++) {
    const row = j * size;
    const factor = u[j]!;
    let sum = product[j]! + matrix[row + j]! * factor;
    for (let k = j + 1; k < count; k++) {
      const value = matrix[row + k]!;
      sum += value * u[k]!;
      product[k]! += value * factor;
    }
    product[j] = sum;
  }
  let along = 0;
  for (let k = 0; k < count; k++) {
    product[k]! /= half;
    along += product[k]! * u[k]!;
  }
  const back = along / (2 * half);
  for (let k = 0; k < count; k++) product[k]! -= back * u[k]!;
  for (let j = 0; j < count; j++) {
    const row = j * size;
    const first = u[j]!;
    const second = product[j]!;
    for (let k = j; k < count; k++) matrix[row + k]! -= first * product[k]! + second * u[k]!;
  }
}

/** The reflections multiplied out, transposed. */
function unreduced(matrix: Float64Array, size: number): Float64Array {
  const rows = new Float64Array(size * size);
  for (let i = 0; i < size; i++) rows[i * size + i] = 1;
  for (let last = 1; last < size; last++) {
    const u = matrix.subarray(last * size, last * size + last);
    for (let j = 0; j < last; j++) {
      const row = rows.subarray(j * size, j * size + last);
      let sum = 0;
      for (let k = 0; k < last; k++) sum += u[k]! * row[k]!;
      for (let k = 0; k < last; k++) row[k]! -= sum * u[k]!;
    }
  }
  return rows;
}

/** Implicit QL: `beside[i]` couples i - 1 and i; `rows` turn along and become the eigenvectors. */
function rotateToDiagonal(diagonal: Float64Array, beside: Float64Array, rows: Float64Array, size: number): void {
  beside.copyWithin(0, 1);
  beside[size - 1] = 0;
  for (let low = 0; low < size; low++) {
    for (let round = 0; ; round++) {
      let high = low;
      for (; high < size - 1; high++) {
        const scale = Math.abs(diagonal[high]!) + Math.abs(diagonal[high + 1]!);
        if (Math.abs(beside[high]!) <= Number.EPSILON * scale) break;
      }
      if (high === low) break;
      assert(round < ROUNDS_MAX, "QL comes to an end");
      sweep(diagonal, beside, rows, size, low, high);
    }
  }
}

function sweep(d: Float64Array, e: Float64Array, rows: Float64Array, size: number, low: number, high: number): void {
  const ratio = (d[low + 1]! - d[low]!) / (2 * e[low]!);
  const root = Math.sqrt(ratio * ratio + 1);
  let g = d[high]! - d[low]! + e[low]! / (ratio + (ratio >= 0 ? root : -root));
  let sine = 1;
  let cosine = 1;
  let shift = 0;
  for (let i = high - 1; i >= low; i--) {
    const f = sine * e[i]!;
    const b = cosine * e[i]!;
    const length = Math.sqrt(f * f + g * g);
    e[i + 1] = length;
    if (length === 0) {
      d[i + 1]! -= shift;
      e[high] = 0;
      return;
    }
    sine = f / length;
    cosine = g / length;
    g = d[i + 1]! - shift;
    const r = (d[i]! - g) * sine + 2 * cosine * b;
    shift = sine * r;
    d[i + 1] = g + shift;
    g = cosine * r - b;
    turn(rows, i * size, size, cosine, sine);
  }
  d[low]! -= shift;
  e[low] = g;
  e[high] = 0;
}

function turn(rows: Float64Array, at: number, size: number, cosine: number, sine: number): void {
  for (let k = at, end = at + size; k < end; k++) {
    const one = rows[k]!;
    const next = rows[k + size]!;
    rows[k + size] = sine * one + cosine * next;
    rows[k] = cosine * one - sine * next;
  }
}
