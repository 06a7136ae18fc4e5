/**
 * Clocks that jump. Method: two sidecars whose wall clock is set on and back ten times a second do what they always do; one of two that is stopped for
 * seconds in the middle of a transfer, as a virtual machine that is suspended, finds the monotonic clock far ahead, and the transfer goes on.
 */
import assert from "node:assert/strict";
import test from "node:test";
import { native, nativeProblem } from "../../transport/native.ts";
import { freePort, openEngine, scratchFolder, startSidecar, until } from "./sidecar.ts";
import { ask, assertArrived, BLOCKS, hasStalled, moveOnce, received, stage } from "./stage.ts";

const skip = native === undefined ? `no addon: ${nativeProblem}` : false;
const STOPPED_MS = 3_000;

test("a wall clock that is set on and back changes nothing", { skip }, async (t) => {
  const folder = scratchFolder(t);
  const [a, b] = [await freePort(), await freePort()];
  const preload = new URL("jumping-clock.mjs", import.meta.url).href;
  const [holder, asker] = await Promise.all([
    startSidecar(t, { name: "holder", port: a, folder, preload, flags: ["--rate", "50Mbit"] }),
    startSidecar(t, { name: "asker", port: b, folder, preload, flags: ["--peers", `holder=127.0.0.1:${a}`] }),
  ]);
  const [source, target] = [await openEngine(t, holder), await openEngine(t, asker)];
  const asked = await ask(source, target, "holder", BLOCKS, 30_000);
  const report = await asked.transfer.done;
  assertArrived(target, asked.blocks, asked.copies);
  assert.deepEqual([report.resumed, report.retries, hasStalled(target, asked)], [0, 0, false]);
  assert.deepEqual(
    target.events.filter((event) => event.kind === "peer" && !event.up),
    [],
    "nobody went",
  );
  // An offer lives for two minutes: it is still there.
  await target.ferry.free(asked.blocks);
  await moveOnce(source, target);
});

for (const who of ["holder", "asker"] as const) {
  test(`a ${who} that is suspended for seconds in the middle of a transfer goes on`, { skip }, async (t) => {
    const at = await stage(t, "50Mbit", ["--chunk-bytes", "128KiB"]);
    const asked = await ask(at.source, at.target, "holder", BLOCKS, 60_000);
    await until(async () => (await received(at.asker)) > 0);
    at[who].child.kill("SIGSTOP");
    t.after(() => at[who].child.kill("SIGCONT"));
    await new Promise((resolve) => setTimeout(resolve, STOPPED_MS));
    at[who].child.kill("SIGCONT");
    const report = await asked.transfer.done;
    assertArrived(at.target, asked.blocks, asked.copies);
    assert.equal(report.bytes, BLOCKS * 131_072);
    await at.target.ferry.free(asked.blocks);
    await moveOnce(at.source, at.target);
  });
}
