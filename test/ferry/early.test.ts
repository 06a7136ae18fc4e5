/**
 * A pull in one round trip: the grant goes with the Fetch, and the Offer takes it; or does not, and is accepted as ever. In each state of it a cancel,
 * a lost connection, a lost message.
 * Method: two nodes over the real link with a tap (tap.ts): what they say is compared word by word, and what they hear is held, lost or changed.
 */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import test from "node:test";
import type { Transfer } from "../../transport/ferry/ferry.ts";
import { denseLayout } from "../../transport/kv/build.ts";
import { serializeLayout } from "../../transport/kv/parse.ts";
import type { Message } from "../../transport/peer/messages.ts";
import { openTestNode } from "./node.ts";
import { assertSame, BLOCK_BYTES, BLOCK_TOKENS, bytesOf, fill, IDENTITY, skip, until } from "./pair.ts";
import { COUNT, former, stage, type Stage, TOKENS } from "./stage.ts";
import { Tap } from "./tap.ts";

const ONE_ROUND_TRIP = ["b: fetch 1", "a: offer 1", "b revokes", "b: done", "a revokes"];

test("a pull by handle, by keys and of ranges takes a Fetch, an Offer and a Done, the first over a connection included", {
  skip,
}, async (t) => {
  const { a, b, story, peer, modelA, modelB, source, target, offer, fetch, nothingLeft } = await stage(t);
  const report = await (await fetch(await offer())).done;
  assert.deepEqual([report.bytes, report.resumed], [COUNT * BLOCK_BYTES, 0]);
  assertSame(a, source, b, target);
  await nothingLeft();
  assert.deepEqual(story.splice(0), ONE_ROUND_TRIP);

  const keys = await a.ferry.keys(
    modelA,
    0,
    Uint32Array.from({ length: TOKENS }, (_, at) => at),
  );
  fill(a, source);
  await a.ferry.publish(modelA, 0, source, keys);
  const into = [{ group: 0, blocks: target, tokens: TOKENS }];
  await (await b.ferry.fetch({ peer, model: modelB, source: { keys, group: 0, tokens: TOKENS }, into })).done;
  assertSame(a, source, b, target);
  await nothingLeft();
  assert.deepEqual(story.splice(0), ONE_ROUND_TRIP);

  const [far, near] = [new Uint8Array(randomBytes(1 << 20)), new Uint8Array(1 << 20)];
  const [remote, local] = [(await a.ferry.registerBuffer(far)).handle, (await b.ferry.registerBuffer(near)).handle];
  await (await b.ferry.read({ peer, remote, local, ranges: [{ local: 7, remote: 99, bytes: 700_001 }] })).done;
  assert.equal(Buffer.compare(near.subarray(7, 700_008), far.subarray(99, 700_100)), 0);
  await nothingLeft();
  assert.deepEqual(story.splice(0), ONE_ROUND_TRIP);
});

const TAKEN_BACK = ["b: fetch 1", "a: offer", "b revokes", "b: accept 2", "b revokes", "b: done", "a revokes"];

test("it does so from a layout that has to be converted, and of a part of the heads, once that layout was told", { skip }, async (t) => {
  const { a, story, peer, offer, nothingLeft } = await stage(t);
  const tap = new Tap("c", story);
  const c = await openTestNode({ name: "c", blockBytes: 2 * BLOCK_BYTES, makeLink: tap.makeLink });
  t.after(() => c.close());
  const shape = { layers: 4, kvHeads: 2, headDim: 64, blockTokens: 2 * BLOCK_TOKENS, element: "bf16" } as const;
  const form = { order: "HND", form: "block-contiguous", kv: "split", blockCount: c.pool.blockCount } as const;
  const { model } = await c.ferry.registerModel(IDENTITY, denseLayout({ ...shape, ...form }));
  // Who is met for the first time is supposed to lay things out alike.
  for (const [expected, heads] of [[TAKEN_BACK], [ONE_ROUND_TRIP], [ONE_ROUND_TRIP, { first: 1, count: 1 }]] as const) {
    const into = [{ group: 0, blocks: await c.ferry.alloc(COUNT / 2), tokens: TOKENS }];
    const request = { peer, model, source: { handle: await offer() }, into, ...(heads === undefined ? {} : { heads }) };
    const report = await (await c.ferry.fetch(request)).done;
    assert.equal(report.order, "canonical");
    assert.equal(report.bytes, (COUNT * BLOCK_BYTES) / (heads === undefined ? 1 : 2));
    await nothingLeft();
    assert.deepEqual(
      story.splice(0),
      expected.map((line) => line.replace("b", "c")),
    );
  }
  assert.equal(a.pool.stats().held, COUNT);
});

