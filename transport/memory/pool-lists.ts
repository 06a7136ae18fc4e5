/** Doubly linked lists of block ids over two typed arrays: a block is in at most one list, and every operation is O(1). */
import { assert } from "../check.ts";

const NONE = -1;
/** In `previous`: the block is in no list. */
const UNLINKED = -2;

export interface BlockList {
  first: number;
  last: number;
  count: number;
}

export function blockList(): BlockList {
  return { first: NONE, last: NONE, count: 0 };
}

export class BlockLinks {
  readonly #next: Int32Array;
  readonly #previous: Int32Array;

  constructor(blockCount: number) {
    this.#next = new Int32Array(blockCount);
    this.#previous = new Int32Array(blockCount).fill(UNLINKED);
  }

  append(list: BlockList, block: number): void {
    assert(this.#previous[block] === UNLINKED, "a block is in one list at a time");
    this.#previous[block] = list.last;
    this.#next[block] = NONE;
    if (list.last === NONE) list.first = block;
    else this.#next[list.last] = block;
    list.last = block;
    list.count++;
  }

  remove(list: BlockList, block: number): void {
    const previous = this.#previous[block]!;
    const next = this.#next[block]!;
    assert(previous !== UNLINKED && list.count > 0, "only a listed block is removed");
    if (previous === NONE) list.first = next;
    else this.#next[previous] = next;
    if (next === NONE) list.last = previous;
    else this.#previous[next] = previous;
    this.#previous[block] = UNLINKED;
    list.count--;
  }

  /** The block after this one in its list, or -1. */
  next(block: number): number {
    return this.#next[block]!;
  }
}
