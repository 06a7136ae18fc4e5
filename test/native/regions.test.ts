/**
 * Pools and attached files where something is wrong with the place, the file or its user: a typed error or a harmless
 * outcome, never a signal.
 * Method: real files in a temporary folder; a small tmpfs in a mount namespace of its own, or mounted by root, where the host lets us have one;
 * everywhere, places that lack more room than any host has.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { chownSync, mkdtempSync, readdirSync, readFileSync, rmSync, statfsSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import test, { type TestContext } from "node:test";
import { limits } from "../../transport/limits.ts";
import { createFakeLink } from "../../transport/link/fake.ts";
import type { PlacementSpec } from "../../transport/link/link.ts";
import { attachRegion, createPoolRegion, type PoolRegion, type PoolRegionOptions, privateRegion } from "../../transport/memory/region.ts";
import { native, nativeProblem } from "../../transport/native.ts";

const skip = native === undefined ? `no addon: ${nativeProblem}` : false;
const MiB = 1 << 20;
const scratch = mkdtempSync(join(tmpdir(), "kvferry-regions-"));
test.after(() => rmSync(scratch, { recursive: true, force: true }));

function open(t: TestContext, name: string, extra: Partial<PoolRegionOptions> = {}): Promise<PoolRegion> {
  const opening = createPoolRegion({ name, bytes: MiB, directory: scratch, hugePages: "auto", numaNode: -1, ...extra });
  t.after(async () => {
    const region = await opening.catch(() => undefined);
    region?.close();
    if (region !== undefined) rmSync(region.path, { force: true });
  });
  return opening;
}

test("a name that another owner has is refused, wherever else there would be room", { skip }, async (t) => {
  const name = `taken-${process.pid}`;
  const options = { name, bytes: 1 << 20, directory: "", hugePages: "off", numaNode: -1, temporary: true } as const;
  const first = await createPoolRegion(options);
  t.after(() => first.close());
  await assert.rejects(createPoolRegion(options), { code: "memory_unavailable", message: /another node has this pool's name/ });
});

test("a pool of another size is a new file: who has the old one mapped keeps what he sees", { skip }, async (t) => {
  const first = await open(t, "resized", { bytes: 4 * MiB });
  first.view.fill(7);
  const engine = attachRegion(first.path, 4 * MiB);
  first.close();
  const second = await open(t, "resized", { bytes: MiB });
  assert.equal(statSync(second.path).size, MiB);
  assert.ok(
    second.view.every((byte) => byte === 0),
    "nothing of the old pool is left",
  );
  assert.equal(engine.view[4 * MiB - 1], 7);
  engine.view[4 * MiB - 1] = 8;
  engine.close();
});

test("a pool's file belongs to its user alone and is wholly backed", { skip }, async (t) => {
  const region = await open(t, "backed", { bytes: 8 * MiB });
  const found = statSync(region.path);
  assert.equal(found.mode & 0o777, 0o600);
  assert.ok(found.blocks * 512 >= 8 * MiB);
});

test("a region that is closed gives its pool up at once, though a view of it lives", { skip }, async (t) => {
  const first = await open(t, "given-up");
  const { view } = first;
  view[3] = 3;
  first.close();
  const second = await open(t, "given-up");
  assert.deepEqual([view[3], second.view[3]], [3, 3]);
});

test("what is attached read-only cannot be changed through its view, nor be the target of a copy", { skip }, async (t) => {
  const pool = await open(t, "read-only");
  pool.view[0] = 1;
  const attached = attachRegion(pool.path, MiB, { readOnly: true });
  assert.equal(attached.view[0], 1);
  pool.view[1] = 2;
  assert.equal(attached.view[1], 2);
  attached.view[0] = 99;
  assert.equal(pool.view[0], 1);
  const addon = native;
  assert.ok(addon !== undefined);
  const jobs = new addon.NativeJobs(1, 1, () => {});
  const plane = Float64Array.of(0, 0, 4_096, 1, 0, 1, 0, 1, 0, 4_096, 0);
  const block = Uint32Array.of(0);
  assert.throws(() => jobs.copy(1, pool.nativeId, plane, block, attached.nativeId, plane, block));
  assert.ok(jobs.copy(1, attached.nativeId, plane, block, pool.nativeId, plane, block));
  jobs.close();
  const link = createFakeLink({ onWake: () => {} });
  t.after(() => link.close());
  const connection = link.dial({ host: "nobody", port: 1 }, 1_000);
  const shape = { offset: 0, blockStride: 4_096, tokens: 1, tokenStride: 0, heads: 1, headStride: 0, channels: 1, channelStride: 0 };
  const spec: Omit<PlacementSpec, "direction"> = {
    connection,
    grant: 1,
    generation: 1,
    region: attached,
    planes: [{ ...shape, blockList: 0, elementBytes: 4_096, firstToken: 0 }],
    blockLists: [block],
    chunks: [{ plane: 0, start: 0, bytes: 4_096 }],
    checksum: true,
  };
  assert.throws(() => link.place({ ...spec, direction: "in" }), { code: "invalid_argument" });
  assert.throws(() => link.place({ ...spec, direction: "out" }), { code: "connection_lost" }, "to send from it there is but no peer");
  attached.close();
});

test("huge pages are reported as they were got; demanded in vain, they are an error that harms no pool", { skip }, async (t) => {
  const usual = await open(t, "huge", { hugePages: "off" });
  assert.equal(usual.hugePages, false);
  usual.view[0] = 5;
  usual.close();
  const demanded = open(t, "huge", { hugePages: "on" });
  const outcome = await demanded.then(
    (region) => region.hugePages,
    (error: { code?: string }) => error.code,
  );
  assert.ok(outcome === true || outcome === "memory_unavailable", String(outcome));
  if (outcome !== true) assert.equal((await open(t, "huge")).view[0], 5);
});

test("a pool lies on the NUMA node that was asked for, or there is none", { skip }, async (t) => {
  await assert.rejects(open(t, "node", { numaNode: 1_000 }), { code: "memory_unavailable", message: /no NUMA node 1000/ });
  const outcome = await open(t, "node-0", { numaNode: 0 }).then(
    (region) => region.numaNode,
    (error: { code?: string }) => error.code,
  );
  assert.ok(outcome === 0 || outcome === "memory_unavailable", String(outcome));
  await assert.rejects(open(t, "node-absurd", { numaNode: 5_000 }), { code: "invalid_argument" });
});

test("what is no file of this user's, or too short, or a pipe, is not attached", { skip }, (t) => {
  const pipe = join(scratch, "pipe");
  if (spawnSync("mkfifo", [pipe]).status === 0) assert.throws(() => attachRegion(pipe, 4_096), { code: "memory_unavailable" });
  else t.diagnostic("no mkfifo here");
  assert.throws(() => attachRegion(scratch, 4_096), { code: "memory_unavailable" });
  assert.throws(() => attachRegion("/proc/self/mem", 4_096, { readOnly: true }), { code: "memory_unavailable" });
  assert.throws(() => attachRegion("relative", 4_096), { code: "invalid_argument" });
  assert.throws(() => attachRegion(`${scratch}/a\0b`, 4_096), { code: "invalid_argument" });
  const short = join(scratch, "short");
  writeFileSync(short, new Uint8Array(4_095));
  assert.throws(() => attachRegion(short, 4_096), { code: "memory_unavailable" });
  if (process.getuid?.() !== 0) return;
  writeFileSync(short, new Uint8Array(4_096));
  chownSync(short, 12_345, 12_345);
  assert.throws(() => attachRegion(short, 4_096), { code: "memory_unavailable" });
});

test("holes of an attached file are backed first", { skip }, () => {
  const sparse = join(scratch, "sparse");
  writeFileSync(sparse, "");
  truncateSync(sparse, 4 * MiB);
  const region = attachRegion(sparse, 4 * MiB);
  assert.ok(statSync(sparse).blocks * 512 >= 4 * MiB);
  region.view[4 * MiB - 1] = 1;
  assert.equal(readFileSync(sparse)[4 * MiB - 1], 1);
  region.close();
});

test("a caller's buffer is held while it is a region, wherever it lies in its memory", { skip }, () => {
  const whole = new Uint8Array(3 * 4_096);
  const part = privateRegion(whole.subarray(4_096, 2 * 4_096));
  assert.equal(part.bytes, 4_096);
  try {
    structuredClone(whole.buffer, { transfer: [whole.buffer] });
  } catch (error) {
    // Newer versions of Node refuse; older ones copy.
    assert.ok(error instanceof DOMException);
  }
  assert.equal(whole.byteLength, 3 * 4_096);
  part.close();
  part.close();
  const shared = privateRegion(new Uint8Array(new SharedArrayBuffer(4_096)));
  shared.close();
  assert.throws(() => privateRegion(new Uint8Array(0)), { code: "invalid_argument" });
  const resizable = Reflect.construct(ArrayBuffer, [4_096, { maxByteLength: 8_192 }]) as ArrayBuffer;
  assert.throws(() => privateRegion(new Uint8Array(resizable)), { code: "invalid_argument" });
});

test("a memory file system that is too small is an error at the start, and another place is taken", { skip }, (t) => {
  const module = new URL("../../transport/memory/region.ts", import.meta.url).href;
  const script = `
    import { spawnSync } from "node:child_process";
    import { createPoolRegion } from ${JSON.stringify(module)};
    if (spawnSync("mount", ["-t", "tmpfs", "-o", "size=4m,mode=1777", "tiny", "/dev/shm"]).status !== 0) process.exit(77);
    const options = { name: "tiny", hugePages: "off", numaNode: -1 };
    const told = await createPoolRegion({ ...options, bytes: 8 << 20, directory: "/dev/shm" }).catch((error) => error.code);
    const elsewhere = await createPoolRegion({ ...options, bytes: 8 << 20, directory: "", temporary: true });
    elsewhere.view.fill(1);
    const fits = await createPoolRegion({ ...options, name: "fits", bytes: 2 << 20, directory: "/dev/shm" });
    fits.view.fill(1);
    const second = await createPoolRegion({ ...options, name: "second", bytes: 3 << 20, directory: "/dev/shm" })
      .catch((error) => error.code);
    console.log(JSON.stringify([told, elsewhere.path.startsWith("/dev/shm"), fits.path.startsWith("/dev/shm"), second]));
    elsewhere.close();
  `;
  const file = join(scratch, "tiny.mts");
  writeFileSync(file, script);
  const command = ["-rm", process.execPath, "--import", import.meta.resolve("tsx"), file];
  const ran = spawnSync("unshare", command, { encoding: "utf8", timeout: 60_000 });
  if (ran.error !== undefined || ran.status === 77 || ran.stderr.startsWith("unshare:")) {
    const why = ran.error?.message ?? (ran.status === 77 ? "mount was refused inside" : ran.stderr.trim());
    t.skip(`no mount namespace to be had here: ${why}`);
    return;
  }
  assert.equal(ran.status, 0, ran.stderr);
  assert.deepEqual(JSON.parse(ran.stdout), ["memory_unavailable", false, true, "memory_unavailable"]);
});

test("a small tmpfs of root's: an error at the start, nothing left in it, and another place is taken", { skip }, async (t) => {
  const small = mkdtempSync(join(scratch, "small-"));
  const mounted = spawnSync("mount", ["-t", "tmpfs", "-o", "size=4m,mode=700", "kvferry-test", small], { encoding: "utf8" });
  if (mounted.status !== 0) {
    t.skip(`no tmpfs can be mounted here: ${mounted.error?.message ?? mounted.stderr.trim()}`);
    return;
  }
  t.after(() => spawnSync("umount", ["--lazy", small]));
  await assert.rejects(open(t, "small", { bytes: 8 * MiB, directory: small }), {
    code: "memory_unavailable",
    message: /the file system has 4 MiB/,
  });
  assert.deepEqual(readdirSync(small), []);
  const region = await opened(t, 8 * MiB, [small, scratch]);
  assert.equal(dirname(region.path), scratch);
  region.view.fill(1);
  const fits = await opened(t, 2 * MiB, [small, scratch]);
  assert.equal(dirname(fits.path), small);
  fits.view.fill(1);
});

test("places that cannot hold the pool are passed over; where none can, each is named with its reason", { skip }, async (t) => {
  const missing = join(scratch, "missing");
  const region = await opened(t, 2 * MiB, [missing, "/dev/null", scratch]);
  assert.equal(dirname(region.path), scratch);
  region.view.fill(1);
  const { bavail, bsize } = statfsSync("/dev/shm");
  // More than is free there: no page of it may be touched.
  const tooMuch = Math.min(Math.ceil((bavail * bsize) / MiB) * MiB + 1024 * MiB, limits.poolBytesMax);
  await assert.rejects(opened(t, tooMuch, [missing, "/dev/shm"]), (error: Error & { code: string }) => {
    assert.equal(error.code, "memory_unavailable");
    const [first, second] = error.message.split("; ");
    assert.match(first ?? "", /missing\/.*cannot be opened: No such file/);
    assert.match(second ?? "", /\/dev\/shm\/.*(the file system|the host|the control group) has \d+ MiB, \d+ MiB are needed/);
    return true;
  });
});

/** A pool in the first of these places that has room. */
function opened(t: TestContext, bytes: number, places: readonly string[]): Promise<PoolRegion> {
  const opening = createPoolRegion(
    { name: `placed-${bytes}`, bytes, directory: "", hugePages: "off", numaNode: -1, temporary: true },
    () => [...places],
  );
  t.after(async () => (await opening.catch(() => undefined))?.close());
  return opening;
}
