/**
 * Profiles that merge tokens, between two nodes: who gets such KV, what comes of it, and that it is never taken for what was computed.
 * Method: two nodes over the real link, whose blocks hold values that are all different, so that tokens of one set are found again by their rows.
 */
import assert from "node:assert/strict";
import test from "node:test";
import { parseProfile } from "../../transport/codec/parse.ts";
import type { Layout } from "../../transport/kv/layout.ts";
import type { Blocks } from "../../transport/memory/pool.ts";
import type { TestNode } from "./node.ts";
import { assertSame, BLOCK_BYTES, BLOCK_TOKENS, bytesOf, IDENTITY, layoutOf, skip } from "./pair.ts";
import { fillValues, type Having, profilesOf, stageWith } from "./profiled.ts";
import { COUNT, fetchOverLostConnection, TOKENS } from "./stage.ts";

const BYTES = COUNT * BLOCK_BYTES;
const [LAYERS, HEADS, ROW_BYTES] = [4, 2, 128];
const EXACT = { codec: { kind: "exponent" } };
const mergedProfile = (merge: object, more: object = {}) =>
  parseProfile({
    exempt: 0,
    merge: { kind: "kvmerger", pivot: "key-norm", heavy: 0, members: 1_000, ...merge },
    k: EXACT,
    v: EXACT,
    ...more,
  });
const having = (merge: object = {}, more: object = {}): Having => ({
  names: ["merged", "lossless"],
  own: { merged: mergedProfile(merge, more) },
  acceptsLossy: true,
});

/** Row of K and row of V of each token of a head. */
function rowsOf(node: TestNode, { ids }: Blocks, layer: number, head: number): string[] {
  return Array.from({ length: TOKENS }, (_, token) => {
    const block = bytesOf(node, ids[Math.floor(token / BLOCK_TOKENS)]!);
    return [0, 1]
      .map((side) => (((layer * 2 + side) * BLOCK_TOKENS + (token % BLOCK_TOKENS)) * HEADS + head) * ROW_BYTES)
      .map((at) => Buffer.from(block.subarray(at, at + ROW_BYTES)).toString("hex"))
      .join();
  });
}

test("each head has as many different tokens as its budget says, the first and the last ones as they were", { skip }, async (t) => {
  const both = having({ budget: 0.5, sinks: 5, recent: 0.1, skip: [2] });
  const { a, b, source, target, reasons, offer, fetch } = await stageWith(t, both, both);
  const report = await (await fetch(await offer())).done;
  assert.deepEqual([report.lossy, report.bytes, reasons], [true, BYTES, ["merged: fixed"]]);
  assert.ok(report.wireBytes < 0.6 * BYTES, `${report.wireBytes} of ${BYTES} bytes`);
  const recent = Math.round(0.1 * TOKENS);
  for (let layer = 0; layer < LAYERS; layer++)
    for (let head = 0; head < HEADS; head++) {
      const [sent, came] = [rowsOf(a, source, layer, head), rowsOf(b, target, layer, head)];
      assert.equal(new Set(sent).size, TOKENS);
      assert.equal(new Set(came).size, layer === 2 ? TOKENS : TOKENS / 2);
      assert.deepEqual(came.slice(0, 5), sent.slice(0, 5));
      assert.deepEqual(came.slice(-recent), sent.slice(-recent));
    }
});

test("tokens that are recent are those before the offer's end, sinks those of the sequence's beginning", { skip }, async (t) => {
  const both = having({ budget: 0, sinks: 8, recent: 0.25 });
  const { a, b, peer, modelA, modelB, source, target, reasons } = await stageWith(t, both, both);
  // Of 256 tokens the last 64 are recent, and the offer holds the last 128.
  for (const [position, first, last] of [
    [TOKENS, 0, 2 * (TOKENS / 4)],
    [4, 4, (TOKENS + 4) / 4],
    [0, 8, TOKENS / 4],
  ] as const) {
    const groups = [{ group: 0, blocks: source, tokens: TOKENS }];
    const handle = await a.ferry.offer({ model: modelA, groups, position });
    const into = [{ group: 0, blocks: target, tokens: TOKENS }];
    await (await b.ferry.fetch({ peer, model: modelB, source: { handle }, into })).done;
    const [sent, came] = [rowsOf(a, source, 1, 1), rowsOf(b, target, 1, 1)];
    const isSame = sent.map((row, token) => row === came[token]);
    assert.deepEqual(
      isSame.map((same, token) => same || (token >= first && token < TOKENS - last)),
      isSame.map(() => true),
    );
    assert.equal(new Set(came.slice(first, TOKENS - last)).size, 1);
  }
  assert.deepEqual(reasons, Array(3).fill("merged: fixed"));
});

