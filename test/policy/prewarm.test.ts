/** How much padding is sent before KV: one sentence each. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { choosePadding } from "../../transport/policy/prewarm.ts";

const PATH = { bytes: 250_000_000, goodputBytesPerSecond: 125_000_000, rttUs: 50_000, windowBytes: 100_000, lanes: 4 };

test("a known path is filled twice over, shared by its lanes", () => {
  const { bytesPerLane, reason } = choosePadding(PATH);
  assert.equal(bytesPerLane, (2 * 6_250_000) / 4);
  assert.notEqual(reason, "");
});

test("never more than what is about to be sent", () => {
  assert.equal(choosePadding({ ...PATH, bytes: 40_000 }).bytesPerLane, 10_000);
  assert.equal(choosePadding({ ...PATH, goodputBytesPerSecond: 0, bytes: 40_000 }).bytesPerLane, 10_000);
});

test("an unknown path is not filled without end", () => {
  assert.equal(choosePadding({ ...PATH, goodputBytesPerSecond: 0, bytes: 1e12 }).bytesPerLane, 16 * 1024 * 1024);
});

test("windows that are open need nothing", () => {
  const { bytesPerLane, reason } = choosePadding({ ...PATH, windowBytes: 7_000_000 });
  assert.equal(bytesPerLane, 0);
  assert.match(reason, /already/);
});
