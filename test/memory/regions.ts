/** Regions and processes for the pool's tests: plain memory that several pools in turn may own, and processes that die when told to. */
import type { Processes } from "../../transport/memory/liveness.ts";
import { Pool, type PoolEvents } from "../../transport/memory/pool.ts";
import type { Region } from "../../transport/memory/region.ts";

export function plainRegion(bytes: number): Region {
  return { bytes, path: "", nativeId: -1, view: new Uint8Array(bytes), close() {} };
}

/** Processes 1, 2, 3 ... that live until `kill`; start times differ from the ids so that one is not taken for the other. */
export class FakeProcesses implements Processes {
  readonly #dead = new Set<number>();
  readonly #watchers = new Set<{ processId: number; onGone: () => void }>();

  startTicks(processId: number): number {
    return processId > 0 && !this.#dead.has(processId) ? processId + 1_000_000_000_000 : 0;
  }

  watch(processId: number, _startTicks: number, onGone: () => void): () => void {
    const watcher = { processId, onGone };
    this.#watchers.add(watcher);
    return () => this.#watchers.delete(watcher);
  }

  kill(processId: number): void {
    this.#dead.add(processId);
    for (const watcher of this.#watchers) {
      if (watcher.processId !== processId) continue;
      this.#watchers.delete(watcher);
      watcher.onGone();
    }
  }

  get watched(): number {
    return this.#watchers.size;
  }
}

export interface TestPool {
  readonly pool: Pool;
  readonly evicted: number[];
}

let incarnations = 0;

/** A pool over the region; its incarnations count up instead of being random. */
export function openPool(region: Region, blockBytes: number, processes: Processes, clock = { nowUs: 0 }): TestPool {
  const evicted: number[] = [];
  const events: PoolEvents = { evicted: (_keys, blocks) => evicted.push(...blocks) };
  const random = (bytes: number): Uint8Array => new Uint8Array(bytes).fill(++incarnations % 251);
  const pool = new Pool({ name: "test", region, blockBytes, random, nowUs: () => clock.nowUs, processes }, events);
  return { pool, evicted };
}

/** Key number `number`: 32 bytes that differ in the last ones only, so that a look-up has to compare them all. */
export function keyOf(number: number): Uint8Array {
  const key = new Uint8Array(32).fill(7);
  new DataView(key.buffer).setUint32(28, number);
  return key;
}

export function keysOf(numbers: readonly number[]): Uint8Array {
  const keys = new Uint8Array(numbers.length * 32);
  for (const [at, number] of numbers.entries()) keys.set(keyOf(number), at * 32);
  return keys;
}

/** The pool of pool-restart.test.ts, which two processes open in turn. */
export const RESTART = { name: "restart", bytes: 2 * 1024 * 1024, hugePages: "off", numaNode: -1 } as const;
