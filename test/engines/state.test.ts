/**
 * llama.cpp's state file: a recorded one (SmolLM2-135M, 4 tokens in the second of two sequences, llama.cpp v0.5.0 by node-llama-cpp 3.22.1)
 * is read as what it is and written byte for byte; arbitrary states come back as they were made (property); cut, forged and foreign
 * files end in a typed error, whatever bit is wrong (property).
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import fc from "fast-check";
import { newState, parseState, type SequenceState, type StateShape, writeState } from "../../engines/llama/state.ts";
import { KvferryError } from "../../transport/errors.ts";

const RECORDED = readFileSync(join(import.meta.dirname, "fixtures/smollm2.state"));
/** Where things lie in the recorded file: 4 tokens, two streams, 4 cells. */
const AT = { version: 4, tokens: 8, streams: 28, otherCells: 32, cells: 36, firstCell: 40, transposed: 88, layers: 92, firstK: 96 };
const ROW_VALUES = 192;
const K_BYTES = 12 + 4 * ROW_VALUES * 2;

test("a recorded state is read as what it is", () => {
  const { shape, stream, sequence, tokens, positions, layers } = parseState(RECORDED);
  assert.deepEqual(shape, { layers: 30, rowValues: ROW_VALUES, transposed: true, streams: 2 });
  assert.deepEqual(
    { stream, sequence, tokens: [...tokens], positions: [...positions] },
    {
      stream: 1,
      sequence: 1,
      tokens: [28899, 436, 8354, 1209],
      positions: [0, 1, 2, 3],
    },
  );
  const value = (at: number): number => RECORDED.readUInt16LE(at);
  assert.equal(layers[0]?.k[0], value(AT.firstK + 12));
  assert.equal(layers[29]?.k[4 * ROW_VALUES - 1], value(AT.firstK + 30 * K_BYTES - 2));
  assert.equal(layers[0]?.v[0], value(AT.firstK + 30 * K_BYTES + 12));
  assert.equal(layers[29]?.v[4 * ROW_VALUES - 1], value(RECORDED.length - 2));
});

test("K of a token depends on its position, and all of it is finite f16: what was parsed is KV", () => {
  const { layers } = parseState(RECORDED);
  for (const { k, v } of layers) {
    assert.notDeepEqual(k.subarray(0, ROW_VALUES), k.subarray(ROW_VALUES, 2 * ROW_VALUES));
    assert.ok([...k, ...v].every((value) => (value & 0x7c00) !== 0x7c00));
  }
});

test("a recorded state is written byte for byte, also when it was read at an odd address", () => {
  assert.equal(Buffer.compare(writeState(parseState(RECORDED)), RECORDED), 0);
  const shifted = new Uint8Array(RECORDED.length + 1);
  shifted.set(RECORDED, 1);
  assert.equal(Buffer.compare(writeState(parseState(shifted.subarray(1))), RECORDED), 0);
});

const shapes: fc.Arbitrary<StateShape> = fc.record({
  layers: fc.integer({ min: 1, max: 4 }),
  rowValues: fc.integer({ min: 1, max: 12 }),
  transposed: fc.boolean(),
  streams: fc.integer({ min: 1, max: 4 }),
});

/** States of any shape, with cells in any order and other values in every place. */
const states: fc.Arbitrary<SequenceState> = fc
  .record({ shape: shapes, cells: fc.integer({ min: 1, max: 9 }), seed: fc.nat(), sequence: fc.nat(255) })
  .chain(({ shape, cells, seed, sequence }) =>
    fc
      .record({
        tokens: fc.array(fc.nat(0xffff_ffff), { maxLength: 9 }),
        positions: fc.shuffledSubarray([...Array(cells).keys()], { minLength: cells }),
      })
      .map(({ tokens, positions }) => {
        const stream = seed % shape.streams;
        const made = newState({ shape, stream, sequence, tokens: Uint32Array.from(tokens), positions: Uint32Array.from(positions) });
        let value = seed;
        for (const { k, v } of made.layers)
          for (const tensor of [k, v]) tensor.forEach((_, at) => (tensor[at] = value = (value * 31 + 7) % 65_521));
        return made;
      }),
  );

test("any state is parsed as it was made, and written byte for byte", () => {
  fc.assert(
    fc.property(states, (state) => {
      const parsed = parseState(state.bytes);
      assert.deepEqual(parsed, state);
      assert.deepEqual(writeState(parsed), state.bytes);
    }),
  );
});

test("a state that is cut anywhere, or has anything behind it, is refused", () => {
  fc.assert(
    fc.property(states, fc.nat(), (state, cut) => {
      const bytes = state.bytes.subarray(0, cut % state.bytes.length);
      assert.throws(() => parseState(bytes), { name: "KvferryError", code: "invalid_argument" });
      assert.throws(() => parseState(Buffer.concat([state.bytes, Buffer.alloc(4)])), {
        code: "unsupported",
        message: /4 bytes behind the KV/,
      });
    }),
  );
  for (let length = 0; length < 200; length++) assert.throws(() => parseState(RECORDED.subarray(0, length)), { code: "invalid_argument" });
});

