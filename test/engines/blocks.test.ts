/**
 * Between states and blocks: every value of K and V stands where the layout's strides say (looked up one by one with test/kv/copier.ts, which
 * knows nothing of llama.cpp), comes back as it was, and no other byte of the pool changes (properties over shapes, block sizes, order of
 * cells). What does not fit is refused before a byte moves.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { blockTokensOf, copyFromBlocks, copyToBlocks, inOrder, kvLayout, tokenBytes } from "../../engines/llama/blocks.ts";
import { kvShapeOf, ropeOf } from "../../engines/llama/metadata.ts";
import { newState, type SequenceState } from "../../engines/llama/state.ts";
import { valueAddress, valuesOf } from "../kv/copier.ts";

const DATA_OFFSET = 128;
const FILLER = 0xee;

const cases = fc
  .record({
    layers: fc.integer({ min: 1, max: 3 }),
    heads: fc.integer({ min: 1, max: 3 }),
    channels: fc.integer({ min: 1, max: 4 }),
    pages: fc.integer({ min: 1, max: 2 }),
    slack: fc.nat(20).map((words) => 2 * words),
    tokens: fc.integer({ min: 1, max: 70 }),
    transposed: fc.boolean(),
    seed: fc.nat(),
  })
  .chain((made) => fc.record({ made: fc.constant(made), order: shuffled(made.tokens), ids: shuffled(8) }));

function shuffled(count: number): fc.Arbitrary<number[]> {
  const all = [...Array(count).keys()];
  return fc.shuffledSubarray(all, { minLength: count });
}

type Case = typeof cases extends fc.Arbitrary<infer T> ? T : never;

/** A state with another value in every place, and a pool with room for it in scattered blocks. */
function stage({ made, order, ids }: Case) {
  const { layers, heads, channels, pages, slack, tokens, transposed, seed } = made;
  const kv = { layers, heads, channels };
  const shape = { layers, rowValues: heads * channels, transposed, streams: 2 };
  const ofTokens = Uint32Array.from({ length: tokens }, (_, at) => at * 3);
  const state = newState({ shape, tokens: ofTokens, positions: Uint32Array.from(order), stream: 1, sequence: 1 });
  let value = seed % 65_521;
  for (const { k, v } of state.layers)
    for (const tensor of [k, v]) tensor.forEach((_, at) => (tensor[at] = value = (value * 31 + 7) % 65_521));
  const blockBytes = tokenBytes(kv) * 16 * pages + slack;
  const pool = { path: "", bytes: 0, dataOffset: DATA_OFFSET, blockBytes, blockCount: ids.length, incarnation: "" };
  const layout = kvLayout(kv, pool);
  const place = { memory: new Uint8Array(DATA_OFFSET + blockBytes * ids.length).fill(FILLER), pool, layout };
  const count = Math.ceil(tokens / blockTokensOf(layout));
  const blocks = { ids: Uint32Array.from(ids.slice(0, count)), generations: new Uint32Array(count) };
  return { state, place, blocks, layout, shape };
}

/** The value of K or V of a token, straight from the file's order. */
function valueIn({ positions, shape, layers }: SequenceState, name: string, layer: number, token: number, channel: number): number {
  const cell = positions.indexOf(token);
  const isTurned = name === "v" && shape.transposed;
  const tensor = layers[layer]?.[name === "k" ? "k" : "v"] as Uint16Array;
  return tensor[isTurned ? channel * positions.length + cell : cell * shape.rowValues + channel] as number;
}

test("every value stands where the layout says, whatever the order of the cells, and nothing else is written", () => {
  fc.assert(
    fc.property(cases, (one) => {
      const { state, place, blocks, layout } = stage(one);
      copyToBlocks(state, place, blocks);
      const data = place.memory.subarray(DATA_OFFSET);
      const view = new DataView(data.buffer, data.byteOffset);
      const untouched = Uint8Array.from(data);
      let compared = 0;
      blocks.ids.forEach((block, index) => {
        for (const { value } of valuesOf(layout, 0, block)) {
          const token = index * blockTokensOf(layout) + value.token;
          if (token >= state.tokens.length) continue;
          const at = valueAddress(layout, value);
          const channel = value.head * one.made.channels + value.channel;
          assert.equal(view.getUint16(at, true), valueIn(state, value.half, value.layer, token, channel));
          untouched.fill(FILLER, at, at + 2);
          compared += 1;
        }
      });
      assert.equal(compared, 2 * state.shape.layers * state.shape.rowValues * state.tokens.length);
      assert.ok(untouched.every((byte) => byte === FILLER));
    }),
  );
});

