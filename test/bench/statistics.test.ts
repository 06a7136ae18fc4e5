/** Statistics of the bench. Method: against sorting by hand, and against published quantiles. */
import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { deviation, distribution, intervalWidthPercent, mean, median, Samples } from "../../bench/statistics.ts";

test("percentiles are nearest ranks: values that were measured", () => {
  const hundred = Array.from({ length: 100 }, (_, index) => index + 1);
  assert.deepEqual(distribution(hundred), { min: 1, avg: 50.5, p50: 50, p95: 95, p99: 99, p999: 100, max: 100, stdev: deviation(hundred) });
  assert.equal(distribution([]), undefined);
  assert.equal(distribution([7])?.p999, 7);
});

test("property: order of magnitude of percentiles, for whatever samples", () => {
  fc.assert(
    fc.property(fc.array(fc.double({ min: 0, max: 1e9, noNaN: true }), { minLength: 1 }), (values) => {
      const d = distribution(values)!;
      assert.ok(d.min <= d.p50 && d.p50 <= d.p95 && d.p95 <= d.p99 && d.p99 <= d.p999 && d.p999 <= d.max);
      for (const value of [d.min, d.p50, d.p95, d.p99, d.p999, d.max]) assert.ok(values.includes(value));
      assert.ok(Math.abs(d.avg - mean(values)) <= 1e-6 * d.max);
    }),
  );
});

test("median of even and odd counts, deviation of a sample", () => {
  assert.equal(median([3, 1, 2]), 2);
  assert.equal(median([4, 1, 2, 3]), 2.5);
  assert.ok(Number.isNaN(median([])));
  assert.equal(deviation([2, 4, 4, 4, 5, 5, 7, 9]).toFixed(4), "2.1381");
  assert.equal(deviation([5]), 0);
});

test("confidence: netperf's width, with Student's t for few values", () => {
  assert.equal(intervalWidthPercent([1, 2], 95), Number.POSITIVE_INFINITY);
  // mean 10, stdev 1, n = 3: half = 4.303 / sqrt(3) = 2.4843, width = 2 * 2.4843 / 10.
  assert.equal(intervalWidthPercent([9, 10, 11], 95).toFixed(2), "49.69");
  assert.ok(intervalWidthPercent([9, 10, 11], 99) > intervalWidthPercent([9, 10, 11], 95));
  assert.equal(intervalWidthPercent([5, 5, 5], 95), 0);
});

test("samples are bounded, and thinned evenly", () => {
  const samples = new Samples(64);
  for (let index = 0; index < 10_000; index++) samples.add(index);
  assert.equal(samples.seen, 10_000);
  const kept = samples.values();
  assert.ok(kept.length > 16 && kept.length <= 64);
  const gaps = new Set(Array.from(kept.slice(1), (value, index) => value - kept[index]!));
  assert.equal(gaps.size, 1, "every second, or every fourth, never a mixture");
});
