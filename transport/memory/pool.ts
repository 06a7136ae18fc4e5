/**
 * A pool: one region that kvferry owns, cut in blocks, with a block table in front that survives a restart of its owner.
 * Synchronous and single-threaded: the event loop of the owner is the only writer of the table (engines see it read-only).
 * The file's format is in schemas/pool.md. Errors are thrown KvferryErrors; a batch either happens whole or not at all.
 */
import { createHash } from "node:crypto";
import { assert, expected, integer } from "../check.ts";
import { KvferryError } from "../errors.ts";
import { limits } from "../limits.ts";
import { hostProcesses, noProcesses } from "./liveness.ts";
import { type Adoption, claim, FormerHolders } from "./pool-adopt.ts";
import { BlockStore } from "./pool-blocks.ts";
import { BlockChecks, keyCount } from "./pool-checks.ts";
import { Holders } from "./pool-holders.ts";
import type { BlockList } from "./pool-lists.ts";
import { PoolTable, STATE, type TableShape, tableShape } from "./pool-table.ts";
import type { Blocks, HolderId, PoolEvents, PoolOptions, PoolStats } from "./pool-types.ts";
import type { Region } from "./region.ts";

export type { Adoption } from "./pool-adopt.ts";
export type { Blocks, BlockState, HolderId, PoolEvents, PoolOptions, PoolStats } from "./pool-types.ts";

export class Pool {
  readonly name: string;
  readonly region: Region;
  readonly blockBytes: number;
  readonly blockCount: number;
  /** Offset of block 0's area in the region: layouts' offsets count from here. */
  readonly dataOffset: number;
  /** 32 hex digits; a new one at each start of the owner. */
  readonly incarnation: string;
  /** What the constructor found in the region. */
  readonly adopted: Adoption;

  readonly #events: PoolEvents;
  readonly #nowUs: () => number;
  readonly #store: BlockStore;
  readonly #checks: BlockChecks;
  readonly #holders: Holders;
  readonly #former: FormerHolders;
  #untold: number[] = [];
  #untoldKeys: Uint8Array[] = [];
  #evictions = 0;
  #evictedIdleUs = 0;
  #closed = false;

  /** @throws memory_unavailable if the region is too small, belongs to a living owner or cannot be used without risk. */
  constructor(options: PoolOptions, events: PoolEvents) {
    const { region } = options;
    const blockBytes = integer(options.blockBytes, "blockBytes", 1, limits.poolBlockBytesMax);
    const shape: TableShape = tableShape(region.bytes, blockBytes);
    const processes = options.processes ?? (region.path === "" ? noProcesses : hostProcesses());
    this.name = options.name;
    this.region = region;
    this.blockBytes = blockBytes;
    this.blockCount = shape.blockCount;
    this.dataOffset = shape.dataOffset;
    this.#events = events;
    this.#nowUs = options.nowUs;

    const table = new PoolTable(region.view, shape);
    const header = claim(table, processes, shape);
    const random = options.random(20);
    assert(random.length === 20, "the injected randomness gives as many bytes as asked");
    const incarnation = random.slice(0, 16);
    this.incarnation = Buffer.from(incarnation).toString("hex");
    this.#store = new BlockStore(table, shape.blockCount, new DataView(random.buffer, random.byteOffset).getInt32(16, true));
    this.#checks = new BlockChecks(this.#store);
    this.#holders = new Holders(table, processes, incarnation, header);
    this.#former = new FormerHolders(this.#store, table, (slot) => this.#holders.freeSlot(slot));
    if (header === undefined) this.adopted = this.#startAfresh(table);
    else this.adopted = this.#former.adopt(processes);
    this.#holders.start(this.#former.slots);
  }

  /** The first holder id that was never used in this pool, by former owners neither. */
  get nextHolder(): HolderId {
    return this.#holders.next;
  }

  /**
   * A holder appears; `processId` 0 = lives as long as its connection. Its blocks outlive a dropped connection while the process lives.
   * Throws full, or invalid_argument for an id that was used before.
   */
  addHolder(holder: HolderId, processId: number): void {
    this.#open();
    this.#holders.add(holder, processId);
  }

