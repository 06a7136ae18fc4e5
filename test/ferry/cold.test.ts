/**
 * A connection that is not there yet: lanes are opened beside it, and what every version knows is said behind the Hello, before the other Hello has come.
 * Method: two nodes over the real link with a tap; all that the asker hears is held back, so whatever happens meanwhile has waited for nothing.
 */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import test from "node:test";
import { limits } from "../../transport/limits.ts";
import { assertSame, fill, skip, until } from "./pair.ts";
import { type Stage, stage, TOKENS } from "./stage.ts";

/** Nothing is heard from here on until what this returns is called. */
function deafen({ tapB }: Stage): () => void {
  tapB.hear = () => "held";
  return () => {
    tapB.hear = (message) => message;
    tapB.release();
  };
}

test("a pull is over before its asker has heard the Hello, and the holder knows it", { skip }, async (t) => {
  const scene = await stage(t);
  const { a, b, story, source, target, offer, fetch, nothingLeft } = scene;
  const listen = deafen(scene);
  await (await fetch(await offer())).done;
  assertSame(a, source, b, target);
  assert.ok((await b.ferry.stats()).peers.every(({ up }) => !up));
  await nothingLeft();
  assert.ok(a.events.some((event) => event.kind === "offerEnded" && event.ok));
  assert.deepEqual(story.splice(0), ["b: fetch 1", "a: offer 1", "b revokes", "b: done", "a revokes"]);
  listen();
  await (await fetch(await offer())).done;
  await nothingLeft();
  assert.deepEqual(story, ["b: fetch 1", "a: offer 1", "b revokes", "b: done", "a revokes"], "nothing is said again");
});

test("all its lanes are up by then", { skip }, async (t) => {
  const scene = await stage(t);
  const { b, offer, fetch } = scene;
  const listen = deafen(scene);
  await fetch(await offer(false));
  const lanes = async (): Promise<number> => (await b.ferry.stats()).peers[0]?.lanes ?? 0;
  for (let round = 0; round < 500 && (await lanes()) < 4; round++) await new Promise((resolve) => setTimeout(resolve, 10));
  assert.equal(await lanes(), 4);
  listen();
});

test("a cancel before the Hello is heard reaches the holder", { skip }, async (t) => {
  const scene = await stage(t);
  const { a, story, offer, fetch, nothingLeft } = scene;
  const listen = deafen(scene);
  const transfer = await fetch(await offer(false));
  await until(() => a.node.transfers === 1);
  transfer.cancel();
  await assert.rejects(transfer.done, { code: "cancelled" });
  await nothingLeft();
  assert.deepEqual(story, ["b: fetch 1", "a: offer 1", "b: cancel of the fetch", "b revokes", "a revokes"]);
  await until(() => a.events.some((event) => event.kind === "offerEnded" && !event.ok));
  listen();
});

test("a look-up is asked at once, and once", { skip }, async (t) => {
  const scene = await stage(t);
  const { b, tapA, modelB, peer } = scene;
  const listen = deafen(scene);
  let asked = 0;
  tapA.hear = (message) => {
    if (message.kind === "lookup") asked += 1;
    return message;
  };
  const places = b.ferry.lookup(modelB, 0, new Uint8Array(32), [peer]);
  await until(() => asked === 1);
  listen();
  assert.deepEqual((await places)[1], { peer, matched: 0, code: "" });
  assert.equal(asked, 1);
});

test("a look-up too large for a stranger's waits for the Hello", { skip }, async (t) => {
  const scene = await stage(t);
  const { b, tapA, modelB, peer } = scene;
  const listen = deafen(scene);
  const asked: number[] = [];
  tapA.hear = (message) => {
    if (message.kind === "lookup") asked.push(message.keys.length);
    return message;
  };
  const sizes = [limits.greetingMessageBytes, 32];
  const places = sizes.map((bytes) => b.ferry.lookup(modelB, 0, new Uint8Array(bytes), [peer]));
  await until(() => asked.length > 0);
  assert.deepEqual(asked, [32]);
  listen();
  for (const found of await Promise.all(places)) assert.deepEqual(found[1], { peer, matched: 0, code: "" });
  assert.deepEqual(asked, [32, limits.greetingMessageBytes]);
});

test("what needs a capability waits for the Hello", { skip }, async (t) => {
  const scene = await stage(t);
  const { a, b, tapA, story, peer, modelA, modelB, source, target, nothingLeft } = scene;
  const keys = await a.ferry.keys(
    modelA,
    0,
    Uint32Array.from({ length: TOKENS }, (_, at) => at),
  );
  fill(a, source);
  await a.ferry.publish(modelA, 0, source, keys);
  const listen = deafen(scene);
  let greeted = false;
  tapA.hear = (message) => {
    greeted ||= message.kind === "hello";
    return message;
  };
  const into = [{ group: 0, blocks: target, tokens: TOKENS }];
  const { done } = await b.ferry.fetch({ peer, model: modelB, source: { keys, group: 0, tokens: TOKENS }, into });
  const [far, near] = [new Uint8Array(randomBytes(4_096)), new Uint8Array(4_096)];
  const [remote, local] = [(await a.ferry.registerBuffer(far)).handle, (await b.ferry.registerBuffer(near)).handle];
  const read = await b.ferry.read({ peer, remote, local, ranges: [{ local: 0, remote: 0, bytes: 4_096 }] });
  await until(() => greeted);
  assert.equal(story.length, 0);
  listen();
  await Promise.all([done, read.done]);
  await nothingLeft();
  assert.deepEqual(
    story.filter((line) => line.startsWith("b: fetch")),
    ["b: fetch 1", "b: fetch 1"],
  );
});

test("a holder that was replaced by another process meanwhile serves what is said to it before its Hello is heard", { skip }, async (t) => {
  const scene = await stage(t);
  const { a, b, tapA, tapB, source, target, meet, offer, fetch, nothingLeft } = scene;
  await meet();
  tapA.hangUp();
  await until(() => b.events.some((event) => event.kind === "peer" && !event.up));
  // Chunks are there before the Hello that says that another process sent them.
  deafen(scene);
  const handle = await offer(false);
  const { done } = await fetch(handle);
  await until(() => a.node.transfers === 1);
  await a.ferry.ready(handle, 0);
  await until(() => b.node.bytesReceived > 0);
  tapB.hear = (message) => (message.kind === "hello" ? { ...message, node: "another" } : message);
  tapB.release();
  for (const layer of [1, 2, 3]) await a.ferry.ready(handle, layer);
  await done;
  assertSame(a, source, b, target);
  await nothingLeft();
});
