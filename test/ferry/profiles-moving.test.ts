/**
 * What profiles are to hold through: lost connections and lanes, other layouts, pushes, keys in the middle of a sequence, calibrations that are not the
 * same.
 * Method: two nodes over the real link, every value compared; calibrations are made in memory, of KV that looks like the blocks'.
 */
import assert from "node:assert/strict";
import test from "node:test";
import { ERRORS } from "../../transport/errors.ts";
import { denseLayout } from "../../transport/kv/build.ts";
import { calibrationOf, plainSource, ROPE } from "../codec/made.ts";
import { openTestNode } from "./node.ts";
import { assertSame, BLOCK_BYTES, BLOCK_TOKENS, bytesOf, IDENTITY, layoutOf, skip, until } from "./pair.ts";
import { errorOf, fillValues, floatsOf, profilesOf, stageWith } from "./profiled.ts";
import { COUNT, fetchOverLostConnection, TOKENS } from "./stage.ts";

const BYTES = COUNT * BLOCK_BYTES;
const LOSSLESS = { names: ["lossless"] };
const SHAPE = { layers: 4, heads: 2, channels: 64, tokens: 64 };
const tiny = (seed: number) => ({ ...calibrationOf({ sources: [plainSource(SHAPE, ROPE(64), seed)] }), model: IDENTITY.model });

test("a connection is lost in the middle: what is there stays, the rest comes coded in the next generation", { skip }, async (t) => {
  const scene = await stageWith(t, LOSSLESS, LOSSLESS);
  const { a, b, source, target, nothingLeft } = scene;
  const report = await fetchOverLostConnection(scene);
  assertSame(a, source, b, target);
  assert.ok(report.resumed === 1 && report.bytes === BYTES && report.wireBytes < 0.75 * BYTES, JSON.stringify(report));
  await nothingLeft();
});

test("lanes are lost in the middle: their chunks are coded again by others", { skip }, async (t) => {
  const { a, b, source, target, peer, meet, offer, fetch, nothingLeft } = await stageWith(t, LOSSLESS, LOSSLESS);
  await meet();
  const handle = await offer(false);
  const { done } = await fetch(handle);
  await until(() => a.node.transfers === 1);
  const dialled = b.node.peers.at(peer).peer;
  for (const layer of [0, 1, 2, 3]) {
    const lane = b.link.laneInfo(dialled.connection ?? 0)[0]?.lane ?? 0;
    await a.ferry.ready(handle, layer);
    b.link.closeLane(dialled.connection ?? 0, lane);
  }
  const report = await done;
  assertSame(a, source, b, target);
  assert.equal(report.bytes, BYTES);
  await nothingLeft();
});

test("blocks of another size and order, and a part of the heads, come coded as well", { skip }, async (t) => {
  const { a, source, peer, offer } = await stageWith(t, LOSSLESS, undefined);
  const c = await openTestNode({ name: "c", blockBytes: 2 * BLOCK_BYTES, more: () => ({ profiles: profilesOf(LOSSLESS) }) });
  t.after(() => c.close());
  const shape = { layers: 4, kvHeads: 2, headDim: 64, blockTokens: 2 * BLOCK_TOKENS, element: "bf16" } as const;
  const layout = denseLayout({ ...shape, order: "HND", form: "block-contiguous", kv: "split", blockCount: c.pool.blockCount });
  const { model } = await c.ferry.registerModel(IDENTITY, layout);
  for (const heads of [undefined, { first: 1, count: 1 }]) {
    const blocks = await c.ferry.alloc(COUNT / 2);
    const from = c.pool.dataOffset;
    for (const id of blocks.ids) c.pool.region.view.fill(0, from + id * 2 * BLOCK_BYTES, from + (id + 1) * 2 * BLOCK_BYTES);
    const request = { peer, model, source: { handle: await offer() }, into: [{ group: 0, blocks, tokens: TOKENS }] };
    const report = await (await c.ferry.fetch({ ...request, ...(heads === undefined ? {} : { heads }) })).done;
    assert.ok(report.profile !== "" && report.wireBytes < 0.75 * report.bytes);
    // A block of a is [layer][k, v][16 tokens][head][channel], two of them one of c, [layer][k, v][head][32 tokens][channel].
    for (let token = 0; token < TOKENS; token++)
      for (let plane = 0; plane < 8; plane++)
        for (let head = heads?.first ?? 0; head < 2; head++) {
          const block = bytesOf(a, source.ids[Math.floor(token / BLOCK_TOKENS)] ?? 0);
          const at = ((plane * BLOCK_TOKENS + (token % BLOCK_TOKENS)) * 2 + head) * 128;
          const there = from + (blocks.ids[Math.floor(token / (2 * BLOCK_TOKENS))] ?? 0) * 2 * BLOCK_BYTES;
          const offset = there + ((plane * 2 + head) * 2 * BLOCK_TOKENS + (token % (2 * BLOCK_TOKENS))) * 128;
          assert.equal(Buffer.compare(block.subarray(at, at + 128), c.pool.region.view.subarray(offset, offset + 128)), 0);
        }
  }
});

