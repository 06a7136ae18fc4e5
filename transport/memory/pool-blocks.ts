/**
 * The blocks of a pool as the running owner knows them: typed arrays, lists and the key index, each change written through to the table.
 * Transitions only; who may ask for one is pool.ts's business.
 */
import { assert } from "../check.ts";
import { type BlockList, BlockLinks, blockList } from "./pool-lists.ts";
import { KeyIndex } from "./pool-index.ts";
import { type EntryRecord, type PoolTable, STATE, STATE_COUNT } from "./pool-table.ts";

export const GENERATION_MAX = 0xffff_ffff;

export class BlockStore {
  readonly blockCount: number;
  readonly index: KeyIndex;
  /** Values of STATE. */
  readonly state: Uint8Array;
  readonly generation: Uint32Array;
  readonly holder: Uint32Array;
  readonly checksum: Uint32Array;
  readonly pins: Uint32Array;
  /** 1: a transfer fills it, alone. */
  readonly filling: Uint8Array;
  readonly leases: Uint32Array;
  /** Blocks of each state. */
  readonly count = new Uint32Array(STATE_COUNT);
  /** Published blocks with leases. */
  leasedCount = 0;
  pinnedCount = 0;
  /** Blocks whose generations are used up: never given away again. */
  retiredCount = 0;
  readonly freeList = blockList();
  /** Free, but beyond the blocks of the layout. */
  readonly spareList = blockList();
  /** Published, unleased, unpinned; least recently used first. */
  readonly idleList = blockList();
  readonly links: BlockLinks;
  /** Blocks of the layout: 0 .. usable-1. */
  #usable: number;
  readonly #usedUs: Float64Array;
  readonly #tokens: Uint32Array;
  readonly #table: PoolTable;

  constructor(table: PoolTable, blockCount: number, seed: number) {
    this.blockCount = blockCount;
    this.#usable = blockCount;
    this.index = new KeyIndex(blockCount, seed);
    this.state = new Uint8Array(blockCount);
    this.generation = new Uint32Array(blockCount);
    this.holder = new Uint32Array(blockCount);
    this.checksum = new Uint32Array(blockCount);
    this.pins = new Uint32Array(blockCount);
    this.filling = new Uint8Array(blockCount);
    this.leases = new Uint32Array(blockCount);
    this.links = new BlockLinks(blockCount);
    this.#usedUs = new Float64Array(blockCount);
    this.#tokens = new Uint32Array(blockCount);
    this.#table = table;
    this.count[STATE.free] = blockCount;
  }

  /** free -> held, at the tail of the holder's list. The caller knows that a block is free. */
  take(holder: number, list: BlockList): number {
    const block = this.freeList.first;
    assert(block >= 0, "a block is taken only when one is free");
    this.links.remove(this.freeList, block);
    this.holder[block] = holder;
    this.links.append(list, block);
    this.enter(block, STATE.held);
    return block;
  }

  /** Whatever it was (in no list, not indexed) -> free under its next generation; pinned or leased blocks wait as "ending". */
  end(block: number): void {
    if (this.pins[block]! > 0 || this.leases[block]! > 0) {
      this.holder[block] = 0;
      this.enter(block, STATE.ending);
      return;
    }
    this.holder[block] = 0;
    this.checksum[block] = 0;
    this.#tokens[block] = 0;
    if (this.generation[block] === GENERATION_MAX) {
      this.retiredCount++;
      this.enter(block, STATE.quarantined);
      return;
    }
    this.generation[block]!++;
    this.#append(block);
    this.enter(block, STATE.free);
  }

