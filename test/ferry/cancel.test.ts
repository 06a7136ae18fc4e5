/**
 * Cancel in the middle of a transfer: the memory comes back when nothing can write it any more and not before, the other side hears of it, and the
 * next transfer works.
 * Method: two nodes over the real link, so slow that there is a middle; what their links are told and say is logged in order with the nodes' events.
 */
import assert from "node:assert/strict";
import { randomFillSync } from "node:crypto";
import test, { type TestContext } from "node:test";
import type { FerryEvent } from "../../transport/ferry/ferry.ts";
import { opaqueLayout } from "../../transport/kv/build.ts";
import type { Link } from "../../transport/link/link.ts";
import { createTcpLink } from "../../transport/link/tcp.ts";
import type { Blocks } from "../../transport/memory/pool.ts";
import { native, nativeProblem } from "../../transport/native.ts";
import { openTestNode, type TestNode } from "./node.ts";

const skip = native === undefined ? `no addon: ${nativeProblem}` : false;
const IDENTITY = { model: "cancel", revision: "1", element: "u8", rope: "", profile: "", extra: "" };
const BLOCK_BYTES = 65_536;
const COUNT = 60;

interface End {
  readonly node: TestNode;
  readonly model: number;
  readonly log: string[];
  bytesOf(block: number): Uint8Array;
}

/** `revoke` and `revoked` of the link, the ends of transfers and offers, each with how many blocks are pinned then. */
async function open(t: TestContext, name: string): Promise<End> {
  const log: string[] = [];
  const note = (what: string): void => void log.push(`${what}, ${node.pool.stats().pinned} pinned`);
  const makeLink = (onWake: () => void): Link => {
    const link = createTcpLink({ onWake });
    const [poll, revoke] = [link.poll.bind(link), link.revoke.bind(link)];
    link.poll = (take, max) =>
      poll((event) => {
        if (event.kind === "revoked") note("revoked");
        take(event);
      }, max);
    link.revoke = (placement) => {
      note("revoke");
      revoke(placement);
    };
    return link;
  };
  const node: TestNode = await openTestNode({
    name,
    blockBytes: BLOCK_BYTES,
    makeLink,
    settings: { rateBytesPerSecond: 2_000_000, chunkBytes: 32_768 },
  });
  t.after(() => node.close());
  const { model } = await node.ferry.registerModel(IDENTITY, opaqueLayout(BLOCK_BYTES, node.pool.blockCount));
  node.ferry.on((event) => {
    if (event.kind === "failed") note(`failed ${event.code}`);
    if (event.kind === "offerEnded") note(`offer ended ${event.code}`);
  });
  const bytesOf = (block: number): Uint8Array => {
    const from = node.pool.dataOffset + block * BLOCK_BYTES;
    return node.pool.region.view.subarray(from, from + BLOCK_BYTES);
  };
  return { node, model, log, bytesOf };
}

const groups = (blocks: Blocks) => [{ group: 0, blocks, tokens: blocks.ids.length }];
const peerOf = ({ node }: End): string => `127.0.0.1:${node.address.port}`;

async function filled({ node, bytesOf }: End): Promise<Blocks> {
  const blocks = await node.ferry.alloc(COUNT);
  for (const id of blocks.ids) randomFillSync(bytesOf(id));
  return blocks;
}

function event({ node }: End, wanted: (event: FerryEvent) => boolean): Promise<void> {
  return new Promise((resolve) => {
    const stop = node.ferry.on((found) => {
      if (!wanted(found)) return;
      stop();
      resolve();
    });
  });
}

async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setTimeout(resolve, 2));
}

/** What is pinned is nobody's, though its holder has given it up; when it is not any more, it is to be had again. */
async function takeBack({ node, bytesOf }: End, given: Blocks, over: Promise<void>): Promise<void> {
  await node.ferry.free(given);
  const before = await node.ferry.alloc(node.pool.stats().free);
  const early = new Set(before.ids);
  if (node.pool.stats().pinned > 0) assert.ok([...given.ids].every((id) => !early.has(id)));
  await over;
  assert.equal(node.pool.stats().pinned, 0);
  const after = await node.ferry.alloc(COUNT);
  assert.deepEqual([...after.ids].sort(ascending), [...given.ids].sort(ascending));
  for (const id of after.ids) bytesOf(id).fill(0x77);
  await node.ferry.free(before);
}

const ascending = (a: number, b: number): number => a - b;

