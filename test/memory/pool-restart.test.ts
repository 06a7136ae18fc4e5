/**
 * Decision 10 with real processes and real shared memory: an owner is killed with -9 while an engine lives. The next owner finds the
 * published block with its bytes, keeps the engine's blocks from everybody until the engine is dead, and hears of that from the kernel.
 */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { KvferryError } from "../../transport/errors.ts";
import { Pool } from "../../transport/memory/pool.ts";
import { createPoolRegion } from "../../transport/memory/region.ts";
import { native, nativeProblem } from "../../transport/native.ts";
import { keyOf, RESTART } from "./regions.ts";

const skip = native === undefined ? `no addon: ${nativeProblem}` : false;

test("a pool outlives its owner, and its writers keep what they hold", { skip }, async (t) => {
  const directory = mkdtempSync(join(tmpdir(), "kvferry-restart-"));
  t.after(() => rmSync(directory, { recursive: true }));
  const engine = spawn("sleep", ["60"]);
  t.after(() => engine.kill("SIGKILL"));
  const owner: ChildProcess = spawn(
    process.execPath,
    ["--import", "tsx", fileURLToPath(new URL("owner.ts", import.meta.url)), directory, String(engine.pid)],
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  t.after(() => owner.kill("SIGKILL"));
  await once(owner.stdout!, "data");

  const opening = createPoolRegion({ ...RESTART, directory });
  await assert.rejects(opening, (error) => error instanceof KvferryError && error.code === "memory_unavailable");
  owner.kill("SIGKILL");
  await once(owner, "exit");

  const region = await createPoolRegion({ ...RESTART, directory });
  t.after(() => region.close());
  const random = (bytes: number): Uint8Array => new Uint8Array(bytes).fill(10);
  const pool = new Pool({ name: "restart", region, blockBytes: 4096, random, nowUs: () => 0 }, { evicted() {} });
  t.after(() => pool.close());
  assert.deepEqual(pool.adopted, { fresh: false, published: 1, quarantined: 3, freed: 2, damaged: 0, livingHolders: 1, lostHolders: 0 });
  assert.equal(pool.lookup(keyOf(1), 0), 1);
  assert.ok(region.view.subarray(pool.dataOffset, pool.dataOffset + 4096).every((byte) => byte === 0x5a));

  engine.kill("SIGKILL");
  while (pool.stats().quarantined > 0) await new Promise((resolve) => setTimeout(resolve, 5));
  assert.equal(pool.stats().free, pool.blockCount - 1);
});
