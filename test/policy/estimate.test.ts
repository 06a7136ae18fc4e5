/** A path of known rate is played to the estimate; it must find the rate, and say how sure it is. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { createEstimate, type EstimatePolicy } from "../../transport/policy/estimate.ts";

const MiB = 1024 * 1024;

/** Chunks that were all submitted at `fromUs` come back one after the other. Returns when the last did. */
function play(estimate: EstimatePolicy, fromUs: number, chunks: number, bytesPerSecond: number): number {
  const eachUs = (MiB * 1_000_000) / bytesPerSecond;
  let nowUs = fromUs;
  for (let chunk = 1; chunk <= chunks; chunk++) {
    nowUs = fromUs + Math.round(chunk * eachUs);
    estimate.handleSample(nowUs, MiB, nowUs - fromUs);
  }
  return nowUs;
}

function near(actual: number, expected: number, percent: number): void {
  assert.ok(Math.abs(actual - expected) * 100 <= expected * percent, `${actual} is within ${percent} % of ${expected}`);
}

test("knows nothing at first", () => {
  const { goodputBytesPerSecond, confidence, reason } = createEstimate().estimate(5);
  assert.deepEqual([goodputBytesPerSecond, confidence, reason], [0, 0, "nothing measured"]);
});

test("finds the rate of a path although chunks overlap, within the first chunk", () => {
  for (const rate of [10 ** 7, 10 ** 9, 4 * 10 ** 9]) {
    const estimate = createEstimate();
    play(estimate, 1_000, 1, rate);
    near(estimate.estimate(0).goodputBytesPerSecond, rate, 1);
    play(estimate, 1_000_000, 500, rate);
    near(estimate.estimate(0).goodputBytesPerSecond, rate, 1);
  }
});

test("time in which nothing was under way does not count", () => {
  const estimate = createEstimate();
  let nowUs = 0;
  for (let burst = 0; burst < 30; burst++) nowUs = play(estimate, nowUs + 700_000, 40, 10 ** 9);
  near(estimate.estimate(nowUs).goodputBytesPerSecond, 10 ** 9, 1);
});

test("follows a path that changes", () => {
  const estimate = createEstimate();
  const nowUs = play(estimate, 0, 1_000, 10 ** 9);
  play(estimate, nowUs, 1_000, 10 ** 8);
  near(estimate.estimate(nowUs).goodputBytesPerSecond, 10 ** 8, 5);
});

test("confidence grows with measurements and fades with silence", () => {
  const estimate = createEstimate();
  const first = play(estimate, 0, 1, 10 ** 9);
  const little = estimate.estimate(first).confidence;
  const nowUs = play(estimate, first, 500, 10 ** 9);
  const much = estimate.estimate(nowUs).confidence;
  assert.ok(0 < little && little < much && much < 1);
  assert.equal(estimate.estimate(nowUs + 60_000_000).confidence, much / 4);
  assert.ok(estimate.estimate(nowUs + 3_600_000_000).confidence < 0.001);
});

test("many acknowledgements at one moment are one burst, not an infinite rate", () => {
  const estimate = createEstimate();
  for (let chunk = 0; chunk < 10; chunk++) estimate.handleSample(100_000, MiB, 50_000);
  const { goodputBytesPerSecond } = estimate.handleSample(150_000, MiB, 50_000);
  assert.ok(Number.isFinite(goodputBytesPerSecond) && goodputBytesPerSecond > 0);
});
