/**
 * A new owner reads the table that the former one left. Kept: free and published blocks whose entries are whole.
 * Quarantined: what a process that still lives was writing. Shared memory cannot fence, so only the proven
 * death of that process, or its own word, ends a quarantine.
 */
import { KvferryError } from "../errors.ts";
import type { Processes } from "./liveness.ts";
import { type BlockList, blockList } from "./pool-lists.ts";
import { type BlockStore, GENERATION_MAX } from "./pool-blocks.ts";
import {
  type EntryRecord,
  HOLDER_SLOTS,
  HOLDER_UNKNOWN,
  type HolderRecord,
  type PoolHeader,
  type PoolTable,
  STATE,
  type TableShape,
} from "./pool-table.ts";

export interface Adoption {
  /** The region held no pool, or one of another shape that nobody used: everything below is 0. */
  readonly fresh: boolean;
  readonly published: number;
  readonly quarantined: number;
  /** Blocks that nobody living can have been using: free at once. */
  readonly freed: number;
  /** Entries that were half-written or did not make sense. */
  readonly damaged: number;
  /** Former holders whose processes live. */
  readonly livingHolders: number;
  /** Holders that the table names no more: what they may have been writing stays in quarantine until the pool is made anew. */
  readonly lostHolders: number;
}

interface FormerHolder extends HolderRecord {
  readonly slot: number;
  readonly blocks: BlockList;
  stopWatching: () => void;
}

export function isAlive(processes: Processes, processId: number, startTicks: number): boolean {
  return processId > 0 && startTicks > 0 && processes.startTicks(processId) === startTicks;
}

/** The header of a pool that may be adopted, or undefined: start afresh. Throws memory_unavailable if neither is safe. */
export function claim(table: PoolTable, processes: Processes, shape: TableShape): PoolHeader | undefined {
  const header = table.readHeader();
  if (header !== undefined && header.ownerProcess !== process.pid) {
    if (isAlive(processes, header.ownerProcess, header.ownerStartTicks)) {
      throw new KvferryError("memory_unavailable", `the pool is owned by process ${header.ownerProcess}, which is running`);
    }
  }
  if (header !== undefined && header.blockBytes === shape.blockBytes && header.regionBytes === shape.regionBytes) return header;
  for (let slot = 0; slot < HOLDER_SLOTS; slot++) {
    const record = table.readHolder(slot);
    if (typeof record === "string" || !isAlive(processes, record.processId, record.startTicks)) continue;
    const why = header === undefined ? "its header is damaged" : `it has blocks of ${header.blockBytes} bytes in ${header.regionBytes}`;
    throw new KvferryError(
      "memory_unavailable",
      `the pool there cannot be adopted (${why}) while process ${record.processId} may write to it: end that process or use another place`,
    );
  }
  return undefined;
}

export class FormerHolders {
  readonly #store: BlockStore;
  readonly #table: PoolTable;
  readonly #onSlotFree: (slot: number) => void;
  readonly #holders = new Map<number, FormerHolder>();
  /** Quarantined until every former holder is gone: nobody knows which of them was writing. */
  readonly #anyone = blockList();
  /** Blocks that a former holder had leased: one lease stands for all of theirs until every former holder is gone. */
  readonly #leased: number[] = [];
  /** Slots of the holder table that make no sense: they stay as they are, so that further owners know too. */
  readonly #lostSlots = new Set<number>();
  /** Holders that entries name and no slot does: their slots were lost without a trace. */
  readonly #unnamed = new Set<number>();
  #maxGeneration = 0;
  #freed = 0;

  constructor(store: BlockStore, table: PoolTable, onSlotFree: (slot: number) => void) {
    this.#store = store;
    this.#table = table;
    this.#onSlotFree = onSlotFree;
  }

