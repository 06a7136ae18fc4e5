/**
 * A restart of the pool's owner: a second pool over the memory of the first, with some processes dead and some alive. Then the table is
 * damaged in every way that a killed owner or a scribbling engine could leave it, and the next owner must neither crash nor give away a
 * block that a living process may still write to.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { test } from "node:test";
import * as fc from "fast-check";
import { KvferryError } from "../../transport/errors.ts";
import { procStartTicks } from "../../transport/memory/liveness.ts";
import type { Region } from "../../transport/memory/region.ts";
import { FakeProcesses, keyOf, keysOf, openPool, plainRegion } from "./regions.ts";

const MiB = 1024 * 1024;
const BLOCK_BYTES = 110 * 1024;
const BLOCKS = 8;

function code(wanted: string): (error: unknown) => boolean {
  return (error) => error instanceof KvferryError && error.code === wanted;
}

/**
 * A pool of 8: key 1 published in block 0, key 2 published and leased by process 12, 2 blocks held by process 11, 1
 * by 12, 1 sealed by 11, 2 free.
 */
function used(processes: FakeProcesses): Region {
  const region = plainRegion(MiB);
  const { pool } = openPool(region, BLOCK_BYTES, processes);
  assert.equal(pool.blockCount, BLOCKS);
  pool.addHolder(1, 11);
  pool.addHolder(2, 12);
  const published = pool.alloc(1, 2);
  pool.beginSeal(1, published);
  pool.seal(published, keysOf([1, 2]), Uint32Array.of(77, 78), 0, 16);
  pool.lease(2, keyOf(2), 0, false);
  pool.alloc(1, 2);
  pool.alloc(2, 1);
  pool.beginSeal(1, pool.alloc(1, 1));
  return region;
}

test("what is published stays, what was being written waits for its writer's death", () => {
  const processes = new FakeProcesses();
  const region = used(processes);
  const { pool } = openPool(region, BLOCK_BYTES, processes);
  assert.deepEqual(pool.adopted, { fresh: false, published: 2, quarantined: 4, freed: 0, damaged: 0, livingHolders: 2, lostHolders: 0 });
  assert.deepEqual(pool.stats(), { ...pool.stats(), free: 2, published: 2, leased: 1, quarantined: 4 });
  pool.addHolder(pool.nextHolder, 0);
  const leased = pool.lease(3, keyOf(1), 0, false);
  assert.deepEqual([...pool.checksums(leased)], [77]);
  pool.release(3, leased);
  assert.throws(() => pool.alloc(3, 4), code("pool_exhausted"));
  processes.kill(11);
  assert.equal(pool.stats().quarantined, 1);
  assert.equal(pool.stats().leased, 1);
  processes.kill(12);
  assert.deepEqual(pool.stats(), { ...pool.stats(), free: 6, published: 2, leased: 0, quarantined: 0 });
  assert.equal(processes.watched, 0);
});

test("a former holder's own word ends its quarantine", () => {
  const processes = new FakeProcesses();
  const { pool } = openPool(used(processes), BLOCK_BYTES, processes);
  assert.equal(pool.endFormerHolder(1, 12), false);
  assert.equal(pool.endFormerHolder(1, 11), true);
  assert.equal(pool.endFormerHolder(1, 11), false);
  assert.equal(pool.stats().quarantined, 1);
});

test("blocks of holders that died with the owner are free at once", () => {
  const processes = new FakeProcesses();
  const region = used(processes);
  processes.kill(11);
  processes.kill(12);
  const { pool } = openPool(region, BLOCK_BYTES, processes);
  assert.deepEqual(pool.adopted, { fresh: false, published: 2, quarantined: 0, freed: 4, damaged: 0, livingHolders: 0, lostHolders: 0 });
  assert.equal(pool.nextHolder, 3);
  pool.addHolder(3, 0);
  const blocks = pool.alloc(3, 6);
  for (const [at, block] of blocks.ids.entries()) assert.equal(blocks.generations[at], block < 6 ? 2 : 1);
});

test("a quarantine survives further restarts", () => {
  const processes = new FakeProcesses();
  const region = used(processes);
  openPool(region, BLOCK_BYTES, processes);
  const again = openPool(region, BLOCK_BYTES, processes).pool;
  assert.deepEqual(again.adopted, { fresh: false, published: 2, quarantined: 4, freed: 0, damaged: 0, livingHolders: 2, lostHolders: 0 });
  assert.equal(again.stats().leased, 1);
  processes.kill(11);
  processes.kill(12);
  assert.equal(openPool(region, BLOCK_BYTES, processes).pool.stats().free, 6);
});

test("each owner has an incarnation of its own and the recorded layout", () => {
  const processes = new FakeProcesses();
  const region = plainRegion(MiB);
  const first = openPool(region, BLOCK_BYTES, processes).pool;
  first.setLayout(keyOf(9));
  first.addHolder(1, 11);
  first.alloc(1, 1);
  first.close();
  const second = openPool(region, BLOCK_BYTES, processes).pool;
  assert.notEqual(first.incarnation, second.incarnation);
  second.setLayout(keyOf(9));
  assert.throws(() => second.setLayout(keyOf(8)), code("layout_conflict"));
});

