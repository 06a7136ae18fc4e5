/**
 * What a pool promises, as plainly as it can be said: one object per block and no cleverness. The property test
 * compares the pool with it.
 */

export interface ModelBlock {
  state: "free" | "held" | "sealing" | "published" | "quarantined" | "ending";
  holder: number;
  key: number;
  pins: number;
  /** Leases by holder; holder -1 stands for all former ones. */
  leases: Map<number, number>;
  generation: number;
}

export interface Handle {
  readonly block: number;
  readonly generation: number;
}

export class PoolModel {
  readonly blocks: ModelBlock[] = [];
  /** Evictable blocks, least recently used first. */
  idle: number[] = [];
  /** Living holders: process id by holder. */
  holders = new Map<number, number>();
  former = new Map<number, number>();
  /** Blocks that a holder leases, in the order of its first leases: that is the order in which they become evictable when it goes. */
  leased = new Map<number, Set<number>>();
  /** Blocks that wait until every former holder is gone. */
  anyone = new Set<number>();

  constructor(blockCount: number) {
    for (let at = 0; at < blockCount; at++) {
      this.blocks.push({ state: "free", holder: 0, key: -1, pins: 0, leases: new Map(), generation: 1 });
    }
  }

  count(...states: ModelBlock["state"][]): number {
    return this.blocks.filter((block) => states.includes(block.state)).length;
  }

  find(key: number): number {
    return this.blocks.findIndex((block) => block.state === "published" && block.key === key);
  }

  isCurrent(handle: Handle): boolean {
    return this.blocks[handle.block]!.generation === handle.generation;
  }

  /** Whether a batch of handles is in order: distinct, current, in one state and in one holder's hands. */
  allIn(handles: readonly Handle[], state: ModelBlock["state"], holder: number | undefined): boolean {
    if (new Set(handles.map((handle) => handle.block)).size < handles.length) return false;
    return handles.every((handle) => {
      const block = this.blocks[handle.block]!;
      return this.isCurrent(handle) && block.state === state && (holder === undefined || block.holder === holder);
    });
  }

  end(at: number): void {
    const block = this.blocks[at]!;
    this.idle = this.idle.filter((other) => other !== at);
    block.holder = 0;
    block.key = -1;
    if (block.pins > 0 || block.leases.size > 0) {
      block.state = "ending";
      return;
    }
    block.state = "free";
    block.generation++;
  }

  /** After the last pin or lease of a block. */
  settle(at: number): void {
    const block = this.blocks[at]!;
    if (block.pins > 0 || block.leases.size > 0) return;
    if (block.state === "ending") this.end(at);
    else if (block.state === "published") this.idle.push(at);
  }

  use(at: number): void {
    this.idle = this.idle.filter((other) => other !== at);
  }

  lease(at: number, holder: number): void {
    const { leases } = this.blocks[at]!;
    this.use(at);
    leases.set(holder, (leases.get(holder) ?? 0) + 1);
    this.leased.set(holder, (this.leased.get(holder) ?? new Set()).add(at));
  }

  unlease(at: number, holder: number, count: number): void {
    const { leases } = this.blocks[at]!;
    const left = leases.get(holder)! - count;
    if (left > 0) {
      leases.set(holder, left);
      return;
    }
    leases.delete(holder);
    this.leased.get(holder)?.delete(at);
    this.settle(at);
  }

  removeHolder(holder: number): void {
    for (const [at, block] of this.blocks.entries()) {
      if (block.holder === holder && (block.state === "held" || block.state === "sealing")) this.end(at);
    }
    for (const at of this.leased.get(holder) ?? []) this.unlease(at, holder, this.blocks[at]!.leases.get(holder)!);
    this.holders.delete(holder);
  }

  restart(alive: (processId: number) => boolean): void {
    const living = [...this.former, ...this.holders].filter(([, processId]) => alive(processId));
    this.former = new Map(living);
    this.holders = new Map();
    this.idle = [];
    this.leased.clear();
    for (const [at, block] of this.blocks.entries()) {
      const leased = block.leases.size > 0;
      block.pins = 0;
      block.leases.clear();
      if (block.state === "free") continue;
      if (block.state === "published") {
        if (leased) block.leases.set(-1, 1);
        else this.idle.push(at);
      } else if (this.anyone.has(at) || (block.state === "ending" && leased)) {
        block.state = "quarantined";
        this.anyone.add(at);
      } else if (this.former.has(block.holder)) block.state = "quarantined";
      else this.end(at);
    }
    this.endAnyone();
  }

  endFormer(holder: number): void {
    if (!this.former.delete(holder)) return;
    for (const [at, block] of this.blocks.entries()) if (block.state === "quarantined" && block.holder === holder) this.end(at);
    this.endAnyone();
  }

  endAnyone(): void {
    if (this.former.size > 0) return;
    for (const at of this.anyone) this.end(at);
    this.anyone.clear();
    for (const [at, block] of this.blocks.entries()) if (block.leases.has(-1)) this.unlease(at, -1, 1);
  }
}
