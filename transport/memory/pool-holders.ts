/** Who holds blocks now: records in memory, and a slot each in the table so that the next owner knows whose blocks to quarantine. */
import { expected, integer } from "../check.ts";
import { KvferryError } from "../errors.ts";
import { limits } from "../limits.ts";
import type { Processes } from "./liveness.ts";
import { type BlockList, blockList } from "./pool-lists.ts";
import { HOLDER_SLOTS, HOLDER_UNKNOWN, type PoolHeader, type PoolTable } from "./pool-table.ts";

export interface Holder {
  readonly id: number;
  readonly slot: number;
  readonly processId: number;
  /** Held and sealing blocks. */
  readonly blocks: BlockList;
  /** Leases by block. */
  readonly leases: Map<number, number>;
}

const PROCESS_ID_MAX = 0x7fff_ffff;

export class Holders {
  readonly #table: PoolTable;
  readonly #processes: Processes;
  readonly #incarnation: Uint8Array;
  readonly #holders = new Map<number, Holder>();
  readonly #freeSlots: number[] = [];
  #layoutHash: Uint8Array;
  #next: number;

  constructor(table: PoolTable, processes: Processes, incarnation: Uint8Array, header: PoolHeader | undefined) {
    this.#table = table;
    this.#processes = processes;
    this.#incarnation = incarnation;
    this.#layoutHash = header?.layoutHash ?? new Uint8Array(32);
    this.#next = header?.holderNext ?? 1;
  }

  /** Takes over: from here on the header names this process and the new incarnation. */
  start(usedSlots: ReadonlySet<number>): void {
    for (let slot = HOLDER_SLOTS - 1; slot >= 0; slot--) if (!usedSlots.has(slot)) this.#freeSlots.push(slot);
    this.#writeHeader(process.pid);
  }

  /** The first holder id that was never used in this pool. */
  get next(): number {
    return this.#next;
  }

  get layoutHash(): Uint8Array {
    return this.#layoutHash;
  }

  set layoutHash(hash: Uint8Array) {
    this.#layoutHash = hash.slice();
    this.#writeHeader(process.pid);
  }

  add(id: number, processId: number): void {
    integer(id, "holder", 1, HOLDER_UNKNOWN - 1);
    integer(processId, "processId", 0, PROCESS_ID_MAX);
    if (id < this.#next) throw expected(`a holder id that was never used (${this.#next} or more)`, "holder", id);
    if (this.#holders.size >= limits.poolHoldersMax) throw new KvferryError("full", `${this.#holders.size} holders`);
    const slot = this.#freeSlots.pop();
    if (slot === undefined) throw new KvferryError("full", "former holders keep every slot of the holder table");
    this.#next = id + 1;
    this.#writeHeader(process.pid);
    const startTicks = processId === 0 ? 0 : this.#processes.startTicks(processId);
    this.#table.writeHolder(slot, { holder: id, processId, startTicks });
    this.#holders.set(id, { id, slot, processId, blocks: blockList(), leases: new Map() });
  }

  get(id: number): Holder {
    const holder = this.#holders.get(id);
    if (holder === undefined) throw expected("a holder that was added", "holder", id);
    return holder;
  }

  find(id: number): Holder | undefined {
    return this.#holders.get(id);
  }

  /** Forgets a holder whose blocks and leases have ended. */
  remove(holder: Holder): void {
    this.#holders.delete(holder.id);
    this.#table.clearHolder(holder.slot);
    this.freeSlot(holder.slot);
  }

  freeSlot(slot: number): void {
    this.#freeSlots.push(slot);
  }

  /** Nobody owns the pool any more: another process may adopt it at once. */
  close(): void {
    this.#writeHeader(0);
  }

  #writeHeader(ownerProcess: number): void {
    this.#table.writeHeader({
      ownerProcess,
      ownerStartTicks: ownerProcess === 0 ? 0 : this.#processes.startTicks(ownerProcess),
      holderNext: this.#next,
      incarnation: this.#incarnation,
      layoutHash: this.#layoutHash,
    });
  }
}