  /** Only blocks below `usable` are given out from now on; none beyond may be in use. */
  limitTo(usable: number): void {
    if (usable === this.#usable) return;
    this.#usable = usable;
    const free: number[] = [];
    for (const list of [this.freeList, this.spareList]) {
      for (let block = list.first; block >= 0; block = list.first) {
        this.links.remove(list, block);
        free.push(block);
      }
    }
    for (const block of free) this.#append(block);
  }

  /** A block from `first` on that somebody uses, or -1. */
  usedFrom(first: number): number {
    return this.state.findIndex((state, block) => block >= first && state !== STATE.free && state !== STATE.quarantined);
  }

  /** sealing (in no list) -> published, or false if the key is taken. */
  publish(block: number, keys: Uint8Array, index: number, group: number, tokens: number, checksum: number, nowUs: number): boolean {
    if (!this.index.add(block, keys, index, group)) return false;
    this.holder[block] = 0;
    this.checksum[block] = checksum;
    this.#tokens[block] = tokens;
    this.enter(block, STATE.published);
    this.#usedUs[block] = nowUs;
    this.#settle(block);
    return true;
  }

  /** published -> ends (free or ending); its key is no longer found. */
  unpublish(block: number): void {
    assert(this.state[block] === STATE.published, "only a published block is unpublished");
    if (this.#isIdle(block)) this.links.remove(this.idleList, block);
    else if (this.leases[block]! > 0) this.leasedCount--;
    this.index.remove(block);
    this.end(block);
  }

  pin(block: number): void {
    if (this.#isIdle(block)) this.links.remove(this.idleList, block);
    if (this.pins[block]!++ === 0) this.pinnedCount++;
  }

  unpin(block: number, nowUs: number): void {
    assert(this.pins[block]! > 0, "only a pinned block is unpinned");
    if (--this.pins[block]! > 0) return;
    this.pinnedCount--;
    this.#used(block, nowUs);
  }

  lease(block: number): void {
    if (this.#isIdle(block)) this.links.remove(this.idleList, block);
    if (this.leases[block]!++ === 0) this.leasedCount++;
    this.#table.writeLeases(block, this.leases[block]!);
  }

  unlease(block: number, count: number, nowUs: number): void {
    assert(this.leases[block]! >= count && count > 0, "only leases taken are released");
    this.leases[block]! -= count;
    this.#table.writeLeases(block, this.leases[block]!);
    if (this.leases[block]! > 0) return;
    if (this.state[block] === STATE.published) this.leasedCount--;
    this.#used(block, nowUs);
  }

  /** Microseconds since the block was used last. */
  idleUs(block: number, nowUs: number): number {
    return nowUs - this.#usedUs[block]!;
  }

  tokensOf(block: number): number {
    return this.#tokens[block]!;
  }

  /** For adoption: what an entry of the table says of a block that nobody has touched since. */
  restorePublished(block: number, key: Uint8Array, entry: EntryRecord): boolean {
    this.generation[block] = entry.generation;
    if (!this.publish(block, key, 0, entry.group, entry.tokens, entry.checksum, 0)) return false;
    this.#table.writeLeases(block, 0);
    return true;
  }

  restoreFree(block: number, generation: number): void {
    this.generation[block] = generation;
    this.#append(block);
    this.enter(block, STATE.free);
    this.#table.writeLeases(block, 0);
  }

  /** A block that somebody may still write to: in quarantine, in no list. */
  restoreQuarantined(block: number, generation: number, holder: number): void {
    this.generation[block] = generation;
    this.holder[block] = holder;
    this.enter(block, STATE.quarantined);
    // Behind the state: until that says quarantine, these are all that speaks for the block's readers.
    this.#table.writeLeases(block, 0);
  }

  /** Sets the state and writes the block's entry. */
  enter(block: number, state: number): void {
    this.count[this.state[block]!]!--;
    this.count[state]!++;
    this.state[block] = state;
    this.#table.writeEntry(
      block,
      state,
      this.generation[block]!,
      this.holder[block]!,
      state === STATE.published ? this.index.groupOf(block) : 0,
      this.#tokens[block]!,
      this.checksum[block]!,
      this.index.words,
    );
  }

  #append(block: number): void {
    this.links.append(block < this.#usable ? this.freeList : this.spareList, block);
  }

  #used(block: number, nowUs: number): void {
    this.#usedUs[block] = nowUs;
    this.#settle(block);
  }

  /** After the last pin or lease: an ending block ends, a published one becomes evictable. */
  #settle(block: number): void {
    if (this.pins[block]! > 0 || this.leases[block]! > 0) return;
    if (this.state[block] === STATE.ending) this.end(block);
    else if (this.state[block] === STATE.published) this.links.append(this.idleList, block);
  }

  #isIdle(block: number): boolean {
    return this.state[block] === STATE.published && this.pins[block] === 0 && this.leases[block] === 0;
  }
}