  /** The holder is gone for good: held blocks become free, leases end. Blocks in use by transfers wait for those. Idempotent. */
  removeHolder(holder: HolderId): void {
    this.#open();
    const record = this.#holders.find(holder);
    if (record === undefined) return;
    while (record.blocks.first >= 0) this.#giveBack(record.blocks, record.blocks.first);
    const nowUs = this.#nowUs();
    for (const [block, count] of record.leases) this.#store.unlease(block, count, nowUs);
    record.leases.clear();
    this.#holders.remove(record);
  }

  /**
   * A process that held blocks under a former owner says that nothing of it uses them any more, or is known to be dead. Its quarantined
   * blocks become free. False if no former holder has these numbers.
   */
  endFormerHolder(holder: HolderId, processId: number): boolean {
    this.#open();
    return this.#former.end(holder, processId);
  }

  /**
   * Records how the blocks are laid out (any canonical bytes; their SHA-256 is kept), and how many blocks of the pool that makes: larger blocks than
   * `blockBytes` make fewer. Another layout than the recorded one is taken only when no block is in use; what is published under the old one is
   * evicted then. Throws layout_conflict.
   */
  setLayout(layout: Uint8Array, blockCount: number = this.blockCount): void {
    this.#open();
    integer(blockCount, "blockCount", 1, this.blockCount);
    const hash = createHash("sha256").update(layout).digest();
    const recorded = this.#holders.layoutHash;
    const { freeList, spareList, idleList, retiredCount } = this.#store;
    const idle = freeList.count + spareList.count + idleList.count + retiredCount;
    const beyond = this.#store.usedFrom(blockCount);
    if (Buffer.compare(hash, recorded) === 0 && beyond < 0) return this.#store.limitTo(blockCount);
    if (recorded.some((byte) => byte !== 0) && idle < this.blockCount) {
      throw new KvferryError("layout_conflict", `${this.blockCount - idle} blocks are in use under the recorded layout`);
    }
    this.#evict(idleList.count);
    const inUse = this.#store.usedFrom(blockCount);
    this.#tell();
    if (inUse >= 0) throw new KvferryError("layout_conflict", `block ${inUse} is in use, and the layout has ${blockCount}`);
    this.#holders.layoutHash = hash;
    this.#store.limitTo(blockCount);
  }

  /** All or nothing; evicts published, unleased blocks, least recently used first. Throws pool_exhausted. */
  alloc(holder: HolderId, count: number): Blocks {
    this.#open();
    const { blocks } = this.#holders.get(holder);
    integer(count, "count", 0, limits.blocksPerTransferMax);
    const { freeList, idleList } = this.#store;
    if (count > freeList.count + idleList.count) {
      throw new KvferryError("pool_exhausted", `${count} blocks wanted, ${freeList.count} free and ${idleList.count} evictable`);
    }
    // A block whose generations are used up is evicted without becoming free, hence until there are enough.
    while (freeList.count < count && idleList.count > 0) this.#evict(count - freeList.count);
    if (freeList.count < count) {
      this.#tell();
      throw new KvferryError("pool_exhausted", "generations of the last evictable blocks are used up");
    }
    const ids = new Uint32Array(count);
    const generations = new Uint32Array(count);
    for (let at = 0; at < count; at++) {
      const block = this.#store.take(holder, blocks);
      ids[at] = block;
      generations[at] = this.#store.generation[block]!;
    }
    this.#tell();
    return { ids, generations };
  }

  /** Gives held blocks back; throws not_owner, generation_mismatch, block_state. */
  free(holder: HolderId, blocks: Blocks): void {
    this.#open();
    const record = this.#holders.get(holder);
    this.#checks.inState(blocks, STATE.held, holder);
    for (const block of blocks.ids) this.#giveBack(record.blocks, block);
  }

  /** For transfers that fill blocks: as `pin`, and until `filled` nobody else fills, reads or publishes them. Throws block_state, not_owner. */
  fill(holder: HolderId, blocks: Blocks): void {
    this.#open();
    this.#checks.fillable(holder, blocks);
    for (const block of blocks.ids) {
      this.#store.filling[block] = 1;
      this.#store.pin(block);
    }
  }

  filled(blocks: Blocks): void {
    for (const block of blocks.ids) this.#store.filling[block] = 0;
    this.unpin(blocks);
  }

  /** For transfers that read: the blocks stay what they are until `unpin`, whatever their holder does meanwhile. Throws block_state. */
  pin(blocks: Blocks): void {
    this.#open();
    this.#checks.readable(blocks);
    for (const block of blocks.ids) this.#store.pin(block);
  }

