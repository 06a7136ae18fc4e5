/**
 * Any spec over any tile: every instruction set gives the scalar one's bytes and bits, what comes back is near what went in, nothing is longer than
 * its bound, and bytes that were changed are refused or decode, to whatever, within their memory.
 * Method: specs, shapes and tiles from seeded random numbers; blocks with flips, cuts and right checksums over wrong fields. KVFERRY_TEST_CODEC_SPECS says how many.
 */
import assert from "node:assert/strict";
import test from "node:test";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";
import { crc32c } from "../../transport/kv/crc32c.ts";
import type { NativeCodecSpec } from "../../transport/native-codec.ts";
import { native, nativeProblem } from "../../transport/native.ts";
import { mutate } from "../fuzz/mutate.ts";
import { Random } from "../fuzz/random.ts";
import {
  codersOf,
  decode,
  elementBytes,
  emptyParts,
  encode,
  HEADER_BYTES,
  make,
  randomParts,
  randomSpec,
  rowsOf,
  widthOf,
} from "./tiles.ts";

const skip = native === undefined ? `no addon: ${nativeProblem}` : false;
const isas = native?.codecIsas ?? [];
const SPECS = Number(process.env["KVFERRY_TEST_CODEC_SPECS"] ?? 3_000);

function hasZstd(): boolean {
  try {
    make({ element: "bf16", parts: 1, heads: 1, channels: 1, quantizer: { kind: "none" }, codec: { kind: "zstd" } });
    return true;
  } catch {
    return false;
  }
}
const zstd = skip === false && hasZstd();

const length = (values: ArrayLike<number>): number => Math.sqrt(Array.from(values).reduce((sum, value) => sum + value * value, 0));

/** Of a delta the others are what they differ from an anchor that is itself not exact; their error is their own. */
function lossOf(spec: NativeCodecSpec, most: number): number {
  const alone = lossAlone(spec, most);
  return spec.transform?.delta === undefined ? alone : lossAlone(spec, 2 * most + alone);
}

/** What the quantizer may change in one row of its domain, whose values are at most `most`: a length. */
function lossAlone(spec: NativeCodecSpec, most: number): number {
  const root = Math.sqrt(widthOf(spec));
  const { quantizer } = spec;
  switch (quantizer.kind) {
    case "none":
      return root * most * (spec.element === "bf16" ? 2 ** -8 : spec.element === "f16" ? 2 ** -11 : 0) + root * 2 ** -24;
    case "step":
      return length(quantizer.steps) / 2;
    case "fp8":
      return root * Math.max(most * (quantizer.format === "e4m3" ? 2 ** -4 : 2 ** -3), 2 ** -10) + root * Math.max(0, most - 448);
    case "group":
      return (root * (2 * most * 1.02 + 2 ** -23)) / (Math.min(...quantizer.levels) - 1) / 2;
    case "cachegen":
      return (root * most * 1.02) / Math.floor((Math.min(...quantizer.levels) - 1) / 2) / 2;
  }
}

/** A row comes back within this length: the transform keeps lengths, but for its scale. */
function boundOf(spec: NativeCodecSpec, rows: readonly Float32Array[]): number {
  const { mean, scale } = spec.transform ?? {};
  const scales = scale === undefined ? [1] : Array.from(scale, Math.abs);
  const [least, greatest] = [Math.min(...scales), Math.max(...scales)];
  const longest = Math.max(0, ...rows.map(length));
  const centered = (longest + length(mean ?? [])) * greatest;
  // Elements round once more at the end; floats round a few times for each stage, more in sums.
  const last = (longest + length(mean ?? [])) * 2 ** (spec.element === "bf16" ? -8 : spec.element === "f16" ? -10 : -24) + 2 ** -20;
  return (lossOf(spec, centered) + centered * 2 ** -18) / least + last;
}

function assertNear(spec: NativeCodecSpec, before: readonly Float32Array[], after: readonly Float32Array[]): void {
  const most = boundOf(spec, before);
  for (const [token, row] of before.entries()) {
    const error = length(row.map((value, at) => value - ((after[token] as Float32Array)[at] as number)));
    // Once more for the last rounding of what the error itself adds.
    assert.ok(error <= most * 1.02, `token ${token} is ${error} away, ${most} at most`);
  }
}

test(`${SPECS} random specs`, { skip }, () => {
  for (let seed = 1; seed <= SPECS; seed++) {
    const random = new Random(seed);
    const spec = randomSpec(random, zstd);
    const tokens = random.pick([0, 1, 1, 2, 5, 17, 33]);
    const position = random.pick([0, 0, 3, 1_000, 2 ** 30]);
    const parts = randomParts(spec, tokens, random);
    const described = () =>
      `seed ${seed}: ${JSON.stringify({ ...spec, transform: Object.keys(spec.transform ?? {}) })}, ${tokens} tokens at ${position}`;
    try {
      const oracle = make({ ...spec, isa: "scalar" });
      const { block, stored, bytes } = encode(oracle, parts, tokens, position);
      assert.ok(bytes <= HEADER_BYTES + tokens * widthOf(spec) * elementBytes(spec.element), "no block is longer than a stored one");
      const decoded = decode(oracle, spec, block, tokens, position);
      if (stored === "") assertNear(spec, rowsOf(spec, parts, tokens), rowsOf(spec, decoded, tokens));
      else assert.deepEqual(decoded, parts);
      for (const isa of isas) {
        const codec = make({ ...spec, isa });
        assert.equal(codec.id, oracle.id);
        const other = encode(codec, parts, tokens, position);
        assert.equal(Buffer.compare(other.block, block), 0, `${isa} encodes as the scalar one`);
        const again = decode(codec, spec, block, tokens, position);
        assert.ok(
          again.every((part, at) => Buffer.compare(part, decoded[at] as Uint8Array) === 0),
          `${isa} decodes as the scalar one`,
        );
      }
    } catch (error) {
      throw new Error(described(), { cause: error });
    }
  }
});

