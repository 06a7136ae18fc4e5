/**
 * The network between two sidecars goes in the middle of a transfer, told (reset) or not (unplugged), for a while or for good.
 * Method: two `kvferry serve` with a proxy between them that counts what passes; a slow rate and small chunks, so that there is a middle and what
 * is under way at any time is little. A transfer that began anew would pass what had arrived a second time.
 */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";
import type { KvferryError } from "../../transport/errors.ts";
import { native, nativeProblem } from "../../transport/native.ts";
import { type Proxy, startProxy } from "../link/proxy.ts";
import { freePort, openEngine, scratchFolder, startSidecar, statusOf, until } from "./sidecar.ts";
import { ask, assertArrived, BLOCKS, hasStalled, moveOnce, received, type Stage, stage } from "./stage.ts";

const skip = native === undefined ? `no addon: ${nativeProblem}` : false;
const TRANSFER_BYTES = BLOCKS * 131_072;

/** "3-5, 9" */
function numbersIn(text: string): Set<number> {
  const stretches = text.split(", ").map((stretch) => stretch.split("-").map(Number) as [number, number?]);
  return new Set(stretches.flatMap(([first, last = first]) => Array.from({ length: last - first + 1 }, (_, at) => first + at)));
}

type Break = "cut" | "unplug";

/** It comes back: only what is missing is sent again. */
async function comesBack(at: Stage, kind: Break): Promise<void> {
  const asked = await ask(at.source, at.target);
  await until(async () => (await received(at.asker)) > 0.4 * TRANSFER_BYTES);
  at.proxy[kind]();
  await until(() => hasStalled(at.target, asked));
  const before = await received(at.asker);
  assert.ok(before < TRANSFER_BYTES, "it was hit in the middle");
  at.proxy.mend();
  const report = await asked.transfer.done;
  assertArrived(at.target, asked.blocks, asked.copies);
  assert.equal(report.bytes, TRANSFER_BYTES);
  assert.ok(report.resumed >= 1, `resumed ${report.resumed} times`);
  const passed = at.proxy.passed("in");
  assert.ok(passed >= TRANSFER_BYTES && passed < TRANSFER_BYTES + before / 2, `${passed} bytes passed, ${before} had arrived before`);
  assert.ok(at.target.events.some((event) => event.kind === "moving" && event.transfer === asked.transfer.transfer));
  await at.target.ferry.free(asked.blocks);
}

/** It does not: the deadline ends the transfer, and once it is back the next one works. */
async function staysAway(at: Stage, kind: Break): Promise<void> {
  const begun = await received(at.asker);
  const asked = await ask(at.source, at.target, "holder", BLOCKS, 6_000);
  await until(async () => (await received(at.asker)) > begun + 0.4 * TRANSFER_BYTES);
  at.proxy[kind]();
  await until(() => hasStalled(at.target, asked));
  // What had come may have been the beginning of any block: those that are told, and no others, may be computed again.
  await assert.rejects(asked.transfer.done, ({ code, detail }: KvferryError) => {
    assert.equal(code, "deadline_exceeded");
    const told = new RegExp(`^missing (\\d+) of ${BLOCKS} blocks: (.*); in layers (.*)$`).exec(detail) ?? assert.fail(detail);
    const missing = numbersIn(told[2] as string);
    assert.equal(missing.size, Number(told[1]));
    asked.blocks.ids.forEach((id, index) => {
      if (!missing.has(id)) assert.equal(Buffer.compare(at.target.bytesOf(id), asked.copies[index] as Buffer), 0, `block ${id} is whole`);
    });
    assert.ok(missing.size > 0 && numbersIn(told[3] as string).size < 8, "layers come in order, and it was hit in the middle");
    return true;
  });
  await at.target.ferry.free(asked.blocks);
  at.proxy.mend();
  await moveOnce(at.source, at.target);
  for (const sidecar of [at.asker, at.holder]) await until(async () => (await statusOf(sidecar.socket)).pool["pinned"] === 0);
}

/** From now on, on lane 1; `direction` as seen by the asker, who dialled. */
function trickle({ proxy }: Stage, direction: "in" | "out"): void {
  const lane = proxy.lane(1);
  lane.setFault(direction, { trickleFrom: lane.passed[direction] });
}

for (const [kind, what] of [
  ["cut", "reset"],
  ["unplug", "gone without a word"],
] as const) {
  test(`a network that is ${what} in the middle of a transfer`, { skip }, async (t) => {
    const at = await stage(t, "50Mbit", ["--chunk-bytes", "128KiB"]);
    await t.test("back in time, it goes on with the missing chunks", () => comesBack(at, kind));
    await t.test("away for good, the deadline ends it, and the next one works with no restart", () => staysAway(at, kind));
  });
}

