/**
 * Profiles between two nodes: what each can decode, which the reader takes, which one the holder chooses, and that what loses something is never taken for
 * what the model computed.
 * Method: two nodes over the real link, whose blocks hold bf16 values of a few exponents; calibrations are made in memory.
 */
import assert from "node:assert/strict";
import test from "node:test";
import { parseProfile } from "../../transport/codec/parse.ts";
import { assertSame, BLOCK_BYTES, BLOCK_TOKENS, bytesOf, IDENTITY, layoutOf, skip } from "./pair.ts";
import { errorOf, floatsOf, stageWith } from "./profiled.ts";
import { COUNT, former } from "./stage.ts";

const BYTES = COUNT * BLOCK_BYTES;

test("a lossless profile that both have brings every byte in fewer, and is foretold from the second fetch on", { skip }, async (t) => {
  const { a, b, source, target, story, reasons, offer, fetch, nothingLeft } = await stageWith(
    t,
    { names: ["lossless"] },
    { names: ["lossless"] },
  );
  for (const expected of [
    ["b: fetch 1", "a: offer", "b revokes", "b: accept 2", "b revokes", "b: done", "a revokes"],
    ["b: fetch 1", "a: offer 1", "b revokes", "b: done", "a revokes"],
  ]) {
    for (const id of target.ids) bytesOf(b, id).fill(0);
    const report = await (await fetch(await offer())).done;
    assertSame(a, source, b, target);
    assert.equal(report.order, "canonical");
    assert.deepEqual([report.bytes, report.lossy, report.profile.length], [BYTES, false, 32]);
    assert.ok(report.wireBytes < 0.75 * BYTES, `${report.wireBytes} of ${BYTES} bytes`);
    assert.equal(b.node.bytesReceived % BYTES, 0, "what lies in memory counts as received");
    await nothingLeft();
    assert.deepEqual(story.splice(0), expected);
  }
  assert.deepEqual(reasons, ["lossless: fixed", "lossless: fixed"]);
});

test("what loses something is taken by who says so, is said, and goes no further than under an identity that names it", {
  skip,
}, async (t) => {
  const { a, b, peer, modelB, source, target, reasons, offer, fetch } = await stageWith(
    t,
    { names: ["int8", "lossless"] },
    { names: ["lossless", "int8"], acceptsLossy: true },
  );
  const report = await (await fetch(await offer())).done;
  assert.deepEqual([report.lossy, reasons], [true, ["int8: fixed"]]);
  const exact = floatsOf(a, source);
  const { differ, worst } = errorOf(exact, floatsOf(b, target));
  // Half of one of 255 steps over at most 4, and a rounding to bf16 of what is below 2.
  assert.ok(differ > exact.length / 8 && worst <= 4 / 255 / 2 + 2 ** -8, `${differ} differ, by ${worst} at most`);

  const groups = [{ group: 0, blocks: target, tokens: COUNT * 16 }];
  const fresh = await b.ferry.alloc(COUNT);
  const into = [{ group: 0, blocks: fresh, tokens: COUNT * 16 }];
  const exactly = await b.ferry.fetch({ peer, model: modelB, source: { handle: await offer() }, into, exact: true });
  assert.equal((await exactly.done).lossy, false);
  assertSame(a, source, b, fresh);
  await b.ferry.withdraw(await b.ferry.offer({ model: modelB, groups: into }));
  const refused = { code: "profile_refused" };
  const keysOf = (model: number) => b.ferry.keys(model, 0, new Uint32Array(COUNT * 16));
  await assert.rejects(b.ferry.offer({ model: modelB, groups }), refused);
  await assert.rejects(b.ferry.publish(modelB, 0, target, await keysOf(modelB)), refused);
  await assert.rejects(b.ferry.push({ peer, model: modelB, ...groups[0]!, keys: await keysOf(modelB) }), refused);
  const named = { ...IDENTITY, profile: report.profile };
  const { model } = await b.ferry.registerModel(named, layoutOf(b.pool.blockCount));
  await b.ferry.withdraw(await b.ferry.offer({ model, groups }));
  await b.ferry.publish(model, 0, target, await keysOf(model));
});

