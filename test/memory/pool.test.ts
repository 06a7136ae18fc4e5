/** The pool one behaviour at a time: each test makes a small pool in plain memory and reads what the next call says. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { KvferryError } from "../../transport/errors.ts";
import { limits } from "../../transport/limits.ts";
import { type Blocks, Pool } from "../../transport/memory/pool.ts";
import { FakeProcesses, keyOf, keysOf, openPool, plainRegion } from "./regions.ts";

const MiB = 1024 * 1024;

function small(blocks = 8): ReturnType<typeof openPool> {
  // The table takes 72 KiB; the rest of the region is cut into as many blocks as asked.
  const blockBytes = Math.floor((MiB - 80 * 1024) / blocks);
  const made = openPool(plainRegion(MiB), blockBytes, new FakeProcesses());
  assert.equal(made.pool.blockCount, blocks);
  return made;
}

function code(wanted: string): (error: unknown) => boolean {
  return (error) => error instanceof KvferryError && error.code === wanted;
}

function publish(pool: Pool, holder: number, numbers: number[]): Blocks {
  const blocks = pool.alloc(holder, numbers.length);
  pool.beginSeal(holder, blocks);
  pool.seal(
    blocks,
    keysOf(numbers),
    Uint32Array.from(numbers, (number) => number * 3),
    0,
    16,
  );
  return blocks;
}

test("a batch is given whole or not at all", () => {
  const { pool } = small(8);
  pool.addHolder(1, 0);
  const first = pool.alloc(1, 5);
  assert.deepEqual([...first.ids].sort(), [0, 1, 2, 3, 4]);
  assert.throws(() => pool.alloc(1, 4), code("pool_exhausted"));
  assert.equal(pool.stats().free, 3);
  assert.equal(pool.alloc(1, 3).ids.length, 3);
  assert.equal(pool.alloc(1, 0).ids.length, 0);
  assert.throws(() => pool.alloc(1, -1), code("invalid_argument"));
  assert.throws(() => pool.alloc(2, 1), code("invalid_argument"));
});

test("a batch that names one wrong block frees none", () => {
  const { pool } = small();
  pool.addHolder(1, 0);
  pool.addHolder(2, 0);
  const mine = pool.alloc(1, 3);
  const theirs = pool.alloc(2, 1);
  const mixed = { ids: Uint32Array.of(mine.ids[0]!, theirs.ids[0]!), generations: Uint32Array.of(1, 1) };
  assert.throws(() => pool.free(1, mixed), code("not_owner"));
  assert.throws(() => pool.free(1, { ids: Uint32Array.of(mine.ids[0]!, 99), generations: Uint32Array.of(1, 1) }), code("invalid_argument"));
  assert.throws(() => pool.free(1, { ids: mine.ids, generations: Uint32Array.of(1, 1, 2) }), code("generation_mismatch"));
  const twice = { ids: Uint32Array.of(mine.ids[0]!, mine.ids[0]!), generations: Uint32Array.of(1, 1) };
  assert.throws(() => pool.free(1, twice), code("invalid_argument"));
  assert.throws(() => pool.free(1, { ids: mine.ids, generations: Uint32Array.of(1) }), code("invalid_argument"));
  assert.equal(pool.stats().held, 4);
  pool.free(1, mine);
  assert.throws(() => pool.free(1, mine), code("generation_mismatch"));
  assert.equal(pool.stats().free, 7);
});

test("a free block's present generation, guessed, gives nothing", () => {
  const { pool } = small();
  pool.addHolder(1, 0);
  assert.throws(() => pool.free(1, { ids: Uint32Array.of(3), generations: Uint32Array.of(1) }), code("block_state"));
  assert.throws(() => pool.check(1, { ids: Uint32Array.of(3), generations: Uint32Array.of(1) }), code("block_state"));
  assert.throws(() => pool.pin({ ids: Uint32Array.of(3), generations: Uint32Array.of(1) }), code("block_state"));
});

test("sealing takes the block from its writer, and the first of two equal keys wins", () => {
  const { pool } = small();
  pool.addHolder(1, 0);
  const first = publish(pool, 1, [10, 11]);
  assert.throws(() => pool.free(1, first), code("block_state"));
  assert.throws(() => pool.check(1, first), code("not_owner"));
  assert.deepEqual([...pool.checksums(first)], [30, 33]);
  const second = publish(pool, 1, [11, 12, 12]);
  assert.deepEqual(pool.stats(), {
    ...pool.stats(),
    free: 5,
    held: 0,
    published: 3,
  });
  assert.throws(
    () => pool.checksums({ ids: second.ids.slice(0, 1), generations: second.generations.slice(0, 1) }),
    code("generation_mismatch"),
  );
  const leased = pool.lease(1, keysOf([10, 11, 12, 13]), 0, true);
  assert.deepEqual([...leased.ids], [first.ids[0], first.ids[1], second.ids[1]]);
});

test("a seal that is aborted gives the block back to its writer", () => {
  const { pool } = small();
  pool.addHolder(1, 0);
  pool.addHolder(2, 0);
  const blocks = pool.alloc(1, 2);
  pool.beginSeal(1, blocks);
  assert.throws(() => pool.free(1, blocks), code("block_state"));
  assert.throws(() => pool.beginSeal(1, blocks), code("block_state"));
  assert.throws(() => pool.abortSeal(2, blocks), code("not_owner"));
  pool.abortSeal(1, blocks);
  pool.free(1, blocks);
  assert.equal(pool.stats().free, 8);
});

test("a seal whose holder has gone meanwhile publishes nothing", () => {
  const { pool } = small();
  pool.addHolder(1, 0);
  const blocks = pool.alloc(1, 1);
  pool.beginSeal(1, blocks);
  pool.removeHolder(1);
  assert.throws(() => pool.seal(blocks, keyOf(1), Uint32Array.of(1), 0, 16), code("generation_mismatch"));
  assert.equal(pool.lookup(keyOf(1), 0), 0);
  assert.equal(pool.stats().free, 8);
});

test("keys are found in their group only, and only from the first on", () => {
  const { pool } = small();
  pool.addHolder(1, 0);
  publish(pool, 1, [1, 3]);
  assert.equal(pool.lookup(keysOf([1, 2, 3]), 0), 1);
  assert.equal(pool.lookup(keysOf([1, 3]), 0), 2);
  assert.equal(pool.lookup(keysOf([1]), 1), 0);
  assert.equal(pool.lookup(new Uint8Array(0), 0), 0);
  assert.throws(() => pool.lookup(new Uint8Array(33), 0), code("invalid_argument"));
  assert.throws(() => pool.lookup(keyOf(1), limits.groupsMax), code("invalid_argument"));
  assert.throws(() => pool.lease(1, keysOf([1, 2]), 0, false), code("key_not_found"));
  assert.equal(pool.stats().leased, 0);
});

test("published blocks without leases are evicted least recently used first, and told", () => {
  const clock = { nowUs: 0 };
  const { pool, evicted } = openPool(plainRegion(MiB), 220 * 1024, new FakeProcesses(), clock);
  assert.equal(pool.blockCount, 4);
  pool.addHolder(1, 0);
  const blocks = publish(pool, 1, [1, 2, 3, 4]);
  clock.nowUs = 500;
  pool.release(1, pool.lease(1, keyOf(1), 0, false));
  const held = pool.lease(1, keyOf(2), 0, false);
  clock.nowUs = 800;
  pool.alloc(1, 2);
  assert.deepEqual(evicted, [blocks.ids[2], blocks.ids[3]]);
  assert.equal(pool.stats().evictedIdleUs, 800);
  pool.alloc(1, 1);
  assert.deepEqual(evicted.slice(2), [blocks.ids[0]]);
  assert.equal(pool.stats().evictedIdleUs, 300);
  assert.throws(() => pool.alloc(1, 1), code("pool_exhausted"));
  pool.release(1, held);
  pool.alloc(1, 1);
  assert.equal(pool.stats().evictions, 4);
});

test("evictions of one call are told at once, by key, when the pool can be called again", () => {
  const told: { keys: string; blocks: number[]; held: number }[] = [];
  const region = plainRegion(MiB);
  const random = (bytes: number): Uint8Array => new Uint8Array(bytes);
  const pool: Pool = new Pool(
    { name: "test", region, blockBytes: 220 * 1024, random, nowUs: () => 0 },
    { evicted: (keys, blocks) => told.push({ keys: Buffer.from(keys).toString("hex"), blocks: [...blocks], held: pool.stats().held }) },
  );
  pool.addHolder(1, 0);
  publish(pool, 1, [1, 2, 3, 4]);
  pool.alloc(1, 2);
  pool.alloc(1, 1);
  assert.deepEqual(told, [
    { keys: Buffer.from(keysOf([1, 2])).toString("hex"), blocks: [0, 1], held: 2 },
    { keys: Buffer.from(keysOf([3])).toString("hex"), blocks: [2], held: 3 },
  ]);
});

test("a lease taken twice is released twice, and never once more", () => {
  const { pool } = small();
  pool.addHolder(1, 0);
  pool.addHolder(2, 0);
  publish(pool, 1, [1]);
  const leased = pool.lease(1, keyOf(1), 0, false);
  pool.lease(1, keyOf(1), 0, false);
  assert.throws(() => pool.release(2, leased), code("not_owner"));
  const thrice = { ids: Uint32Array.of(0, 0, 0), generations: Uint32Array.of(1, 1, 1) };
  assert.throws(() => pool.release(1, thrice), code("not_owner"));
  pool.check(1, leased);
  pool.release(1, { ids: thrice.ids.slice(1), generations: thrice.generations.slice(1) });
  assert.throws(() => pool.release(1, leased), code("not_owner"));
  assert.equal(pool.stats().leased, 0);
});

test("what a transfer has pinned outlives its holder, under the same generation", () => {
  const { pool } = small();
  pool.addHolder(1, 0);
  const blocks = pool.alloc(1, 2);
  pool.pin(blocks);
  pool.pin({ ids: blocks.ids.slice(0, 1), generations: blocks.generations.slice(0, 1) });
  pool.removeHolder(1);
  assert.deepEqual({ ...pool.stats() }, { ...pool.stats(), free: 6, held: 2, pinned: 2 });
  assert.throws(() => pool.pin(blocks), code("block_state"));
  pool.unpin(blocks);
  assert.equal(pool.stats().free, 7);
  pool.unpin({ ids: blocks.ids.slice(0, 1), generations: blocks.generations.slice(0, 1) });
  assert.equal(pool.stats().free, 8);
});

test("what a transfer fills is nobody else's until it has ended: not filled twice, not read, not published", () => {
  const { pool } = small();
  pool.addHolder(1, 0);
  pool.addHolder(2, 0);
  const blocks = pool.alloc(1, 2);
  const [first] = [{ ids: blocks.ids.slice(0, 1), generations: blocks.generations.slice(0, 1) }];
  const twice = { ids: Uint32Array.of(blocks.ids[0]!, blocks.ids[0]!), generations: Uint32Array.of(1, 1) };
  assert.throws(() => pool.fill(1, twice), code("invalid_argument"));
  assert.throws(() => pool.fill(2, blocks), code("not_owner"));
  pool.fill(1, blocks);
  assert.throws(() => pool.fill(1, first), code("block_state"));
  assert.throws(() => pool.pin(first), code("block_state"));
  assert.throws(() => pool.beginSeal(1, first), code("block_state"));
  pool.filled(blocks);
  pool.pin(first);
  assert.throws(() => pool.fill(1, first), code("block_state"), "what somebody reads is not written");
  pool.unpin(first);
  pool.fill(1, blocks);
  pool.free(1, blocks);
  assert.equal(pool.stats().free, 6);
  pool.filled(blocks);
  assert.equal(pool.stats().free, 8);
  const leased = publish(pool, 1, [7]) && pool.lease(2, keyOf(7), 0, false);
  assert.throws(() => pool.fill(2, leased), code("block_state"), "a lease is a right to read");
});

test("a broken seal's block is found no more and is free when its readers are done", () => {
  const { pool } = small();
  pool.addHolder(1, 0);
  const [block] = [publish(pool, 1, [1])];
  const leased = pool.lease(1, keyOf(1), 0, false);
  pool.discard(block);
  assert.equal(pool.lookup(keyOf(1), 0), 0);
  pool.discard(leased); // Another reader has found the same.
  assert.equal(pool.stats().free, 7);
  pool.release(1, leased);
  assert.equal(pool.stats().free, 8);
  publish(pool, 1, [1]);
  assert.equal(pool.lookup(keyOf(1), 0), 1);
});

test("another layout is refused while a block is in use, and evicts what the old one published", () => {
  const { pool, evicted } = small();
  pool.addHolder(1, 0);
  pool.setLayout(keyOf(1));
  pool.setLayout(keyOf(1));
  publish(pool, 1, [5]);
  const held = pool.alloc(1, 1);
  assert.throws(() => pool.setLayout(keyOf(2)), code("layout_conflict"));
  pool.free(1, held);
  pool.setLayout(keyOf(2));
  assert.equal(evicted.length, 1);
  assert.equal(pool.stats().free, 8);
});

test("a layout of fewer, larger blocks leaves the rest of the pool's blocks aside, until another layout has them again", () => {
  const { pool } = small();
  pool.addHolder(1, 0);
  const first = pool.alloc(1, 4);
  assert.throws(() => pool.setLayout(keyOf(1), 3), code("layout_conflict"));
  pool.free(1, first);
  pool.setLayout(keyOf(1), 3);
  assert.equal(pool.stats().free, 3);
  const three = pool.alloc(1, 3);
  assert.deepEqual([...three.ids].sort(), [0, 1, 2]);
  assert.throws(() => pool.alloc(1, 1), code("pool_exhausted"));
  pool.free(1, three);
  pool.setLayout(keyOf(2));
  assert.equal(pool.alloc(1, 8).ids.length, 8);
});

test("holders are bounded, unique, and their numbers never come back", () => {
  const { pool } = small();
  for (let holder = 1; holder <= limits.poolHoldersMax; holder++) pool.addHolder(holder, 0);
  assert.throws(() => pool.addHolder(pool.nextHolder, 0), code("full"));
  pool.removeHolder(1);
  pool.removeHolder(1);
  assert.throws(() => pool.addHolder(1, 0), code("invalid_argument"));
  pool.addHolder(pool.nextHolder, 0);
  assert.throws(() => pool.addHolder(0, 0), code("invalid_argument"));
});

test("a region too small for one block is refused", () => {
  assert.throws(() => openPool(plainRegion(MiB), MiB, new FakeProcesses()), code("memory_unavailable"));
  assert.throws(() => openPool(plainRegion(64 * 1024), 4096, new FakeProcesses()), code("memory_unavailable"));
});

test("a closed pool says so", () => {
  const { pool } = small();
  pool.addHolder(1, 0);
  pool.close();
  pool.close();
  assert.throws(() => pool.alloc(1, 1), code("closed"));
});
