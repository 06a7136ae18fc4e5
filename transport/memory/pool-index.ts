/**
 * Published blocks by (group, 32-byte key): open addressing with linear probing over typed arrays, so that a look-up makes no garbage.
 * The keys are private copies: what an engine scribbles into the shared table cannot misdirect a look-up.
 */
import { assert } from "../check.ts";

export const KEY_BYTES = 32;
export const KEY_WORDS = 8;
const EMPTY = -1;

export class KeyIndex {
  readonly #slots: Int32Array;
  readonly #mask: number;
  readonly #seed: number;
  readonly #keys: Uint32Array;
  readonly #groups: Uint16Array;
  /** The key of the running operation, as words: callers' key batches need not be aligned. */
  readonly #wanted = new Uint32Array(KEY_WORDS);
  readonly #wantedBytes = new Uint8Array(this.#wanted.buffer);

  /** @param seed a random number, so that no client can choose keys that collide. */
  constructor(blockCount: number, seed: number) {
    let slots = 16;
    while (slots < 2 * blockCount) slots *= 2;
    this.#slots = new Int32Array(slots).fill(EMPTY);
    this.#mask = slots - 1;
    this.#seed = seed | 1;
    this.#keys = new Uint32Array(blockCount * KEY_WORDS);
    this.#groups = new Uint16Array(blockCount);
  }

  /** The block published under key number `index` of the batch, or -1. */
  find(keys: Uint8Array, index: number, group: number): number {
    this.#want(keys, index);
    for (let slot = this.#home(this.#wanted, 0, group); ; slot = (slot + 1) & this.#mask) {
      const block = this.#slots[slot]!;
      if (block === EMPTY || this.#matches(block, group)) return block;
    }
  }

  /** False, and nothing changed, if the key is there. */
  add(block: number, keys: Uint8Array, index: number, group: number): boolean {
    this.#want(keys, index);
    let slot = this.#home(this.#wanted, 0, group);
    for (; this.#slots[slot] !== EMPTY; slot = (slot + 1) & this.#mask) {
      if (this.#matches(this.#slots[slot]!, group)) return false;
    }
    this.#slots[slot] = block;
    this.#keys.set(this.#wanted, block * KEY_WORDS);
    this.#groups[block] = group;
    return true;
  }

  remove(block: number): void {
    let hole = this.#homeOf(block);
    while (this.#slots[hole] !== block) {
      assert(this.#slots[hole] !== EMPTY, "only an indexed block is removed");
      hole = (hole + 1) & this.#mask;
    }
    // Later entries of the run move back over the hole unless that would put them before their home.
    for (let slot = (hole + 1) & this.#mask; this.#slots[slot] !== EMPTY; slot = (slot + 1) & this.#mask) {
      const home = this.#homeOf(this.#slots[slot]!);
      if (((slot - home) & this.#mask) < ((slot - hole) & this.#mask)) continue;
      this.#slots[hole] = this.#slots[slot]!;
      hole = slot;
    }
    this.#slots[hole] = EMPTY;
  }

  /** A copy of the key of an indexed block. */
  keyOf(block: number): Uint8Array {
    const words = this.#keys.slice(block * KEY_WORDS, (block + 1) * KEY_WORDS);
    return new Uint8Array(words.buffer);
  }

  groupOf(block: number): number {
    return this.#groups[block]!;
  }

  /** Words of the keys of all blocks, block by block; only those of indexed blocks mean anything. */
  get words(): Uint32Array {
    return this.#keys;
  }

  #want(keys: Uint8Array, index: number): void {
    const from = index * KEY_BYTES;
    for (let at = 0; at < KEY_BYTES; at++) this.#wantedBytes[at] = keys[from + at]!;
  }

  #matches(block: number, group: number): boolean {
    if (this.#groups[block] !== group) return false;
    const from = block * KEY_WORDS;
    for (let word = 0; word < KEY_WORDS; word++) if (this.#keys[from + word] !== this.#wanted[word]) return false;
    return true;
  }

  #homeOf(block: number): number {
    return this.#home(this.#keys, block * KEY_WORDS, this.#groups[block]!);
  }

  #home(words: Uint32Array, from: number, group: number): number {
    let hash = this.#seed ^ group;
    for (let word = 0; word < KEY_WORDS; word++) {
      hash = Math.imul(hash ^ words[from + word]!, 0x9e3779b1);
      hash ^= hash >>> 15;
    }
    return hash & this.#mask;
  }
}