test("a push goes by a profile that loses nothing, or by the one that its model's identity names", { skip }, async (t) => {
  const both = { names: ["int8", "lossless"] };
  for (const [use, named, expected] of [
    ["int8", false, ""],
    ["lossless", false, "lossless"],
    ["int8", true, "int8"],
  ] as const) {
    const { a, b, peer, target } = await stageWith(t, both, { ...both, use });
    const profiles = b.node.models.all()[0]!.codecs.profiles;
    const identity = { ...IDENTITY, profile: named ? profiles.find(({ name }) => name === use)!.id : "" };
    const layout = b.node.models.all()[0]!.layout;
    const { model } = await b.ferry.registerModel(identity, layout);
    await a.ferry.registerModel(identity, layout);
    for (const id of target.ids) fillValues(bytesOf(b, id), id);
    const keys = await b.ferry.keys(model, 0, new Uint32Array(TOKENS));
    // What this side knows of the other's profiles comes with its Hello.
    await b.ferry.lookup(model, 0, keys, [peer]);
    const report = await (await b.ferry.push({ peer, model, group: 0, blocks: target, tokens: TOKENS, keys })).done;
    assert.equal(profiles.find(({ id }) => id === report.profile)?.name ?? "", expected);
    const there = await a.ferry.lease(a.node.models.all().at(-1)!.id, 0, keys);
    const { differ } = errorOf(floatsOf(b, target), floatsOf(a, there));
    assert.equal(differ > 0, expected === "int8");
  }
});

test("a push to who has no profiles, or none of ours, goes as it is", { skip }, async (t) => {
  for (const there of [undefined, { names: ["int8"] }]) {
    const { a, b, peer, modelA, modelB, target } = await stageWith(t, there, LOSSLESS);
    for (const id of target.ids) fillValues(bytesOf(b, id), id);
    const keys = await b.ferry.keys(modelB, 0, new Uint32Array(TOKENS));
    await b.ferry.lookup(modelB, 0, keys, [peer]);
    const report = await (await b.ferry.push({ peer, model: modelB, group: 0, blocks: target, tokens: TOKENS, keys })).done;
    assert.deepEqual([report.profile, report.wireBytes], ["", BYTES]);
    assertSame(b, target, a, await a.ferry.lease(modelA, 0, keys));
  }
});

test("a push to a peer that came back without the profile goes once more, as it is", { skip }, async (t) => {
  for (const there of [undefined, { names: ["int8"] }]) {
    const { a, b, peer, modelB, target } = await stageWith(t, LOSSLESS, LOSSLESS);
    const { name } = a.node.settings;
    for (const id of target.ids) fillValues(bytesOf(b, id), id);
    const keys = await b.ferry.keys(modelB, 0, new Uint32Array(TOKENS));
    await b.ferry.lookup(modelB, 0, keys, [peer]);
    await a.close();
    const more = there === undefined ? {} : { more: () => ({ profiles: profilesOf(there) }) };
    const again = await openTestNode({ name, port: a.address.port, blockBytes: BLOCK_BYTES, ...more });
    t.after(() => again.close());
    const { model } = await again.ferry.registerModel(IDENTITY, layoutOf(again.pool.blockCount));
    const report = await (await b.ferry.push({ peer, model: modelB, group: 0, blocks: target, tokens: TOKENS, keys })).done;
    assert.deepEqual([report.profile, report.bytes, report.wireBytes], ["", BYTES, BYTES]);
    assert.deepEqual(b.node.choices.get(b.node.peers.at(peer).peer), { profile: "", reason: "refused" });
    assertSame(b, target, again, await again.ferry.lease(model, 0, keys));
    await until(() => b.node.transfers === 0 && b.pool.stats().pinned === 0);
  }
});

test("a fetch whose offer is coded with what its reader has not is asked once more, and the offer is still there for it", {
  skip,
}, async (t) => {
  const { a, b, tapB, source, target, reasons, offer, fetch, nothingLeft } = await stageWith(t, LOSSLESS, LOSSLESS);
  let refused = 0;
  tapB.hear = (message) => {
    if (message.kind !== "offer" || message.coding === undefined) return message;
    refused += 1;
    return { ...message, coding: { profile: "0f".repeat(16), position: 0 } };
  };
  const report = await (await fetch(await offer())).done;
  assertSame(a, source, b, target);
  assert.deepEqual([report.profile, report.wireBytes, refused], ["", BYTES, 1]);
  assert.deepEqual(reasons, ["lossless: fixed", "stored: refused"]);
  await nothingLeft();
  await until(() => a.node.offers.size === 0);
  assert.deepEqual(
    a.events.flatMap((event) => (event.kind === "offerEnded" ? [event.ok] : [])),
    [true],
  );
});

