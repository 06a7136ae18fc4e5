/**
 * Random lives of a pool against the plain model of pool-model.ts: any sequence of calls by three processes, restarts
 * and deaths among them,
 * with handles drawn from all that were ever given out, stale ones too. After each step the pool's figures are the model's; a call that the
 * model refuses throws a KvferryError and changes nothing; a generation never comes back for a block.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { KvferryError } from "../../transport/errors.ts";
import type { Blocks, Pool } from "../../transport/memory/pool.ts";
import { type Handle, PoolModel } from "./pool-model.ts";
import { FakeProcesses, keysOf, openPool, plainRegion } from "./regions.ts";

const MiB = 1024 * 1024;
const BLOCKS = 6;
const BLOCK_BYTES = Math.floor((MiB - 80 * 1024) / BLOCKS);
const KEYS = 3;

/** Numbers are taken modulo what there is to choose from, so that shrinking keeps a sequence meaningful. */
type Step =
  | { readonly kind: "addHolder" | "kill" | "removeHolder" | "endFormer" | "restart"; readonly which: number }
  | { readonly kind: "alloc"; readonly which: number; readonly count: number }
  | { readonly kind: "publish"; readonly which: number; readonly picks: readonly number[] }
  | BatchStep
  | { readonly kind: "unpin"; readonly which: number; readonly picks: readonly number[] }
  | { readonly kind: "lease"; readonly which: number; readonly picks: readonly number[]; readonly prefix: boolean };

interface BatchStep {
  readonly kind: "free" | "beginSeal" | "abortSeal" | "release" | "pin" | "discard" | "seal" | "check";
  readonly which: number;
  readonly picks: readonly number[];
}

interface Expectation {
  readonly ok: boolean;
  readonly call: () => void;
  readonly change: (block: number) => void;
}

class World {
  readonly processes = new FakeProcesses();
  readonly region = plainRegion(MiB);
  readonly model = new PoolModel(BLOCKS);
  readonly given: Handle[] = [];
  readonly pinned: Handle[] = [];
  readonly seen = new Set<string>();
  readonly dead = new Set<number>();
  pool: Pool;
  evicted: number[];

  constructor() {
    ({ pool: this.pool, evicted: this.evicted } = openPool(this.region, BLOCK_BYTES, this.processes));
    assert.equal(this.pool.blockCount, BLOCKS);
  }

  run(step: Step): void {
    const holders = [...this.model.holders.keys()];
    const holder = holders.length > 0 ? holders[step.which % holders.length]! : 999;
    switch (step.kind) {
      case "addHolder":
        return this.#addHolder(step.which % 4);
      case "removeHolder":
        this.pool.removeHolder(holder);
        return this.#removeFromModel(holder);
      case "kill":
        return this.#kill(1 + (step.which % 3));
      case "endFormer":
        return this.#endFormer(step.which);
      case "restart":
        return this.#restart();
      case "alloc":
        return this.#alloc(holder, step.count);
      case "publish":
        return this.#publish(holder, step.picks);
      case "lease":
        return this.#lease(holder, step.picks, step.prefix);
      case "unpin":
        return this.#unpin(step.which);
      default:
        return this.#batch(step.kind, holder, step.picks);
    }
  }

  compare(): void {
    const { model } = this;
    const stats = this.pool.stats();
    assert.equal(stats.free, model.count("free"));
    assert.equal(stats.held, model.count("held", "sealing", "ending"));
    assert.equal(stats.published, model.count("published"));
    assert.equal(stats.quarantined, model.count("quarantined"));
    assert.equal(stats.leased, model.blocks.filter((block) => block.state === "published" && block.leases.size > 0).length);
    assert.equal(stats.pinned, model.blocks.filter((block) => block.pins > 0).length);
    for (let key = 0; key < KEYS; key++) assert.equal(this.pool.lookup(keysOf([key]), 0), model.find(key) >= 0 ? 1 : 0);
  }

