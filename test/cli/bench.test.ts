/**
 * The bench as its users run it. Method: processes; signals in mid-run, a reader that goes away, a port that is taken, a server in the background.
 * After each, no process of it is left.
 */
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { BenchDocument } from "../../bench/document.ts";
import { benchDocument } from "../../bench/document.ts";
import { freePort } from "../../bench/process.ts";
import { buildYardstick } from "../../bench/yardstick.ts";
import { childrenOf, finish, kvferry, printed, start, until } from "./spawn.ts";

const SMALL = ["-l", "16KiB", "--batch-size", "8", "--pool", "1MiB"];

for (const [signal, code] of [
  ["SIGINT", 130],
  ["SIGTERM", 143],
] as const) {
  test(`${signal} in mid-run: what was measured is printed whole, the other end goes too`, async () => {
    const child = start(["bench", ...SMALL, "-t", "60", "-i", "0.1", "--json-stream"]);
    const ran = finish(child);
    await printed(child, /"event":"interval"/);
    const children = childrenOf(child.pid!);
    assert.ok(children.length > 0, "the other end is a process of its own");
    child.kill(signal);
    const { code: ended, stdout, stderr } = await ran;
    assert.equal(ended, code, stderr);
    const events = stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as { event: string; data: Record<string, unknown> });
    assert.deepEqual(
      events.slice(-2).map(({ event }) => event),
      ["end", "error"],
    );
    const [result] = events.at(-2)!.data["results"] as BenchDocument["results"];
    assert.ok(result!.iterations > 0 && result!.verified_bytes === 0);
    assert.equal(events.at(-1)!.data["code"], "cancelled");
    assert.match(stderr, new RegExp(`interrupted by ${signal}`));
    await until("the end of the other end", () => children.every((id) => !existsSync(`/proc/${id}`)));
  });
}

test("interrupted while it verifies: what has not come is not called wrong", async () => {
  // 64 slots of 128 KiB at 8 Mbit/s: verifying takes longer than anybody waits.
  const slow = ["-l", "16KiB", "--batch-size", "8", "--pool", "16MiB", "-b", "8M", "--chunk", "16KiB"];
  const child = start(["bench", ...slow, "--iters", "1", "--warmup", "0", "-i", "0", "--json-stream"]);
  const ran = finish(child);
  await printed(child, /"event":"interval"/);
  child.kill("SIGINT");
  const { code, stdout, stderr } = await ran;
  assert.equal(code, 130, stderr);
  const end = stdout
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as { event: string; data: BenchDocument })
    .find(({ event }) => event === "end")!;
  const [result] = end.data.results;
  assert.deepEqual([result!.iterations, result!.verified_bytes, result!.n_wrong, result!.okay], [1, 0, 0, true]);
});

test("interrupted before anything was measured: one valid document with the reason", async (t) => {
  const built = await buildYardstick();
  if ("missing" in built) return t.skip(built.missing);
  const child = start(["bench", ...SMALL, "--json", "--compare", "raw", "-t", "3000"]);
  const ran = finish(child);
  // The yardstick runs first, beside the other end.
  const isYardstick = (id: number): boolean => readFileSync(`/proc/${id}/cmdline`, "latin1").includes("yardstick");
  await until("the yardstick's start", () => childrenOf(child.pid!).filter(isYardstick).length === 2);
  const children = childrenOf(child.pid!);
  child.kill("SIGINT");
  const { code, stdout, stderr } = await ran;
  assert.equal(code, 130, stderr);
  const document = benchDocument.parse(JSON.parse(stdout));
  assert.deepEqual([document.error?.code, document.results, document.end.okay], ["cancelled", [], false]);
  await until("the end of all of them", () => children.every((id) => !existsSync(`/proc/${id}`)));
});

test("a reader that goes away ends the bench without a word", async () => {
  const child = start(["bench", ...SMALL, "-t", "60", "-i", "0.05"]);
  const ran = finish(child);
  await printed(child, /Gbit\/s/);
  child.stdout!.destroy();
  const { code, stderr } = await ran;
  assert.deepEqual([code, stderr], [141, ""]);
});

test("a server in the background: says its command, serves, is alone on its port, ends when told", async () => {
  const folder = mkdtempSync(join(tmpdir(), "kvferry-daemon-"));
  const log = join(folder, "log");
  const port = String(await freePort());
  const daemon = await kvferry(["bench", "-sD", "-p", port, "--bind", "127.0.0.1", "--logfile", log]);
  const processId = Number(/kill (\d+) ends it/.exec(daemon.stdout)?.[1]);
  try {
    assert.equal(daemon.code, 0, daemon.stderr);
    assert.match(daemon.stdout, new RegExp(`^ {2}kvferry bench -c 127\\.0\\.0\\.1 -p ${port}$`, "m"));
    for (const flags of [["-s"], ["-s", "-D"]]) {
      const second = await kvferry(["bench", ...flags, "-p", port, "--bind", "127.0.0.1"]);
      assert.equal(second.code, 2);
      assert.match(second.stderr, /^kvferry: address_unavailable: .*\n {2}\S/);
    }
    const client = await kvferry(["bench", "-c", "127.0.0.1", "-p", port, ...SMALL, "--iters", "20", "--json"]);
    assert.equal(client.code, 0, client.stderr);
    assert.equal((JSON.parse(client.stdout) as BenchDocument).results[0]!.iterations, 20);
    process.kill(processId, "SIGTERM");
    await until("the daemon's end", () => !existsSync(`/proc/${processId}`));
    assert.match(readFileSync(log, "utf8"), /client 127\.0\.0\.1 connected\n[\s\S]*client gone/);
  } finally {
    if (existsSync(`/proc/${processId}`)) process.kill(processId, "SIGKILL");
    rmSync(folder, { recursive: true });
  }
});

test("a log file on a full disk is no fault of the bench's", { skip: !existsSync("/dev/full") }, async () => {
  const { code, stderr } = await kvferry(["bench", "-l", "4KiB", "--iters", "1", "--link", "js", "--logfile", "/dev/full"]);
  assert.deepEqual([code, /^kvferry: invalid_argument: .*--logfile: ENOSPC/m.test(stderr)], [2, true], stderr);
});

test("what is not there is said in one line: a server, a file, memory of a GPU", async () => {
  const wrong: [string[], RegExp][] = [
    [["-c", "127.0.0.1", "-p", "1"], /^kvferry: connect_failed: .*kvferry bench -s/],
    [["--data", "kv:/nonexistent/kv.bin", ...SMALL], /^kvferry: invalid_argument: .*--data: ENOENT/],
    [["--dst-mem", "vram"], /^kvferry: unsupported: .*--dst-mem vram/],
    [["-d", "mlx5_0"], /^kvferry: unsupported: .*-d names an RDMA device/],
    [["-P", "-1"], /^kvferry: invalid_argument: .*for --parallel but received "-1"/],
  ];
  const runs = await Promise.all(wrong.map(([args]) => kvferry(["bench", ...args])));
  runs.forEach(({ code, stdout, stderr }, index) => {
    assert.match(stderr, wrong[index]![1]);
    assert.deepEqual([code, stdout], [2, ""]);
  });
});