test("a peer whose address changes in the middle of a transfer is found again by its name, and the transfer goes on there", {
  skip,
}, async (t) => {
  const folder = scratchFolder(t);
  const [a, b, common] = [await freePort(), await freePort(), await freePort()];
  const file = join(folder, "address");
  const proxies = await Promise.all(
    ["127.0.0.2", "127.0.0.3"].map((host) => startProxy({ host: "127.0.0.1", port: a }, undefined, { host, port: common })),
  );
  for (const proxy of proxies) t.after(() => proxy.close());
  const [old, now] = proxies as [Proxy, Proxy];
  writeFileSync(file, old.endpoint.host);
  const preload = new URL("moving-name.mjs", import.meta.url).href;
  const slow = ["--rate", "50Mbit", "--chunk-bytes", "128KiB"];
  const peers = ["--peers", `holder=holder.test:${common}`];
  const [holder, asker] = await Promise.all([
    startSidecar(t, { name: "holder", port: a, folder, flags: slow }),
    startSidecar(t, { name: "asker", port: b, folder, preload, env: { KVFERRY_TEST_ADDRESS: file }, flags: [...slow, ...peers] }),
  ]);
  const [source, target] = [await openEngine(t, holder), await openEngine(t, asker)];
  const asked = await ask(source, target);
  await until(async () => (await received(asker)) > 0.4 * TRANSFER_BYTES);
  writeFileSync(file, now.endpoint.host);
  old.unplug();
  const report = await asked.transfer.done;
  assertArrived(target, asked.blocks, asked.copies);
  assert.ok(report.resumed >= 1 && report.bytes === TRANSFER_BYTES, `resumed ${report.resumed} times, ${report.bytes} bytes`);
  const [before, after] = [old.passed("in"), now.passed("in")];
  assert.ok(
    after > 0.2 * TRANSFER_BYTES && before + after < 1.3 * TRANSFER_BYTES,
    `${before} bytes passed at the old address, ${after} at the new`,
  );
});

test("connections that are stranded are replaced by new ones before anybody calls the transfer stalled", { skip }, async (t) => {
  const at = await stage(t, "50Mbit", ["--chunk-bytes", "128KiB"]);
  const asked = await ask(at.source, at.target);
  await until(async () => (await received(at.asker)) > 0.3 * TRANSFER_BYTES);
  at.proxy.strand();
  const report = await asked.transfer.done;
  assertArrived(at.target, asked.blocks, asked.copies);
  assert.ok(report.resumed >= 1, "it went on over another connection");
  assert.equal(hasStalled(at.target, asked), false);
});

test("a lane on which chunks come at a byte a second is dropped", { skip }, async (t) => {
  const at = await stage(t, "50Mbit", ["--chunk-bytes", "128KiB", "--lanes", "4"]);
  const asked = await ask(at.source, at.target);
  await until(async () => (await received(at.asker)) > 0.2 * TRANSFER_BYTES);
  trickle(at, "in");
  const report = await asked.transfer.done;
  assertArrived(at.target, asked.blocks, asked.copies);
  assert.equal(report.resumed, 0, "the connection was never in doubt");
  await until(() => at.proxy.lines.filter(({ preamble }) => preamble.kind === "lane" && preamble.lane === 1).length === 2);
});

test("a lane on which answers come at a byte a second holds up nothing: what it carried is in place", { skip }, async (t) => {
  const at = await stage(t, "50Mbit", ["--chunk-bytes", "128KiB", "--lanes", "4"]);
  const asked = await ask(at.source, at.target);
  await until(async () => (await received(at.asker)) > 0.2 * TRANSFER_BYTES);
  trickle(at, "out");
  const report = await asked.transfer.done;
  assertArrived(at.target, asked.blocks, asked.copies);
  assert.deepEqual([report.resumed, report.bytes], [0, TRANSFER_BYTES]);
});

test("a lane that is dead beside live ones gives its chunk back", { skip }, async (t) => {
  const at = await stage(t, "50Mbit", ["--chunk-bytes", "128KiB", "--lanes", "4"]);
  const asked = await ask(at.source, at.target);
  await until(async () => (await received(at.asker)) > 0.2 * TRANSFER_BYTES);
  at.proxy.lane(2).unplug();
  const report = await asked.transfer.done;
  assertArrived(at.target, asked.blocks, asked.copies);
  assert.equal(report.resumed, 0, "the connection was never in doubt");
  // The lane was given up, and is opened anew.
  await until(() => at.proxy.lines.filter(({ preamble }) => preamble.kind === "lane" && preamble.lane === 2).length === 2);
});
