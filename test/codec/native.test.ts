/**
 * What each stage of a native codec does, against the same in plain JavaScript.
 * Method: small tiles whose blocks are read here by hand (schemas/codec.md), every value of 16 bits, and bounds that follow from the sizes of steps.
 */
import assert from "node:assert/strict";
import test from "node:test";
import type { NativeCodecSpec } from "../../transport/native-codec.ts";
import { native, nativeProblem } from "../../transport/native.ts";
import { Random } from "../fuzz/random.ts";
import {
  bytesOf,
  decode,
  encode,
  floatsOf,
  gaussian,
  HEADER_BYTES,
  make,
  randomMatrix,
  randomParts,
  rowsOf,
  toBf16,
  toF16,
  widthOf,
} from "./tiles.ts";

const skip = native === undefined ? `no addon: ${nativeProblem}` : false;
const isas = native?.codecIsas ?? [];

const shape = { element: "bf16", parts: 1, heads: 2, channels: 8 } as const;
const steps = (count: number, step: number) => new Float32Array(count).fill(step);

/** Codes and escapes of a block of steps whose codes are plain. */
function readSteps(spec: NativeCodecSpec, block: Uint8Array, tokens: number): number[] {
  const width = widthOf(spec);
  let at = HEADER_BYTES + tokens * width;
  const escape = () => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = block[at++] as number;
      value |= BigInt(byte & 127) << shift;
      if (byte < 128) return Number(value);
    }
  };
  const values = Array.from(block.subarray(HEADER_BYTES, HEADER_BYTES + tokens * width), (code) => (code === 255 ? escape() : code));
  assert.equal(at, block.length, "nothing lies behind the escapes");
  return values.map((zigzag) => (zigzag % 2 === 0 ? zigzag / 2 : -(zigzag + 1) / 2));
}

/** A row after the transform, as well as 2^-18 shows it: of one head; another three without values make room for the escapes. */
function transformed(transform: NativeCodecSpec["transform"], head: readonly number[], position: number, isa: string): number[] {
  const spec: NativeCodecSpec = {
    element: "f32",
    parts: 1,
    heads: 4,
    channels: head.length,
    ...(transform !== undefined && { transform }),
    quantizer: { kind: "step", steps: steps(4 * head.length, 2 ** -18) },
    codec: { kind: "none" },
    isa,
  };
  const row = new Float32Array(4 * head.length);
  row.set(head);
  const { block, stored } = encode(make(spec), [bytesOf("f32", row)], 1, position);
  assert.equal(stored, "");
  return readSteps(spec, block, 1)
    .slice(0, head.length)
    .map((code) => code * 2 ** -18);
}

function assertNear(found: readonly number[], expected: readonly number[], most: number, what: string): void {
  for (const [at, value] of expected.entries())
    assert.ok(Math.abs((found[at] as number) - value) <= most, `${what}: ${found[at]} is ${value}`);
}

test("every value of 16 bits survives its way through floats, and rounds to the nearest", { skip }, () => {
  for (const element of ["bf16", "f16"] as const) {
    const finite = Array.from({ length: 65_536 }, (_, half) => half).filter((half) => {
      const [value] = floatsOf(element, Uint8Array.of(half & 255, half >> 8));
      // The sign of a zero is lost with a mean of zero.
      return Number.isFinite(value) && !Object.is(value, -0);
    });
    // Behind them so many zeros that the exponents shrink.
    const [tokens, channels] = [64, Math.ceil(finite.length / 16)];
    const values = new Uint16Array(tokens * channels);
    values.set(finite);
    const parts = [new Uint8Array(values.buffer)];
    for (const isa of isas) {
      const same = { element, parts: 1, heads: 1, channels, quantizer: { kind: "none" }, codec: { kind: "exponent" }, isa } as const;
      const neutral = { ...same, transform: { scale: steps(channels, -1) } };
      const { block, stored } = encode(make(neutral), parts, tokens, 0);
      assert.equal(stored, "");
      assert.deepEqual(decode(make(neutral), neutral, block, tokens, 0), parts);
    }
  }
});

