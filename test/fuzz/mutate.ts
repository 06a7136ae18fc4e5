/** Blind changes to bytes: what wears out any parser, whatever its format. */
import type { Random } from "./random.ts";

/** Numbers at which bounds break. */
const EDGES = [0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x10000, 0x7fffffff, 0x80000000, 0xffffffff];

const MUTATIONS: readonly ((bytes: Uint8Array, random: Random) => Uint8Array)[] = [
  (bytes, random) =>
    edit(bytes, random, (changed, at) => {
      changed[at] = (changed[at] as number) ^ (1 << random.below(8));
    }),
  (bytes, random) =>
    edit(bytes, random, (changed, at) => {
      changed[at] = random.below(256);
    }),
  (bytes, random) =>
    edit(bytes, random, (changed, at) => {
      const width = random.pick([1, 2, 4]);
      const value = random.chance(1, 2) ? random.pick(EDGES) : random.uint32();
      for (let byte = 0; byte < width && at + byte < changed.length; byte++) changed[at + byte] = (value >>> (8 * byte)) & 0xff;
    }),
  (bytes, random) => bytes.slice(0, random.below(bytes.length + 1)),
  (bytes, random) => splice(bytes, random.below(bytes.length + 1), 0, random.bytes(random.between(1, 16))),
  (bytes, random) => splice(bytes, random.below(bytes.length + 1), random.between(1, 16), new Uint8Array(0)),
  (bytes, random) => {
    const from = random.below(bytes.length + 1);
    return splice(bytes, random.below(bytes.length + 1), 0, bytes.slice(from, from + random.between(1, 64)));
  },
];

/** One to a few changes. */
export function mutate(bytes: Uint8Array, random: Random, most = 4): Uint8Array {
  let changed = bytes;
  for (let left = random.between(1, most); left > 0; left--) changed = random.pick(MUTATIONS)(changed, random);
  return changed;
}

/** The beginning of one and the end of another. */
export function cross(first: Uint8Array, second: Uint8Array, random: Random): Uint8Array {
  return splice(first.slice(0, random.below(first.length + 1)), first.length, 0, second.slice(random.below(second.length + 1)));
}

function edit(bytes: Uint8Array, random: Random, change: (changed: Uint8Array, at: number) => void): Uint8Array {
  if (bytes.length === 0) return random.bytes(1);
  const changed = bytes.slice();
  change(changed, random.below(changed.length));
  return changed;
}

function splice(bytes: Uint8Array, at: number, removed: number, inserted: Uint8Array): Uint8Array {
  return Uint8Array.from(Buffer.concat([bytes.subarray(0, at), inserted, bytes.subarray(at + removed)]));
}
