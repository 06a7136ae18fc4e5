/**
 * Virtual memory: plain arrays, and a pool that overwrites a block with garbage the moment it becomes free or is given away, and refuses to see a
 * block go while the link can still touch it. So what is used after its release shows as wrong bytes, or at once.
 */
import type { Layout } from "../../transport/kv/layout.ts";
import type { Processes } from "../../transport/memory/liveness.ts";
import { type Blocks, type HolderId, Pool, type PoolEvents, type PoolOptions } from "../../transport/memory/pool.ts";
import { type EntryRecord, PoolTable, STATE, tableShape } from "../../transport/memory/pool-table.ts";
import type { Region } from "../../transport/memory/region.ts";
import { blockRuns } from "./content.ts";
import type { VirtualLink } from "./link.ts";
import type { Random } from "./random.ts";
import type { World } from "./world.ts";

export class VirtualRegion implements Region {
  readonly path = "";
  readonly nativeId = -1;
  readonly view: Uint8Array;
  closed = false;

  constructor(view: Uint8Array) {
    this.view = view;
  }

  get bytes(): number {
    return this.view.length;
  }

  close(): void {
    this.closed = true;
  }
}

/** How many bytes a region needs for so many blocks. */
export function regionBytes(blockCount: number, blockBytes: number): number {
  let bytes = blockCount * blockBytes + 128 * 1024;
  for (; tableShape(bytes, blockBytes).blockCount > blockCount; ) bytes -= 64;
  return bytes;
}

/** Processes of one host: they live until they are killed. */
export class VirtualProcesses implements Processes {
  readonly #alive = new Set<number>();
  readonly #watchers = new Set<{ readonly processId: number; readonly onGone: () => void }>();
  #next = 3_000_000;

  spawn(): number {
    this.#alive.add(this.#next);
    return this.#next++;
  }

  startTicks(processId: number): number {
    return this.#alive.has(processId) ? processId + 1_000_000 : 0;
  }

  watch(processId: number, _startTicks: number, onGone: () => void): () => void {
    const watcher = { processId, onGone };
    this.#watchers.add(watcher);
    return () => this.#watchers.delete(watcher);
  }

  kill(processId: number): void {
    this.#alive.delete(processId);
    for (const watcher of [...this.#watchers]) {
      if (watcher.processId === processId && this.#watchers.delete(watcher)) watcher.onGone();
    }
  }

  /** The watching process is gone itself. */
  forgetWatchers(): void {
    this.#watchers.clear();
  }
}

export interface SimPoolOptions extends PoolOptions {
  readonly world: World;
  readonly link: VirtualLink;
}

export class SimPool extends Pool {
  readonly #world: World;
  readonly #link: VirtualLink;
  readonly #table: PoolTable;
  readonly #seen: Uint32Array;
  readonly #entry: EntryRecord = { generation: 0, state: 0, holder: 0, group: 0, tokens: 0, checksum: 0, leases: 0 };
  layout: Layout | undefined;

  constructor(options: SimPoolOptions, events: PoolEvents) {
    super(options, events);
    this.#world = options.world;
    this.#link = options.link;
    this.#table = new PoolTable(options.region.view, tableShape(options.region.bytes, options.blockBytes));
    this.#seen = new Uint32Array(this.blockCount);
    for (let block = 0; block < this.blockCount; block++) this.#seen[block] = this.#read(block).generation;
  }

  /** Blocks that are published and used by nobody. */
  idleBlocks(): number[] {
    const idle: number[] = [];
    for (let block = 0; block < this.blockCount; block++) {
      const entry = this.#read(block);
      if (entry.state === STATE.published && entry.leases === 0 && !this.#touched(block)) idle.push(block);
    }
    return idle;
  }

  /** Blocks in use, for a message. */
  describe(): string {
    const names = Object.keys(STATE);
    const lines = Array.from({ length: this.blockCount }, (_, block) => {
      const { state, holder, generation, leases } = this.#read(block);
      return state === STATE.free || state === STATE.published
        ? ""
        : `${block}: ${names[state]} by ${holder}, generation ${generation}, ${leases} leases`;
    });
    return lines.filter((line) => line !== "").join("; ");
  }

  generationOf(block: number): number {
    return this.#read(block).generation;
  }

  /** One bit of what lies in the block. */
  flipBit(block: number, random: Random): void {
    if (this.layout === undefined) return;
    const runs = blockRuns(this.layout, this.dataOffset, block);
    const run = 2 * random.below(runs.length / 2);
    this.region.view[runs[run]! + random.below(runs[run + 1]!)]! ^= 1 << random.below(8);
  }

  override alloc(holder: HolderId, count: number): Blocks {
    const blocks = super.alloc(holder, count);
    this.sweep();
    for (const block of blocks.ids) {
      this.#seen[block] = this.#read(block).generation;
      this.#poison(block);
    }
    return blocks;
  }

  override removeHolder(holder: HolderId): void {
    super.removeHolder(holder);
    this.sweep();
  }
  override endFormerHolder(holder: HolderId, processId: number): boolean {
    const ended = super.endFormerHolder(holder, processId);
    this.sweep();
    return ended;
  }
  override setLayout(layout: Uint8Array, blockCount?: number): void {
    super.setLayout(layout, blockCount);
    this.sweep();
  }
  override free(holder: HolderId, blocks: Blocks): void {
    super.free(holder, blocks);
    this.sweep();
  }
  override unpin(blocks: Blocks): void {
    super.unpin(blocks);
    this.sweep();
  }
  override seal(blocks: Blocks, keys: Uint8Array, checksums: Uint32Array, group: number, tokens: number): void {
    super.seal(blocks, keys, checksums, group, tokens);
    this.sweep();
  }
  override release(holder: HolderId, blocks: Blocks): void {
    super.release(holder, blocks);
    this.sweep();
  }
  override discard(blocks: Blocks): void {
    super.discard(blocks);
    this.sweep();
  }

  /** Blocks that have come to the end of their generation become garbage. */
  sweep(): void {
    for (let block = 0; block < this.blockCount; block++) {
      const { generation } = this.#read(block);
      if (generation === this.#seen[block]) continue;
      this.#seen[block] = generation;
      if (this.#touched(block)) this.#world.violate(`block ${block} of ${this.name} was released while the link can still touch it`);
      this.#poison(block);
    }
  }

  #touched(block: number): boolean {
    for (const { placement } of this.#link.placements.values()) {
      if (!placement.over && placement.spec.region === this.region && placement.spec.blockLists.some((list) => list.includes(block)))
        return true;
    }
    return false;
  }

  #poison(block: number): void {
    if (this.layout === undefined) return;
    const runs = blockRuns(this.layout, this.dataOffset, block);
    const value = this.#world.random.below(256);
    for (let at = 0; at < runs.length; at += 2) this.region.view.fill(value, runs[at]!, runs[at]! + runs[at + 1]!);
  }

  #read(block: number): EntryRecord {
    this.#table.readEntry(block, this.#entry);
    return this.#entry;
  }
}
