/** What one flow carries. Method: the formulas' own figures, and what the lab measured of iperf3 with one stream of cubic and of BBR. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { bbrBytesPerSecond, cubicBytesPerSecond, lossRatioOf, type LossyPath } from "../../transport/policy/flow-rate.ts";

const GBIT = 125_000_000;
const path = (rttMs: number, lossRatio: number, gigabits = 1): LossyPath => ({
  rateBytesPerSecond: gigabits * GBIT,
  rttUs: rttMs * 1_000,
  lossRatio,
});
const megabits = (bytesPerSecond: number): number => (bytesPerSecond * 8) / 1e6;

test("cubic on a long path with loss is what iperf3 -P 1 reached in the lab: 9 and 3 of 1,000 Mbit/s", () => {
  assert.equal(Math.round(megabits(cubicBytesPerSecond(path(50, 0.001)))), 9);
  assert.equal(Math.round(megabits(cubicBytesPerSecond(path(50, 0.01)))), 3);
});

test("cubic's own function counts where losses are rare, the path where nothing is lost", () => {
  // 1.054 x (0.1 s / 1e-6)^0.75 = 5,927 segments against Reno's 1,200.
  assert.equal(Math.round(megabits(cubicBytesPerSecond(path(100, 1e-6, 100)))), Math.round((5_927 * 1_448 * 8) / 0.1 / 1e6));
  assert.equal(cubicBytesPerSecond(path(50, 0)), GBIT);
  assert.equal(cubicBytesPerSecond(path(1, 1e-7)), GBIT * (1 - 1e-7), "never more than the path carries");
});

test("BBR loses what is lost", () => {
  assert.equal(bbrBytesPerSecond(path(50, 0.01)), GBIT * 0.99);
});

test("the loss of what was sent, from the kernel's count", () => {
  assert.equal(lossRatioOf(10, 1_448_000), 0.01);
  assert.deepEqual([lossRatioOf(5, 0), lossRatioOf(9, 1_448)], [0, 1]);
});
