/** What codecs do with a tile that is made up: that each kind can be measured, and that its ratio is the one that its spec promises. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { gaussianClass } from "../../transport/codec/gaussian.ts";
import { measureCodec, type NewCodec } from "../../transport/ferry/codec-start.ts";
import type { NativeCodecSpec, NativeMergingSpec } from "../../transport/native-codec.ts";
import { native, nativeProblem } from "../../transport/native.ts";

const skip = native === undefined ? `no addon: ${nativeProblem}` : false;
const newCodec: NewCodec = (spec) => native!.NativeCodec.later(spec);
const measure = async (spec: NativeCodecSpec | NativeMergingSpec) => measureCodec(newCodec, await newCodec(spec), spec);
const SHAPE = { element: "bf16", parts: 2, heads: 3, channels: 64 } as const;
const WIDTH = SHAPE.parts * SHAPE.heads * SHAPE.channels;

async function ratioOf(spec: NativeCodecSpec | NativeMergingSpec): Promise<number> {
  const { encodeBytesPerSecond, decodeBytesPerSecond, ratio } = await measure(spec);
  for (const rate of [encodeBytesPerSecond, decodeBytesPerSecond]) assert.ok(Number.isFinite(rate) && rate > 0, `${rate} bytes/s`);
  return ratio;
}

test("columns with tables: as many bits as their deviation has, far from the mean, rotated and exempt tokens or not", {
  skip,
}, async () => {
  // A normal value cut in steps has log2(deviation x sqrt(2 pi e)) bits: 4.05 for four steps.
  for (const exempt of [0, 4])
    for (const [deviation, bits] of [
      [1, 2.1],
      [4, 4.05],
    ] as const) {
      const spec: NativeCodecSpec = {
        ...{ ...SHAPE, exempt },
        transform: {
          rope: { inverseFrequencies: Float32Array.from({ length: 32 }, (_, at) => 1 / (at + 1)), pairing: "half" },
          mean: Float32Array.from({ length: WIDTH }, (_, at) => (at % 7 === 0 ? 40 : -1)),
        },
        quantizer: { kind: "step", steps: new Float32Array(WIDTH).fill(0.25) },
        codec: { kind: "rans-static", classes: new Uint8Array(WIDTH).fill(gaussianClass(deviation)) },
      };
      const ratio = await ratioOf(spec);
      assert.ok(Math.abs(ratio - 16 / bits) < 0.1 * (16 / bits), `${ratio} for ${bits} bits`);
    }
});

test("without tables: normal values of any element", { skip }, async () => {
  for (const element of ["bf16", "f16"] as const) {
    const lossless = await ratioOf({ ...SHAPE, element, quantizer: { kind: "none" }, codec: { kind: "exponent" } });
    assert.ok(lossless > 1.15 && lossless < 1.7, `${element}: ${lossless}`);
  }
  for (const element of ["bf16", "f16", "f32"] as const) {
    const ratio = await ratioOf({ ...SHAPE, element, quantizer: { kind: "fp8", format: "e4m3" }, codec: { kind: "none" } });
    assert.ok(Math.abs(ratio - (element === "f32" ? 4 : 2)) < 0.01, `${element}: ${ratio}`);
  }
});

test("what merges is measured with keys and values together, by what its budget leaves; recent tokens are not what is measured", {
  skip,
}, async () => {
  const side = { ...SHAPE, quantizer: { kind: "none" }, codec: { kind: "none" } } as const;
  const merge = { budget: 0.25, sinks: 4, recent: 0.2, heavy: 0, members: 100, sigma: 5, isSum: false, byLayer: false };
  const ratio = await ratioOf({ merge, skipped: new Uint8Array(SHAPE.parts), k: side, v: side });
  // And a map of four bits for each 128 values of a head.
  assert.ok(ratio > 3.8 && ratio < 4, String(ratio));
  const levels = new Uint16Array(SHAPE.parts * SHAPE.heads).fill(256);
  const quantizer = { kind: "group", levels, axis: "token", group: 64, recent: 65_536 } as const;
  assert.ok((await ratioOf({ ...SHAPE, quantizer, codec: { kind: "pack" } })) > 1.8);
});

test("a tile of one token's width is measured as well, and what this host cannot do is refused", { skip }, async () => {
  assert.ok(
    (await ratioOf({ element: "bf16", parts: 1, heads: 1, channels: 1, quantizer: { kind: "none" }, codec: { kind: "exponent" } })) > 1,
  );
  const unfit: NativeCodecSpec = { ...SHAPE, quantizer: { kind: "step", steps: new Float32Array(1) }, codec: { kind: "none" } };
  await assert.rejects(measure(unfit), TypeError);
});