test("a transform without a quantizer rounds once each way, to even", { skip }, () => {
  const random = new Random(1);
  for (const element of ["bf16", "f16"] as const) {
    // Zeros behind them, so that the exponents shrink.
    const floats = Float32Array.from({ length: 640 * 16 }, (_, at) => (at < 1_024 ? gaussian(random) * 2 ** -random.below(12) : 0));
    const parts = [bytesOf(element, floats)];
    const scale = Math.fround(1.7);
    const [round, unscale] = [element === "bf16" ? toBf16 : toF16, Math.fround(1 / scale)];
    const read = (half: number) => floatsOf(element, Uint8Array.of(half & 255, half >> 8))[0] as number;
    const expected = Array.from(floatsOf(element, parts[0] as Uint8Array), (value) =>
      round(Math.fround(read(round(Math.fround(value * scale))) * unscale)),
    );
    for (const isa of isas) {
      const spec = {
        ...shape,
        element,
        quantizer: { kind: "none" },
        codec: { kind: "exponent" },
        transform: { scale: steps(16, scale) },
        isa,
      } as const;
      const { block, stored } = encode(make(spec), parts, 640, 0);
      assert.equal(stored, "");
      assert.deepEqual(new Uint16Array((decode(make(spec), spec, block, 640, 0)[0] as Uint8Array).buffer), Uint16Array.from(expected));
    }
  }
});

test("steps: the nearest multiple, ties to even, and an escape for what is far", { skip }, () => {
  const values = [0, 0.24, 0.25, 0.26, 0.75, -0.25, -0.75, 63.5, -63.5, 63.75, 64, -64, 1e3, -1e6, 3e8, -2e-9];
  for (const isa of isas) {
    const spec = { ...shape, element: "f32", quantizer: { kind: "step", steps: steps(16, 0.5) }, codec: { kind: "none" }, isa } as const;
    const parts = [bytesOf("f32", values)];
    const { block, stored } = encode(make(spec), parts, 1, 0);
    assert.equal(stored, "");
    const codes = readSteps(spec, block, 1);
    assert.deepEqual(
      codes,
      [0, 0, 0, 1, 2, 0, -2, 127, -127, 128, 128, -128, 2_000, -2_000_000, 600_000_000, 0].map((code) => code + 0),
    );
    const found = floatsOf("f32", decode(make(spec), spec, block, 1, 0)[0] as Uint8Array);
    assert.deepEqual(
      found,
      Float32Array.from(codes, (code) => code * 0.5),
    );
  }
});

test("RoPE is undone as cosine and sine say, at any position", { skip }, () => {
  const random = new Random(3);
  for (const pairing of ["half", "adjacent"] as const) {
    for (const pairs of [1, 5, 8, 16]) {
      const inverseFrequencies = Float32Array.from({ length: pairs }, (_, pair) => 10_000 ** (-pair / pairs));
      for (const position of [0, 1, 77, 4_095, 1_000_000, 2 ** 30]) {
        const head = Array.from({ length: 32 }, () => Math.fround(gaussian(random)));
        const expected = [...head];
        for (let pair = 0; pair < pairs; pair++) {
          const [first, second] = pairing === "half" ? [pair, pair + pairs] : [2 * pair, 2 * pair + 1];
          const angle = position * (inverseFrequencies[pair] as number);
          const [a, b] = [head[first] as number, head[second] as number];
          expected[first] = a * Math.cos(angle) + b * Math.sin(angle);
          expected[second] = b * Math.cos(angle) - a * Math.sin(angle);
        }
        // Beyond a million the angle itself is known to 2^-53 of its size.
        const most = 3e-6 + position * 2 ** -50;
        for (const isa of isas) {
          assertNear(
            transformed({ rope: { inverseFrequencies, pairing } }, head, position, isa),
            expected,
            most,
            `${pairing}, ${pairs} pairs at ${position}`,
          );
        }
      }
    }
  }
});

