/**
 * The stage `merge` of a profile, and its map. Method: properties over random layers (budgets are hit exactly in every head, what is not merged stays bit for bit, maps
 * are read as they were written, and any bytes are a map or refused), and what each option changes.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { bf16OfFloats, floatsOfBf16 } from "../../transport/codec/bf16.ts";
import { JOINED, KEPT } from "../../transport/codec/merge.ts";
import { expandHead, type LayerKv, mergeLayer, readMaps } from "../../transport/codec/merge-layer.ts";
import { mapBytes, readMap, writeMap } from "../../transport/codec/merge-map.ts";
import { parseProfile } from "../../transport/codec/parse.ts";
import type { Merge } from "../../transport/codec/profile.ts";
import { refused } from "../refusal.ts";
import { noise, toBf16 } from "./made.ts";

const refusal = (run: () => unknown): string => refused(run, "invalid_argument").detail;
const [HEADS, TOKENS, CHANNELS] = [3, 101, 8];

function mergeOf(options: object): Merge {
  return parseProfile({ k: {}, v: {}, merge: { kind: "kvmerger", ...options } }).merge!;
}

function layerOf(seed: number, options: Partial<LayerKv> = {}): LayerKv {
  const next = noise(seed);
  const made = () => Uint16Array.from({ length: HEADS * TOKENS * CHANNELS }, () => toBf16(next()));
  const planes = { k: made(), v: made() };
  const attention = Float32Array.from({ length: HEADS * TOKENS }, () => Math.abs(next()));
  return { name: "made", layer: 2, heads: HEADS, tokens: TOKENS, channels: CHANNELS, plane: (side) => planes[side], attention, ...options };
}

const row = (values: Uint16Array, at: number): Uint16Array => values.slice(at * CHANNELS, (at + 1) * CHANNELS);

test("every head has its budget exactly; alone a token stays bit for bit, also behind an expansion", () => {
  fc.assert(
    fc.property(
      fc.nat(),
      fc.double({ min: 0.4, max: 1, noNaN: true }),
      fc.constantFrom("head", "layer"),
      fc.constantFrom("attention", "key-norm"),
      (seed, budget, scope, pivot) => {
        const layer = layerOf(seed);
        const merged = mergeLayer(mergeOf({ budget, scope, pivot, members: 200 }), layer);
        const maps = merged.map(({ map }) => readMap(map, TOKENS, "map"));
        maps.forEach(({ sets, marks, pivots }, head) => {
          assert.equal(sets.length, Math.round(budget * TOKENS));
          assert.deepEqual(writeMap(marks, { pivots }), merged[head]!.map);
          if (scope === "layer") assert.deepEqual(marks, maps[0]!.marks);
          for (const side of ["k", "v"] as const) {
            const rows = merged[head]![side];
            const before = layer.plane(side, 0).subarray(head * TOKENS * CHANNELS, (head + 1) * TOKENS * CHANNELS);
            assert.equal(rows.length, sets.length * CHANNELS);
            const whole = new Uint16Array(TOKENS * CHANNELS);
            expandHead(maps[head]!, rows, CHANNELS, whole);
            sets.forEach((members, set) => {
              for (const token of members) assert.deepEqual(row(whole, token), row(rows, set));
              if (members.length === 1) assert.deepEqual(row(rows, set), row(before, members[0]!));
            });
          }
        });
      },
    ),
    { numRuns: 150 },
  );
});

test("what each option says is done", () => {
  const layer = layerOf(5);
  const sizes = (options: object, kv = layer) => mergeLayer(mergeOf(options), kv).map(({ map }) => readMap(map, TOKENS, "map"));
  assert.ok(sizes({ skip: [1, 2] }).every(({ marks }) => marks.every((mark) => mark === KEPT)));
  assert.ok(sizes({ skip: [1, 3] }).every(({ sets }) => sets.length === Math.round(TOKENS / 2)));
  assert.ok(sizes({ by: "threshold", cosine: 1 }).every(({ sets }) => sets.length === TOKENS));
  const [loose, strict] = [0.2, 0.6].map((cosine) => sizes({ by: "threshold", cosine })[0]!.sets.length);
  assert.ok(loose! < strict! && strict! < TOKENS, `${loose} and ${strict}`);
  assert.ok(sizes({ members: 3, budget: 0 }).every(({ sets }) => Math.max(...sets.map(({ length }) => length)) === 3));
  for (const { sets } of sizes({ sinks: 7, recent: 0.1, heavy: 0, budget: 0, members: 200 })) assert.equal(sets.length, 7 + 10 + 1);
  // The pivot is the member with the most attention, or with the shortest key.
  const norm = (head: number, token: number): number =>
    floatsOfBf16(row(layer.plane("k", 0), head * TOKENS + token)).reduce((sum, value) => sum + value * value, 0);
  for (const [head, { sets, pivots }] of sizes({ pivot: "key-norm" }).entries())
    sets.forEach((members, set) => assert.ok(members.every((token) => norm(head, pivots[set]!) <= norm(head, token))));
  for (const [head, { sets, pivots }] of sizes({}).entries())
    sets.forEach((members, set) =>
      assert.ok(members.every((token) => layer.attention![head * TOKENS + pivots[set]!]! >= layer.attention![head * TOKENS + token]!)),
    );
  const values = (options: object) => floatsOfBf16(mergeLayer(mergeOf(options), layer)[0]!.v);
  const [average, sum, mean, adaptive] = [{}, { values: "sum" }, { weights: "mean" }, { weights: "adaptive" }].map(values);
  const { sets } = sizes({})[0]!;
  sum!.forEach((value, at) => {
    const size = sets[Math.floor(at / CHANNELS)]!.length;
    assert.ok(Math.abs(value - size * average![at]!) <= Math.abs(value) * 2 ** -6 + 1e-6, `${value} is not ${size} times ${average![at]}`);
  });
  assert.notDeepEqual(mean, average);
  assert.notDeepEqual(adaptive, mean);
});

test("any bytes are a map or refused, and there is one way to write each", () => {
  fc.assert(
    fc.property(fc.nat(9), fc.uint8Array({ minLength: 5, maxLength: 5 }), (tokens, bytes) => {
      const given = bytes.slice(0, mapBytes(tokens)).map((byte) => byte & 0x67);
      try {
        const { marks, pivots } = readMap(given, tokens, "x");
        assert.deepEqual(writeMap(marks, { pivots }), given);
      } catch (error) {
        assert.match(String(error), /x is no map of merged tokens: /);
      }
    }),
    { numRuns: 5_000 },
  );
  const written = writeMap(Uint8Array.of(0, JOINED, KEPT), { pivots: Uint32Array.of(1, 2) });
  assert.deepEqual(written, Uint8Array.of(0x50, 0x06));
  for (const [bytes, message] of [
    [[0x55, 0x06], /token 0 has 5/],
    [[0x50, 0x16], /behind the last token/],
    [[0x10, 0x06], /the set of token 0 has not one pivot/],
    [[0x54, 0x06], /the set of token 0 has not one pivot/],
    [[0x73, 0x06], /token 0 has 3/],
    [[0x58, 0x06], /token 0 has 8/],
    [[0x56, 0x06], /token 1 has 5/],
  ] as const)
    assert.match(
      refusal(() => readMap(Uint8Array.from(bytes), 3, "x")),
      message,
    );
  assert.match(
    refusal(() => readMaps(Uint8Array.of(0x04, 0x05), 2, 1, "x")),
    /x, head 1, is no map/,
  );
});

test("what cannot be merged is refused by name", () => {
  const { attention, ...without } = layerOf(1);
  assert.match(
    refusal(() => mergeLayer(mergeOf({}), { ...without, attention: undefined })),
    /made has no `attention`.*key-norm/,
  );
  assert.ok(mergeLayer(mergeOf({ pivot: "key-norm" }), { ...without, attention: undefined }).length === attention!.length / TOKENS);
  for (const bits of [0x7f80, 0xff80, 0x7fc0]) {
    const kv = layerOf(1);
    kv.plane("v", 0)[77] = bits;
    assert.match(
      refusal(() => mergeLayer(mergeOf({}), kv)),
      /values that are no numbers in V of layer 2/,
    );
  }
});

test("floats to bf16 and back: the nearest, ties to even, and what is finite stays so", () => {
  const all = Uint16Array.from({ length: 65_536 }, (_, half) => half).filter((half) => (half & 0x7f80) !== 0x7f80 || (half & 0x7f) === 0);
  assert.deepEqual(bf16OfFloats(floatsOfBf16(all)), all);
  const rounded = Float32Array.of(
    1 + 2 ** -8,
    1 + 3 * 2 ** -8,
    1 + 2 ** -8 + 2 ** -20,
    3.4e38,
    -3.4e38,
    Number.NaN,
    -0,
    Number.NEGATIVE_INFINITY,
  );
  assert.deepEqual([...bf16OfFloats(rounded)], [0x3f80, 0x3f82, 0x3f81, 0x7f7f, 0xff7f, 0x7fc0, 0x8000, 0xff80]);
});
