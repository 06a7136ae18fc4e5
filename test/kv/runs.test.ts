/**
 * Runs and copies against a walker that computes the address of each byte of the stream by itself (copier.ts): random planes, block lists and
 * spans, taken in random pieces. Bytes outside the span must stay as they were.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { gather, planeFits, RunCursor, scatter, streamBytes } from "../../transport/kv/runs.ts";
import type { Plane } from "../../transport/link/link.ts";
import { addressOf } from "./copier.ts";

interface Drawn {
  readonly plane: Plane;
  readonly blocks: Uint32Array;
  readonly start: number;
  readonly bytes: number;
  readonly pieces: readonly number[];
}

/** Strides of nested axes in a drawn order with gaps, so that no two places of the stream share memory. */
const planes: fc.Arbitrary<Plane> = fc
  .record({
    counts: fc.tuple(fc.integer({ min: 1, max: 4 }), fc.integer({ min: 1, max: 3 }), fc.integer({ min: 1, max: 5 })),
    elementBytes: fc.constantFrom(1, 2, 4, 8, 3, 40),
    order: fc.shuffledSubarray([0, 1, 2], { minLength: 3, maxLength: 3 }),
    gaps: fc.array(fc.constantFrom(0, 0, 1, 8), { minLength: 4, maxLength: 4 }),
    offset: fc.nat(16),
    firstToken: fc.nat(3),
  })
  .map(({ counts, elementBytes, order, gaps, offset, firstToken }) => {
    const strides = [0, 0, 0];
    let extent = elementBytes;
    for (const [at, axis] of order.entries()) {
      strides[axis] = extent + (gaps[at] as number);
      extent = (strides[axis] as number) * (counts[axis] as number);
    }
    const [tokens, heads, channels] = counts;
    const [tokenStride, headStride, channelStride] = strides as [number, number, number];
    const shape = { tokens, tokenStride, heads, headStride, channels, channelStride, elementBytes };
    return { blockList: 0, offset, blockStride: extent + (gaps[3] as number), ...shape, firstToken: Math.min(firstToken, tokens - 1) };
  });

const drawings: fc.Arbitrary<Drawn> = fc
  .record({
    plane: planes,
    blocks: fc.uniqueArray(fc.nat(9), { minLength: 1, maxLength: 6 }).chain((ids) =>
      fc.constantFrom(
        ids,
        [...ids].sort((a, b) => a - b),
      ),
    ),
    from: fc.nat(),
    to: fc.nat(),
    pieces: fc.array(fc.integer({ min: 1, max: 100 }), { minLength: 1, maxLength: 5 }),
  })
  .map(({ plane, blocks, from, to, pieces }) => {
    const whole = streamBytes(plane, blocks.length);
    const [start, end] = [from % (whole + 1), to % (whole + 1)].sort((a, b) => a - b) as [number, number];
    return { plane, blocks: Uint32Array.from(blocks), start, bytes: end - start, pieces };
  });

const REGION_BYTES = 16 + 10 * 4 * 3 * 5 * (40 + 8) * 4;

function addresses({ plane, blocks, start, bytes }: Drawn): number[] {
  return Array.from({ length: bytes }, (_, at) => addressOf(plane, blocks, start + at));
}

test("runs name the bytes of the stream in order, and are as long as can be", () => {
  fc.assert(
    fc.property(drawings, (drawn) => {
      const expected = addresses(drawn);
      const cursor = new RunCursor(drawn.plane, drawn.blocks, drawn.start, drawn.bytes);
      const found: number[] = [];
      let breaks = 0;
      for (let runs = 0; cursor.next(Number.POSITIVE_INFINITY); runs++) {
        for (let at = 0; at < cursor.bytes; at++) found.push(cursor.offset + at);
        if (runs > 0) breaks += 1;
      }
      assert.deepEqual(found, expected);
      assert.equal(breaks, expected.filter((address, at) => at > 0 && address !== (expected[at - 1] as number) + 1).length);
      assert.equal(cursor.left, 0);
    }),
  );
});

