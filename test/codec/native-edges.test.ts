/**
 * The edges of a native codec: what travels as it is, what is refused, what is bounded.
 * Method: small tiles, and each argument and field wrong in turn.
 */
import assert from "node:assert/strict";
import test from "node:test";
import { limits } from "../../transport/limits.ts";
import type { NativeCodecSpec } from "../../transport/native-codec.ts";
import { native, nativeProblem } from "../../transport/native.ts";
import { Random } from "../fuzz/random.ts";
import { bytesOf, decode, encode, fromBf16, fromF16, HEADER_BYTES, make, randomMatrix, randomParts, rowsOf } from "./tiles.ts";

const skip = native === undefined ? `no addon: ${nativeProblem}` : false;
const shape = { element: "bf16", parts: 1, heads: 2, channels: 8 } as const;
const steps = (count: number, step: number) => new Float32Array(count).fill(step);

test("what steps cannot say is stored, with its reason", { skip }, () => {
  const spec = { ...shape, quantizer: { kind: "step", steps: steps(16, 0.01) }, codec: { kind: "rans" } } as const;
  for (const [value, reason] of [
    [Number.NaN, "not_finite"],
    [Number.POSITIVE_INFINITY, "not_finite"],
    [-1e30, "out_of_range"],
  ] as const) {
    const row = new Float32Array(16).fill(0.5);
    row[11] = value;
    const parts = [bytesOf("bf16", row)];
    const { block, stored, bytes } = encode(make(spec), parts, 1, 0);
    assert.equal(stored, reason);
    assert.equal(bytes, HEADER_BYTES + 32);
    assert.deepEqual(decode(make(spec), spec, block, 1, 0), parts);
  }
  const random = new Random(2);
  const noise = [random.bytes(4 * 16 * 4)];
  const lossless = { ...shape, element: "f32", quantizer: { kind: "none" }, codec: { kind: "none" } } as const;
  assert.equal(encode(make(lossless), noise, 4, 0).stored, "incompressible");
});

test("sinks and the recent window travel as they are", { skip }, () => {
  const spec = {
    ...shape,
    exempt: 6,
    quantizer: { kind: "group", levels: Uint16Array.of(2, 2), axis: "channel", group: 4, recent: 7 },
    codec: { kind: "pack" },
  } as const;
  const parts = randomParts(spec, 40, new Random(9));
  const kept = (position: number, end?: number): number[] => {
    const found = rowsOf(spec, decode(make(spec), spec, encode(make(spec), parts, 40, position, end).block, 40, position), 40);
    return rowsOf(spec, parts, 40).flatMap((row, token) =>
      Buffer.compare(Buffer.from(row.buffer), Buffer.from((found[token] as Float32Array).buffer)) === 0 ? [token] : [],
    );
  };
  assert.deepEqual(kept(0), [0, 1, 2, 3, 4, 5, 33, 34, 35, 36, 37, 38, 39]);
  assert.deepEqual(kept(4, 48), [0, 1, 37, 38, 39]);
  assert.deepEqual(kept(100, 1_000), []);
});

test("lows that f16 cannot hold are stored", { skip }, () => {
  const quantizer = { kind: "group", levels: Uint16Array.of(16, 16), axis: "token", group: 8, recent: 0 } as const;
  const spec = { ...shape, quantizer, codec: { kind: "pack" } } as const;
  const row = new Float32Array(16).fill(1);
  row[3] = -70_000;
  assert.equal(encode(make(spec), [bytesOf("bf16", row)], 1, 0).stored, "out_of_range");
  row[3] = fromF16(0xfbff);
  assert.equal(encode(make(spec), [bytesOf("bf16", row)], 1, 0).stored, "out_of_range", "bf16 has no 65,504, but 65,536");
});

test("what was finite stays so, however near to the largest element it is", { skip }, () => {
  for (const [element, largest, step] of [
    ["bf16", 2 ** 127 * (2 - 2 ** -7), 1e37],
    ["f16", 65_504, 1_000],
    ["f32", 2 ** 127 * (2 - 2 ** -23), 1.1e37],
  ] as const) {
    assert.ok(Math.round(largest / step) * step > largest, "the nearest multiple is no element");
    const row = Float32Array.from({ length: 16 }, (_, at) => (at % 2 === 0 ? 1 : -1) * (at < 4 ? largest : at * step));
    for (const isa of native?.codecIsas ?? []) {
      const spec = { ...shape, element, quantizer: { kind: "step", steps: steps(16, step) }, codec: { kind: "none" }, isa } as const;
      const { block, stored } = encode(make(spec), [bytesOf(element, row)], 1, 0);
      assert.equal(stored, "");
      const [found] = rowsOf(spec, decode(make(spec), spec, block, 1, 0), 1);
      assert.deepEqual([...(found as Float32Array).subarray(0, 4)], [largest, -largest, largest, -largest], `${element} by ${isa}`);
    }
  }
});

