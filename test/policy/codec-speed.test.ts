/** What is known of coders, one sentence for each rule: counts such as codecs keep are told, and the speeds looked at. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type CodecCounts, CodecSpeedEstimate, sumOfCounts, togetherOf, UNKNOWN_SPEED } from "../../transport/policy/codec-speed.ts";

const MiB = 1024 * 1024;
const NONE: CodecCounts = {
  ...{ encodeNs: 0, encodedChunks: 0, encodedBytes: 0, sentBytes: 0, decodeNs: 0, decodedChunks: 0, decodedBytes: 0, arrivedBytes: 0 },
  stored: { incompressible: 0, not_finite: 0, out_of_range: 0 },
};
/** So many MiB encoded at `rate` MiB a second. */
const encoded = (mebibytes: number, rate: number, ratio: number): Partial<CodecCounts> => ({
  encodedBytes: mebibytes * MiB,
  sentBytes: (mebibytes * MiB) / ratio,
  encodeNs: (mebibytes * 1e9) / rate,
});
const START = { encodeBytesPerSecond: 100 * MiB, decodeBytesPerSecond: 200 * MiB, ratio: 2 };

test("nothing is known until something was coded, or measured at the start", () => {
  assert.deepEqual(new CodecSpeedEstimate().speed, { encodeBytesPerSecond: 0, decodeBytesPerSecond: 0, ratio: 1 });
  assert.deepEqual(new CodecSpeedEstimate().handleCounts(NONE), UNKNOWN_SPEED);
  assert.deepEqual(new CodecSpeedEstimate(START).handleCounts(NONE), START);
});

test("what was coded counts by its bytes: 32 MiB as much as all that was before", () => {
  const estimate = new CodecSpeedEstimate(START);
  const { encodeBytesPerSecond, decodeBytesPerSecond, ratio } = estimate.handleCounts({ ...NONE, ...encoded(32, 300, 4) });
  // Times add up, not speeds: the mean of 1/100 and 1/300.
  assert.equal(Math.round(encodeBytesPerSecond / MiB), 150);
  assert.equal(decodeBytesPerSecond, START.decodeBytesPerSecond);
  // Real KV has its own ratio from the first of it on.
  assert.equal(ratio, 4);
  const decoded = estimate.handleCounts({ ...NONE, ...encoded(32, 300, 4), decodedBytes: 96 * MiB, decodeNs: 96e9 / 400 });
  assert.equal(Math.round(decoded.decodeBytesPerSecond / MiB), Math.round(1 / (0.25 / 200 + 0.75 / 400)));
});

test("counts are since the codecs were made: what was seen is not seen again, and a few bytes wait for more", () => {
  const estimate = new CodecSpeedEstimate();
  const first = estimate.handleCounts({ ...NONE, ...encoded(64, 300, 4) });
  assert.deepEqual(estimate.handleCounts({ ...NONE, ...encoded(64, 300, 4) }), first);
  const bit = { ...NONE, ...encoded(64.5, 300, 4), encodeNs: 64e9 / 300 + 1e9 };
  assert.deepEqual(estimate.handleCounts(bit), first);
  assert.ok(
    estimate.handleCounts({ ...bit, ...encoded(66, 300, 4), encodeNs: 64e9 / 300 + 2e9 }).encodeBytesPerSecond < first.encodeBytesPerSecond,
  );
  assert.throws(() => estimate.handleCounts(NONE), /counts only grow/);
});

test("a host that has become slower is found out, whatever it was before", () => {
  const estimate = new CodecSpeedEstimate();
  let [bytes, ns] = [0, 0];
  const go = (rate: number, times: number): number => {
    for (let turn = 0; turn < times; turn++) {
      bytes += 8 * MiB;
      ns += 8e9 / rate;
      estimate.handleCounts({ ...NONE, encodedBytes: bytes, sentBytes: bytes / 3, encodeNs: ns });
    }
    return estimate.speed.encodeBytesPerSecond / MiB;
  };
  assert.ok(Math.abs(go(800, 40) - 800) < 1);
  assert.ok(Math.abs(go(200, 40) - 200) < 2);
});

test("codecs of one profile add up, and K and V share the time", () => {
  const counts: CodecCounts = { ...NONE, ...encoded(4, 100, 2), encodedChunks: 4, stored: { ...NONE.stored, not_finite: 1 } };
  const sum = sumOfCounts([counts, NONE, counts]);
  assert.deepEqual([sum.encodedBytes, sum.encodedChunks, sum.stored], [8 * MiB, 8, { incompressible: 0, not_finite: 2, out_of_range: 0 }]);
  assert.deepEqual(sumOfCounts([]), NONE);
  const k = { encodeBytesPerSecond: 300, decodeBytesPerSecond: 300, ratio: 3 };
  const v = { encodeBytesPerSecond: 600, decodeBytesPerSecond: 0, ratio: 6 };
  const { encodeBytesPerSecond, decodeBytesPerSecond, ratio } = togetherOf(k, v);
  assert.deepEqual([Math.round(encodeBytesPerSecond), decodeBytesPerSecond, Math.round(ratio)], [400, 0, 4]);
});