test("a limit cuts runs and loses nothing", () => {
  fc.assert(
    fc.property(drawings, (drawn) => {
      const cursor = new RunCursor(drawn.plane, drawn.blocks, drawn.start, drawn.bytes);
      const found: number[] = [];
      for (let turn = 0; ; turn++) {
        const limit = drawn.pieces[turn % drawn.pieces.length] as number;
        if (!cursor.next(limit)) break;
        assert.ok(cursor.bytes <= limit && cursor.bytes > 0);
        for (let at = 0; at < cursor.bytes; at++) found.push(cursor.offset + at);
      }
      assert.deepEqual(found, addresses(drawn));
    }),
  );
});

test("gather and scatter move exactly the span, in any pieces", () => {
  const content = Uint8Array.from({ length: REGION_BYTES }, (_, at) => (at * 31 + (at >> 8)) & 0xff);
  fc.assert(
    fc.property(drawings, (drawn) => {
      const { plane, blocks, start, bytes, pieces } = drawn;
      assert.ok(planeFits(plane, blocks, REGION_BYTES));
      const expected = addresses(drawn);
      const reader = new RunCursor(plane, blocks, start, bytes);
      const writer = new RunCursor(plane, blocks, start, bytes);
      const region = new Uint8Array(REGION_BYTES).fill(0xee);
      const stream = new Uint8Array(bytes + 2).fill(0xaa);
      for (let at = 0, turn = 0; at < bytes; turn++) {
        const count = Math.min(pieces[turn % pieces.length] as number, bytes - at);
        assert.equal(gather(stream, 1 + at, content, reader, count), count);
        assert.equal(scatter(region, writer, stream, 1 + at, count), count);
        at += count;
      }
      assert.equal(gather(stream, 0, content, reader, 1), 0, "nothing is left");
      assert.deepEqual(
        [...stream.subarray(1, 1 + bytes)],
        expected.map((address) => content[address]),
      );
      assert.deepEqual([stream[0], stream[bytes + 1]], [0xaa, 0xaa]);
      const touched = new Set(expected);
      region.forEach((byte, at) => {
        if (byte !== (touched.has(at) ? content[at] : 0xee)) assert.fail(`byte ${at} of the region is ${byte}`);
      });
    }),
    { numRuns: 50 },
  );
});

test("planeFits is exact at the last byte and refuses what is no plane", () => {
  fc.assert(
    fc.property(planes, fc.uniqueArray(fc.nat(9), { minLength: 1, maxLength: 6 }), (plane, ids) => {
      const blocks = Uint32Array.from(ids);
      const last = Math.max(...ids);
      let end = 0;
      const whole = streamBytes({ ...plane, firstToken: 0 }, 1);
      for (let at = 0; at < whole; at++) end = Math.max(end, addressOf({ ...plane, firstToken: 0 }, Uint32Array.of(last), at) + 1);
      assert.equal(planeFits(plane, blocks, end), true);
      assert.equal(planeFits(plane, blocks, end - 1), false);
    }),
  );
  const plane: Plane = {
    blockList: 0,
    offset: 0,
    blockStride: 64,
    tokens: 1,
    tokenStride: 0,
    heads: 1,
    headStride: 0,
    channels: 1,
    channelStride: 0,
    elementBytes: 64,
    firstToken: 0,
  };
  const fits = (changes: Partial<Plane>, blocks = [0, 1]): boolean => planeFits({ ...plane, ...changes }, Uint32Array.from(blocks), 128);
  assert.equal(fits({}), true);
  assert.equal(fits({}, []), false);
  for (const bad of [{ tokens: 0 }, { heads: 0 }, { channels: 0 }, { elementBytes: 0 }, { firstToken: 1 }, { offset: 1 }, { offset: -1 }]) {
    assert.equal(fits(bad), false, JSON.stringify(bad));
  }
  for (const bad of [{ blockStride: 2 ** 53 - 1 }, { offset: 2 ** 53 - 1 }, { tokens: 2 ** 32, heads: 2 ** 32 }, { channels: 1.5 }]) {
    assert.equal(fits(bad), false, JSON.stringify(bad));
  }
});