test("what went into blocks comes out again, whole or the first blocks of it", () => {
  fc.assert(
    fc.property(cases, fc.nat(), (one, cut) => {
      const { state, place, blocks, shape } = stage(one);
      copyToBlocks(state, place, blocks);
      const whole = newState({ shape, tokens: state.tokens });
      copyFromBlocks(whole, place, blocks);
      assert.deepEqual(whole.layers, inOrder(state).layers);
      assert.deepEqual([...whole.positions], [...state.tokens.keys()]);
      // In two parts, as where some blocks were here and others fetched.
      const blockTokens = blockTokensOf(place.layout);
      const first = cut % blocks.ids.length;
      const parts = newState({ shape, tokens: state.tokens });
      const part = (from: number, to?: number) => ({ ids: blocks.ids.slice(from, to), generations: blocks.generations.slice(from, to) });
      if (first > 0) copyFromBlocks(parts, place, part(0, first));
      copyFromBlocks(parts, place, part(first), first * blockTokens);
      assert.deepEqual(parts.layers, whole.layers);
    }),
  );
});

test("a state whose positions are not those of its tokens is refused", () => {
  const shape = { layers: 1, rowValues: 2, transposed: false, streams: 1 };
  const tokens = Uint32Array.of(5, 6, 7);
  for (const positions of [
    [0, 1],
    [0, 1, 2, 3],
    [0, 2, 2],
    [1, 2, 3],
  ]) {
    const state = newState({ shape, tokens, positions: Uint32Array.from(positions) });
    assert.throws(() => inOrder(state), { name: "KvferryError", code: "invalid_argument" });
  }
});

test("blocks that are too few, too many, not of the pool or of another model are refused, and nothing is written", () => {
  const made = { layers: 2, heads: 1, channels: 2, pages: 1, slack: 0, tokens: 20, transposed: true, seed: 1 };
  const { state, place, shape } = stage({ made, order: [...Array(20).keys()], ids: [0, 1, 2, 3, 4, 5, 6, 7] });
  const blocks = (...ids: number[]) => ({ ids: Uint32Array.from(ids), generations: new Uint32Array(ids.length) });
  const other = newState({ shape: { ...shape, layers: 1 }, tokens: state.tokens });
  assert.throws(() => copyToBlocks(state, place, blocks(1)), { code: "invalid_argument" });
  assert.throws(() => copyToBlocks(state, place, blocks(1, 2, 3)), { code: "invalid_argument" });
  assert.throws(() => copyToBlocks(state, place, blocks(1, 8)), { code: "invalid_argument", message: /block 8 is not one/ });
  assert.throws(() => copyToBlocks(other, place, blocks(1, 2)), { code: "layout_unconvertible" });
  assert.throws(() => copyFromBlocks(state, place, blocks()), { code: "invalid_argument" });
  assert.ok(place.memory.every((byte) => byte === FILLER));
});

test("a pool's blocks hold as many pages as fit; less than one, or an odd size, is a layout_conflict that names the bytes", () => {
  const kv = { layers: 30, heads: 3, channels: 64 };
  const tokensIn = (blockBytes: number): number => blockTokensOf(kvLayout(kv, { blockBytes, blockCount: 4 }));
  assert.deepEqual([368_640, 368_642, 2 * 368_640, 2 * 1024 * 1024].map(tokensIn), [16, 16, 32, 80]);
  assert.throws(() => tokensIn(368_639), { code: "layout_conflict", message: /16 tokens of this model need 368640/ });
  assert.throws(() => tokensIn(368_641), { code: "layout_conflict", message: /odd/ });
});

test("the heads come from the model's file, and must meet its state", () => {
  const shape = { layers: 30, rowValues: 192, transposed: true, streams: 1 };
  const of = (attention: object) => kvShapeOf({ general: { architecture: "llama" }, llama: { attention } }, shape);
  assert.deepEqual(of({ head_count: 9, head_count_kv: 3 }), { layers: 30, heads: 3, channels: 64 });
  assert.deepEqual(of({ head_count: 2 }), { layers: 30, heads: 2, channels: 96 });
  assert.deepEqual(of({ head_count_kv: [3, 3] }), { layers: 30, heads: 3, channels: 64 });
  for (const wrong of [{}, { head_count_kv: 5 }, { head_count_kv: 0 }, { head_count_kv: [3, 1] }, { head_count_kv: [] }]) {
    assert.throws(() => of(wrong), { name: "KvferryError", code: "unsupported" });
  }
  assert.throws(() => kvShapeOf({ general: {} }, shape), { code: "unsupported" });
  const rope = (value: object): string => ropeOf({ general: { architecture: "llama" }, llama: { rope: value } });
  assert.equal(rope({ freq_base: 100_000, dimension_count: 64 }), '{"freq_base":100000,"dimension_count":64}');
  assert.notEqual(rope({ freq_base: 100_000, scaling: { factor: 2 } }), rope({ freq_base: 100_000, scaling: { factor: 4 } }));
});
