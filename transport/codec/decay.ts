/** exp(-x), the same on every engine: `Math.exp` may differ in its last bit. PURE. */

const LN2_HIGH = 0.6931471803691238;
const LN2_LOW = 1.9082149292705877e-10;
/** Below half of the smallest double. */
const LARGEST = 746;

/** Of x >= 0; within 1e-15 of the true value, relatively, where that is not denormal. NaN for NaN. */
export function decayOf(x: number): number {
  if (x > LARGEST) return 0;
  const halvings = Math.round(x / (LN2_HIGH + LN2_LOW));
  // In two steps, so that the first is exact.
  const rest = x - halvings * LN2_HIGH - halvings * LN2_LOW;
  let sum = 1;
  for (let power = 17; power > 0; power--) sum = 1 - (rest / power) * sum;
  return halve(sum, halvings);
}

/** Exact down to the smallest normal number. */
function halve(value: number, times: number): number {
  let left = times;
  let result = value;
  for (; left >= 30; left -= 30) result /= 2 ** 30;
  return result / 2 ** left;
}