test("a profile that keeps recent tokens keeps the last ones of what is offered, and loses something of others", { skip }, async (t) => {
  const quantizer = { kind: "group", levels: 4, axis: "channel", group: 16, recent: 40 };
  const side = { quantizer, codec: { kind: "pack" } };
  const having = { names: ["kivi"], own: { kivi: parseProfile({ k: side, v: side, exempt: 0 }) }, acceptsLossy: true };
  const { a, b, source, target, offer, fetch } = await stageWith(t, having, having);
  const report = await (await fetch(await offer())).done;
  assert.deepEqual([report.lossy, report.wireBytes < 0.6 * BYTES], [true, true]);
  source.ids.forEach((id, index) => {
    const [sent, came] = [bytesOf(a, id), bytesOf(b, target.ids[index]!)];
    // [layer, K or V][token][head][channel]
    for (let token = 0; token < BLOCK_TOKENS; token++) {
      const planes = Array.from({ length: 8 }, (_, plane) => (plane * BLOCK_TOKENS + token) * 256);
      const isSame = planes.map((at) => Buffer.compare(sent.subarray(at, at + 256), came.subarray(at, at + 256)) === 0);
      const isRecent = index * BLOCK_TOKENS + token >= COUNT * BLOCK_TOKENS - 40;
      assert.ok(
        isSame.every((one) => one === isRecent),
        `token ${token} of block ${index}`,
      );
    }
  });
});

for (const [what, a, b, reason] of [
  ["the reader does not take what loses something", { names: ["int8"] }, { names: ["int8"] }, "stored: reader_refuses_lossy"],
  [
    "the one that is always to be taken loses something, and the reader takes others alone",
    { names: ["int8", "lossless"] },
    { names: ["int8", "lossless"] },
    "stored: reader_refuses_lossy",
  ],
  ["the ends have different profiles", { names: ["int8"] }, { names: ["int4"], acceptsLossy: true }, "stored: no_common_profile"],
  ["the reader has none", { names: ["lossless"] }, undefined, "stored: no_common_profile"],
  ["the holder wants nothing coded", { names: ["lossless"], use: "none" }, { names: ["lossless"] }, "stored: fixed"],
  ["the holder has none", undefined, { names: ["lossless"] }, undefined],
  ["both ends are on one host", { names: ["lossless"], use: "auto" }, { names: ["lossless"] }, "stored: same_host"],
] as const) {
  test(`KV travels as it is where ${what}`, { skip }, async (t) => {
    const scene = await stageWith(t, a, b);
    const report = await (await scene.fetch(await scene.offer())).done;
    assertSame(scene.a, scene.source, scene.b, scene.target);
    assert.deepEqual([report.profile, report.lossy, report.wireBytes, report.order], ["", false, BYTES, "flat"]);
    assert.deepEqual(scene.reasons, reason === undefined ? [] : [reason]);
  });
}

test("it does so where the holder is of the former version, or what the reader said does not reach it", { skip }, async (t) => {
  const scene = await stageWith(t, { names: ["lossless"] }, { names: ["lossless"] });
  scene.tapA.hear = former;
  const report = await (await scene.fetch(await scene.offer())).done;
  assertSame(scene.a, scene.source, scene.b, scene.target);
  assert.deepEqual([report.profile, report.wireBytes], ["", BYTES]);
});

test("an Offer coded with what was not asked for is refused by name, and so is one whose coding was not foretold", { skip }, async (t) => {
  const { tapB, offer, fetch, nothingLeft } = await stageWith(t, { names: ["lossless"] }, { names: ["lossless"] });
  for (const [coding, code] of [
    [{ profile: "0f".repeat(16), position: 0 }, "profile_refused"],
    [undefined, "protocol_error"],
  ] as const) {
    tapB.hear = (message) => (message.kind === "offer" ? { ...message, coding } : message);
    await assert.rejects((await fetch(await offer(false))).done, { code });
    await nothingLeft();
    tapB.hear = (message) => message;
    await (await fetch(await offer())).done;
  }
});
