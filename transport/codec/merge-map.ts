/**
 * Which tokens a merged one stands for, in four bits a token: what became of it (`merge.ts`) and, with 4, whether it is the pivot of its set. Two tokens a byte, the
 * first in the lower half; the last half of an odd number is 0. It comes from peers and files: every map that is read is one that is written. PURE.
 */
import { KvferryError } from "../errors.ts";
import { JOINED, KEPT, type Merged, setsOf } from "./merge.ts";

export interface MergeMap {
  readonly marks: Uint8Array;
  /** Tokens of each set, ascending; sets in the order of their first tokens. */
  readonly sets: readonly (readonly number[])[];
  /** Of each set, the token whose position stands for it. */
  readonly pivots: Uint32Array;
}

const PIVOT = 4;

export function mapBytes(tokens: number): number {
  return Math.ceil(tokens / 2);
}

export function writeMap(marks: Uint8Array, { pivots }: Pick<Merged, "pivots">): Uint8Array {
  const bytes = new Uint8Array(mapBytes(marks.length));
  const put = (token: number, bits: number): void => void (bytes[token >> 1]! |= bits << (4 * (token & 1)));
  marks.forEach((mark, token) => put(token, mark));
  for (const token of pivots) put(token, PIVOT);
  return bytes;
}

/** Throws invalid_argument. @param bytes `mapBytes(tokens)` of them */
export function readMap(bytes: Uint8Array, tokens: number, name: string): MergeMap {
  const marks = new Uint8Array(tokens);
  const isPivot = new Uint8Array(tokens);
  let isOpen = false;
  for (let token = 0; token < tokens; token++) {
    const bits = (bytes[token >> 1]! >> (4 * (token & 1))) & 15;
    const mark = bits & 3;
    if (mark > KEPT || bits > (KEPT | PIVOT) || (mark === JOINED && !isOpen)) throw noMap(name, `token ${token} has ${bits}`);
    isOpen ||= mark !== KEPT;
    marks[token] = mark;
    isPivot[token] = bits & PIVOT;
  }
  if (tokens % 2 === 1 && bytes[tokens >> 1]! >> 4 !== 0) throw noMap(name, "there is something behind the last token");
  const sets = setsOf(marks);
  const pivots = Uint32Array.from(sets, (members) => {
    const [pivot, ...others] = members.filter((token) => isPivot[token] !== 0);
    if (pivot === undefined || others.length > 0) throw noMap(name, `the set of token ${members[0]} has not one pivot`);
    return pivot;
  });
  return { marks, sets, pivots };
}

function noMap(name: string, detail: string): KvferryError {
  return new KvferryError("invalid_argument", `${name} is no map of merged tokens: ${detail}`);
}