  #addHolder(processId: number): void {
    if (this.dead.has(processId)) return;
    const holder = this.pool.nextHolder;
    this.pool.addHolder(holder, processId);
    this.model.holders.set(holder, processId);
  }

  /** The server removes the holders of a process when it learns of its death; the pool itself watches the former ones. */
  #kill(processId: number): void {
    this.dead.add(processId);
    this.processes.kill(processId);
    for (const [holder, process] of this.model.former) if (process === processId) this.model.endFormer(holder);
    for (const [holder, process] of this.model.holders) {
      if (process !== processId) continue;
      this.pool.removeHolder(holder);
      this.#removeFromModel(holder);
    }
  }

  #endFormer(which: number): void {
    const former = [...this.model.former];
    const [holder, processId] = former[which % Math.max(former.length, 1)] ?? [999, 1];
    assert.equal(this.pool.endFormerHolder(holder, processId), this.model.former.has(holder));
    this.model.endFormer(holder);
  }

  #restart(): void {
    this.pool.close();
    const { pool, evicted } = openPool(this.region, BLOCK_BYTES, this.processes);
    this.pool = pool;
    this.evicted = evicted;
    this.pinned.length = 0;
    this.model.restart((processId) => processId > 0 && !this.dead.has(processId));
    assert.equal(pool.adopted.damaged, 0);
    assert.equal(pool.adopted.livingHolders, this.model.former.size);
  }

  #alloc(holder: number, count: number): void {
    const { model } = this;
    const free = model.count("free");
    const ok = model.holders.has(holder) && count <= free + model.idle.length;
    const blocks = this.#attempt(ok, () => this.pool.alloc(holder, count));
    if (blocks === undefined) return;
    const evictions = Math.max(count - free, 0);
    assert.deepEqual(this.evicted.splice(0), model.idle.slice(0, evictions));
    for (const at of model.idle.slice(0, evictions)) model.end(at);
    for (const handle of handlesOf(blocks)) {
      const block = model.blocks[handle.block]!;
      assert.equal(block.state, "free", "a block is given to one holder");
      assert.equal(block.generation, handle.generation);
      assert.ok(!this.seen.has(`${handle.block}.${handle.generation}`), "a generation never comes back");
      this.seen.add(`${handle.block}.${handle.generation}`);
      block.state = "held";
      block.holder = holder;
      this.given.push(handle);
    }
  }

  /** All of the way at once: single steps seldom find it, and most of what can go wrong comes after it. */
  #publish(holder: number, picks: readonly number[]): void {
    const before = this.given.length;
    this.#alloc(holder, picks.length);
    const handles = this.given.slice(before);
    if (handles.length === 0) return;
    this.#batchOf("beginSeal", holder, handles);
    this.#seal(handles, picks);
  }

  #lease(holder: number, picks: readonly number[], prefix: boolean): void {
    const { model } = this;
    const keys = picks.map((pick) => pick % KEYS);
    const missing = keys.findIndex((key) => model.find(key) < 0);
    const found = missing < 0 ? keys : keys.slice(0, missing);
    const ok = model.holders.has(holder) && (prefix || found.length === keys.length);
    const blocks = this.#attempt(ok, () => this.pool.lease(holder, keysOf(keys), 0, prefix));
    if (blocks === undefined) return;
    assert.deepEqual(
      [...blocks.ids],
      found.map((key) => model.find(key)),
    );
    for (const handle of handlesOf(blocks)) {
      model.lease(handle.block, holder);
      this.given.push(handle);
    }
  }

  #unpin(which: number): void {
    if (this.pinned.length === 0) return;
    const [handle] = this.pinned.splice(which % this.pinned.length, 1);
    this.pool.unpin(blocksOf([handle!]));
    this.model.blocks[handle!.block]!.pins--;
    this.model.settle(handle!.block);
  }

  #batch(kind: BatchStep["kind"], holder: number, picks: readonly number[]): void {
    if (this.given.length === 0) return;
    // Recent handles are likelier to be good, and old ones must be refused: both are among the picks.
    let handles = picks.map((pick) => this.given[this.given.length - 1 - (pick % this.given.length)]!);
    if (kind === "discard" && picks[0]! % 2 === 0) handles = this.#published().slice(0, 1);
    if (kind === "seal") this.#seal(handles, picks);
    else this.#batchOf(kind, holder, handles);
  }

  #batchOf(kind: Exclude<BatchStep["kind"], "seal">, holder: number, handles: readonly Handle[]): void {
    const { ok, call, change } = this.#expect(kind, holder, handles, blocksOf(handles));
    this.#apply(ok, call, handles, change);
  }

  /** What the model says of a batch: whether it is in order, and what it changes about each block. */
  #expect(kind: Exclude<BatchStep["kind"], "seal">, holder: number, handles: readonly Handle[], blocks: Blocks): Expectation {
    const { model, pool } = this;
    const known = model.holders.has(holder);
    const state = (name: "held" | "sealing") => (at: number) => {
      model.blocks[at]!.state = name;
    };
    switch (kind) {
      case "free":
        return { ok: known && model.allIn(handles, "held", holder), call: () => pool.free(holder, blocks), change: (at) => model.end(at) };
      case "beginSeal":
        return { ok: known && model.allIn(handles, "held", holder), call: () => pool.beginSeal(holder, blocks), change: state("sealing") };
      case "abortSeal":
        return { ok: known && model.allIn(handles, "sealing", holder), call: () => pool.abortSeal(holder, blocks), change: state("held") };
      case "discard": {
        // Blocks that another reader has discarded are no error, and stay as they are.
        const left = handles.filter((handle) => !model.isCurrent(handle) || model.blocks[handle.block]!.state !== "ending");
        const change = (at: number): void => {
          if (model.blocks[at]!.state === "published") model.end(at);
        };
        return { ok: model.allIn(left, "published", undefined), call: () => pool.discard(blocks), change };
      }
      case "pin":
        return { ok: handles.every((handle) => this.#isMovable(handle)), call: () => pool.pin(blocks), change: (at) => this.#pin(at) };
      case "release":
        return {
          ok: known && this.#areLeased(handles, holder),
          call: () => pool.release(holder, blocks),
          change: (at) => model.unlease(at, holder, 1),
        };
      case "check":
        return {
          ok: known && handles.every((handle) => this.#isMovable(handle) && this.#isIn(handle, holder)),
          call: () => pool.check(holder, blocks),
          change: () => {},
        };
    }
  }

  #pin(at: number): void {
    const block = this.model.blocks[at]!;
    this.model.use(at);
    block.pins++;
    this.pinned.push({ block: at, generation: block.generation });
  }

  #seal(handles: readonly Handle[], picks: readonly number[]): void {
    const { model } = this;
    const keys = picks.map((pick) => (pick >> 3) % KEYS);
    let at = 0;
    const seal = (): void => this.pool.seal(blocksOf(handles), keysOf(keys), new Uint32Array(keys.length), 0, 1);
    this.#apply(model.allIn(handles, "sealing", undefined), seal, handles, (block) => {
      const key = keys[at++]!;
      if (model.find(key) >= 0) return model.end(block);
      Object.assign(model.blocks[block]!, { state: "published", holder: 0, key });
      model.settle(block);
    });
  }

  #apply(ok: boolean, call: () => void, handles: readonly Handle[], change: (block: number) => void): void {
    const done = this.#attempt(ok, () => {
      call();
      return true;
    });
    if (done) for (const handle of handles) change(handle.block);
  }

  #attempt<Result>(ok: boolean, call: () => Result): Result | undefined {
    try {
      const result = call();
      assert.ok(ok, "the model refuses this");
      return result;
    } catch (error) {
      if (!(error instanceof KvferryError)) throw error;
      assert.ok(!ok, `the model allows this: ${error.message}`);
      return undefined;
    }
  }

  #isMovable(handle: Handle): boolean {
    return this.model.isCurrent(handle) && ["held", "sealing", "published"].includes(this.model.blocks[handle.block]!.state);
  }

  #isIn(handle: Handle, holder: number): boolean {
    const block = this.model.blocks[handle.block]!;
    return block.holder === holder || block.leases.has(holder);
  }

  #areLeased(handles: readonly Handle[], holder: number): boolean {
    return handles.every((handle) => {
      const wanted = handles.filter((other) => other.block === handle.block).length;
      return this.model.isCurrent(handle) && (this.model.blocks[handle.block]!.leases.get(holder) ?? 0) >= wanted;
    });
  }

  /** Leased ones first: what is discarded under a reader is the rare case that random picks seldom find. */
  #published(): Handle[] {
    const blocks = [...this.model.blocks.entries()].filter(([, block]) => block.state === "published");
    blocks.sort(([, one], [, other]) => other.leases.size - one.leases.size);
    return blocks.map(([at, { generation }]) => ({ block: at, generation }));
  }

  #removeFromModel(holder: number): void {
    if (this.model.holders.has(holder)) this.model.removeHolder(holder);
  }
}

