/**
 * Buffers: memory that another process maps and that nobody can cut. What could be cut is refused, because touching what is gone is a signal.
 * Method: every way to make such memory, attached in this process and then cut; memfds of other kinds are made by Python, which has the call.
 */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import test, { type TestContext } from "node:test";
import { attachBufferRegion, createBufferRegion, createPoolRegion } from "../../transport/memory/region.ts";
import { native, nativeProblem } from "../../transport/native.ts";

const skip = native === undefined ? `no addon: ${nativeProblem}` : false;
const python = spawnSync("python3", ["-c", "import os; os.memfd_create"]).status === 0 ? skip : "no python3 that makes memfds";
const REFUSED = { code: "memory_unavailable", message: /could be cut/ };

test("a buffer is whole, shared by its path, and cannot be cut", { skip }, async () => {
  const buffer = await createBufferRegion(10_001);
  assert.equal(buffer.bytes, 10_001);
  const attached = attachBufferRegion(buffer.path, 10_001);
  attached.view[10_000] = 7;
  assert.equal(buffer.view[10_000], 7);
  assert.throws(() => truncateSync(buffer.path, 0), { code: "EPERM" });
  assert.throws(() => attachBufferRegion(buffer.path, 10_002), { code: "memory_unavailable" });
  attached.close();
  buffer.close();
  buffer.close();
  assert.throws(() => attachBufferRegion(buffer.path, 10_001), { code: "memory_unavailable" });
});

test("more memory than there is is refused, and so are sizes that are none", { skip }, async () => {
  await assert.rejects(createBufferRegion(2 ** 42), { code: "memory_unavailable" });
  for (const bytes of [0, -1, 0.5, 2 ** 53]) await assert.rejects(createBufferRegion(bytes), { code: "invalid_argument" });
  assert.throws(() => attachBufferRegion("relative", 1), { code: "invalid_argument" });
});

test("a file with a name can be cut by whoever may write it: it is no buffer, wherever it lies", { skip }, async (t) => {
  for (const folder of [tmpdir(), "/dev/shm"]) {
    const scratch = mkdtempSync(join(folder, "kvferry-buffers-"));
    t.after(() => rmSync(scratch, { recursive: true, force: true }));
    const path = join(scratch, "file");
    writeFileSync(path, new Uint8Array(4_096));
    assert.throws(() => attachBufferRegion(path, 4_096), REFUSED);
    const pool = await createPoolRegion({ name: "pool", bytes: 1 << 20, directory: scratch, hugePages: "off", numaNode: -1 });
    assert.throws(() => attachBufferRegion(pool.path, 4_096), REFUSED);
    pool.close();
  }
  for (const path of ["/dev/null", "/proc/self/mem", tmpdir()])
    assert.throws(() => attachBufferRegion(path, 1), { code: "memory_unavailable" });
});

/** A process that holds a memfd of two pages, made with these flags; `cut` says what became of its attempt to cut it. */
async function holder(t: TestContext, flags: string) {
  const script = `
import os, sys
file = os.memfd_create("test", ${flags})
os.ftruncate(file, 8192)
print(f"/proc/{os.getpid()}/fd/{file}", flush=True)
sys.stdin.readline()
try:
    os.ftruncate(file, 0)
    print("cut", flush=True)
except PermissionError:
    print("whole", flush=True)
sys.stdin.readline()`;
  const child = spawn("python3", ["-c", script], { stdio: ["pipe", "pipe", "inherit"] });
  t.after(() => child.kill("SIGKILL"));
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const line = async (): Promise<string> => String((await lines.next()).value);
  const path = await line();
  const cut = (): Promise<string> => {
    child.stdin.write("\n");
    return line();
  };
  return { path, cut };
}

test("another's memfd is sealed when it is attached, and stays whole", { skip: python }, async (t) => {
  const { path, cut } = await holder(t, "os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING");
  const region = attachBufferRegion(path, 8_192);
  assert.equal(await cut(), "whole");
  region.view.fill(3);
  assert.ok(region.view.every((byte) => byte === 3));
  region.close();
});

test("a memfd that lets nobody seal it is no buffer", { skip: python }, async (t) => {
  const { path, cut } = await holder(t, "os.MFD_CLOEXEC");
  assert.throws(() => attachBufferRegion(path, 8_192), REFUSED);
  assert.equal(await cut(), "cut");
});