test("mean, scale, signs and KLT, in this order", { skip }, () => {
  const random = new Random(4);
  for (const channels of [1, 2, 8, 16, 64, 128]) {
    const width = 4 * channels;
    const head = Array.from({ length: channels }, () => Math.fround(gaussian(random)));
    const mean = new Float32Array(width);
    for (let at = 0; at < channels; at++) mean[at] = gaussian(random);
    const scale = Float32Array.from({ length: width }, () => 0.5 + random.below(4));
    const signs = Int8Array.from({ length: width }, () => random.pick([1, -1]));
    const matrices = Float32Array.from(Array.from({ length: 4 }, () => Array.from(randomMatrix(channels, random))).flat());
    const centered = head.map((value, at) => (value - (mean[at] as number)) * (scale[at] as number));
    const parity = (bits: number) => bits.toString(2).replaceAll("0", "").length % 2;
    const turned = centered.map(
      (_, to) =>
        centered.reduce((sum, value, from) => sum + value * (signs[from] as number) * (parity(to & from) === 1 ? -1 : 1), 0) /
        Math.sqrt(channels),
    );
    const expected = turned.map((_, to) =>
      turned.reduce((sum, value, from) => sum + value * (matrices[to * channels + from] as number), 0),
    );
    for (const isa of isas) {
      assertNear(transformed({ mean, scale }, head, 5, isa), centered, 8e-6, "mean and scale");
      assertNear(transformed({ mean, scale, signs }, head, 5, isa), turned, 2e-5, `Hadamard of ${channels}`);
      assertNear(
        transformed({ mean, scale, signs, klt: { block: channels, matrices } }, head, 5, isa),
        expected,
        4e-5,
        `KLT of ${channels}`,
      );
    }
  }
});

test("groups: half a level at most, along each axis, at any number of levels", { skip }, () => {
  const random = new Random(5);
  const tokens = 37;
  for (const axis of ["token", "channel", "tensor"] as const) {
    for (const levels of [2, 3, 5, 16, 17, 255, 256]) {
      const group = random.pick([5, 16, 32]);
      const spec = {
        element: "f32",
        parts: 2,
        heads: 3,
        channels: 33,
        quantizer: { kind: "group", levels: new Uint16Array(6).fill(levels), axis, group, recent: 0 },
        codec: { kind: "pack" },
        isa: random.pick(isas),
      } as const;
      const parts = randomParts(spec, tokens, random);
      const { block, stored } = encode(make(spec), parts, tokens, 0);
      assert.equal(stored, "");
      const before = rowsOf(spec, parts, tokens);
      const after = rowsOf(spec, decode(make(spec), spec, block, tokens, 0), tokens);
      const key = (token: number, column: number) => {
        const head = Math.floor(column / 33);
        if (axis === "tensor") return `${head}`;
        return axis === "token" ? `${token} ${head} ${Math.floor((column % 33) / group)}` : `${Math.floor(token / group)} ${column}`;
      };
      const ranges = new Map<string, { low: number; high: number }>();
      for (const [token, row] of before.entries()) {
        for (const [column, value] of row.entries()) {
          const range = ranges.get(key(token, column)) ?? { low: value, high: value };
          ranges.set(key(token, column), { low: Math.min(range.low, value), high: Math.max(range.high, value) });
        }
      }
      for (const [token, row] of before.entries()) {
        for (const [column, value] of row.entries()) {
          const { low, high } = ranges.get(key(token, column)) as { low: number; high: number };
          // The low is rounded down to f16, the step up to bf16.
          const step = ((high - low + Math.abs(low) * 2 ** -10 + 2 ** -24) / (levels - 1)) * (1 + 2 ** -7);
          const error = Math.abs(((after[token] as Float32Array)[column] as number) - value);
          assert.ok(error <= step / 2 + Math.abs(value) * 2 ** -22 + 2 ** -24, `${axis}, ${levels} levels: ${error} of a step of ${step}`);
        }
      }
    }
  }
});

test("packed groups are as long as their bits, their ranges and the header", { skip }, () => {
  const quantizer = { kind: "group", levels: new Uint16Array(8).fill(16), axis: "token", group: 64, recent: 0 } as const;
  const spec = { element: "bf16", parts: 1, heads: 8, channels: 128, quantizer, codec: { kind: "pack" } } as const;
  const { bytes } = encode(make(spec), randomParts(spec, 64, new Random(6)), 64, 0);
  assert.equal(bytes, HEADER_BYTES + (64 * 1_024) / 2 + 64 * 16 * 4);
});