test("layers that become ready later stream as ever", { skip }, async (t) => {
  const { a, b, story, source, target, offer, fetch, nothingLeft } = await stage(t);
  const handle = await offer(false);
  const { done } = await fetch(handle);
  await until(() => a.node.transfers === 1);
  for (const layer of [3, 0, 2, 1]) await a.ferry.ready(handle, layer);
  await done;
  assertSame(a, source, b, target);
  await nothingLeft();
  assert.deepEqual(story, ONE_ROUND_TRIP);
});

test("a holder of the former version answers with an Offer, and is accepted; so is one that takes no notice of the grant", {
  skip,
}, async (t) => {
  for (const says of [true, false]) {
    const { a, b, tapA, tapB, story, source, target, meet, offer, fetch, nothingLeft } = await stage(t);
    tapA.hear = former;
    tapB.hear = former;
    // One that is met for the first time may be of any version.
    if (says) await meet();
    const report = await (await fetch(await offer())).done;
    assertSame(a, source, b, target);
    assert.equal(report.resumed, 0);
    await nothingLeft();
    assert.deepEqual(story, [says ? "b: fetch" : "b: fetch 1", "a: offer", "b: accept 1", "b revokes", "b: done", "a revokes"]);
  }
});

test("a receiver of the former version grants nothing before the Offer", { skip }, async (t) => {
  const { a, b, tapB, story, source, target, meet, offer, fetch, nothingLeft } = await stage(t);
  tapB.hear = former;
  await meet();
  await (await fetch(await offer())).done;
  assertSame(a, source, b, target);
  await nothingLeft();
  assert.deepEqual(story, ["b: fetch", "a: offer", "b: accept 1", "b revokes", "b: done", "a revokes"]);
});

test("where the holder's layout is another than it said, the memory is taken back and granted anew", { skip }, async (t) => {
  const { a, b, tapB, story, source, target, meet, offer, fetch, nothingLeft } = await stage(t);
  const shape = { layers: 4, kvHeads: 2, headDim: 64, blockTokens: BLOCK_TOKENS, element: "bf16", kv: "split" } as const;
  const other = denseLayout({ ...shape, order: "HND", form: "layer-major", blockCount: a.pool.blockCount });
  const wrong = (message: Message): Message => {
    if (message.kind !== "hello" && message.kind !== "models") return message;
    return { ...message, models: message.models.map((model) => ({ ...model, layout: serializeLayout(other) })) };
  };
  tapB.hear = wrong;
  await meet();
  const report = await (await fetch(await offer())).done;
  assert.deepEqual([report.order, report.resumed], ["flat", 0]);
  assertSame(a, source, b, target);
  await nothingLeft();
  assert.deepEqual(story, TAKEN_BACK);
});

test("where one end wants checksums and the other does not, the first Offer says so, and later ones are foretold", { skip }, async (t) => {
  for (const unlike of [{ a: { settings: { checksum: false } } }, { b: { settings: { checksum: false } } }]) {
    const { a, b, story, source, target, offer, fetch, nothingLeft } = await stage(t, unlike);
    for (const expected of [TAKEN_BACK, ONE_ROUND_TRIP]) {
      for (const block of target.ids) bytesOf(b, block).fill(0xee);
      await (await fetch(await offer())).done;
      assertSame(a, source, b, target);
      await nothingLeft();
      assert.deepEqual(story.splice(0), expected);
    }
  }
});

test("fewer tokens than there is room for are refused, and everything is given back", { skip }, async (t) => {
  const { a, b, story, source, target, fetch, nothingLeft } = await stage(t);
  const handle = await a.ferry.offer({ model: 1, groups: [{ group: 0, blocks: source, tokens: TOKENS - 20 }] });
  await assert.rejects((await fetch(handle)).done, { code: "invalid_argument" });
  await nothingLeft();
  assert.deepEqual(story, ["b: fetch 1", "a: offer", "b: cancel", "b revokes"]);
  await a.ferry.free(source);
  await b.ferry.free(target);
});

test("a fetch that is refused gives back what was granted for it", { skip }, async (t) => {
  const { b, story, target, fetch, nothingLeft } = await stage(t);
  await assert.rejects((await fetch("nonsense")).done, { code: "handle_unknown" });
  await nothingLeft();
  assert.deepEqual(story, ["b: fetch 1", "a: cancel of the fetch", "b revokes"]);
  await b.ferry.free(target);
});

