/** Products of columns with each other, summed up over many sequences: what a KLT is made of. PURE. */
import { eigenOf } from "./eigen.ts";
import type { Klt } from "./calibration.ts";

/** Four columns at a time share what is read. */
const TOGETHER = 4;

/** Adds to the upper triangle of `sums`, size x size. @param columns size x tokens */
export function addProducts(sums: Float64Array, columns: Float64Array, size: number, tokens: number): void {
  for (let i = 0; i < size; i += TOGETHER) {
    for (let j = i; j < size; j += TOGETHER) {
      if (i + TOGETHER <= size && j + TOGETHER <= size) addSixteen(sums, columns, size, tokens, i, j);
      else addFew(sums, columns, size, tokens, i, j);
    }
  }
}

function addFew(sums: Float64Array, columns: Float64Array, size: number, tokens: number, i: number, j: number): void {
  for (let one = i; one < Math.min(size, i + TOGETHER); one++) {
    for (let other = j; other < Math.min(size, j + TOGETHER); other++) {
      let sum = 0;
      for (let token = 0; token < tokens; token++) sum += columns[one * tokens + token]! * columns[other * tokens + token]!;
      sums[one * size + other]! += sum;
    }
  }
}

/** Four columns with two others and with the next two, written out: the eight sums stay in registers. */
function addSixteen(sums: Float64Array, columns: Float64Array, size: number, tokens: number, i: number, j: number): void {
  const [a0, b0] = [i * tokens, j * tokens];
  const [a1, a2, a3] = [a0 + tokens, a0 + 2 * tokens, a0 + 3 * tokens];
  for (let half = 0; half < TOGETHER; half += 2) {
    const c0 = b0 + half * tokens;
    const c1 = c0 + tokens;
    let [s00, s10, s20, s30] = [0, 0, 0, 0];
    let [s01, s11, s21, s31] = [0, 0, 0, 0];
    for (let token = 0; token < tokens; token++) {
      const x = columns[c0 + token]!;
      const y = columns[c1 + token]!;
      const p = columns[a0 + token]!;
      const q = columns[a1 + token]!;
      const r = columns[a2 + token]!;
      const s = columns[a3 + token]!;
      s00 += p * x;
      s01 += p * y;
      s10 += q * x;
      s11 += q * y;
      s20 += r * x;
      s21 += r * y;
      s30 += s * x;
      s31 += s * y;
    }
    const at = i * size + j + half;
    sums[at]! += s00;
    sums[at + 1]! += s01;
    sums[at + size]! += s10;
    sums[at + size + 1]! += s11;
    sums[at + 2 * size]! += s20;
    sums[at + 2 * size + 1]! += s21;
    sums[at + 3 * size]! += s30;
    sums[at + 3 * size + 1]! += s31;
  }
}

/** @param sums of `count` tokens; overwritten */
export function kltOf(sums: Float64Array, size: number, count: number): Klt {
  const { values, vectors } = eigenOf(
    sums.map((sum) => sum / count),
    size,
  );
  return { matrices: Float32Array.from(vectors), sigma: Float32Array.from(values, (value) => Math.sqrt(Math.max(0, value))) };
}
