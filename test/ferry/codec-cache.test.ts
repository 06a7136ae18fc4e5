/**
 * Which codecs are kept, and when they are made.
 * Method: the cache alone with codecs that only count; then a model's profiles with codecs of the addon, and an event loop whose turns are counted.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { CodecCache } from "../../transport/ferry/codec-cache.ts";
import { Profiles } from "../../transport/ferry/profiles.ts";
import { planTransfer } from "../../transport/kv/plan.ts";
import { limits } from "../../transport/limits.ts";
import { PRESETS } from "../../transport/codec/presets.ts";
import type { NativeCodec } from "../../transport/native-codec.ts";
import { native } from "../../transport/native.ts";
import { calibrationOf, plainSource, ROPE } from "../codec/made.ts";
import { IDENTITY, layoutOf, skip } from "./pair.ts";
import { counting } from "./profiled.ts";

test("codecs of all heads stay, those of parts make room for each other, and what they counted is not forgotten", () => {
  const cache = new CodecCache({ first: 0, count: 4_000 });
  let made = 0;
  const get = (count: number, first = 0): NativeCodec =>
    cache.get("profile", { first, count }, "k 0", () => {
      made += 1;
      return counting({ encodedBytes: 1 });
    });
  const whole = get(4_000);
  for (let heads = 1; heads <= 3 * limits.codecPartsMax; heads++) {
    get(heads);
    // Asked for again and again, as by a rank that is there all the time.
    get(1);
    assert.equal(cache.countsOf("profile").encodedBytes, 1 + heads);
  }
  assert.equal(made, 1 + 3 * limits.codecPartsMax);
  assert.equal(get(4_000), whole);
  get(2);
  assert.equal(made, 2 + 3 * limits.codecPartsMax, "the part that nobody asked for was dropped");
  get(2, 2);
  assert.equal(made, 3 + 3 * limits.codecPartsMax, "as many heads from another one on are another part");
  assert.equal(cache.countsOf("another").encodedBytes, 0);
});

test("a part that cannot be coded is asked for again with the same answer", () => {
  const cache = new CodecCache({ first: 0, count: 4 });
  const refuse = (): never => {
    throw new TypeError("no");
  };
  for (let turn = 0; turn < 2; turn++) assert.throws(() => cache.get("profile", { first: 0, count: 2 }, "k 0", refuse), TypeError);
  assert.equal(cache.countsOf("profile").encodedBytes, 0);
});

test("before a profile is told as fast, all its codecs are there, each made in a turn of the event loop of its own", {
  skip,
}, async (t) => {
  const shape = { layers: 4, heads: 2, channels: 64, tokens: 64 };
  const calibration = { ...calibrationOf({ sources: [plainSource(shape, ROPE(64), 1)] }), model: IDENTITY.model };
  const made = { all: 0, inTurn: 0, most: 0 };
  const profiles = new Profiles({
    ...{ profiles: ["cpu-fast", "lossless"].map((name) => ({ name, profile: PRESETS.get(name)!.profile })), calibrations: [calibration] },
    ...{ use: "auto", acceptsLossy: true, threads: 1 },
    measure: async () => ({ encodeBytesPerSecond: 1, decodeBytesPerSecond: 3, ratio: 2 }),
    newCodec: (spec) => {
      made.all += 1;
      made.inTurn += 1;
      made.most = Math.max(made.most, made.inTurn);
      return new native!.NativeCodec(spec);
    },
  });
  const layout = layoutOf(16);
  const codecs = profiles.of(IDENTITY, layout);
  Object.assign(made, { inTurn: 0, most: 0 });
  let isOver = false;
  t.after(() => (isOver = true));
  const turn = (): void => {
    made.inTurn = 0;
    if (!isOver) setImmediate(turn);
  };
  turn();
  const told: number[] = [];
  await codecs.prepare(() => told.push(made.all));
  assert.equal(made.most, 1);
  const before = made.all;
  for (const { id, profile } of codecs.profiles) {
    const manifest = { fingerprint: "", groups: [{ group: 0, tokens: 100 }], firstHead: 0, heads: 2 };
    const plan = planTransfer(layout, layout, manifest, limits.chunkBytesMin, { layers: profile.layers });
    const found = codecs.codecsOf(id, plan.coded!);
    assert.ok(found.length > 0 && found.every((codec) => codec !== undefined));
  }
  assert.deepEqual([codecs.profiles.length, made.all, told.length, told[1]], [2, before, 2, before]);
  for (const { id } of codecs.profiles) assert.equal(codecs.speedOf(id).decodeBytesPerSecond, 3);
});
