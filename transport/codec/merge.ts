/**
 * Token merging (KVMerger, Wang et al. 2024): neighbours whose keys are alike become one token, so that a receiver holds and attends to fewer. Each KV head of a
 * layer by itself, keys after RoPE, [tokens, channels]. The reference is test/quality/merge.py. PURE.
 *
 * Merged KV is other content than what it was made of: it has fewer tokens, of other weight, and nothing that was computed for the one may be served as the other.
 */
import { assert } from "../check.ts";
import { decayOf } from "./decay.ts";

export interface MergeOptions {
  /** Of the tokens, the share that is left; undefined: neighbours merge where their cosine is above `cosine`. */
  readonly budget?: number;
  readonly cosine?: number;
  /** Tokens at the beginning that stay as they are. */
  readonly sinks: number;
  /** Shares of the tokens that stay as they are, because they are new, and because they got much attention. */
  readonly recent: number;
  readonly heavy: number;
  /** Of a set; 1: nothing merges. */
  readonly membersMax: number;
}

export interface WeightOptions {
  /** Members weigh exp(-d^2 / (2 sigma^2)) with d their key's distance from the pivot's; Infinity: all the same; "adaptive": the root mean square of a set's d. */
  readonly sigma: number | "adaptive";
  /** "average" for a receiver that adds log n to the logit of a token that n became; "sum" scales by n instead, as the paper says it, and is worse. */
  readonly values: "average" | "sum";
}

/** What becomes of each token. */
export const FIRST = 0;
/** Goes with the last one before it that is not kept. */
export const JOINED = 1;
export const KEPT = 2;

export interface Merged {
  /** [sets, channels], in the order of the first token of each set. */
  readonly keys: Float32Array;
  readonly values: Float32Array;
  /** [sets]: how many tokens each was made of. */
  readonly sizes: Uint32Array;
  /** [sets]: the position of the token that stands for it. */
  readonly pivots: Uint32Array;
}

/**
 * One mark for each token. With a budget exactly that many tokens are left, unless the rules or keys that are no numbers leave no more to merge: the most alike
 * neighbours join first, the earlier of equals, which is the threshold that leaves the budget, found without a search. Kept tokens are skipped: those before and
 * behind them are neighbours.
 * @param keys [tokens, channels]
 * @param attention [tokens]: that each token got; ranks them
 */
export function planMerge(keys: Float32Array, attention: Float32Array, options: MergeOptions): Uint8Array {
  const tokens = attention.length;
  const marks = keptMarks(attention, options);
  const free: number[] = [];
  for (let token = 0; token < tokens; token++) if (marks[token] !== KEPT) free.push(token);
  const alike = free.slice(1).map((token, at) => cosineOf(keys, free[at]!, token, keys.length / tokens));
  const order = Array.from(alike.keys())
    .filter((at) => Number.isFinite(alike[at]))
    .sort((one, other) => alike[other]! - alike[one]! || one - other);
  let wanted = options.budget === undefined ? free.length : tokens - Math.round(options.budget * tokens);
  // Of each free token, the first of its set; of each first one, the set's size.
  const heads = free.map((_, at) => at);
  const sizes = free.map(() => 1);
  for (const at of order) {
    if (wanted === 0 || (options.budget === undefined && !(alike[at]! > (options.cosine ?? 1)))) break;
    const [left, right] = [heads[at]!, at + 1];
    const size = sizes[left]! + sizes[right]!;
    if (size > options.membersMax) continue;
    heads.fill(left, right, right + sizes[right]!);
    sizes[left] = size;
    marks[free[right]!] = JOINED;
    wanted--;
  }
  return marks;
}

