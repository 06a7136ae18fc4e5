/**
 * Token merging. Method: properties over random heads (each token in one set, budgets hit exactly, what is kept stays as it is), and small heads worked out by
 * hand. test/quality compares it with the reference on larger ones.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { decayOf } from "../../transport/codec/decay.ts";
import { JOINED, KEPT, type MergeOptions, mergeTokens, planMerge, setsOf } from "../../transport/codec/merge.ts";

const CHANNELS = 4;
const real = fc.float({ min: -8, max: 8, noNaN: true });
const heads = fc.integer({ min: 0, max: 60 }).chain((tokens) =>
  fc.record({
    keys: fc.array(real, { minLength: tokens * CHANNELS, maxLength: tokens * CHANNELS }).map((values) => Float32Array.from(values)),
    values: fc.array(real, { minLength: tokens * CHANNELS, maxLength: tokens * CHANNELS }).map((values) => Float32Array.from(values)),
    attention: fc
      .array(fc.float({ min: 0, max: 1, noNaN: true }), { minLength: tokens, maxLength: tokens })
      .map((values) => Float32Array.from(values)),
  }),
);
const share = (max: number): fc.Arbitrary<number> => fc.double({ min: 0, max, noNaN: true });
const choices: fc.Arbitrary<MergeOptions> = fc.record(
  { budget: share(1), sinks: fc.nat(5), recent: share(0.4), heavy: share(0.4), membersMax: fc.integer({ min: 1, max: 70 }) },
  { requiredKeys: ["sinks", "recent", "heavy", "membersMax"] },
);
const PLAIN: MergeOptions = { sinks: 0, recent: 0, heavy: 0, membersMax: 100 };

test("each token is in one set, and the budget is hit or the rules forbid it", () => {
  fc.assert(
    fc.property(heads, choices, share(1), ({ keys, attention }, options, cosine) => {
      const tokens = attention.length;
      const marks = planMerge(keys, attention, { ...options, cosine });
      const sets = setsOf(marks);
      assert.deepEqual(
        sets.flat().sort((one, other) => one - other),
        Array.from(attention.keys()),
        "a partition",
      );
      for (const members of sets) {
        assert.ok(members.length <= options.membersMax, "no set is too large");
        assert.ok(members.length === 1 || members.every((token) => marks[token] !== KEPT), "what is kept is alone");
      }
      const kept = marks.filter((mark) => mark === KEPT).length;
      const isKept = Math.min(tokens, options.sinks) + Math.round(options.recent * tokens) + Math.round(options.heavy * tokens);
      assert.ok(kept <= isKept && kept >= Math.min(tokens, Math.round(options.heavy * tokens)), "as many are kept as were asked");
      if (options.budget === undefined) return;
      const wanted = Math.round(options.budget * tokens);
      assert.ok(sets.length >= wanted, "not fewer than the budget");
      // A zero key is like no other, and its cosine is 0, which is an order too: so only the rules keep from the budget.
      if (options.membersMax >= 60)
        assert.equal(sets.length, Math.max(wanted, kept + (kept < tokens ? 1 : 0)), "the budget, or all that is free is one set");
    }),
    { numRuns: 500 },
  );
});

test("marks of a peer make sets, whatever they are", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 40 }), (marks) => {
      assert.deepEqual(
        setsOf(marks)
          .flat()
          .sort((one, other) => one - other),
        Array.from(marks.keys()),
      );
    }),
  );
  assert.deepEqual(setsOf(Uint8Array.of(JOINED, KEPT, JOINED, 0, JOINED)), [[0, 2], [1], [3, 4]]);
});

test("a threshold merges what is above it", () => {
  const keys = Float32Array.of(1, 0, 1, 0.1, 0, 1, 0.1, 1);
  const attention = new Float32Array(4);
  assert.deepEqual(setsOf(planMerge(keys, attention, { ...PLAIN, cosine: 0.9 })), [
    [0, 1],
    [2, 3],
  ]);
  assert.deepEqual(setsOf(planMerge(keys, attention, { ...PLAIN, cosine: 0.05 })), [[0, 1, 2, 3]]);
  assert.deepEqual(setsOf(planMerge(keys, attention, PLAIN)), [[0], [1], [2], [3]]);
});

test("kept tokens are skipped: those around them are neighbours", () => {
  const keys = Float32Array.of(1, 0, 0, 1, 1, 0.01, 0, 1);
  const marks = planMerge(keys, Float32Array.of(0, 1, 0, 0), { ...PLAIN, heavy: 0.25, budget: 0.75 });
  assert.deepEqual(setsOf(marks), [[0, 2], [1], [3]]);
});

test("weighs by the distance from the pivot", () => {
  const marks = Uint8Array.of(0, JOINED, 0);
  const [keys, values, attention] = [Float32Array.of(1, 0, 1, 2, 5, 5), Float32Array.of(2, 2, 4, 4, 9, 9), Float32Array.of(0.1, 0.9, 0.5)];
  const even = mergeTokens(marks, keys, values, attention, { sigma: Number.POSITIVE_INFINITY, values: "average" });
  assert.deepEqual([...even.keys], [1, 1, 5, 5]);
  assert.deepEqual([...even.values], [3, 3, 9, 9]);
  assert.deepEqual([...even.sizes], [2, 1]);
  assert.deepEqual([...even.pivots], [1, 2]);
  assert.deepEqual(
    [...mergeTokens(marks, keys, values, attention, { sigma: Number.POSITIVE_INFINITY, values: "sum" }).values],
    [6, 6, 9, 9],
  );
  const near = mergeTokens(marks, keys, values, attention, { sigma: 1, values: "average" });
  const weight = Math.exp(-2) / (1 + Math.exp(-2));
  assert.ok(Math.abs(near.values[0]! - (4 - 2 * weight)) < 1e-6, String(near.values[0]));
  // Distances 0 and 4 in squares: sigma is 2, and the other member weighs exp(-1/2).
  const adaptive = mergeTokens(marks, keys, values, attention, { sigma: "adaptive", values: "average" });
  const half = Math.exp(-0.5) / (1 + Math.exp(-0.5));
  assert.ok(Math.abs(adaptive.values[0]! - (4 - 2 * half)) < 1e-6, String(adaptive.values[0]));
  const same = mergeTokens(marks, Float32Array.of(1, 0, 1, 0, 5, 5), values, attention, { sigma: "adaptive", values: "average" });
  assert.deepEqual([...same.values], [3, 3, 9, 9]);
});

test("a set of one stays bit for bit", () => {
  fc.assert(
    fc.property(heads, choices, ({ keys, values, attention }, options) => {
      const marks = planMerge(keys, attention, options);
      const merged = mergeTokens(marks, keys, values, attention, { sigma: 5, values: "average" });
      setsOf(marks).forEach(([token, ...others], set) => {
        if (others.length > 0) return;
        const [from, to] = [token! * CHANNELS, (token! + 1) * CHANNELS];
        assert.deepEqual(merged.keys.slice(set * CHANNELS, (set + 1) * CHANNELS), keys.slice(from, to));
        assert.deepEqual(merged.values.slice(set * CHANNELS, (set + 1) * CHANNELS), values.slice(from, to));
      });
    }),
  );
});

test("keys that are no numbers join nothing", () => {
  const keys = Float32Array.of(1, 0, Number.NaN, 0, 1, 0, 1, 0);
  assert.deepEqual(setsOf(planMerge(keys, new Float32Array(4), { ...PLAIN, budget: 0 })), [[0], [1], [2, 3]]);
});

test("exp(-x) is as exact as Math.exp", () => {
  fc.assert(
    fc.property(fc.double({ min: 0, max: 700, noNaN: true }), (x) => {
      const wanted = Math.exp(-x);
      assert.ok(Math.abs(decayOf(x) - wanted) <= 1e-15 * wanted + Number.MIN_VALUE, `${x}: ${decayOf(x)} and ${wanted}`);
    }),
    { numRuns: 5_000 },
  );
  assert.equal(decayOf(0), 1);
  assert.equal(decayOf(Number.POSITIVE_INFINITY), 0);
});