test("a holder that counts a refused fetch as one that took its offer: its reader hears of the refusal, not of a handle", {
  skip,
}, async (t) => {
  const { a, tapA, tapB, offer, fetch, nothingLeft } = await stageWith(t, LOSSLESS, LOSSLESS);
  const none = { profile: "0f".repeat(16), position: 0 };
  tapB.hear = (message) => (message.kind === "offer" && message.coding !== undefined ? { ...message, coding: none } : message);
  tapA.hear = (message) => (message.kind === "cancel" ? { ...message, code: ERRORS.cancelled.number } : message);
  await assert.rejects((await fetch(await offer())).done, { code: "profile_refused", message: /0f0f0f0f/ });
  await nothingLeft();
  assert.equal(a.node.offers.size, 0);
});

test("an offer that is taken back while its fetch is refused ends all the same", { skip }, async (t) => {
  const { a, tapA, tapB, offer, fetch } = await stageWith(t, LOSSLESS, LOSSLESS);
  const none = { profile: "0f".repeat(16), position: 0 };
  tapB.hear = (message) => (message.kind === "offer" ? { ...message, coding: none } : message);
  tapA.hear = (message) => (message.kind === "cancel" ? "held" : message);
  const handle = await offer();
  const { done } = await fetch(handle);
  await until(() => a.node.transfers === 1);
  await assert.rejects(done);
  await a.ferry.withdraw(handle);
  await until(() => a.node.offers.size === 0 && a.node.transfers === 0);
});

test("a push that would be published as what it is not is refused", { skip }, async (t) => {
  const both = { names: ["int8"] };
  const { a, b, tapA, peer, modelB, target } = await stageWith(t, both, both);
  const [profile] = b.node.models.get(modelB).codecs.profiles;
  let offers = 0;
  tapA.hear = (message) => {
    if (message.kind !== "offer") return message;
    offers += 1;
    return { ...message, coding: { profile: profile!.id, position: 0 } };
  };
  const keys = await b.ferry.keys(modelB, 0, new Uint32Array(TOKENS));
  const push = await b.ferry.push({ peer, model: modelB, group: 0, blocks: target, tokens: TOKENS, keys });
  await assert.rejects(push.done, { code: "profile_refused" });
  // Of what was offered as it is no more is said.
  assert.deepEqual([a.node.transfers, offers], [0, 1]);
});

const FAST = { names: ["cpu-fast"], acceptsLossy: true };

test("a calibrated profile that turns keys back serves where the position is known, also in the middle", { skip }, async (t) => {
  // The other one would serve without a position, and is not what was asked for.
  const having = { ...FAST, names: ["cpu-fast", "lossless"], calibrations: [tiny(1)] };
  const { a, b, peer, modelA, modelB, source, target, reasons } = await stageWith(t, having, having);
  const keys = await a.ferry.keys(modelA, 0, new Uint32Array(2 * TOKENS).fill(7));
  await a.ferry.publish(modelA, 0, source, keys.slice(0, keys.length / 2));
  const exact = floatsOf(a, source);
  const into = [{ group: 0, blocks: target, tokens: TOKENS }];
  const wanted = { keys: keys.slice(0, keys.length / 2), group: 0, tokens: TOKENS };
  for (const [position, isCoded] of [
    [undefined, false],
    [0, true],
    [48, true],
  ] as const) {
    const { wireBytes, profile, lossy } = await (await b.ferry.fetch({ peer, model: modelB, source: { ...wanted, position }, into })).done;
    const { differ, worst } = errorOf(exact, floatsOf(b, target));
    assert.deepEqual([profile !== "", lossy, differ > 0], [isCoded, isCoded, isCoded]);
    assert.ok(worst < 2 && (isCoded ? wireBytes < BYTES / 2 : wireBytes === BYTES), `${worst}, ${wireBytes}`);
  }
  assert.deepEqual(reasons, ["stored: position_unknown", "cpu-fast: fixed", "cpu-fast: fixed"]);
});

test("calibrations that are not the same make other profiles; one of another model makes none, and is said", { skip }, async (t) => {
  const [one, other] = [tiny(1), tiny(2)];
  const foreign = { ...tiny(1), model: "another" };
  for (const [calibrations, misfit] of [
    [[other], undefined],
    [[foreign], /of the model another, not of tiny/],
    [[foreign, one], undefined],
  ] as const) {
    const scene = await stageWith(t, { ...FAST, calibrations: [one] }, { ...FAST, calibrations });
    const handle = await scene.a.ferry.offer({
      model: scene.modelA,
      groups: [{ group: 0, blocks: scene.source, tokens: TOKENS }],
      position: 0,
    });
    const report = await (await scene.fetch(handle)).done;
    const isSame = calibrations.some(({ hash, model }) => hash === one.hash && model === one.model);
    assert.equal(report.profile !== "", isSame);
    assert.deepEqual(scene.reasons, [isSame ? "cpu-fast: fixed" : "stored: no_common_profile"]);
    const [said] = scene.b.node.models.get(scene.modelB).codecs.misfits;
    if (misfit === undefined) assert.equal(said, undefined);
    else assert.match(said!.why, misfit);
  }
});