  /** Reads the whole table. Afterwards the slots of dead holders are empty; the others are told by `slots`. */
  adopt(processes: Processes): Adoption {
    const known = this.#readHolders(processes);
    const damaged = this.#readEntries(known);
    for (const block of damaged) this.#quarantine(block, Math.max(this.#maxGeneration, 1), HOLDER_UNKNOWN, this.#anyone);
    for (const former of this.#holders.values()) {
      former.stopWatching = processes.watch(former.processId, former.startTicks, () => this.end(former.holder, former.processId));
    }
    const livingHolders = this.#holders.size;
    this.#endAnyone();
    return {
      fresh: false,
      published: this.#store.count[STATE.published]!,
      quarantined: this.#store.count[STATE.quarantined]!,
      freed: this.#freed,
      damaged: damaged.length,
      livingHolders,
      // A slot that makes no sense may be that of a holder that entries name.
      lostHolders: Math.max(this.#lostSlots.size, this.#unnamed.size),
    };
  }

  /** Slots of the holder table that former holders keep. */
  get slots(): ReadonlySet<number> {
    return new Set([...this.#lostSlots, ...[...this.#holders.values()].map((former) => former.slot)]);
  }

  /** The former holder is gone, or has said that it uses nothing of then any more. False if there is none with these numbers. */
  end(holder: number, processId: number): boolean {
    const former = this.#holders.get(holder);
    if (former === undefined || former.processId !== processId) return false;
    this.#holders.delete(holder);
    former.stopWatching();
    this.#endList(former.blocks);
    this.#table.clearHolder(former.slot);
    this.#onSlotFree(former.slot);
    this.#endAnyone();
    return true;
  }

  close(): void {
    for (const former of this.#holders.values()) former.stopWatching();
    this.#holders.clear();
  }

  /** Every holder id in the table: true if it may still write. */
  #readHolders(processes: Processes): Map<number, boolean> {
    const known = new Map<number, boolean>([[0, false]]);
    for (let slot = 0; slot < HOLDER_SLOTS; slot++) {
      const record = this.#table.readHolder(slot);
      if (record === "empty") continue;
      if (record === "damaged" || known.has(record.holder)) {
        this.#lostSlots.add(slot);
        continue;
      }
      const alive = isAlive(processes, record.processId, record.startTicks);
      known.set(record.holder, alive);
      if (alive) this.#holders.set(record.holder, { ...record, slot, blocks: blockList(), stopWatching: () => {} });
    }
    return known;
  }

  /** Restores every block whose entry is whole; returns the others. */
  #readEntries(known: Map<number, boolean>): number[] {
    const damaged: number[] = [];
    const entry: EntryRecord = { generation: 0, state: 0, holder: 0, group: 0, tokens: 0, checksum: 0, leases: 0 };
    for (let block = 0; block < this.#store.blockCount; block++) {
      if (!this.#table.readEntry(block, entry)) {
        damaged.push(block);
        continue;
      }
      this.#maxGeneration = Math.max(this.#maxGeneration, entry.generation);
      if (entry.state === STATE.free) this.#store.restoreFree(block, entry.generation);
      else if (entry.state === STATE.published) this.#restorePublished(block, entry);
      else if (entry.state === STATE.ending && entry.leases > 0) this.#quarantine(block, entry.generation, HOLDER_UNKNOWN, this.#anyone);
      else this.#restoreHeld(block, entry, known);
    }
    // Slots of the dead are emptied only now: until here a crash of this owner too would leave their blocks explained.
    for (let slot = 0; slot < HOLDER_SLOTS; slot++) {
      const record = this.#table.readHolder(slot);
      if (typeof record !== "string" && !this.#holders.has(record.holder) && !this.#lostSlots.has(slot)) this.#table.clearHolder(slot);
    }
    return damaged;
  }

  #restorePublished(block: number, entry: EntryRecord): void {
    const leased = entry.leases > 0;
    if (this.#store.restorePublished(block, this.#table.readKey(block), entry)) {
      if (!leased) return;
      this.#store.lease(block);
      this.#leased.push(block);
      return;
    }
    // The key is there twice: only a scribbled table says so. The first block keeps it.
    this.#quarantine(block, entry.generation, HOLDER_UNKNOWN, this.#anyone);
  }

  #restoreHeld(block: number, entry: EntryRecord, known: Map<number, boolean>): void {
    if (entry.holder === HOLDER_UNKNOWN) {
      this.#quarantine(block, entry.generation, HOLDER_UNKNOWN, this.#anyone);
      return;
    }
    const alive = known.get(entry.holder);
    if (alive === false) {
      this.#store.restoreQuarantined(block, entry.generation, 0);
      this.#free(block);
      return;
    }
    // A holder that the table does not name may be any process: its block stays out of use until the pool is made anew.
    if (alive === undefined) this.#unnamed.add(entry.holder);
    this.#quarantine(block, entry.generation, entry.holder, this.#holders.get(entry.holder)?.blocks);
  }

  #quarantine(block: number, generation: number, holder: number, list: BlockList | undefined): void {
    this.#store.restoreQuarantined(block, Math.min(generation, GENERATION_MAX), holder);
    if (list !== undefined) this.#store.links.append(list, block);
  }

  #endAnyone(): void {
    if (this.#holders.size > 0 || this.#lostSlots.size > 0 || this.#unnamed.size > 0) return;
    this.#endList(this.#anyone);
    for (const block of this.#leased) this.#store.unlease(block, 1, 0);
    this.#leased.length = 0;
  }

  #endList(list: BlockList): void {
    while (list.first >= 0) {
      const block = list.first;
      this.#store.links.remove(list, block);
      this.#free(block);
    }
  }

  #free(block: number): void {
    this.#store.end(block);
    this.#freed++;
  }
}