  /** Ends one pin of each block. A generation cannot change under a pin, so a wrong pair here is a bug of the caller. */
  unpin(blocks: Blocks): void {
    this.#open();
    const nowUs = this.#nowUs();
    for (let at = 0; at < blocks.ids.length; at++) {
      const block = blocks.ids[at]!;
      assert(this.#store.generation[block] === blocks.generations[at], "a pinned block keeps its generation");
      this.#store.unpin(block, nowUs);
    }
  }

  /** held -> sealing: the holder may no longer write. Then seal() with the checksums, or abortSeal() back to held. */
  beginSeal(holder: HolderId, blocks: Blocks): void {
    this.#open();
    this.#holders.get(holder);
    this.#checks.inState(blocks, STATE.held, holder);
    for (const block of blocks.ids) this.#checks.notFilling(block);
    for (const block of blocks.ids) this.#store.enter(block, STATE.sealing);
  }

  /**
   * sealing -> published under `keys` (32 bytes each), `tokens` in each block. A key that is published already frees the new block (the
   * first one wins). Throws if the holder has gone meanwhile.
   */
  seal(blocks: Blocks, keys: Uint8Array, checksums: Uint32Array, group: number, tokens: number): void {
    this.#open();
    const count = this.#checks.inState(blocks, STATE.sealing, undefined);
    if (keyCount(keys) !== count) throw expected(`${count} keys`, "keys", keys);
    if (checksums.length !== count) throw expected(`${count} checksums`, "checksums", checksums.length);
    integer(group, "group", 0, limits.groupsMax - 1);
    integer(tokens, "tokens", 0, limits.blockTokensMax);
    const nowUs = this.#nowUs();
    for (let at = 0; at < count; at++) {
      const block = blocks.ids[at]!;
      this.#store.links.remove(this.#holders.get(this.#store.holder[block]!).blocks, block);
      if (!this.#store.publish(block, keys, at, group, tokens, checksums[at]!, nowUs)) this.#store.end(block);
    }
  }

  /** sealing -> held: the holder may write again. */
  abortSeal(holder: HolderId, blocks: Blocks): void {
    this.#open();
    this.#holders.get(holder);
    this.#checks.inState(blocks, STATE.sealing, holder);
    for (const block of blocks.ids) this.#store.enter(block, STATE.held);
  }

  /** How many of the keys, from the first, are published. Touches nothing. */
  lookup(keys: Uint8Array, group: number): number {
    this.#open();
    integer(group, "group", 0, limits.groupsMax - 1);
    return this.#findPrefix(keys, group, new Uint32Array(keyCount(keys)));
  }

  /** Read leases on the longest published prefix of the keys (all of them, or throws key_not_found unless `prefix`). */
  lease(holder: HolderId, keys: Uint8Array, group: number, prefix: boolean): Blocks {
    this.#open();
    const { leases } = this.#holders.get(holder);
    integer(group, "group", 0, limits.groupsMax - 1);
    const wanted = keyCount(keys);
    const found = new Uint32Array(wanted);
    const count = this.#findPrefix(keys, group, found);
    if (count < wanted && !prefix) throw new KvferryError("key_not_found", `key ${count} of ${wanted}`);
    const ids = found.subarray(0, count);
    const generations = new Uint32Array(count);
    for (let at = 0; at < count; at++) {
      const block = ids[at]!;
      generations[at] = this.#store.generation[block]!;
      if (this.#store.leases[block]! + count > limits.leasesPerBlockMax) throw new KvferryError("full", `leases of block ${block}`);
    }
    for (const block of ids) {
      this.#store.lease(block);
      leases.set(block, (leases.get(block) ?? 0) + 1);
    }
    return { ids, generations };
  }

  /** Ends leases taken by lease(). A block that was leased twice is released twice. Throws not_owner. */
  release(holder: HolderId, blocks: Blocks): void {
    this.#open();
    const { leases } = this.#holders.get(holder);
    const count = this.#checks.current(blocks);
    // First from the holder's own count, which is easily put back: a block may stand in the batch more than once.
    for (let at = 0; at < count; at++) {
      const left = leases.get(blocks.ids[at]!) ?? 0;
      if (left === 0) {
        for (let back = 0; back < at; back++) leases.set(blocks.ids[back]!, leases.get(blocks.ids[back]!)! + 1);
        throw new KvferryError("not_owner", `block ${blocks.ids[at]} is not leased by this client`);
      }
      leases.set(blocks.ids[at]!, left - 1);
    }
    const nowUs = this.#nowUs();
    for (const block of blocks.ids) {
      this.#store.unlease(block, 1, nowUs);
      if (leases.get(block) === 0) leases.delete(block);
    }
  }

  /**
   * Published blocks that nobody shall find any more (their seal is broken): free as soon as no lease and no transfer uses them. Two readers of
   * one block may both find it broken: for the second there is nothing left to do.
   */
  discard(blocks: Blocks): void {
    this.#open();
    this.#checks.current(blocks);
    const isLeft = (_: number, at: number): boolean => this.#store.state[blocks.ids[at]!] !== STATE.ending;
    const left: Blocks = { ids: blocks.ids.filter(isLeft), generations: blocks.generations.filter(isLeft) };
    this.#checks.inState(left, STATE.published, undefined);
    for (const block of left.ids) this.#store.unpublish(block);
  }

  /** Checksums recorded at sealing, of published blocks. */
  checksums(blocks: Blocks): Uint32Array {
    this.#open();
    const count = this.#checks.current(blocks);
    const checksums = new Uint32Array(count);
    for (let at = 0; at < count; at++) {
      const block = blocks.ids[at]!;
      if (this.#store.state[block] !== STATE.published) throw new KvferryError("block_state", `block ${block} is not published`);
      checksums[at] = this.#store.checksum[block]!;
    }
    return checksums;
  }

  /** Throws unless every (id, generation) is what the table says and this holder holds or leases it. */
  check(holder: HolderId, blocks: Blocks): void {
    this.#open();
    const { leases } = this.#holders.get(holder);
    const count = this.#checks.readable(blocks);
    for (let at = 0; at < count; at++) {
      const block = blocks.ids[at]!;
      if (this.#store.holder[block] !== holder && !leases.has(block)) throw new KvferryError("not_owner", `block ${block}`);
    }
  }

  stats(): PoolStats {
    const { count, freeList, spareList } = this.#store;
    return {
      blockCount: this.blockCount - spareList.count,
      free: freeList.count,
      held: count[STATE.held]! + count[STATE.sealing]! + count[STATE.ending]!,
      published: count[STATE.published]!,
      leased: this.#store.leasedCount,
      quarantined: count[STATE.quarantined]!,
      pinned: this.#store.pinnedCount,
      evictions: this.#evictions,
      evictedIdleUs: this.#evictedIdleUs,
    };
  }

  /** Idempotent. The region stays open: it is its maker's to close. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#former.close();
    this.#holders.close();
  }

  #open(): void {
    if (this.#closed) throw new KvferryError("closed", `pool ${this.name}`);
  }

  #startAfresh(table: PoolTable): Adoption {
    table.wipe();
    for (let block = 0; block < this.blockCount; block++) this.#store.restoreFree(block, 1);
    return { fresh: true, published: 0, quarantined: 0, freed: 0, damaged: 0, livingHolders: 0, lostHolders: 0 };
  }

  /** A held or sealing block leaves its holder's list. */
  #giveBack(list: BlockList, block: number): void {
    this.#store.links.remove(list, block);
    this.#store.end(block);
  }

  /** The blocks of the keys, from the first until one is missing. */
  #findPrefix(keys: Uint8Array, group: number, found: Uint32Array): number {
    for (let at = 0; at < found.length; at++) {
      const block = this.#store.index.find(keys, at, group);
      if (block < 0) return at;
      found[at] = block;
    }
    return found.length;
  }

  #evict(count: number): void {
    const nowUs = this.#nowUs();
    for (let at = 0; at < count && this.#store.idleList.count > 0; at++) {
      const block = this.#store.idleList.first;
      this.#untold.push(block);
      this.#untoldKeys.push(this.#store.index.keyOf(block));
      this.#evictedIdleUs = this.#store.idleUs(block, nowUs);
      this.#evictions++;
      this.#store.unpublish(block);
    }
  }

  /** Listeners run when the pool's work is done, so that they may call it. */
  #tell(): void {
    if (this.#untold.length === 0) return;
    const blocks = Uint32Array.from(this.#untold);
    const keys = Buffer.concat(this.#untoldKeys);
    this.#untold = [];
    this.#untoldKeys = [];
    this.#events.evicted(new Uint8Array(keys.buffer, keys.byteOffset, keys.length), blocks);
  }
}
