/**
 * MixHQ. Method: properties over random scores and budgets (the budget is not passed and no further head fits, high heads score no less than low ones), the paper's
 * setting by hand, and what a profile says of the file that it was made of.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { profileId } from "../../transport/codec/identity.ts";
import { levelsOfHeads, parseHeadScores, type Scores } from "../../transport/codec/mixhq.ts";
import { parseProfile, printProfile } from "../../transport/codec/parse.ts";
import { specOf } from "../../transport/codec/spec.ts";
import { refused } from "../refusal.ts";

const refusal = (run: () => unknown): string => refused(run, "invalid_argument").detail;
const scores = fc
  .tuple(fc.integer({ min: 1, max: 6 }), fc.integer({ min: 1, max: 6 }))
  .chain(([layers, heads]) =>
    fc.array(fc.array(fc.integer({ min: -3, max: 3 }), { minLength: heads, maxLength: heads }), { minLength: layers, maxLength: layers }),
  );
const HASH = "ab".repeat(32);
const mixed = (quantizer: object): unknown => ({ k: { quantizer: { kind: "mixhq", ...quantizer }, codec: { kind: "pack" } }, v: {} });

test("as many heads as the budget holds get the high levels, those that score highest", () => {
  const levels = fc.integer({ min: 2, max: 256 });
  fc.assert(
    fc.property(scores, levels, levels, fc.double({ min: 0, max: 1, noNaN: true }), (all, one, other, share) => {
      const [low, high] = [Math.min(one, other), Math.max(one, other)];
      const bits = Math.log2(low) + share * (Math.log2(high) - Math.log2(low)) + 1e-9;
      const found = levelsOfHeads(all, { bits, high, low }, "x");
      const flat = all.flatMap((heads, layer) => heads.map((score, head) => ({ score, levels: found[layer]![head]! })));
      const [highs, lows] = [flat.filter((head) => head.levels === high), flat.filter((head) => head.levels !== high)];
      assert.ok(lows.every((head) => head.levels === low));
      if (high === low) return;
      const mean = (count: number): number => (count * Math.log2(high) + (flat.length - count) * Math.log2(low)) / flat.length;
      assert.ok(mean(highs.length) <= bits + 1e-4 && mean(highs.length + 1) > bits - 1e-4, `${highs.length} of ${flat.length}`);
      assert.ok(Math.min(...highs.map(({ score }) => score)) >= Math.max(...lows.map(({ score }) => score)));
    }),
    { numRuns: 2_000 },
  );
});

test("the earlier of equals, over all layers; the paper's fifth of heads at 12 levels, the others at 6", () => {
  const bits = 0.2 * Math.log2(12) + 0.8 * Math.log2(6);
  assert.deepEqual(
    levelsOfHeads(
      [
        [0, 1, 1, 0, 0],
        [0, 0, 1, 0, 0],
      ],
      { bits, high: 12, low: 6 },
      "x",
    ),
    [
      [6, 12, 12, 6, 6],
      [6, 6, 6, 6, 6],
    ],
  );
  assert.deepEqual(levelsOfHeads([[5, 7]], { bits: 8, high: 256, low: 2 }, "x"), [[256, 256]]);
});

test("a profile that names a file has its hash and its levels, and is whole without the file", () => {
  const read =
    (hash: string) =>
    (path: string): Scores => {
      assert.equal(path, "heads.json");
      return { hash, heads: [[0.1, 0.9]] };
    };
  const profile = parseProfile(mixed({ scores: "heads.json", high: 16, low: 4 }), "profile", read(HASH));
  assert.ok(profile.k.quantizer.kind === "mixhq" && profile.k.quantizer.scores === HASH);
  assert.deepEqual(profile.k.quantizer.levels, [[4, 16]]);
  assert.deepEqual(parseProfile(JSON.parse(printProfile(profile))), profile);
  const other = parseProfile(mixed({ scores: "heads.json", high: 16, low: 4 }), "profile", read("cd".repeat(32)));
  assert.notEqual(profileId(other), profileId(profile));
  const model = { model: "", element: "bf16", layers: 1, heads: 2, channels: 8, rope: undefined } as const;
  const { quantizer } = specOf(profile, { side: "k", firstLayer: 0, layers: 1 }, model);
  assert.deepEqual(quantizer, { kind: "group", axis: "token", group: 64, recent: 0, levels: Uint16Array.of(4, 16) });
});

test("what is wrong is said", () => {
  assert.match(
    refusal(() => parseProfile(mixed({ scores: "heads.json" }))),
    /hex SHA-256 of a file for profile\.k\.quantizer\.scores/,
  );
  assert.match(
    refusal(() => parseProfile(mixed({ scores: HASH }))),
    /levels for each head of each layer/,
  );
  const read = (): Scores => ({ hash: HASH, heads: [[1]] });
  assert.match(
    refusal(() => parseProfile(mixed({}), "profile", read)),
    /the path of a file for profile\.k\.quantizer\.scores/,
  );
  assert.match(
    refusal(() => parseProfile(mixed({ scores: "x", bits: 1.9 }), "profile", read)),
    /4 levels take more than 1\.9 bits/,
  );
  assert.match(
    refusal(() => parseProfile(mixed({ scores: "x", low: 17 }), "profile", read)),
    /low is more than high/,
  );
  for (const [value, message] of [
    [{}, /an array of 1 to 1024 for x/],
    [[], /an array of 1 to 1024 for x/],
    [[[1], []], /an array of 1 to 1024 for x\[1\]/],
    [[[1, 2], [3]], /as many heads as layer 0 has for x\[1\]/],
    [[[1, "2"]], /a number for x\[0\]\[1\]/],
    [[[Number.NaN]], /a number for x\[0\]\[0\]/],
    [Array.from({ length: 1_000 }, () => Array.from({ length: 1_000 }, () => 1)), /at most 65536 heads/],
  ] as const)
    assert.match(
      refusal(() => parseHeadScores(value, "x")),
      message,
    );
});
