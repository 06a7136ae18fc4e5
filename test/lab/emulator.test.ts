/**
 * Is the emulated link what it is told to be? Method: two namespaces joined by it, the kernel's own TCP and UDP over it, and the link's own
 * counters; bounds that a busy machine cannot break: the least of many round trips, rates that are never above, counts of packets. bench/lab/wan/
 * selftest.sh takes two minutes to say more.
 */
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { spawnSync } from "node:child_process";
import { KEYS, LAB_HOST, PROFILES } from "../../bench/impairment.ts";
import type { LinkReport } from "../../bench/document.ts";
import { ROOT, until } from "../cli/spawn.ts";
import { skip, type End, Wan, WAN_SH } from "./wan.ts";

if (skip !== false) console.log(`# ${skip}`);

const FOLDER = join(ROOT, "bench", "lab", "wan");

test("the command line knows the emulator's profiles, keys and ranges", () => {
  const { stdout, status } = spawnSync("bash", [WAN_SH, "profiles"], { encoding: "utf8" });
  assert.equal(status, 0);
  assert.deepEqual(
    stdout
      .trim()
      .split("\n")
      .map((line) => line.split(" ")[0]),
    [...PROFILES],
  );
  const table = readFileSync(join(FOLDER, "wanem", "path.c"), "utf8").matchAll(/= \{"(\w+)", [^,]+, ([\d.e]+), ([\d.e]+), [\d.]+\}/g);
  const keys = Object.fromEntries([...table].map(([, name, low, high]) => [name, [Number(low), Number(high)]]));
  // What the emulator itself takes for each packet is nothing to ask for.
  const { trim, ...told } = keys;
  assert.deepEqual(trim, [0, 10]);
  assert.deepEqual(told, KEYS);
});

