/**
 * What goes wrong between real processes: a peer that is absent, killed, stopped; an engine that dies; a sidecar that restarts or is told to stop.
 * Method: `kvferry serve` twice, a rate low enough that there is a middle to hit, signals; then everything must work again without a restart of
 * whoever survived, and every block must have come back.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import test from "node:test";
import { native, nativeProblem } from "../../transport/native.ts";
import { BLOCK_TOKENS, freePort, openEngine, scratchFolder, startSidecar, statusOf, until } from "./sidecar.ts";
import { ask, assertArrived, BLOCKS, filled, hasStalled, moveOnce, offered, received, stage } from "./stage.ts";

const skip = native === undefined ? `no addon: ${nativeProblem}` : false;
test("an absent peer is a typed error in bounded time", { skip }, async (t) => {
  const folder = scratchFolder(t);
  const gone = await freePort();
  const asker = await startSidecar(t, { name: "asker", port: await freePort(), folder, flags: ["--peers", `holder=127.0.0.1:${gone}`] });
  const target = await openEngine(t, asker);
  const blocks = await target.ferry.alloc(2);
  const source = { handle: `01234567-${"0".repeat(32)}` };
  const transfer = await target.ferry.fetch({ peer: "holder", model: target.model, source, into: target.groups(blocks) });
  await assert.rejects(transfer.done, { code: "connect_failed" });
  await target.ferry.free(blocks);
});

test("a peer killed in the middle: a typed error, the memory is free, and when it is back it works again", { skip }, async (t) => {
  const at = await stage(t, "100Mbit");
  const { transfer, blocks } = await ask(at.source, at.target, "holder", BLOCKS, 6_000);
  await until(async () => (await received(at.asker)) > 0);
  at.holder.child.kill("SIGKILL");
  await assert.rejects(transfer.done, (error: Error & { code: string }) => {
    assert.ok(["deadline_exceeded", "peer_restarted", "connect_failed", "connection_lost"].includes(error.code), error.code);
    return true;
  });
  await at.target.ferry.free(blocks);
  const again = await startSidecar(t, { name: "holder", port: at.holder.port, folder: at.folder });
  const source = await openEngine(t, again);
  await moveOnce(source, at.target);
  await until(async () => (await statusOf(at.asker.socket)).pool["pinned"] === 0);
});

test("a peer stopped in the middle: a stall is told, the deadline ends it, and when it goes on it works again", { skip }, async (t) => {
  const at = await stage(t, "100Mbit");
  const asked = await ask(at.source, at.target, "holder", BLOCKS, 5_000);
  const { transfer, blocks } = asked;
  await until(async () => (await received(at.asker)) > 0);
  at.holder.child.kill("SIGSTOP");
  t.after(() => at.holder.child.kill("SIGCONT"));
  await until(() => hasStalled(at.target, asked));
  await assert.rejects(transfer.done, { code: "deadline_exceeded" });
  // The memory is the engine's again although the peer might still wake and send.
  await at.target.ferry.free(blocks);
  const reused = await at.target.ferry.alloc(BLOCKS);
  for (const id of reused.ids) at.target.bytesOf(id).fill(0x5a);
  at.holder.child.kill("SIGCONT");
  await moveOnce(at.source, at.target);
  for (const id of reused.ids)
    assert.ok(
      at.target.bytesOf(id).every((byte) => byte === 0x5a),
      "nothing late lands in another's block",
    );
});

test("a stopped peer that wakes in time is gone on with, not begun again", { skip }, async (t) => {
  const at = await stage(t, "200Mbit");
  const { transfer, blocks, copies } = await ask(at.source, at.target);
  await until(async () => (await received(at.asker)) > 0);
  at.holder.child.kill("SIGSTOP");
  await new Promise((resolve) => setTimeout(resolve, 7_500));
  at.holder.child.kill("SIGCONT");
  const report = await transfer.done;
  assert.equal(report.bytes, BLOCKS * 131_072);
  assert.ok((await received(at.asker)) < 1.5 * report.bytes, "only what was missing was sent again");
  assertArrived(at.target, blocks, copies);
  await at.target.ferry.free(blocks);
});

test("a sidecar that restarts adopts its pool; what was given out before is refused by its incarnation", { skip }, async (t) => {
  const at = await stage(t, "10Gbit");
  const { blocks, copies } = await filled(at.source, 8);
  const tokens = Uint32Array.from({ length: 8 * BLOCK_TOKENS }, (_, index) => index);
  const keys = await at.source.ferry.keys(at.source.model, 0, tokens);
  await at.source.ferry.publish(at.source.model, 0, blocks, keys);
  const { handle } = await offered(at.source, 2);
  const before = (await statusOf(at.holder.socket)).incarnation;
  at.holder.child.kill("SIGKILL");
  await at.holder.exited;
  const again = await startSidecar(t, { name: "holder", port: at.holder.port, folder: at.folder });
  const source = await openEngine(t, again);
  const status = await statusOf(again.socket);
  assert.notEqual(status.incarnation, before);
  assert.equal(status.pool["published"], 8);
  const into = await at.target.ferry.alloc(8);
  const fetch = (from: { handle: string } | { keys: Uint8Array; group: number; tokens: number }, groups = at.target.groups(into)) =>
    at.target.ferry.fetch({ peer: "holder", model: at.target.model, source: from, into: groups }).then((transfer) => transfer.done);
  await assert.rejects(fetch({ handle }), { code: "incarnation_mismatch" });
  await fetch({ keys, group: 0, tokens: tokens.length });
  assertArrived(at.target, into, copies);
  assert.ok((await source.ferry.stats()).pool.blockCount > 0);
});

test("an engine's death gives its blocks back; the stopped one keeps them", { skip }, async (t) => {
  const folder = scratchFolder(t);
  const sidecar = await startSidecar(t, { name: "alone", port: await freePort(), folder });
  const client = new URL("../../transport/api/client.ts", import.meta.url).href;
  const script = `import { connect } from ${JSON.stringify(client)};
    const ferry = await connect(${JSON.stringify(sidecar.socket)}); await ferry.alloc(10); process.stdout.write("held\\n"); setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, ["--import", "tsx", "--input-type=module", "-e", script], { stdio: ["ignore", "pipe", "inherit"] });
  t.after(() => child.kill("SIGKILL"));
  await new Promise((resolve) => child.stdout.once("data", resolve));
  const held = async (): Promise<number> => (await statusOf(sidecar.socket)).pool["held"] ?? -1;
  assert.equal(await held(), 10);
  child.kill("SIGSTOP");
  await new Promise((resolve) => setTimeout(resolve, 3_000));
  assert.equal(await held(), 10, "time alone takes nothing from a living process");
  child.kill("SIGKILL");
  await until(async () => (await held()) === 0, 5_000);
});

test("SIGTERM lets a transfer end, then exits 0", { skip }, async (t) => {
  const at = await stage(t, "100Mbit");
  const { transfer, blocks, copies } = await ask(at.source, at.target);
  await until(async () => (await received(at.asker)) > 0);
  at.holder.child.kill("SIGTERM");
  const report = await transfer.done;
  assert.equal(report.resumed, 0);
  assertArrived(at.target, blocks, copies);
  assert.equal(await at.holder.exited, 0);
});
