/** MixHQ (KVServe): heads that score high get many levels, the others few. What ranks heads (DuoAttention's gates, for example) is measured elsewhere. PURE. */
import { expected } from "../check.ts";
import { KvferryError } from "../errors.ts";
import { limits } from "../limits.ts";

export interface Scores {
  /** Hex SHA-256 of the file that they were read from. */
  readonly hash: string;
  /** One finite number for each head of each layer. */
  readonly heads: readonly (readonly number[])[];
}

interface MixOptions {
  /** Mean of log2(levels) over all heads that is not passed. */
  readonly bits: number;
  readonly high: number;
  readonly low: number;
}

/** Throws invalid_argument. @param value a list of layers of lists of heads, as JSON has it */
export function parseHeadScores(value: unknown, name: string): readonly (readonly number[])[] {
  const layers = list(value, limits.layersMax, name).map((layer, at) => list(layer, limits.headsMax, `${name}[${at}]`));
  const count = layers.length * layers[0]!.length;
  if (count > limits.headScoresMax) throw expected(`at most ${limits.headScoresMax} heads`, name, count);
  return layers.map((heads, layer) =>
    heads.map((score, head) => {
      if (heads.length !== layers[0]!.length) throw expected(`as many heads as layer 0 has`, `${name}[${layer}]`, heads.length);
      if (typeof score !== "number" || !Number.isFinite(score)) throw expected("a number", `${name}[${layer}][${head}]`, score);
      return score;
    }),
  );
}

/** Heads of all layers in one ranking, of equals the earlier first. Throws invalid_argument if the budget is less than the low levels take. */
export function levelsOfHeads(
  scores: readonly (readonly number[])[],
  { bits, high, low }: MixOptions,
  name: string,
): readonly (readonly number[])[] {
  if (low > high) throw new KvferryError("invalid_argument", `${name}: low is more than high`);
  if (bits < bitsOf(low)) throw new KvferryError("invalid_argument", `${name}: ${low} levels take more than ${bits} bits`);
  const all = scores.flat();
  const ranked = Array.from(all.keys()).sort((one, other) => all[other]! - all[one]! || one - other);
  const share = high === low ? 0 : (bits - bitsOf(low)) / (bitsOf(high) - bitsOf(low));
  // A budget that was written with few digits is meant to be hit.
  const chosen = new Set(ranked.slice(0, Math.floor(all.length * share + 1e-6)));
  const heads = scores[0]!.length;
  return Object.freeze(
    scores.map((_, layer) => Object.freeze(scores[0]!.map((__, head) => (chosen.has(layer * heads + head) ? high : low)))),
  );
}

/** Binary logarithm of a number from 1 on, to 2^-40, the same on every engine. */
function bitsOf(levels: number): number {
  let bits = 0;
  let rest = levels;
  for (; rest >= 2; bits++) rest /= 2;
  for (let place = 1 / 2; place > 2 ** -41; place /= 2) {
    rest *= rest;
    if (rest < 2) continue;
    rest /= 2;
    bits += place;
  }
  return bits;
}

function list(value: unknown, most: number, name: string): readonly unknown[] {
  if (!Array.isArray(value) || value.length < 1 || value.length > most) throw expected(`an array of 1 to ${most}`, name, value);
  // From, because map leaves holes as holes.
  return Array.from(value as readonly unknown[]);
}
