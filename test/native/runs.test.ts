/**
 * Runs of a plane's stream, gathered and scattered: native against the TypeScript cursor and against one byte at a time.
 * Method: random planes of every nesting, some that touch, some that leave the region (fast-check).
 */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import test from "node:test";
import fc from "fast-check";
import { planeFits, RunCursor, streamBytes } from "../../transport/kv/runs.ts";
import type { Plane } from "../../transport/link/link.ts";
import { createJobs } from "../../transport/memory/jobs.ts";
import { privateRegion } from "../../transport/memory/region.ts";
import { native, nativeProblem, planeNumbers } from "../../transport/native.ts";

const addon = native;
const skip = addon === undefined ? `no addon: ${nativeProblem}` : false;
const REGION_BYTES = 1 << 16;

/** Packed or with gaps on each level, heads and tokens in either order. */
const planes = fc
  .record({
    tokens: fc.integer({ min: 1, max: 6 }),
    heads: fc.integer({ min: 1, max: 4 }),
    channels: fc.integer({ min: 1, max: 9 }),
    elementBytes: fc.constantFrom(1, 2, 4, 3),
    gap: fc.constantFrom(0, 0, 0, 5),
    order: fc.constantFrom("token", "head", "transposed"),
    offset: fc.nat(100),
    firstToken: fc.nat(5),
  })
  .map(({ tokens, heads, channels, elementBytes, gap, order, offset, firstToken }): Plane => {
    const row = channels * elementBytes + gap;
    const strides =
      order === "token"
        ? { channelStride: elementBytes, headStride: row, tokenStride: row * heads }
        : order === "head"
          ? { channelStride: elementBytes, tokenStride: row, headStride: row * tokens }
          : { tokenStride: elementBytes, channelStride: elementBytes * tokens, headStride: elementBytes * tokens * channels };
    const blockStride = row * heads * tokens + gap;
    return { blockList: 0, offset, blockStride, tokens, heads, channels, elementBytes, firstToken: firstToken % tokens, ...strides };
  });
const blockLists = fc.uniqueArray(fc.nat(12), { minLength: 1, maxLength: 6 }).map((ids) => Uint32Array.from(ids));

/** Offset of each byte of the stream, one by one. */
function oracle(plane: Plane, blocks: Uint32Array): number[] {
  const offsets: number[] = [];
  blocks.forEach((block, index) => {
    for (let token = index === 0 ? plane.firstToken : 0; token < plane.tokens; token++)
      for (let head = 0; head < plane.heads; head++)
        for (let channel = 0; channel < plane.channels; channel++)
          for (let byte = 0; byte < plane.elementBytes; byte++) {
            const inBlock = token * plane.tokenStride + head * plane.headStride + channel * plane.channelStride;
            offsets.push(plane.offset + block * plane.blockStride + inBlock + byte);
          }
  });
  return offsets;
}

test("native runs name the stream's bytes in order, as few runs as there can be", { skip }, () => {
  const property = fc.property(planes, blockLists, fc.nat(), fc.nat(), (plane, blocks, a, b) => {
    const offsets = oracle(plane, blocks);
    const total = streamBytes(plane, blocks.length);
    assert.equal(total, offsets.length);
    const [start, end] = [a % (total + 1), b % (total + 1)].sort((x, y) => x - y) as [number, number];
    const runs = addon?.runs(REGION_BYTES, planeNumbers([plane]), blocks, start, end - start);
    assert.ok(runs !== undefined);
    const cursor = new RunCursor(plane, blocks, start, end - start);
    const named: number[] = [];
    for (let at = 0; at < runs.length; at += 2) {
      const offset: number = runs[at] ?? 0;
      const bytes: number = runs[at + 1] ?? 0;
      assert.ok(cursor.next(Number.MAX_SAFE_INTEGER), "TypeScript has as many runs");
      assert.deepEqual([offset, bytes], [cursor.offset, cursor.bytes]);
      assert.ok(named.length === 0 || named[named.length - 1] !== offset - 1, "neighbours are one run");
      for (let byte = 0; byte < bytes; byte++) named.push(offset + byte);
    }
    assert.deepEqual(named, offsets.slice(start, end));
  });
  fc.assert(property, { numRuns: 1_500 });
});

test("planes that leave the region are refused, by both", { skip }, () => {
  const number = fc.oneof(fc.nat(50), fc.constantFrom(2 ** 31, 2 ** 32 - 1, 2 ** 40, 2 ** 53 - 1));
  const count = fc.oneof(fc.integer({ min: 0, max: 9 }), fc.constantFrom(2 ** 31, 2 ** 32 - 1));
  const shape = fc.record({
    blockList: fc.constant(0),
    offset: number,
    blockStride: number,
    tokens: count,
    tokenStride: number,
    heads: count,
    headStride: number,
    channels: count,
    channelStride: number,
    elementBytes: count,
    firstToken: fc.nat(3),
  });
  const property = fc.property(shape, blockLists, (plane, blocks) => {
    const fits = planeFits(plane, blocks, REGION_BYTES);
    assert.equal(addon?.runs(REGION_BYTES, planeNumbers([plane]), blocks, 0, 0) !== undefined, fits);
  });
  fc.assert(property, { numRuns: 3_000 });
});

test("a stream copied into another shape arrives byte for byte, and nothing else changes", { skip }, async () => {
  const jobs = createJobs();
  const pair = fc.tuple(planes, blockLists, fc.constantFrom("token", "head", "transposed"));
  const property = fc.asyncProperty(pair, async ([plane, blocks]) => {
    const [from, to] = [
      privateRegion(Uint8Array.from(randomBytes(REGION_BYTES))),
      privateRegion(Uint8Array.from(randomBytes(REGION_BYTES))),
    ];
    const before = to.view.slice();
    const source = oracle(plane, blocks);
    const flat = { tokens: 1, tokenStride: 0, heads: 1, headStride: 0, channels: 1, channelStride: 0, firstToken: 0, blockList: 0 };
    const target: Plane = { ...flat, offset: 7, blockStride: source.length, elementBytes: source.length };
    const streams = [
      { region: from, planes: [plane], blocks },
      { region: to, planes: [target], blocks: Uint32Array.of(0) },
    ] as const;
    const copied = (a: number, b: number): Promise<void> =>
      new Promise((resolve, reject) => {
        const [source2, target2] = [streams[a], streams[b]];
        if (source2 === undefined || target2 === undefined) return reject(new Error("no stream"));
        assert.ok(jobs.copy(source2, target2, (error) => (error === undefined ? resolve() : reject(error))));
      });
    await copied(0, 1);
    source.forEach((offset, index) => void (before[7 + index] = from.view[offset] ?? 0));
    assert.deepEqual(to.view, before);
    const original = from.view.slice();
    for (const offset of source) from.view[offset] = 0;
    await copied(1, 0);
    assert.deepEqual(from.view, original);
    from.close();
    to.close();
  });
  await fc.assert(property, { numRuns: 150 });
  await jobs.close();
});