function blocksOf(handles: readonly Handle[]): Blocks {
  return { ids: Uint32Array.from(handles, ({ block }) => block), generations: Uint32Array.from(handles, ({ generation }) => generation) };
}

function handlesOf(blocks: Blocks): Handle[] {
  return [...blocks.ids].map((block, at) => ({ block, generation: blocks.generations[at]! }));
}

const which = fc.nat(11);
const picks = fc.array(fc.oneof({ weight: 2, arbitrary: fc.nat(2) }, fc.nat(31)), { minLength: 1, maxLength: 3 });
/** Each kind of step as often as its number says: what ends things must not end them before they have begun. */
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ kind: fc.constant("alloc" as const), which, count: fc.nat(4) }) },
  { weight: 8, arbitrary: fc.record({ kind: fc.constant("publish" as const), which, picks }) },
  { weight: 8, arbitrary: fc.record({ kind: fc.constant("lease" as const), which, picks, prefix: fc.boolean() }) },
  {
    weight: 24,
    arbitrary: fc.record({
      kind: fc.constantFrom(
        "free",
        "beginSeal",
        "beginSeal",
        "seal",
        "seal",
        "abortSeal",
        "release",
        "release",
        "pin",
        "unpin",
        "discard",
        "check",
      ),
      which,
      picks,
    }),
  },
  { weight: 4, arbitrary: fc.record({ kind: fc.constantFrom("addHolder", "addHolder", "removeHolder", "endFormer"), which }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("restart" as const), which }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("kill" as const), which }) },
);

test("the pool does what the model does", () => {
  const reached = new Map<string, number>();
  const life = fc.array(step, { minLength: 20, maxLength: 120, size: "max" });
  fc.assert(
    fc.property(life, (steps) => {
      const world = new World();
      world.run({ kind: "addHolder", which: 1 });
      world.run({ kind: "addHolder", which: 2 });
      for (const one of steps) {
        world.run(one);
        world.compare();
        for (const block of world.model.blocks) {
          const name = block.leases.has(-1) ? "kept for former readers" : block.pins > 0 ? `${block.state}, pinned` : block.state;
          reached.set(name, (reached.get(name) ?? 0) + 1);
        }
      }
    }),
    { numRuns: 1_000 },
  );
  // A property that never gets anywhere proves nothing: the steps must have reached every kind of state.
  const wanted = [
    "held",
    "sealing",
    "published",
    "quarantined",
    "ending",
    "ending, pinned",
    "published, pinned",
    "kept for former readers",
  ];
  for (const state of wanted) assert.ok((reached.get(state) ?? 0) > 0, `${state} was never reached`);
});