test("where no memory can be placed for it, here or there, the Offer is waited for", { skip }, async (t) => {
  for (const side of ["tapA", "tapB"] as const) {
    const scene = await stage(t);
    const { a, b, story, source, target, offer, fetch, nothingLeft } = scene;
    let full = true;
    scene[side].isFull = () => full && !(full = false);
    await (await fetch(await offer())).done;
    assertSame(a, source, b, target);
    await nothingLeft();
    assert.deepEqual(story, [side === "tapB" ? "b: fetch" : "b: fetch 1", "a: offer", "b: accept 1", "b revokes", "b: done", "a revokes"]);
  }
});

test("cancelled before the holder has heard the Fetch", { skip }, async (t) => {
  const { tapA, story, offer, fetch, nothingLeft } = await stage(t);
  tapA.hear = (message) => (message.kind === "fetch" ? "held" : message);
  const transfer = await fetch(await offer());
  await until(() => story.length > 0);
  transfer.cancel();
  await assert.rejects(transfer.done, { code: "cancelled" });
  // It overtakes what it is about, as it never does on a connection: whoever asks then is told that nobody waits.
  tapA.hear = (message) => message;
  tapA.release();
  await nothingLeft();
  assert.deepEqual(story.slice(0, 4), ["b: fetch 1", "b: cancel of the fetch", "b revokes", "a: offer 1"]);
  assert.ok(story.includes("b: cancel"), "the late offer is answered");
});

test("cancelled while chunks come and the Offer is late", { skip }, async (t) => {
  const { a, b, tapB, story, offer, fetch, nothingLeft } = await stage(t);
  tapB.hear = (message) => (message.kind === "offer" ? "held" : message);
  const handle = await offer(false);
  const transfer = await fetch(handle);
  await until(() => a.node.transfers === 1);
  await a.ferry.ready(handle, 0);
  await until(() => b.node.bytesReceived > 0);
  transfer.cancel();
  await assert.rejects(transfer.done, { code: "cancelled" });
  await nothingLeft();
  assert.deepEqual(story.slice(0, 4), ["b: fetch 1", "a: offer 1", "b: cancel of the fetch", "b revokes"]);
  await until(() => a.events.some((event) => event.kind === "offerEnded" && !event.ok));
});

test("cancelled by the holder while the Offer is late", { skip }, async (t) => {
  const { a, b, tapB, story, offer, fetch, nothingLeft } = await stage(t);
  tapB.hear = (message) => (message.kind === "offer" ? "lost" : message);
  const handle = await offer(false);
  const { done } = await fetch(handle);
  await until(() => a.node.transfers === 1);
  await a.ferry.ready(handle, 0);
  await until(() => b.node.bytesReceived > 0);
  await a.ferry.withdraw(handle);
  await assert.rejects(done, { code: "cancelled" });
  await nothingLeft();
  assert.ok(story.includes("a: cancel of the fetch"), "the receiver knows no other name for it");
});

test("all chunks are there before the Offer is: the Done names the Fetch, and the late Offer needs no other", { skip }, async (t) => {
  const { a, b, tapA, tapB, story, source, target, offer, fetch, nothingLeft } = await stage(t);
  const dones: unknown[] = [];
  tapA.hear = (message) => {
    if (message.kind === "done") dones.push([message.id, message.fetch]);
    return message;
  };
  tapB.hear = (message) => (message.kind === "offer" ? "held" : message);
  await (await fetch(await offer())).done;
  assertSame(a, source, b, target);
  await nothingLeft();
  assert.deepEqual(dones, [[0, 1]]);
  assert.ok(a.events.some((event) => event.kind === "offerEnded" && event.ok));
  tapB.hear = (message) => message;
  tapB.release();
  await (await fetch(await offer())).done;
  assert.deepEqual(story.filter((line) => line === "b: done").length, 2);
});

test("a Done that is lost with its connection is said again, also to an Offer that was never heard", { skip }, async (t) => {
  const { a, b, tapA, tapB, source, target, offer, fetch, nothingLeft } = await stage(t);
  let lost = false;
  tapA.hear = (message) => {
    if (message.kind !== "done" || lost) return message;
    lost = true;
    tapA.hangUp();
    return "lost";
  };
  tapB.hear = (message) => (message.kind === "offer" && message.generation !== 0 ? "lost" : message);
  await (await fetch(await offer())).done;
  assertSame(a, source, b, target);
  // Who asks next makes the connection.
  await b.ferry.lookup(1, 0, new Uint8Array(32), [`127.0.0.1:${a.address.port}`]);
  await nothingLeft();
  assert.ok(a.events.some((event) => event.kind === "offerEnded" && event.ok));
});

