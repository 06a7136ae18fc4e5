/**
 * Token merging. Method: properties over random heads (each token in one set, budgets hit exactly, what is kept stays as it is), and small heads worked out by
 * hand. test/quality compares it with the reference on larger ones.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { NativeMergeRules } from "../../transport/native-codec.ts";
import { native } from "../../transport/native.ts";
import { type Head, KEPT, mergeHeads, PLAIN, skip } from "./merged.ts";

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
const choices: fc.Arbitrary<Partial<NativeMergeRules>> = fc.record(
  { budget: share(1), cosine: share(1), sinks: fc.nat(5), recent: share(0.4), heavy: share(0.4), members: fc.integer({ min: 1, max: 70 }) },
  { requiredKeys: ["cosine", "sinks", "recent", "heavy", "members"] },
);

const bytesOf = ({ buffer }: Float32Array): Uint8Array => new Uint8Array(buffer);
const floatsOf = (bytes: Uint8Array): number[] => Array.from(new Float32Array(bytes.slice().buffer));

function merge(keys: Float32Array, values: Float32Array, attention: Float32Array, rules: Partial<NativeMergeRules>): Head {
  const channels = attention.length === 0 ? CHANNELS : keys.length / attention.length;
  const shape = { element: "f32", heads: 1, tokens: attention.length, channels } as const;
  const merged = mergeHeads({ ...PLAIN, ...rules }, shape, [bytesOf(keys), bytesOf(values)], attention);
  assert.ok(merged !== undefined, "all are numbers");
  return merged[0]!;
}

test("each token is in one set, and the budget is hit or the rules forbid it", { skip }, () => {
  fc.assert(
    fc.property(heads, choices, ({ keys, values, attention }, rules) => {
      const tokens = attention.length;
      const { marks, sets } = merge(keys, values, attention, rules);
      assert.deepEqual(
        sets.flat().sort((one, other) => one - other),
        Array.from(attention.keys()),
        "a partition",
      );
      for (const members of sets) {
        assert.ok(members.length <= rules.members!, "no set is too large");
        assert.ok(members.length === 1 || members.every((token) => marks[token] !== KEPT), "what is kept is alone");
      }
      const kept = marks.filter((mark) => mark === KEPT).length;
      const isKept = Math.min(tokens, rules.sinks!) + Math.round(rules.recent! * tokens) + Math.round(rules.heavy! * tokens);
      assert.ok(kept <= isKept && kept >= Math.min(tokens, Math.round(rules.heavy! * tokens)), "as many are kept as were asked");
      if (rules.budget === undefined) return;
      const wanted = Math.round(rules.budget * tokens);
      assert.ok(sets.length >= wanted, "not fewer than the budget");
      // A zero key is like no other, and its cosine is 0, which is an order too: so only the rules keep from the budget.
      if (rules.members! >= 60)
        assert.equal(sets.length, Math.max(wanted, kept + (kept < tokens ? 1 : 0)), "the budget, or all that is free is one set");
    }),
    { numRuns: 500 },
  );
});

test("a threshold merges what is above it", { skip }, () => {
  const keys = Float32Array.of(1, 0, 1, 0.1, 0, 1, 0.1, 1);
  const attention = new Float32Array(4);
  const sets = (cosine: number) => merge(keys, keys, attention, { cosine }).sets;
  assert.deepEqual(sets(0.9), [
    [0, 1],
    [2, 3],
  ]);
  assert.deepEqual(sets(0.05), [[0, 1, 2, 3]]);
  assert.deepEqual(sets(1), [[0], [1], [2], [3]]);
});

test("kept tokens are skipped: those around them are neighbours", { skip }, () => {
  const keys = Float32Array.of(1, 0, 0, 1, 1, 0.01, 0, 1);
  assert.deepEqual(merge(keys, keys, Float32Array.of(0, 1, 0, 0), { heavy: 0.25, budget: 0.75 }).sets, [[0, 2], [1], [3]]);
});

test("the most alike neighbours join first, of equals the earlier", { skip }, () => {
  const keys = Float32Array.of(1, 0, 1, 0, 1, 0, 1, 0);
  assert.deepEqual(merge(keys, keys, new Float32Array(4), { budget: 0.75 }).sets, [[0, 1], [2], [3]]);
  const later = Float32Array.of(1, 0, 1, 0.1, 1, 0.1, 0, 1);
  assert.deepEqual(merge(later, later, new Float32Array(4), { budget: 0.75 }).sets, [[0], [1, 2], [3]]);
  // Where a set is full, others have their turn.
  assert.deepEqual(merge(keys, keys, new Float32Array(4), { budget: 0, members: 3 }).sets, [[0, 1, 2], [3]]);
});

test("weighs by the distance from the pivot", { skip }, () => {
  // The last token's key points elsewhere.
  const [keys, values, attention] = [Float32Array.of(1, 0, 1, 2, 5, -5), Float32Array.of(2, 2, 4, 4, 9, 9), Float32Array.of(0.1, 0.9, 0.5)];
  const merged = (rules: Partial<NativeMergeRules>, ofKeys = keys) => merge(ofKeys, values, attention, { cosine: 0.1, ...rules });
  const even = merged({ cosine: 0.1 });
  assert.deepEqual(even.sets, [[0, 1], [2]]);
  assert.deepEqual(floatsOf(even.keys), [1, 1, 5, -5]);
  assert.deepEqual(floatsOf(even.values), [3, 3, 9, 9]);
  assert.deepEqual([...even.sizes], [2, 1]);
  assert.deepEqual([...even.pivots], [1, 2]);
  assert.deepEqual(floatsOf(merged({ isSum: true }).values), [6, 6, 9, 9]);
  const near = floatsOf(merged({ sigma: 1 }).values);
  const weight = Math.exp(-2) / (1 + Math.exp(-2));
  assert.ok(Math.abs(near[0]! - (4 - 2 * weight)) < 1e-6, String(near[0]));
  // Distances 0 and 4 in squares: sigma is 2, and the other member weighs exp(-1/2).
  const adaptive = floatsOf(merged({ sigma: 0 }).values);
  const half = Math.exp(-0.5) / (1 + Math.exp(-0.5));
  assert.ok(Math.abs(adaptive[0]! - (4 - 2 * half)) < 1e-6, String(adaptive[0]));
  assert.deepEqual(floatsOf(merged({ sigma: 0 }, Float32Array.of(1, 0, 1, 0, -5, 5)).values), [3, 3, 9, 9]);
});

test("a set of one stays bit for bit", { skip }, () => {
  fc.assert(
    fc.property(heads, choices, ({ keys, values, attention }, rules) => {
      const merged = merge(keys, values, attention, { ...rules, sigma: 5 });
      const row = (bytes: Uint8Array, at: number) => bytes.slice(at * 4 * CHANNELS, (at + 1) * 4 * CHANNELS);
      merged.sets.forEach(([token, ...others], set) => {
        if (others.length > 0) return;
        assert.deepEqual(row(merged.keys, set), row(bytesOf(keys), token!));
        assert.deepEqual(row(merged.values, set), row(bytesOf(values), token!));
      });
    }),
  );
});

test("where some value is no number nothing is merged; what is finite stays so", { skip }, () => {
  const shape = { element: "f32", heads: 1, tokens: 4, channels: 2 } as const;
  const good = new Float32Array(8).fill(3.4e38);
  const rules = { ...PLAIN, budget: 0.25, isSum: true };
  for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY])
    for (const side of [0, 1]) {
      const planes = [good.slice(), good.slice()] as const;
      planes[side]![5] = bad;
      assert.equal(mergeHeads(rules, shape, [bytesOf(planes[0]), bytesOf(planes[1])]), undefined);
    }
  const [head] = mergeHeads(rules, shape, [bytesOf(good), bytesOf(good.map((value) => -value))])!;
  assert.equal(head!.sets.length, 1);
  assert.ok(
    floatsOf(head!.keys).every(Number.isFinite) && floatsOf(head!.values).every((value) => value === -Math.fround(3.4028234663852886e38)),
  );
});

test("exp(-x) is as exact as Math.exp", { skip }, () => {
  const { decay } = native!.codecMerging;
  fc.assert(
    fc.property(fc.double({ min: 0, max: 700, noNaN: true }), (x) => {
      const wanted = Math.exp(-x);
      assert.ok(Math.abs(decay(x) - wanted) <= 1e-15 * wanted + Number.MIN_VALUE, `${x}: ${decay(x)} and ${wanted}`);
    }),
    { numRuns: 5_000 },
  );
  assert.deepEqual([decay(0), decay(Number.POSITIVE_INFINITY), decay(Number.NaN)], [1, 0, Number.NaN]);
});