/** Merges by the marks of `planMerge`, or of a peer. @param attention [tokens]: its largest is a set's pivot, the first of equals */
export function mergeTokens(
  marks: Uint8Array,
  keys: Float32Array,
  values: Float32Array,
  attention: Float32Array,
  options: WeightOptions,
): Merged {
  const sets = setsOf(marks);
  const channels = keys.length / marks.length;
  const merged: Merged = {
    keys: new Float32Array(sets.length * channels),
    values: new Float32Array(sets.length * channels),
    sizes: Uint32Array.from(sets, ({ length }) => length),
    pivots: Uint32Array.from(sets, (members) => members.reduce((best, token) => (attention[token]! > attention[best]! ? token : best))),
  };
  sets.forEach((members, set) => {
    const weights = weightsOf(members, merged.pivots[set]!, keys, channels, options.sigma);
    average(members, weights, 1, keys, merged.keys.subarray(set * channels, (set + 1) * channels));
    const scale = options.values === "sum" ? members.length : 1;
    average(members, weights, scale, values, merged.values.subarray(set * channels, (set + 1) * channels));
  });
  return merged;
}

/** Tokens of each set, ascending; sets in the order of their first tokens. Whatever the marks are, each token is in one set. */
export function setsOf(marks: Uint8Array): number[][] {
  const sets: number[][] = [];
  let open: number[] | undefined;
  marks.forEach((mark, token) => {
    if (mark === JOINED && open !== undefined) {
      open.push(token);
      return;
    }
    const set = [token];
    sets.push(set);
    if (mark !== KEPT) open = set;
  });
  return sets;
}

function keptMarks(attention: Float32Array, { sinks, recent, heavy }: MergeOptions): Uint8Array {
  const tokens = attention.length;
  const marks = new Uint8Array(tokens).fill(FIRST);
  marks.fill(KEPT, 0, Math.min(sinks, tokens));
  marks.fill(KEPT, tokens - Math.round(recent * tokens));
  const ranked = Array.from(marks.keys())
    .filter((token) => marks[token] !== KEPT)
    .sort((one, other) => attention[other]! - attention[one]! || one - other);
  for (const token of ranked.slice(0, Math.round(heavy * tokens))) marks[token] = KEPT;
  return marks;
}

function cosineOf(keys: Float32Array, one: number, other: number, channels: number): number {
  let [product, first, second] = [0, 0, 0];
  for (let channel = 0; channel < channels; channel++) {
    const [a, b] = [keys[one * channels + channel]!, keys[other * channels + channel]!];
    product += a * b;
    first += a * a;
    second += b * b;
  }
  return first === 0 || second === 0 ? 0 : product / Math.sqrt(first * second);
}

/** They sum up to 1. */
function weightsOf(
  members: readonly number[],
  pivot: number,
  keys: Float32Array,
  channels: number,
  sigma: WeightOptions["sigma"],
): number[] {
  const squares = members.map((token) => {
    let sum = 0;
    for (let channel = 0; channel < channels; channel++)
      sum += (keys[token * channels + channel]! - keys[pivot * channels + channel]!) ** 2;
    return sum;
  });
  const near = squares.map((one) => decayOf(one / twiceVariance(squares, sigma)));
  const sum = near.reduce((total, one) => total + one, 0);
  assert(sum >= 1, "the pivot is a member and weighs 1");
  return near.map((one) => one / sum);
}

function twiceVariance(squares: readonly number[], sigma: WeightOptions["sigma"]): number {
  if (sigma !== "adaptive") return 2 * sigma * sigma;
  // The pivot is no distance from itself; members that all have its key weigh as much as it does.
  const sum = squares.reduce((total, one) => total + one, 0);
  return sum === 0 ? 1 : (2 * sum) / (squares.length - 1);
}

function average(members: readonly number[], weights: readonly number[], scale: number, rows: Float32Array, out: Float32Array): void {
  // As it is, minus zeros too.
  const [only, ...others] = members;
  if (others.length === 0) return out.set(rows.subarray(only! * out.length, (only! + 1) * out.length));
  for (let channel = 0; channel < out.length; channel++) {
    let sum = 0;
    members.forEach((token, at) => {
      sum += weights[at]! * rows[token * out.length + channel]!;
    });
    out[channel] = scale * sum;
  }
}