test("a block changed anywhere is refused, or decodes within its memory", { skip }, () => {
  let refused = 0;
  for (let seed = 1; seed <= SPECS / 3; seed++) {
    const random = new Random(1_000_000 + seed);
    const spec = randomSpec(random, zstd);
    const tokens = random.between(1, 20);
    const codec = make(spec);
    const { block } = encode(codec, randomParts(spec, tokens, random), tokens, 0);
    for (let times = 0; times < 20; times++) {
      const changed = mutate(block, random);
      if (random.chance(2, 3) && changed.length >= HEADER_BYTES) seal(changed);
      try {
        codec.decode(changed, emptyParts(spec, tokens), tokens, 0);
      } catch (error) {
        assert.equal((error as { code?: string }).code, "codec_failed");
        refused += 1;
      }
    }
  }
  assert.ok(refused > SPECS, "most changes are seen");
});

/** Makes length and checksum of a header right again. */
function seal(block: Uint8Array): void {
  const view = new DataView(block.buffer, block.byteOffset, block.byteLength);
  view.setUint32(28, block.length - HEADER_BYTES, true);
  view.setUint32(44, crc32c(block.subarray(0, 44)), true);
}

test("a block of another spec, tile or position is refused by name", { skip }, () => {
  const spec = {
    element: "bf16",
    parts: 1,
    heads: 2,
    channels: 8,
    quantizer: { kind: "fp8", format: "e4m3" },
    codec: { kind: "none" },
  } as const;
  const other = { ...spec, quantizer: { kind: "fp8", format: "e5m2" } } as const;
  const { block } = encode(make(spec), randomParts(spec, 4, new Random(1)), 4, 7);
  assert.throws(() => decode(make(other), spec, block, 4, 7), {
    code: "codec_failed",
    message: new RegExp(`spec ${make(spec).id}, this is ${make(other).id}`),
  });
  assert.throws(() => decode(make(spec), spec, block, 3, 7), { code: "codec_failed", message: /4 tokens from position 7/ });
  assert.throws(() => decode(make(spec), spec, block, 4, 8), { code: "codec_failed", message: /position 7/ });
});

test("with a checksum a wrong value is seen, wherever it came from", { skip }, () => {
  const random = new Random(11);
  const base = { element: "bf16", parts: 2, heads: 2, channels: 16, quantizer: { kind: "fp8", format: "e4m3" }, verify: true } as const;
  for (const coder of codersOf(base, zstd, random)) {
    const spec = { ...base, codec: coder };
    const { block } = encode(make(spec), randomParts(spec, 64, random), 64, 0);
    decode(make(spec), spec, block, 64, 0);
    const changed = Uint8Array.from(block);
    changed[block.length - 1] = (block[block.length - 1] as number) ^ 1;
    assert.throws(() => decode(make(spec), spec, changed, 64, 0), { code: "codec_failed" });
  }
});

test("tiles on other threads are the same, many at once", { skip }, async () => {
  const random = new Random(12);
  const quantizer = { kind: "step", steps: new Float32Array(128).fill(0.05) } as const;
  const spec = { element: "bf16", parts: 1, heads: 2, channels: 64, exempt: 4, quantizer, codec: { kind: "rans" } } as const;
  const codec = make(spec);
  const tiles = Array.from({ length: 40 }, () => randomParts(spec, 64, random));
  const blocks = await Promise.all(
    tiles.map(async (parts, at) => {
      const out = new Uint8Array(codec.bound(64));
      return out.subarray(0, (await codec.encodeLater(parts, 64, at * 64, out)).bytes);
    }),
  );
  for (const [at, parts] of tiles.entries()) assert.deepEqual(blocks[at], encode(codec, parts, 64, at * 64).block);
  await Promise.all(
    blocks.map(async (block, at) => {
      const parts = emptyParts(spec, 64);
      await codec.decodeLater(block, parts, 64, at * 64);
      assert.deepEqual(parts, decode(codec, spec, block, 64, at * 64));
    }),
  );
  await assert.rejects(codec.decodeLater(blocks[0] as Uint8Array, emptyParts(spec, 64), 64, 1), { code: "codec_failed" });
});

test("a worker that ends with tiles under way takes nothing with it", { skip }, async () => {
  const code = `
    const { parentPort, workerData } = require("node:worker_threads");
    const { NativeCodec } = require(workerData);
    const codec = new NativeCodec({ element: "bf16", parts: 1, heads: 8, channels: 128, quantizer: { kind: "fp8", format: "e4m3" }, codec: { kind: "rans" } });
    for (let times = 0; times < 20; times++) codec.encodeLater([new Uint8Array(2048 * 256)], 256, 0, new Uint8Array(codec.bound(256)));
    parentPort.postMessage("begun");
  `;
  const workerData = process.env["KVFERRY_NATIVE"] ?? fileURLToPath(new URL("../../native/out/kvferry.node", import.meta.url));
  for (let times = 0; times < 3; times++) {
    const worker = new Worker(code, { eval: true, execArgv: [], workerData });
    await new Promise((resolve, reject) => worker.once("message", resolve).once("error", reject));
    await worker.terminate();
  }
});
