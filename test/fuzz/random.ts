/** A deterministic source of numbers: the same seed gives the same inputs on every machine. xoshiro128** seeded by splitmix32. */
export class Random {
  readonly #state: Uint32Array;

  constructor(seed: number) {
    let mixed = seed >>> 0;
    this.#state = Uint32Array.from({ length: 4 }, () => {
      mixed = (mixed + 0x9e3779b9) >>> 0;
      let value = mixed;
      value = Math.imul(value ^ (value >>> 16), 0x85ebca6b);
      value = Math.imul(value ^ (value >>> 13), 0xc2b2ae35);
      return (value ^ (value >>> 16)) >>> 0;
    });
  }

  uint32(): number {
    const state = this.#state;
    const [a, b, c, d] = state as unknown as [number, number, number, number];
    const product = Math.imul(b, 5);
    const result = Math.imul((product << 7) | (product >>> 25), 9) >>> 0;
    const mixed = d ^ b;
    state[2] = c ^ a ^ (b << 9);
    state[3] = (mixed << 11) | (mixed >>> 21);
    state[1] = b ^ c ^ a;
    state[0] = a ^ mixed;
    return result;
  }

  /** An integer in [0, end). */
  below(end: number): number {
    return Math.floor((this.uint32() / 2 ** 32) * end);
  }

  between(low: number, high: number): number {
    return low + this.below(high - low + 1);
  }

  /** True in `parts` of `whole` cases. */
  chance(parts: number, whole: number): boolean {
    return this.below(whole) < parts;
  }

  pick<Item>(items: readonly Item[]): Item {
    return items[this.below(items.length)] as Item;
  }

  bytes(count: number): Uint8Array {
    const bytes = new Uint8Array(count);
    for (let at = 0; at < count; at++) bytes[at] = this.uint32() >>> 24;
    return bytes;
  }
}