/** Breaks the connection in the middle, with a layer there; then the others become ready. */
async function interrupt({ a, b, tapA, offer, fetch, story }: Stage): Promise<Transfer> {
  const handle = await offer(false);
  const transfer = await fetch(handle);
  await until(() => a.node.transfers === 1);
  await a.ferry.ready(handle, 0);
  await until(() => b.node.bytesReceived === (COUNT * BLOCK_BYTES) / 4);
  tapA.hangUp();
  await until(() => story.includes("b revokes") && story.includes("a revokes"));
  for (const layer of [1, 2, 3]) await a.ferry.ready(handle, layer);
  return transfer;
}

test("a connection is lost after the Offer: what is there is not sent again", { skip }, async (t) => {
  const scene = await stage(t);
  const { a, b, story, source, target, nothingLeft } = scene;
  const report = await (await interrupt(scene)).done;
  assertSame(a, source, b, target);
  assert.deepEqual([report.resumed, report.wireBytes], [1, COUNT * BLOCK_BYTES]);
  await nothingLeft();
  const again = story.filter((line) => !line.endsWith("revokes"));
  // The holder cannot know that its Offer was heard, and says it again.
  assert.deepEqual(again.sort(), ["a: offer", "a: offer 1", "b: accept 2 with chunks", "b: done", "b: fetch 1", "b: resume"]);
});

test("a connection is lost with the Offer: chunks that came without it stay", { skip }, async (t) => {
  const scene = await stage(t);
  const { a, b, tapB, story, source, target, nothingLeft } = scene;
  tapB.hear = (message) => (message.kind === "offer" && message.generation === 1 ? "lost" : message);
  const report = await (await interrupt(scene)).done;
  assertSame(a, source, b, target);
  assert.deepEqual([report.resumed, report.wireBytes], [1, COUNT * BLOCK_BYTES]);
  await nothingLeft();
  const again = story.filter((line) => !line.endsWith("revokes"));
  assert.deepEqual(again.sort(), ["a: offer", "a: offer 1", "b: accept 2 with chunks", "b: done", "b: fetch", "b: fetch 1"]);
});

test("a connection is lost with the Fetch: it is said again with a grant of the next generation", { skip }, async (t) => {
  const { a, b, tapA, story, source, target, offer, fetch, nothingLeft } = await stage(t);
  let lost = false;
  tapA.hear = (message) => {
    if (message.kind !== "fetch" || lost) return message;
    lost = true;
    tapA.hangUp();
    return "lost";
  };
  const report = await (await fetch(await offer())).done;
  assertSame(a, source, b, target);
  assert.equal(report.resumed, 0);
  await nothingLeft();
  assert.deepEqual(story, ["b: fetch 1", "b revokes", "b: fetch 2", "a: offer 2", "b revokes", "b: done", "a revokes"]);
});

test("a connection is lost while the holder checks seals: it takes the grant that came over the new one", { skip }, async (t) => {
  const { a, b, tapA, story, peer, modelA, modelB, source, target, nothingLeft } = await stage(t);
  const keys = await a.ferry.keys(
    modelA,
    0,
    Uint32Array.from({ length: TOKENS }, (_, at) => at),
  );
  await a.ferry.publish(modelA, 0, source, keys);
  const { jobs } = a.node;
  const checksum = jobs.checksum.bind(jobs);
  let goOn = (): void => {};
  jobs.checksum = (region, planes, blocks, done) =>
    checksum(region, planes, blocks, (error, checksums) => {
      goOn = () => done(error, checksums);
      tapA.hangUp();
    });
  const into = [{ group: 0, blocks: target, tokens: TOKENS }];
  const { done } = await b.ferry.fetch({ peer, model: modelB, source: { keys, group: 0, tokens: TOKENS }, into });
  let heard = 0;
  tapA.hear = (message) => {
    if (message.kind === "fetch") heard += 1;
    return message;
  };
  await until(() => heard === 2);
  goOn();
  await done;
  assertSame(a, source, b, target);
  await nothingLeft();
  assert.deepEqual(story, ["b: fetch 1", "b revokes", "b: fetch 2", "a: offer 2", "b revokes", "b: done", "a revokes"]);
});

test("an Offer that takes a grant which it was not given ends the transfer", { skip }, async (t) => {
  const { tapB, offer, fetch, nothingLeft } = await stage(t);
  for (const wrong of [{ generation: 7 }, { heads: 1 }, { chunkBytes: 4_096 }]) {
    tapB.hear = (message) => (message.kind === "offer" ? { ...message, ...wrong } : message);
    const handle = await offer(false);
    await assert.rejects((await fetch(handle)).done, { code: "protocol_error" });
    await nothingLeft();
  }
});
