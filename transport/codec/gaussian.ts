/** Which of the fixed Gaussian tables a channel uses: table k is for a deviation of 2^((k - UNIT) / 4) steps, as native/codec/rans.h has them. PURE. */

export const GAUSSIAN_TABLES = 41;
const UNIT = 12;
/** 2^(1/8), 2^(3/8), 2^(5/8), 2^(7/8): half way between two tables. */
const BETWEEN = [1.0905077326652577, 1.2968395546510096, 1.5422108254079407, 1.8340080864093424] as const;
/** 2^0, 2^(1/4), 2^(1/2), 2^(3/4). */
const QUARTERS = [1, 1.189207115002721, Math.sqrt(2), 1.681792830507429] as const;

/** The nearest table. @param deviation in steps; whatever is no positive number has the smallest */
export function gaussianClass(deviation: number): number {
  if (!(deviation > 0)) return 0;
  let octave = 0;
  let rest = deviation;
  for (; rest >= 2 && octave < GAUSSIAN_TABLES; octave++) rest /= 2;
  for (; rest < 1 && octave > -GAUSSIAN_TABLES; octave--) rest *= 2;
  const quarters = BETWEEN.filter((bound) => rest >= bound).length;
  return Math.max(0, Math.min(GAUSSIAN_TABLES - 1, UNIT + 4 * octave + quarters));
}

/** What table `index` is for, in steps. */
export function deviationOfClass(index: number): number {
  const quarters = index - UNIT;
  return 2 ** Math.floor(quarters / 4) * QUARTERS[((quarters % 4) + 4) % 4]!;
}
