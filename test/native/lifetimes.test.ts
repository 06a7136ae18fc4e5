/**
 * Native handles: closed twice, closed while threads work, left behind by a worker that exits, forgotten to the garbage collector.
 * Method: do it and live; the sanitizer builds (npm run test:sanitize) watch the same tests.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { Worker } from "node:worker_threads";
import { createJobs } from "../../transport/memory/jobs.ts";
import { attachRegion, createPoolRegion, privateRegion } from "../../transport/memory/region.ts";
import { hostProcesses } from "../../transport/memory/liveness.ts";
import { native, nativeProblem } from "../../transport/native.ts";

const skip = native === undefined ? `no addon: ${nativeProblem}` : false;
const MiB = 1 << 20;
const scratch = mkdtempSync(join(tmpdir(), "kvferry-lifetimes-"));
test.after(() => rmSync(scratch, { recursive: true, force: true }));

const pool = (name: string, extra = {}) =>
  createPoolRegion({ name, bytes: MiB, directory: scratch, hugePages: "auto", numaNode: -1, temporary: true, ...extra });
const flat = { blockList: 0, offset: 0, tokens: 1, tokenStride: 0, heads: 1, headStride: 0, channels: 1, channelStride: 0, firstToken: 0 };

test("a pool is one owner's at a time, and its memory is another's to attach", { skip }, async () => {
  const region = await pool("shared");
  region.view[5] = 42;
  await assert.rejects(pool("shared"), { code: "memory_unavailable" });
  const attached = attachRegion(region.path, MiB);
  assert.equal(attached.view[5], 42);
  attached.view[6] = 43;
  assert.equal(region.view[6], 43);
  attached.close();
  attached.close();
  region.close();
  region.close();
  assert.equal(existsSync(region.path), false);
  const again = await pool("shared");
  again.close();
});

test("a pool that is kept is found again with what it held", { skip }, async () => {
  const first = await pool("kept", { temporary: false });
  first.view[MiB - 1] = 9;
  first.close();
  const second = await pool("kept");
  assert.equal(second.view[MiB - 1], 9);
  second.close();
});

test("places that cannot hold the pool are refused with the reason, and nothing is left there", { skip }, async () => {
  await assert.rejects(pool("huge", { bytes: 2 ** 42 }), { code: "memory_unavailable" });
  assert.equal(existsSync(join(scratch, `kvferry-${process.getuid?.()}-huge.pool`)), false);
  await assert.rejects(pool("nowhere", { directory: join(scratch, "missing") }), { code: "memory_unavailable" });
  const target = join(scratch, "target");
  writeFileSync(target, "");
  symlinkSync(target, join(scratch, `kvferry-${process.getuid?.()}-link.pool`));
  await assert.rejects(pool("link"), { code: "memory_unavailable" }, "no symbolic link is followed");
  await assert.rejects(pool("../escape"), { code: "invalid_argument" });
  assert.throws(() => attachRegion(join(scratch, "missing"), MiB), { code: "memory_unavailable" });
  assert.throws(() => attachRegion(target, MiB), { code: "memory_unavailable" }, "a file that is too short");
});

test("a view that outlives its region stays readable", { skip }, async () => {
  const region = await pool("outlived");
  region.view[0] = 1;
  const { view } = region;
  region.close();
  assert.equal(view[0], 1);
});

test("jobs closed in flight answer with closed, once each, and late calls throw", { skip }, async () => {
  const region = privateRegion(64 * MiB);
  const jobs = createJobs();
  const plane = { ...flat, blockStride: 64 * MiB, elementBytes: 64 * MiB };
  const answers: (string | undefined)[] = [];
  for (let job = 0; job < 8; job++) assert.ok(jobs.checksum(region, [plane], Uint32Array.of(0), (error) => answers.push(error?.code)));
  region.close();
  await jobs.close();
  await jobs.close();
  assert.equal(answers.length, 8);
  assert.ok(answers.every((code) => code === "closed" || code === undefined));
  assert.throws(() => jobs.checksum(region, [plane], Uint32Array.of(0), () => {}), { code: "closed" });
});

test("jobs on a closed region or outside of one are refused", { skip }, async () => {
  const region = privateRegion(MiB);
  const jobs = createJobs();
  const plane = { ...flat, blockStride: MiB, elementBytes: MiB };
  assert.throws(() => jobs.checksum(region, [plane], Uint32Array.of(1), () => {}), { code: "invalid_argument" });
  region.close();
  assert.throws(() => jobs.checksum(region, [plane], Uint32Array.of(0), () => {}), { code: "invalid_argument" });
  await jobs.close();
});

const BODY = `
  import { createJobs } from ${JSON.stringify(new URL("../../transport/memory/jobs.ts", import.meta.url).href)};
  import { createPoolRegion, privateRegion } from ${JSON.stringify(new URL("../../transport/memory/region.ts", import.meta.url).href)};
  import { hostProcesses } from ${JSON.stringify(new URL("../../transport/memory/liveness.ts", import.meta.url).href)};
  const options = { bytes: 16 << 20, directory: ${JSON.stringify(scratch)}, hugePages: "auto", numaNode: -1 };
  const name = process.env.POOL_NAME;
  const region = privateRegion(16 << 20);
  const pool = await createPoolRegion({ ...options, name: name + "-made" });
  const jobs = createJobs();
  const plane = { ...${JSON.stringify(flat)}, blockStride: 16 << 20, elementBytes: 16 << 20 };
  for (let job = 0; job < 20; job++) jobs.checksum(job % 2 ? region : pool, [plane], Uint32Array.of(0), () => {});
  const stream = (region) => ({ region, planes: [plane], blocks: Uint32Array.of(0) });
  jobs.copy(stream(region), stream(pool), () => {});
  const processes = hostProcesses();
  processes.watch(process.ppid, processes.startTicks(process.ppid), () => {});
  // Under way when the end comes.
  for (const number of [1, 2, 3]) void createPoolRegion({ ...options, name: name + number });
  process.exit(0);
`;

test("a worker that exits with everything open takes nothing down", { skip }, async () => {
  // Registers the TypeScript loader itself: a worker does not take --import.
  const loader = `import { register } from ${JSON.stringify(import.meta.resolve("tsx/esm/api"))}; register(); await import("./body.mts");`;
  const file = join(scratch, "worker.mjs");
  writeFileSync(file, loader);
  writeFileSync(join(scratch, "body.mts"), BODY);
  for (let round = 0; round < 3; round++) {
    const worker = new Worker(new URL(`file://${file}`), { execArgv: [], env: { ...process.env, POOL_NAME: `worker-${round}` } });
    const code = await new Promise((resolve, reject) => worker.on("exit", resolve).on("error", reject));
    assert.equal(code, 0);
  }
  // What the workers had locked is free again.
  const region = await pool("worker-0-made", { bytes: 16 * MiB });
  region.close();
});

test("a worker that is terminated in the middle of it takes nothing down", { skip }, async () => {
  const file = join(scratch, "worker.mjs");
  for (let round = 0; round < 3; round++) {
    const worker = new Worker(new URL(`file://${file}`), { execArgv: [], env: { ...process.env, POOL_NAME: `terminated-${round}` } });
    await new Promise((resolve) => worker.once("online", resolve));
    await new Promise((resolve) => setTimeout(resolve, 150 * round));
    await worker.terminate();
  }
});

test("a process that ends with everything open ends in order", { skip }, async () => {
  const file = join(scratch, "process.mts");
  writeFileSync(file, BODY);
  const child = spawn(process.execPath, ["--import", import.meta.resolve("tsx"), file], {
    env: { ...process.env, POOL_NAME: "process" },
    stdio: ["ignore", "inherit", "inherit"],
  });
  const [code, signal] = await once(child, "exit");
  assert.deepEqual([code, signal], [0, null]);
});

test("handles that are forgotten are closed, their memory given back", { skip }, async () => {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  const mapped = (): number =>
    readFileSync("/proc/self/maps", "utf8")
      .split("\n")
      .filter((line) => line.includes("-forgotten.pool")).length;
  let path = "";
  await (async () => {
    const region = await pool("forgotten", { temporary: false });
    attachRegion(region.path, MiB).view[0] = 1;
    privateRegion(MiB);
    path = region.path;
    assert.equal(mapped(), 2);
  })();
  for (let round = 0; round < 50 && mapped() > 0; round++) {
    await new Promise((resolve) => setImmediate(resolve));
    collect();
  }
  assert.equal(mapped(), 0);
  rmSync(path);
});

test("the end of a process is told once; a watch that was closed tells nothing", { skip }, async () => {
  const processes = hostProcesses();
  const child = spawn("sleep", ["60"]);
  const { pid } = child;
  assert.ok(pid !== undefined);
  const ticks = processes.startTicks(pid);
  assert.ok(ticks > 0);
  let closedTold = 0;
  const stop = processes.watch(pid, ticks, () => closedTold++);
  stop();
  let told = 0;
  const gone = new Promise<void>((resolve) => {
    processes.watch(pid, ticks, () => {
      told++;
      resolve();
    });
  });
  child.kill("SIGKILL");
  await gone;
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.deepEqual([told, closedTold], [1, 0]);
  const reused = new Promise<void>((resolve) => void processes.watch(process.pid, 1, resolve));
  await reused;
});
