/**
 * Everything an engine asks of its sidecar, through two of them: layer by layer, by key, pushed, between buffers, and taken back in the middle.
 * Method: two `kvferry serve` and an engine at each over the API, real shared memory, every byte compared; one stage for all, as an engine has it.
 */
import assert from "node:assert/strict";
import { randomFillSync } from "node:crypto";
import { truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";
import { native, nativeProblem } from "../../transport/native.ts";
import { BLOCK_TOKENS, type Engine, statusOf, until } from "./sidecar.ts";
import { ask, assertArrived, filled, moveOnce, received, type Stage, stage } from "./stage.ts";

const skip = native === undefined ? `no addon: ${nativeProblem}` : false;
const LAYERS = 8;

test("an engine's day, through two sidecars", { skip }, async (t) => {
  const at = await stage(t, "100Mbit");
  await t.test("each layer arrives before the next one is ready", () => layerByLayer(at));
  await t.test("published blocks are looked up, fetched by key, leased", () => byKey(at));
  await t.test("what is pushed is published on the other side", () => pushed(at));
  await t.test("buffers are read and written; nobody can cut them in the middle", () => buffers(at));
  await t.test("a transfer is cancelled in the middle", () => cancelled(at));
  for (const { socket } of [at.asker, at.holder]) assert.equal((await statusOf(socket)).pool["pinned"], 0);
});

async function layerByLayer({ source, target }: Stage): Promise<void> {
  const { blocks, copies } = await filled(source, 5);
  const handle = await source.ferry.offer({ model: source.model, groups: source.groups(blocks), ready: false });
  const into = await target.ferry.alloc(5);
  const request = { peer: "holder", model: target.model, source: { handle }, into: target.groups(into), layers: true };
  const transfer = await target.ferry.fetch(request);
  const layers = (): number[] =>
    target.events.flatMap((event) => (event.kind === "layer" && event.transfer === transfer.transfer ? [event.layer] : []));
  for (let layer = 0; layer < LAYERS; layer++) {
    assert.equal(layers().length, layer);
    await source.ferry.ready(handle, layer);
    await until(() => layers().includes(layer));
    const isOver = target.events.some((event) => event.kind === "done" && event.transfer === transfer.transfer);
    if (layer < LAYERS - 1) assert.equal(isOver, false);
  }
  await transfer.done;
  assertArrived(target, into, copies);
  await target.ferry.free(into);
  await until(() => source.events.some((event) => event.kind === "offerEnded" && event.handle === handle && event.ok));
  await source.ferry.free(blocks);
}

const keysOf = (engine: Engine, count: number, first: number): Promise<Uint8Array> =>
  engine.ferry.keys(
    engine.model,
    0,
    Uint32Array.from({ length: count * BLOCK_TOKENS }, (_, index) => first + index),
  );

async function byKey({ source, target }: Stage): Promise<void> {
  const [keys, longer] = [await keysOf(source, 6, 0), await keysOf(target, 9, 0)];
  const { blocks, copies } = await filled(source, 6);
  await source.ferry.publish(source.model, 0, blocks, keys);
  assert.deepEqual(await target.ferry.lookup(target.model, 0, longer, ["holder", "nobody"]), [
    { peer: "", matched: 0, code: "" },
    { peer: "holder", matched: 6, code: "" },
    { peer: "nobody", matched: 0, code: "peer_not_allowed" },
  ]);
  const into = await target.ferry.alloc(6);
  const from = { keys, group: 0, tokens: 6 * BLOCK_TOKENS };
  await (await target.ferry.fetch({ peer: "holder", model: target.model, source: from, into: target.groups(into) })).done;
  assertArrived(target, into, copies);
  await target.ferry.publish(target.model, 0, into, keys);
  const leased = await target.ferry.lease(target.model, 0, longer, true);
  assertArrived(target, leased, copies);
  await target.ferry.release(leased);
}

/** The holder asks nobody, so it is the asker who pushes. */
async function pushed({ source, target }: Stage): Promise<void> {
  const keys = await keysOf(target, 3, 1_000_000);
  const { blocks, copies } = await filled(target, 3);
  const push = { peer: "holder", model: target.model, group: 0, blocks, tokens: 3 * BLOCK_TOKENS, keys };
  await (await target.ferry.push(push)).done;
  await until(() => source.events.some((event) => event.kind === "published" && event.from === "asker"));
  const leased = await source.ferry.lease(source.model, 0, keys);
  assertArrived(source, leased, copies);
  await source.ferry.release(leased);
  await target.ferry.free(blocks);
}

async function buffers({ folder, source, target, asker }: Stage): Promise<void> {
  const bytes = 12 << 20;
  const [there, here] = [await source.ferry.createBuffer(bytes), await target.ferry.createBuffer(bytes)];
  randomFillSync(there.region.view);
  const begun = await received(asker);
  const ranges = [{ local: 0, remote: 0, bytes }];
  const reading = await target.ferry.read({ peer: "holder", remote: there.handle, local: here.handle, ranges });
  await until(async () => (await received(asker)) > begun);
  // Both ends are in use by their sidecars now. Cut, either would end its sidecar at the next touch.
  for (const { region } of [there, here]) assert.throws(() => truncateSync(region.path, 4_096), { code: "EPERM" });
  assert.ok((await received(asker)) < begun + bytes, "it was tried in the middle");
  await reading.done;
  assert.equal(Buffer.compare(here.region.view, there.region.view), 0);
  const file = join(folder, "file");
  writeFileSync(file, new Uint8Array(4_096));
  await assert.rejects(target.ferry.registerBuffer({ path: file, bytes: 4_096 }), { code: "memory_unavailable", message: /could be cut/ });
  here.region.view.fill(9, 100, 200);
  const back = [{ local: 100, remote: 500, bytes: 100 }];
  await (await target.ferry.write({ peer: "holder", remote: there.handle, local: here.handle, ranges: back })).done;
  assert.ok(there.region.view.subarray(500, 600).every((byte) => byte === 9));
  await there.close();
  const gone = await target.ferry.read({ peer: "holder", remote: there.handle, local: here.handle, ranges });
  await assert.rejects(gone.done, { code: "handle_unknown" });
  await here.close();
}

async function cancelled({ source, target, asker }: Stage): Promise<void> {
  const begun = await received(asker);
  const { transfer, blocks } = await ask(source, target);
  await until(async () => (await received(asker)) > begun);
  transfer.cancel();
  await assert.rejects(transfer.done, { code: "cancelled" });
  await until(() => source.events.some((event) => event.kind === "offerEnded" && event.code === "cancelled"));
  for (const id of blocks.ids) target.bytesOf(id).fill(0x33);
  await moveOnce(source, target);
  for (const id of blocks.ids)
    assert.ok(
      target.bytesOf(id).every((byte) => byte === 0x33),
      "nothing late has landed",
    );
  await target.ferry.free(blocks);
}
