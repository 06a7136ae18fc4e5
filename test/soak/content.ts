/** What the soak moves: bytes that follow from an order's seed and a run's place in the order, so that either side can compute them. */

/** A word at a time (splitmix32). Two runs of one order differ in each of their words: the steps are odd and `mix` is one to one. */
export function fill(run: Uint8Array, seed: number, place: number): void {
  const words = new Uint32Array(run.buffer, run.byteOffset, run.byteLength >> 2);
  let state = (mix(seed) + Math.imul(place, 0x85ebca6b)) | 0;
  for (let at = 0; at < words.length; at++) {
    state = (state + 0x9e3779b9) | 0;
    words[at] = mix(state);
  }
}

/** 32 bits to 32 other bits, one to one. */
export function mix(value: number): number {
  let bits = value | 0;
  bits = Math.imul(bits ^ (bits >>> 16), 0x21f0aaad);
  bits = Math.imul(bits ^ (bits >>> 15), 0x735a2d97);
  return (bits ^ (bits >>> 15)) >>> 0;
}