test("a pool of another shape is replaced only if nobody can write to it", () => {
  const processes = new FakeProcesses();
  const region = used(processes);
  assert.throws(() => openPool(region, 4096, processes), code("memory_unavailable"));
  processes.kill(11);
  processes.kill(12);
  const { pool } = openPool(region, 4096, processes);
  assert.equal(pool.adopted.fresh, true);
  assert.equal(pool.stats().free, pool.blockCount);
});

test("damaged headers: afresh if nobody lives, refused if somebody does", () => {
  const processes = new FakeProcesses();
  const region = used(processes);
  region.view[20]! ^= 1;
  // The other header slot is the one before the last change: still a pool.
  assert.equal(openPool(region, BLOCK_BYTES, processes).pool.adopted.fresh, false);
  region.view.fill(0xee, 0, 512);
  assert.throws(() => openPool(region, BLOCK_BYTES, processes), code("memory_unavailable"));
  processes.kill(11);
  processes.kill(12);
  assert.equal(openPool(region, BLOCK_BYTES, processes).pool.adopted.fresh, true);
});

test("a living owner keeps its pool", async () => {
  const region = plainRegion(MiB);
  const owner = spawn("sleep", ["60"]);
  try {
    const ticks = procStartTicks(owner.pid!);
    assert.ok(ticks > 0);
    const processes = new FakeProcesses();
    openPool(region, BLOCK_BYTES, { ...processes, startTicks: procStartTicks, watch: () => () => {} });
    // The header says this process; make it say that one, as if it had opened the pool.
    const { PoolTable, tableShape } = await import("../../transport/memory/pool-table.ts");
    const table = new PoolTable(region.view, tableShape(MiB, BLOCK_BYTES));
    table.writeHeader({ ...table.readHeader()!, ownerProcess: owner.pid!, ownerStartTicks: ticks });
    const real = { startTicks: procStartTicks, watch: () => () => {} };
    assert.throws(() => openPool(region, BLOCK_BYTES, real), code("memory_unavailable"));
    owner.kill("SIGKILL");
    await once(owner, "exit");
    assert.equal(openPool(region, BLOCK_BYTES, real).pool.adopted.fresh, false);
  } finally {
    owner.kill("SIGKILL");
  }
});

test("a holder whose slot is lost without a trace is still told of by its entries", () => {
  const processes = new FakeProcesses();
  const region = used(processes);
  region.view.fill(0, 4096, 4096 + 64);
  // One entry of a holder that nothing names any more, and one that nobody can read.
  region.view[ENTRIES_AT + 2 * 64]! ^= 1;
  const { pool } = openPool(region, BLOCK_BYTES, processes);
  assert.deepEqual(pool.adopted, { fresh: false, published: 2, quarantined: 4, freed: 0, damaged: 1, livingHolders: 0, lostHolders: 2 });
  assert.equal(openPool(region, BLOCK_BYTES, processes).pool.stats().quarantined, 4, "for further owners too");
});

test("any damage to the table: no crash, and no block that a living process was writing is given away", () => {
  const damage = fc.array(fc.record({ at: fc.nat(TABLE_END - 1), xor: fc.integer({ min: 1, max: 255 }) }), { minLength: 1, maxLength: 40 });
  fc.assert(
    fc.property(damage, fc.boolean(), (flips, dense) => {
      const processes = new FakeProcesses();
      const region = used(processes);
      // Half of the runs put all the damage where the entries and holders of this small pool are.
      for (const { at, xor } of flips) region.view[dense ? DENSE[at % DENSE.length]! : at]! ^= xor;
      let pool: ReturnType<typeof openPool>["pool"];
      try {
        pool = openPool(region, BLOCK_BYTES, processes).pool;
      } catch (error) {
        assert.ok(error instanceof KvferryError && error.code === "memory_unavailable");
        return;
      }
      const stats = pool.stats();
      assert.equal(stats.free + stats.held + stats.published + stats.quarantined, BLOCKS);
      const holder = pool.nextHolder;
      pool.addHolder(holder, 0);
      const given = new Set(pool.alloc(holder, stats.free).ids);
      assert.equal(given.size, stats.free);
      if (!pool.adopted.fresh) for (const block of [2, 3, 4, 5]) assert.ok(!given.has(block), `block ${block} is in use`);
    }),
    { numRuns: 2_000 },
  );
});

const ENTRIES_AT = 4096 + 2048 * 32;
const TABLE_END = ENTRIES_AT + BLOCKS * 64;
const DENSE = [...Array.from({ length: 64 }, (_, at) => 4096 + at), ...Array.from({ length: BLOCKS * 64 }, (_, at) => ENTRIES_AT + at)];
