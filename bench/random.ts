/** Random numbers that are the same on both ends and in every run: a seed and an index give a word. */

/** 32 well-mixed bits of (seed, index). */
export function mix(seed: number, index: number): number {
  let word = (Math.imul(index, 0x9e3779b9) ^ seed) | 0;
  word = Math.imul(word ^ (word >>> 16), 0x21f0aaad);
  word = Math.imul(word ^ (word >>> 15), 0x735a2d97);
  return (word ^ (word >>> 15)) >>> 0;
}

/** The first `count` of a shuffle of 0 .. `from`-1. */
export function shuffled(from: number, count: number, seed: number): Uint32Array {
  const all = new Uint32Array(from);
  for (let index = 0; index < from; index++) all[index] = index;
  for (let index = 0; index < count; index++) {
    const other = index + (mix(seed, index) % (from - index));
    const kept = all[index]!;
    all[index] = all[other]!;
    all[other] = kept;
  }
  return all.slice(0, count);
}
