/** What a batch from outside must be before any of it happens: (id, generation) pairs in bounds, current, and in the right hands. */
import { expected } from "../check.ts";
import { KvferryError } from "../errors.ts";
import { limits } from "../limits.ts";
import type { BlockStore } from "./pool-blocks.ts";
import { KEY_BYTES } from "./pool-index.ts";
import { STATE } from "./pool-table.ts";
import type { BlockState, Blocks } from "./pool-types.ts";

const STATE_NAMES: readonly BlockState[] = ["free", "held", "sealing", "published", "quarantined", "ending"];

/** How many 32-byte keys there are. */
export function keyCount(keys: Uint8Array): number {
  const count = keys.length / KEY_BYTES;
  if (!Number.isInteger(count)) throw expected(`a multiple of ${KEY_BYTES} bytes`, "keys", keys);
  if (count > limits.blocksPerTransferMax) throw expected(`at most ${limits.blocksPerTransferMax} keys`, "keys", count);
  return count;
}

export class BlockChecks {
  readonly #store: BlockStore;
  /** A block was seen in the running batch if its mark is the batch's stamp: no set to fill and empty. */
  readonly #marks: Uint32Array;
  #stamp = 0;

  constructor(store: BlockStore) {
    this.#store = store;
    this.#marks = new Uint32Array(store.blockCount);
  }

  /** Number of blocks; throws unless every pair names a block and its present generation. */
  current(blocks: Blocks): number {
    const { ids, generations } = blocks;
    const count = ids.length;
    if (generations.length !== count) throw expected(`${count} generations for ${count} ids`, "blocks", generations.length);
    if (count > limits.blocksPerTransferMax) throw expected(`at most ${limits.blocksPerTransferMax} blocks`, "blocks", count);
    const present = this.#store.generation;
    for (let at = 0; at < count; at++) {
      const block = ids[at]!;
      if (block >= this.#store.blockCount) throw expected(`a block id below ${this.#store.blockCount}`, `ids[${at}]`, block);
      if (present[block] !== generations[at]) {
        throw new KvferryError("generation_mismatch", `block ${block} has generation ${present[block]} and not ${generations[at]}`);
      }
    }
    return count;
  }

  /** As `current`, and each block once, in this state and in this holder's hands (undefined: anybody's). */
  inState(blocks: Blocks, state: number, holder: number | undefined): number {
    const count = this.current(blocks);
    const stamp = this.#nextStamp();
    for (let at = 0; at < count; at++) {
      const block = blocks.ids[at]!;
      if (this.#marks[block] === stamp) throw expected("each block once", `ids[${at}]`, block);
      this.#marks[block] = stamp;
      const is = this.#store.state[block]!;
      if (holder !== undefined && isOwned(is) && this.#store.holder[block] !== holder) {
        throw new KvferryError("not_owner", `block ${block}`);
      }
      if (is !== state) throw new KvferryError("block_state", `block ${block} is ${STATE_NAMES[is]} and not ${STATE_NAMES[state]}`);
    }
    return count;
  }

  /** As `current`, and each block in a state in which bytes may be read from it. */
  readable(blocks: Blocks): number {
    const count = this.current(blocks);
    for (let at = 0; at < count; at++) {
      const block = blocks.ids[at]!;
      const is = this.#store.state[block]!;
      if (is !== STATE.published && !isOwned(is)) throw new KvferryError("block_state", `block ${block} is ${STATE_NAMES[is]}`);
      this.notFilling(block);
    }
    return count;
  }

  /** As `inState` for what this holder holds, and in no other transfer's hands: what is read while it is written is nobody's KV. */
  fillable(holder: number, blocks: Blocks): number {
    const count = this.inState(blocks, STATE.held, holder);
    for (const block of blocks.ids) {
      this.notFilling(block);
      if (this.#store.pins[block]! > 0) throw new KvferryError("block_state", `block ${block} is being read by a transfer`);
    }
    return count;
  }

  notFilling(block: number): void {
    if (this.#store.filling[block] === 1) throw new KvferryError("block_state", `block ${block} is being filled by a transfer`);
  }

  #nextStamp(): number {
    if (this.#stamp === 0xffff_ffff) {
      this.#marks.fill(0);
      this.#stamp = 0;
    }
    return ++this.#stamp;
  }
}

function isOwned(state: number): boolean {
  return state === STATE.held || state === STATE.sealing;
}