test("merged KV goes to who takes what loses something, and no further than under an identity that names its profile", {
  skip,
}, async (t) => {
  const both = having();
  const { a, b, peer, modelB, source, target, offer, fetch } = await stageWith(t, both, both);
  const report = await (await fetch(await offer())).done;
  assert.equal(report.lossy, true);
  const groups = [{ group: 0, blocks: target, tokens: TOKENS }];
  const fresh = await b.ferry.alloc(COUNT);
  const into = [{ group: 0, blocks: fresh, tokens: TOKENS }];
  const exactly = await b.ferry.fetch({ peer, model: modelB, source: { handle: await offer() }, into, exact: true });
  assert.equal((await exactly.done).lossy, false);
  assertSame(a, source, b, fresh);
  const refused = { code: "profile_refused" };
  const keysOf = (model: number) => b.ferry.keys(model, 0, new Uint32Array(TOKENS));
  await assert.rejects(b.ferry.offer({ model: modelB, groups }), refused);
  await assert.rejects(b.ferry.publish(modelB, 0, target, await keysOf(modelB)), refused);
  await assert.rejects(b.ferry.push({ peer, model: modelB, ...groups[0]!, keys: await keysOf(modelB) }), refused);
  const { model } = await b.ferry.registerModel({ ...IDENTITY, profile: report.profile }, layoutOf(b.pool.blockCount));
  assert.notDeepEqual(await keysOf(model), await keysOf(modelB));
  await b.ferry.withdraw(await b.ferry.offer({ model, groups }));
  await b.ferry.publish(model, 0, target, await keysOf(model));
});

test("a push merges under an identity that names the profile alone", { skip }, async (t) => {
  const both = having();
  for (const isNamed of [false, true]) {
    const { a, b, peer, target } = await stageWith(t, both, both);
    const { codecs, layout } = b.node.models.all()[0]!;
    const profile = codecs.profiles.find(({ name }) => name === "merged")!.id;
    const identity = { ...IDENTITY, profile: isNamed ? profile : "" };
    const { model } = await b.ferry.registerModel(identity, layout);
    const { model: there } = await a.ferry.registerModel(identity, layout);
    for (const id of target.ids) fillValues(bytesOf(b, id), id);
    const keys = await b.ferry.keys(model, 0, new Uint32Array(TOKENS));
    await b.ferry.lookup(model, 0, keys, [peer]);
    const report = await (await b.ferry.push({ peer, model, group: 0, blocks: target, tokens: TOKENS, keys })).done;
    assert.equal(report.profile === profile, isNamed);
    const landed = await a.ferry.lease(there, 0, keys);
    assert.equal(new Set(rowsOf(a, landed, 0, 0)).size, isNamed ? TOKENS / 2 : TOKENS);
  }
});

test("a reader that takes nothing that loses something gets KV as it is", { skip }, async (t) => {
  const { a, b, source, target, reasons, offer, fetch } = await stageWith(t, having(), { ...having(), acceptsLossy: false });
  const report = await (await fetch(await offer())).done;
  assertSame(a, source, b, target);
  assert.deepEqual([report.profile, report.lossy, reasons], ["", false, ["stored: reader_refuses_lossy"]]);
});

test("a connection is lost in the middle: every head keeps its budget", { skip }, async (t) => {
  const both = having();
  const scene = await stageWith(t, both, both);
  const { b, target, nothingLeft } = scene;
  const report = await fetchOverLostConnection(scene);
  assert.ok(report.resumed === 1 && report.lossy);
  for (let layer = 0; layer < LAYERS; layer++) assert.equal(new Set(rowsOf(b, target, layer, 1)).size, TOKENS / 2);
  await nothingLeft();
});

test("one head alone is merged as well, and joined layers each by themselves", { skip }, async (t) => {
  const both = having({ skip: [1] }, { layers: 2 });
  const { b, peer, modelB, target, offer } = await stageWith(t, both, both);
  for (const id of target.ids) bytesOf(b, id).fill(0);
  const into = [{ group: 0, blocks: target, tokens: TOKENS }];
  const report = await (
    await b.ferry.fetch({ peer, model: modelB, source: { handle: await offer() }, into, heads: { first: 1, count: 1 } })
  ).done;
  assert.equal(report.lossy, true);
  for (let layer = 0; layer < LAYERS; layer++) {
    assert.equal(new Set(rowsOf(b, target, layer, 1)).size, layer === 1 ? TOKENS : TOKENS / 2);
    assert.equal(new Set(rowsOf(b, target, layer, 0)).size, 1, "nothing came of the other");
  }
});

test("what cannot be merged in transfers is not offered, and says why", { skip }, () => {
  const misfitOf = (merge: object, change: (layout: Layout) => Layout = (layout) => layout): string => {
    const { misfits, profiles } = profilesOf(having(merge)).of(IDENTITY, change(layoutOf(16)));
    assert.deepEqual(
      profiles.map(({ name }) => name),
      ["lossless"],
    );
    return misfits[0]!.why;
  };
  assert.match(misfitOf({ pivot: "attention" }), /the attention that tokens got, which transfers do not know/);
  const narrowV = (layout: Layout): Layout => ({
    ...layout,
    groups: layout.groups.map((group) => ({
      ...group,
      components: group.components.map((component) => (component.name === "v" ? { ...component, channels: 32 } : component)),
    })),
  });
  assert.match(misfitOf({}, narrowV), /K and V have one shape/);
});
