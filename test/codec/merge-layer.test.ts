/**
 * The stage `merge` of a profile, and its map. Method: properties over random layers (budgets are hit exactly in every head, what is not merged stays bit for bit, any
 * bytes are a map or refused), and what each option changes.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { rulesOf } from "../../transport/codec/merge-spec.ts";
import { parseProfile } from "../../transport/codec/parse.ts";
import type { Merge } from "../../transport/codec/profile.ts";
import { native } from "../../transport/native.ts";
import { noise, toBf16 } from "./made.ts";
import { type Head, JOINED, KEPT, mapBytes, mapOf, mergeHeads, readMap, setsOf, skip } from "./merged.ts";
import { floatsOf } from "./tiles.ts";

const [HEADS, TOKENS, CHANNELS] = [3, 101, 8];
const SHAPE = { element: "bf16", heads: HEADS, tokens: TOKENS, channels: CHANNELS } as const;
const ROW_BYTES = 2 * CHANNELS;

interface Layer {
  readonly k: Uint8Array;
  readonly v: Uint8Array;
  readonly attention: Float32Array;
}

function layerOf(seed: number): Layer {
  const next = noise(seed);
  const made = () => new Uint8Array(Uint16Array.from({ length: HEADS * TOKENS * CHANNELS }, () => toBf16(next())).buffer);
  return { k: made(), v: made(), attention: Float32Array.from({ length: HEADS * TOKENS }, () => Math.abs(next())) };
}

function mergeOf(options: object): Merge {
  return parseProfile({ k: {}, v: {}, merge: { kind: "kvmerger", ...options } }).merge!;
}

function merged(options: object, { k, v, attention }: Layer, isSkipped = false): Head[] {
  const merge = mergeOf(options);
  const heads = mergeHeads(rulesOf(merge), SHAPE, [k, v], merge.pivot === "attention" ? attention : undefined, isSkipped);
  assert.ok(heads !== undefined, "all are numbers");
  return heads;
}

const row = (values: Uint8Array, at: number): Uint8Array => values.slice(at * ROW_BYTES, (at + 1) * ROW_BYTES);

test("every head has its budget exactly; alone a token stays bit for bit", { skip }, () => {
  fc.assert(
    fc.property(
      fc.nat(),
      fc.double({ min: 0.4, max: 1, noNaN: true }),
      fc.constantFrom("head", "layer"),
      fc.constantFrom("attention", "key-norm"),
      (seed, budget, scope, pivot) => {
        const layer = layerOf(seed);
        const heads = merged({ budget, scope, pivot, members: 200 }, layer);
        heads.forEach(({ sets, marks, keys, values }, head) => {
          assert.equal(sets.length, Math.round(budget * TOKENS));
          if (scope === "layer") assert.deepEqual(marks, heads[0]!.marks);
          for (const [rows, before] of [
            [keys, layer.k],
            [values, layer.v],
          ] as const)
            sets.forEach((members, set) => {
              if (members.length === 1) assert.deepEqual(row(rows, set), row(before, head * TOKENS + members[0]!));
            });
        });
      },
    ),
    { numRuns: 150 },
  );
});

test("what each option says is done", { skip }, () => {
  const layer = layerOf(5);
  const norms = Array.from({ length: HEADS * TOKENS }, (_, at) =>
    floatsOf("bf16", row(layer.k, at)).reduce((sum, value) => sum + value * value, 0),
  );
  assert.ok(merged({}, layer, true).every(({ marks }) => marks.every((mark) => mark === KEPT)));
  assert.ok(merged({}, layer).every(({ sets }) => sets.length === Math.round(TOKENS / 2)));
  assert.ok(merged({ by: "threshold", cosine: 1 }, layer).every(({ sets }) => sets.length === TOKENS));
  const [loose, strict] = [0.2, 0.6].map((cosine) => merged({ by: "threshold", cosine }, layer)[0]!.sets.length);
  assert.ok(loose! < strict! && strict! < TOKENS, `${loose} and ${strict}`);
  assert.ok(merged({ members: 3, budget: 0 }, layer).every(({ sizes }) => Math.max(...sizes) === 3));
  for (const { sets } of merged({ sinks: 7, recent: 0.1, heavy: 0, budget: 0, members: 200 }, layer)) assert.equal(sets.length, 7 + 10 + 1);
  // The pivot is the member with the most attention, or with the shortest key.
  for (const [head, { sets, pivots }] of merged({ pivot: "key-norm" }, layer).entries())
    sets.forEach((members, set) =>
      assert.ok(members.every((token) => norms[head * TOKENS + pivots[set]!]! <= norms[head * TOKENS + token]! + 1e-6)),
    );
  for (const [head, { sets, pivots }] of merged({}, layer).entries())
    sets.forEach((members, set) =>
      assert.ok(members.every((token) => layer.attention[head * TOKENS + pivots[set]!]! >= layer.attention[head * TOKENS + token]!)),
    );
  const values = (options: object) => floatsOf("bf16", merged(options, layer)[0]!.values);
  const [average, sum, mean, adaptive] = [{}, { values: "sum" }, { weights: "mean" }, { weights: "adaptive" }].map(values);
  const { sizes } = merged({}, layer)[0]!;
  sum!.forEach((value, at) => {
    const size = sizes[Math.floor(at / CHANNELS)]!;
    assert.ok(Math.abs(value - size * average![at]!) <= Math.abs(value) * 2 ** -6 + 1e-6, `${value} is not ${size} times ${average![at]}`);
  });
  assert.notDeepEqual(mean, average);
  assert.notDeepEqual(adaptive, mean);
});

test("any bytes are a map or refused, and there is one way to write each", { skip }, () => {
  const read = (bytes: readonly number[], tokens: number) => native!.codecMerging.readMap(Uint8Array.from(bytes), tokens);
  let maps = 0;
  fc.assert(
    fc.property(fc.nat(9), fc.uint8Array({ minLength: 5, maxLength: 5 }), (tokens, bytes) => {
      const given = bytes.slice(0, mapBytes(tokens)).map((byte) => byte & 0x67);
      const map = read([...given], tokens);
      if (typeof map === "string") return;
      maps++;
      const sets = setsOf(map);
      sets.forEach((members, set) => assert.ok(members.includes(map.pivots[set]!)));
      // Alone a token may begin a set or be kept; all else is said by the sets and their pivots.
      const nibbles = Array.from({ length: tokens }, (_, token) => (given[token >> 1]! >> (4 * (token & 1))) & 15);
      const told = nibbles.map((bits, token) => {
        const members = sets[map.setOf[token]!]!;
        const mark = members[0] !== token ? JOINED : members.length > 1 ? 0 : bits & KEPT;
        return mark | (map.pivots[map.setOf[token]!] === token ? 4 : 0);
      });
      assert.deepEqual(mapOf(told), given);
    }),
    { numRuns: 5_000 },
  );
  assert.ok(maps > 500, `${maps} were maps`);
  assert.deepEqual(setsOf(readMap(Uint8Array.of(0x64, 0x01), 3)), [[0, 2], [1]]);
  for (const [bytes, message] of [
    [[0x55, 0x06], "token 0 has 5"],
    [[0x50, 0x16], "there is something behind the last token"],
    [[0x10, 0x06], "the set of token 0 has not one pivot"],
    [[0x54, 0x06], "the set of token 0 has not one pivot"],
    [[0x73, 0x06], "token 0 has 3"],
    [[0x58, 0x06], "token 0 has 8"],
    [[0x56, 0x06], "token 1 has 5"],
  ] as const)
    assert.equal(read(bytes, 3), message);
  assert.throws(() => read([0], 3), /a map of so many tokens/);
});

test("arguments that make no sense are refused", { skip }, () => {
  const { k, v } = layerOf(1);
  const rules = rulesOf(mergeOf({}));
  const wrong =
    (change: object, shape: object = SHAPE, attention?: Float32Array) =>
    () =>
      mergeHeads({ ...rules, ...change } as typeof rules, shape as typeof SHAPE, [k, v], attention);
  for (const [run, message] of [
    [wrong({ budget: 1.1 }), /a number from 0.* to 1.* for merge\.budget/],
    [wrong({ budget: undefined, cosine: Number.NaN }), /merge\.cosine/],
    [wrong({ members: 0 }), /merge\.members/],
    [wrong({ sigma: -1 }), /merge\.sigma/],
    [wrong({}, { ...SHAPE, tokens: 100 }), /bytes of keys/],
    [wrong({}, { ...SHAPE, element: "f8" }), /an element/],
    [wrong({}, SHAPE, new Float32Array(4)), /the attention of each token/],
    [wrong({}, SHAPE, new Float32Array(HEADS * TOKENS).fill(Number.NaN)), /attention is finite/],
  ] as const)
    assert.throws(run, message);
});