async function moveOnce(a: End, b: End): Promise<void> {
  const source = await a.node.ferry.alloc(2);
  for (const id of source.ids) randomFillSync(a.bytesOf(id));
  const handle = await a.node.ferry.offer({ model: a.model, groups: groups(source) });
  const target = await b.node.ferry.alloc(2);
  await (await b.node.ferry.fetch({ peer: peerOf(a), model: b.model, source: { handle }, into: groups(target) })).done;
  source.ids.forEach((id, index) => assert.equal(Buffer.compare(a.bytesOf(id), b.bytesOf(target.ids[index] ?? 0)), 0));
}

test("a fetch that its asker cancels", { skip }, async (t) => {
  const [a, b] = [await open(t, "a"), await open(t, "b")];
  const source = await filled(a);
  const handle = await a.node.ferry.offer({ model: a.model, groups: groups(source) });
  const target = await b.node.ferry.alloc(COUNT);
  const transfer = await b.node.ferry.fetch({ peer: peerOf(a), model: b.model, source: { handle }, into: groups(target) });
  await until(() => b.node.node.bytesReceived > 0);
  const heard = event(a, ({ kind }) => kind === "offerEnded");
  const over = event(b, ({ kind }) => kind === "failed");
  transfer.cancel();
  await takeBack(b, target, over);
  await assert.rejects(transfer.done, { code: "cancelled" });
  assert.ok(b.node.node.bytesReceived < COUNT * BLOCK_BYTES, "it was hit in the middle");
  assert.deepEqual(b.log, [`revoke, ${COUNT} pinned`, `revoked, ${COUNT} pinned`, "failed cancelled, 0 pinned"]);
  await heard;
  assert.deepEqual(a.log, [`revoke, ${COUNT} pinned`, `revoked, ${COUNT} pinned`, "offer ended cancelled, 0 pinned"]);
  transfer.cancel();
  await a.node.ferry.free(source);
  await moveOnce(a, b);
  for (const id of target.ids)
    assert.ok(
      b.bytesOf(id).every((byte) => byte === 0x77),
      "nothing late has landed",
    );
});

test("a push that its sender cancels: what had landed is no block of anybody's", { skip }, async (t) => {
  const [a, b] = [await open(t, "a"), await open(t, "b")];
  const source = await filled(a);
  const keys = new Uint8Array(32 * COUNT).map((_, index) => (index % 32 === 0 ? index / 32 : 1));
  const free = b.node.pool.stats().free;
  const transfer = await a.node.ferry.push({ peer: peerOf(b), model: a.model, group: 0, blocks: source, tokens: COUNT, keys });
  await until(() => b.node.node.bytesReceived > 0);
  assert.equal(b.node.pool.stats().pinned, COUNT);
  const over = event(a, ({ kind }) => kind === "failed");
  transfer.cancel();
  await takeBack(a, source, over);
  await assert.rejects(transfer.done, { code: "cancelled" });
  assert.deepEqual(a.log, [`revoke, ${COUNT} pinned`, `revoked, ${COUNT} pinned`, "failed cancelled, 0 pinned"]);
  await until(() => b.node.pool.stats().free === free);
  assert.deepEqual(b.log, [`revoke, ${COUNT} pinned`, `revoked, ${COUNT} pinned`]);
  assert.ok(b.node.node.bytesReceived < COUNT * BLOCK_BYTES, "it was hit in the middle");
  assert.deepEqual([b.node.pool.stats().published, b.node.pool.stats().held], [0, 0]);
  await assert.rejects(b.node.ferry.lease(b.model, 0, keys), { code: "key_not_found" });
  await (await a.node.ferry.push({ peer: peerOf(b), model: a.model, group: 0, blocks: await a.node.ferry.alloc(1), tokens: 1, keys })).done;
  assert.equal(b.node.pool.stats().published, 1);
});

test("an offer that its holder withdraws in the middle", { skip }, async (t) => {
  const [a, b] = [await open(t, "a"), await open(t, "b")];
  const source = await filled(a);
  const handle = await a.node.ferry.offer({ model: a.model, groups: groups(source) });
  const target = await b.node.ferry.alloc(COUNT);
  const transfer = await b.node.ferry.fetch({ peer: peerOf(a), model: b.model, source: { handle }, into: groups(target) });
  await until(() => b.node.node.bytesReceived > 0);
  const over = event(a, ({ kind }) => kind === "offerEnded");
  await a.node.ferry.withdraw(handle);
  await takeBack(a, source, over);
  await assert.rejects(transfer.done, { code: "cancelled" });
  assert.deepEqual(a.log, [`revoke, ${COUNT} pinned`, `revoked, ${COUNT} pinned`, "offer ended cancelled, 0 pinned"]);
  assert.deepEqual(b.log, [`revoke, ${COUNT} pinned`, `revoked, ${COUNT} pinned`, "failed cancelled, 0 pinned"]);
  await b.node.ferry.free(target);
  await moveOnce(a, b);
});