test("ranges that no encoder writes decode to the same on every instruction set, and there is one NaN", { skip }, () => {
  const quantizer = { kind: "group", levels: Uint16Array.of(256, 256), axis: "token", group: 64, recent: 0 } as const;
  const spec = { ...shape, channels: 64, exempt: 0, quantizer, codec: { kind: "pack" } } as const;
  const row = Float32Array.from({ length: 128 }, (_, at) => Math.sin(at));
  const { block } = encode(make(spec), [bytesOf("bf16", row)], 1, 0);
  const view = new DataView(block.buffer, block.byteOffset, block.byteLength);
  // Behind the header a low of each head, then a step of each.
  for (const [low, step] of [
    [0x7e01, 0x3c00],
    [0x3c00, 0x7f80],
    [0xfc00, 0x7f80],
    [0x3c00, 0x7f7f],
    [0x7c00, 0x3c00],
  ] as const) {
    view.setUint16(HEADER_BYTES, low, true);
    view.setUint16(HEADER_BYTES + 4, step, true);
    const [expected, ...others] = ["scalar", ...(native?.codecIsas ?? [])].map((isa) => {
      const [part] = decode(make({ ...spec, isa }), spec, block, 1, 0) as [Uint8Array];
      return new Uint16Array(part.buffer, part.byteOffset, 128);
    }) as [Uint16Array, ...Uint16Array[]];
    for (const other of others) assert.deepEqual(other, expected);
    assert.ok([...expected].every((half) => (half & 0x7fff) < 0x7f80 || half === 0x7fc0));
    const untouched = Float32Array.from(expected.subarray(64), fromBf16);
    assert.ok(untouched.every((value, at) => Math.abs(value - row[64 + at]!) < 0.02));
  }
});

test("a spec that makes no sense is refused in words", { skip }, async () => {
  const base = { ...shape, quantizer: { kind: "none" }, codec: { kind: "none" } } as const;
  const step = { kind: "step", steps: steps(16, 1) } as const;
  const refusals: [object, RegExp][] = [
    [{ ...base, parts: 0 }, /parts/],
    [{ ...base, element: "f64" }, /bf16, f16, f32/],
    [{ ...base, heads: 70_000 }, /heads/],
    [{ ...base, parts: 256, heads: 256 }, /wide/],
    [{ ...base, transform: { mean: new Float32Array(15) } }, /mean/],
    [{ ...base, transform: { mean: new Float64Array(16) } }, /mean/],
    [{ ...base, transform: { scale: new Float32Array(16) } }, /scale/],
    [{ ...base, channels: 6, transform: { signs: new Int8Array(12).fill(1) } }, /power of two/],
    [{ ...base, transform: { signs: new Int8Array(16) } }, /signs/],
    [{ ...base, transform: { klt: { block: 3, matrices: new Float32Array(48) } } }, /divides/],
    [{ ...base, transform: { klt: { block: 16, matrices: new Float32Array(256) } } }, /length 1/],
    [{ ...base, transform: { rope: { inverseFrequencies: new Float32Array(5), pairing: "half" } } }, /channels \/ 2/],
    [{ ...base, quantizer: { kind: "step", steps: new Float32Array(16) } }, /steps/],
    [{ ...base, quantizer: { kind: "group", levels: Uint16Array.of(1, 16), axis: "token", group: 4, recent: 0 } }, /levels/],
    [{ ...base, codec: { kind: "pack" } }, /quantizer/],
    [{ ...base, quantizer: step, codec: { kind: "exponent" } }, /exponent/],
    [{ ...base, quantizer: step, codec: { kind: "rans-static", classes: new Uint8Array(16).fill(200) } }, /classes/],
    [{ ...base, codec: { kind: "rans-static", classes: new Uint8Array(16) } }, /step/],
    [{ ...base, isa: "sse9" }, /isa/],
  ];
  for (const [spec, words] of refusals) {
    assert.throws(() => make(spec as NativeCodecSpec), { name: "TypeError", message: words });
    await assert.rejects(native!.NativeCodec.later(spec as NativeCodecSpec), { name: "TypeError", message: words });
  }
});

test("a codec that was made on another thread is the same as one that was not", { skip }, async () => {
  const random = new Random(11);
  const klt = { block: 8, matrices: Float32Array.of(...randomMatrix(8, random), ...randomMatrix(8, random)) };
  const quantizer = { kind: "step", steps: steps(16, 0.25) } as const;
  for (const transform of [{}, { klt }]) {
    const spec = { ...shape, transform, quantizer, codec: { kind: "rans" } } as const;
    const parts = randomParts(spec, 9, random);
    const [one, other] = [make(spec), await native!.NativeCodec.later(spec)];
    assert.equal(other.id, one.id);
    const { block } = encode(one, parts, 9, 0);
    assert.deepEqual(encode(other, parts, 9, 0).block, block);
    assert.deepEqual(decode(other, spec, block, 9, 0), decode(one, spec, block, 9, 0));
  }
  const { later } = native!.NativeCodec;
  assert.throws(() => later({ ...shape, quantizer, codec: { kind: "rans" } }), TypeError);
});

test("bounds are those of limits.ts, and arguments are checked", { skip }, () => {
  assert.deepEqual(native?.codecLimits, {
    tokens: limits.codecTokensMax,
    width: limits.codecWidthMax,
    tileBytes: limits.codecTileBytesMax,
  });
  const spec = { ...shape, quantizer: { kind: "none" }, codec: { kind: "exponent" } } as const;
  const codec = make(spec);
  const part = new Uint8Array(2 * 32);
  const out = new Uint8Array(codec.bound(2));
  assert.throws(() => codec.bound(limits.codecTokensMax + 1), TypeError);
  assert.throws(() => codec.encode([part], 3, 0, out), TypeError);
  assert.throws(() => codec.encode([part, part], 2, 0, out), TypeError);
  assert.throws(() => codec.encode([part], 2, -1, out), TypeError);
  assert.throws(() => codec.encode([part], 2, 0, out.subarray(1)), TypeError);
  assert.throws(() => codec.decode(out, [part.subarray(1)], 2, 0), TypeError);
  assert.equal(codec.encode([part], 2, 0, out).stored, "incompressible", "a table costs more than two tokens");
});