test("whatever bytes are wrong, a state parses within its bytes or is refused with a code", () => {
  const changes = fc.array(fc.record({ at: fc.nat(), word: fc.oneof(fc.nat(40), fc.nat(0xffff_ffff)) }), { minLength: 1, maxLength: 4 });
  fc.assert(
    fc.property(states, changes, (state, words) => {
      const bytes = Buffer.from(state.bytes);
      for (const { at, word } of words) bytes.writeUInt32LE(word, 4 * (at % Math.floor(bytes.length / 4)));
      try {
        // Whatever it says now, it is said by all of its bytes.
        assert.deepEqual(writeState(parseState(bytes)), Uint8Array.from(bytes));
      } catch (error) {
        assert.ok(error instanceof KvferryError && ["invalid_argument", "unsupported"].includes(error.code), String(error));
      }
    }),
    { numRuns: 500 },
  );
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => {
      assert.throws(() => parseState(bytes), { name: "KvferryError" });
    }),
  );
});

const forgeries: readonly (readonly [name: string, at: number, word: number, code: "unsupported" | "invalid_argument", message: RegExp])[] =
  [
    ["magic", 0, 0x6767736e, "invalid_argument", /begins with 0x6767736e/],
    ["an older version", AT.version, 2, "unsupported", /version 2; version 3/],
    ["a newer version", AT.version, 4, "unsupported", /version 4/],
    ["2^32 tokens", AT.tokens, 0xffff_ffff, "invalid_argument", /for tokens but received 4294967295/],
    ["more tokens than bytes", AT.tokens, 1 << 20, "invalid_argument", /ends within tokens/],
    ["no stream", AT.streams, 0, "invalid_argument", /for streams/],
    ["more streams than llama.cpp has", AT.streams, 257, "invalid_argument", /for streams/],
    ["no cells", AT.cells, 0, "invalid_argument", /a state without any/],
    ["more cells than bytes", AT.cells, 1 << 20, "invalid_argument", /ends within cells/],
    ["a negative position", AT.firstCell, 0x8000_0000, "invalid_argument", /for position/],
    ["a shared cell", AT.firstCell + 4, 2, "unsupported", /exactly one sequence/],
    ["a foreign cell", AT.firstCell + 8, 0, "unsupported", /sequences 0 and 1/],
    ["a sequence without bound", AT.firstCell + 8, 0xffff_ffff, "invalid_argument", /for sequence/],
    ["another order of V", AT.transposed, 2, "invalid_argument", /for transposed/],
    ["V that is said not to be transposed", AT.transposed, 0, "invalid_argument", /V of layer 0/],
    ["no layer", AT.layers, 0, "invalid_argument", /for layers/],
    ["a layer too many", AT.layers, 31, "invalid_argument", /K of layer 30/],
    ["a layer too few", AT.layers, 29, "invalid_argument", /V of layer 0/],
    ["K of q8_0", AT.firstK, 8, "unsupported", /K of layer 0 of type q8_0; f16 is understood/],
    ["K of bf16", AT.firstK, 30, "unsupported", /type bf16/],
    ["K of a type unknown here", AT.firstK, 77, "unsupported", /type 77/],
    ["V of q4_0", AT.firstK + 30 * K_BYTES, 2, "unsupported", /V of layer 0 of type q4_0/],
    ["odd rows", AT.firstK + 4, 383, "invalid_argument", /rows of 383/],
    ["rows of more than 4 GiB", AT.firstK + 8, 1, "invalid_argument", /2\^32/],
    ["rows without bound", AT.firstK + 4, 0xffff_fffe, "invalid_argument", /for K of layer 0: values of a row/],
    [
      "rows that differ between layers",
      AT.firstK + K_BYTES + 4,
      256,
      "unsupported",
      /K of layer 1 of 128 values a token beside rows of 192/,
    ],
    ["values of another size", AT.firstK + 30 * K_BYTES + 4, 4, "invalid_argument", /bytes of a value/],
    ["V wider than K", AT.firstK + 30 * K_BYTES + 8, 256, "unsupported", /V of layer 0 of 256 values/],
  ];

for (const [name, at, word, code, message] of forgeries) {
  test(`refused: ${name}`, () => {
    const forged = Buffer.from(RECORDED);
    forged.writeUInt32LE(word, at);
    assert.throws(() => parseState(forged), { name: "KvferryError", code, message });
  });
}

test("cells in two streams are refused: a state is of one sequence", () => {
  const forged = Buffer.from(RECORDED);
  forged.writeUInt32LE(1, AT.otherCells);
  assert.throws(() => parseState(forged), { name: "KvferryError" });
  const { bytes } = newState({ shape: { layers: 1, rowValues: 1, transposed: false, streams: 1 }, tokens: Uint32Array.of(1) });
  // One stream after the other: count 2, and the first stream's words again.
  const twice = Buffer.concat([bytes, bytes.subarray(20)]);
  twice.writeUInt32LE(2, 16);
  assert.throws(() => parseState(twice), { code: "invalid_argument", message: /cells in one stream/ });
});

test("a state that nobody can load is not made", () => {
  const shape = { layers: 1, rowValues: 4, transposed: true, streams: 2 };
  const tokens = Uint32Array.of(1, 2);
  const cases = [
    { shape, tokens: new Uint32Array(0) },
    { shape: { ...shape, layers: 0 }, tokens },
    { shape: { ...shape, rowValues: 1 << 19 }, tokens },
    { shape, tokens, stream: 2 },
    { shape, tokens, sequence: 256 },
    { shape, tokens, positions: Uint32Array.of(0, 0x8000_0000) },
  ];
  for (const wrong of cases) assert.throws(() => newState(wrong), { name: "KvferryError", code: "invalid_argument" });
  const huge = { shape: { layers: 1_024, rowValues: 1 << 18, transposed: true, streams: 1 }, tokens: new Uint32Array(1 << 16) };
  assert.throws(() => newState(huge), { name: "KvferryError", code: "memory_unavailable" });
});