test("a timeline of no lines is refused, and a loop without length ends", { skip }, (t) => {
  const wan = Wan.up(t, "metro");
  const folder = mkdtempSync(join(tmpdir(), "kvferry-timeline-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const none = join(folder, "none");
  writeFileSync(none, "rate=5\n\u0000\n");
  for (const file of [none, folder]) {
    const { status, stderr } = wan.attempt("set", `timeline=${file}`);
    assert.notEqual(status, 0);
    assert.match(stderr, /no line of it begins with a number of seconds/);
  }
  const still = join(folder, "still");
  writeFileSync(still, "0 loop\n0 rate=123\n");
  assert.equal(wan.attempt("set", `timeline=${still}`).status, 0);
  assert.equal(wan.stat().ab.rate_mbit, 123);
});

test("a round trip takes what the profile says", { skip, timeout: 60_000 }, async (t) => {
  const wan = Wan.up(t, "regional", "loss=0");
  const echo = wan.start("b", "echo", LAB_HOST);
  await echo.line();
  const ping = wan.start("a", "ping", LAB_HOST, 21);
  const { leastMs } = await ping.line<{ leastMs: number }>();
  await Promise.all([ping.end(), echo.end()]);
  // Of 20 ms; a tenth each way is kept for the emulator's own part. One that is slower than it should be never gets to 21.
  assert.ok(leastMs > 19.7 && leastMs <= 21, `${leastMs} ms`);
});

test("packets are lost at the rate that is set, in bursts if so told", { skip }, async (t) => {
  const wan = Wan.up(t, "delay=1", "loss=5");
  const counted = async (): Promise<LinkReport["ab"]> => {
    const scatter = wan.start("a", "scatter", LAB_HOST, 20_000);
    await scatter.line();
    await scatter.end();
    await until("the end of the queue", () => wan.stat().ab.in_flight === 0);
    return wan.stat().ab;
  };
  const { packets, drop_loss: lost, loss_runs: runs } = await counted();
  const all = packets + lost;
  assert.ok(all > 10_000, `${all} packets`);
  const sigma = Math.sqrt((0.05 * 0.95) / all);
  assert.ok(Math.abs(lost / all - 0.05) < 4 * sigma, `${lost} of ${all}`);
  wan.set("loss=0", "ge_p=1", "ge_r=20");
  const after = await counted();
  const burst = (after.drop_loss - lost) / (after.loss_runs - runs);
  assert.ok(burst > 3.5 && burst < 6.5, `${burst} packets, of 5 on average`);
});

/** Mbit/s that the link has delivered from a to b while `bytes` more came through. */
async function rateOver(wan: Wan, bytes: number): Promise<number> {
  const before = wan.stat();
  let after = before;
  await until(`${bytes} bytes`, () => {
    after = wan.stat();
    return after.ab.bytes - before.ab.bytes >= bytes;
  });
  return ((after.ab.bytes - before.ab.bytes) * 8e-6) / (after.seconds - before.seconds);
}

async function transfer(wan: Wan, mebibytes: number): Promise<{ readonly receiver: End; readonly sender: End }> {
  const receiver = wan.start("b", "receive", LAB_HOST);
  await receiver.line();
  const sender = wan.start("a", "send", LAB_HOST, mebibytes);
  await sender.line();
  return { receiver, sender };
}

/** Every byte of both, the same at either end. */
async function assertWhole({ receiver, sender }: Awaited<ReturnType<typeof transfer>>, mebibytes: number): Promise<void> {
  const [got, sent] = await Promise.all([receiver.line<{ bytes: number; digest: string }>(), sender.line<{ digest: string }>()]);
  assert.deepEqual(got, { bytes: mebibytes * 2 ** 20, digest: sent.digest });
  await Promise.all([receiver.end(), sender.end()]);
}

test("a rate holds, changes in flight, and a link that dies for a while loses TCP no byte", { skip }, async (t) => {
  const wan = Wan.up(t, "rate=400", "delay=2", "queue=512", "loss=0.05", "reorder=0.5", "reorder_ms=3");
  const moving = await transfer(wan, 60);
  const fast = await rateOver(wan, 10e6);
  assert.ok(fast > 40 && fast < 460, `${fast} Mbit/s of 400`);
  wan.set("rate=100");
  // What was in the queue goes at the new rate too, and the bucket holds a millisecond.
  const slow = await rateOver(wan, 4e6);
  assert.ok(slow > 20 && slow < 115, `${slow} Mbit/s of 100`);
  wan.set("down=1");
  await until("a loss of all that is sent", () => wan.stat().ab.drop_down > 0);
  const dead = wan.stat().ab;
  assert.ok(dead.bytes < 55 * 2 ** 20, "it was hit in the middle");
  wan.set("rate=400", "down=0");
  await assertWhole(moving, 60);
  const { ab } = wan.stat();
  assert.ok(ab.drop_loss > 0 && ab.reordered > 0 && ab.bytes > 60 * 2 ** 20);
});

test("congested plays the recorded trace back", { skip }, async (t) => {
  const wan = Wan.up(t, "congested");
  const trace = readFileSync(join(FOLDER, "bandwidth_trace.csv"), "utf8").trim().split("\n").slice(1);
  // Gbit/s, of which the lab plays a fortieth.
  const points = trace.map((line) => line.split(",").map(Number) as [number, number]);
  const timeline = readFileSync(join(process.env["TMPDIR"] ?? "/tmp", `kvferry-wan-${wan.name}`, "congested"), "utf8")
    .trim()
    .split("\n");
  assert.equal(points.length, 100);
  assert.equal(timeline.length, 101);
  points.forEach(([seconds, gigabits], index) => {
    const [, at, rate] = /^([\d.]+) rate=([\d.]+)$/.exec(timeline[index]!) ?? [];
    // Rounded to kbit/s by another program than this.
    assert.ok(Number(at) === seconds && Math.abs(Number(rate) - gigabits * 25) < 0.001, timeline[index]);
  });
  assert.equal(timeline.at(-1), "60.606 loop");
  const seen: number[] = [];
  await until("some points of it", () => {
    const { rate_mbit: rate } = wan.stat().ab;
    if (rate !== seen.at(-1)) seen.push(rate);
    return seen.length >= 3;
  });
  // The link is up before the first look at it: later points are met in their order, though not each.
  let at = 0;
  for (const rate of seen.slice(1)) {
    while (at < points.length && Math.abs(points[at]![1] * 25 - rate) > 0.01) at++;
    assert.ok(at < points.length, `${rate} is no point of the trace behind the last: ${seen.join(", ")}`);
  }
});