test("fp8 keeps its bits of mantissa, and saturates", { skip }, () => {
  const random = new Random(7);
  for (const [format, bits, most, least] of [
    ["e4m3", 3, 448, 2 ** -9],
    ["e5m2", 2, 57_344, 2 ** -16],
  ] as const) {
    const floats = Float32Array.from({ length: 1_024 }, () => gaussian(random) * 2 ** random.between(-12, 10));
    floats.set([448, 464, 1e5, -1e9, 57_344, 0, -0, 2 ** -9, 2 ** -10, 3 * 2 ** -11]);
    for (const isa of isas) {
      const spec = { ...shape, element: "f32", quantizer: { kind: "fp8", format }, codec: { kind: "none" }, isa } as const;
      const parts = [bytesOf("f32", floats)];
      const found = floatsOf("f32", decode(make(spec), spec, encode(make(spec), parts, 64, 0).block, 64, 0)[0] as Uint8Array);
      for (const [at, value] of floats.entries()) {
        const clipped = Math.sign(value) * Math.min(Math.abs(value), most);
        const error = Math.abs((found[at] as number) - clipped);
        assert.ok(error <= Math.max(Math.abs(clipped) * 2 ** -(bits + 1), least / 2), `${format} of ${value} is ${found[at]}`);
      }
    }
  }
});

test("anchors are right to an eighth bit, what lies between them to its levels", { skip }, () => {
  const random = new Random(8);
  const spec = {
    element: "f32",
    parts: 2,
    heads: 2,
    channels: 16,
    transform: { delta: { anchor: 5 } },
    quantizer: { kind: "cachegen", levels: Uint16Array.of(33, 16) },
    codec: { kind: "rans" },
  } as const;
  const parts = randomParts(spec, 23, random);
  for (const isa of isas) {
    const codec = make({ ...spec, isa });
    const after = rowsOf(spec, decode(codec, spec, encode(codec, parts, 23, 0).block, 23, 0), 23);
    for (const [token, row] of rowsOf(spec, parts, 23).entries()) {
      const anchor = after[token - (token % 5)] as Float32Array;
      for (const part of [0, 1]) {
        const columns = Array.from({ length: 32 }, (_, at) => part * 32 + at);
        const isAnchor = token % 5 === 0;
        const wanted = columns.map((column) => (row[column] as number) - (isAnchor ? 0 : (anchor[column] as number)));
        const half = isAnchor ? 127 : part === 0 ? 16 : 7;
        const step = (Math.max(...wanted.map(Math.abs)) / half) * (1 + 2 ** -7);
        for (const column of columns) {
          const error = Math.abs(((after[token] as Float32Array)[column] as number) - (row[column] as number));
          assert.ok(error <= step / 2 + 1e-5, `token ${token}, column ${column}: ${error} of a step of ${step}`);
        }
      }
    }
  }
});

test("a delta's error is of the quantizer behind it alone, and it makes what hardly changes small", { skip }, () => {
  const random = new Random(9);
  const base = { element: "f32", parts: 2, heads: 2, channels: 16, exempt: 2 } as const;
  const slow = Float32Array.from({ length: 64 }, () => 20 * gaussian(random));
  const parts = [0, 1].map((part) =>
    bytesOf(
      "f32",
      Array.from({ length: 61 * 32 }, (_, at) => (slow[part * 32 + (at % 32)] as number) + gaussian(random)),
    ),
  );
  const before = rowsOf({ ...base, quantizer: { kind: "none" }, codec: { kind: "none" } }, parts, 61);
  for (const anchor of [1, 2, 5, 60, 100]) {
    for (const isa of isas) {
      const quantizer = { kind: "step", steps: steps(64, 0.25) } as const;
      const spec = { ...base, transform: { delta: { anchor } }, quantizer, codec: { kind: "rans" }, isa } as const;
      const { block, stored, bytes } = encode(make(spec), parts, 61, 0);
      assert.equal(stored, "");
      for (const [token, row] of rowsOf(spec, decode(make(spec), spec, block, 61, 0), 61).entries()) {
        for (const [column, value] of row.entries()) {
          const error = Math.abs(value - ((before[token] as Float32Array)[column] as number));
          assert.ok(error <= (token < 2 ? 0 : 0.125 + 1e-4), `token ${token} is ${error} away`);
        }
      }
      const plain = encode(make({ ...spec, transform: {} }), parts, 61, 0);
      if (anchor === 5) assert.ok(bytes < 0.8 * plain.bytes, `${bytes} bytes, ${plain.bytes} without`);
      // Every token an anchor: as if there were none.
      if (anchor === 1) assert.deepEqual(block.subarray(HEADER_BYTES), plain.block.subarray(HEADER_BYTES));
    }
  }
});
