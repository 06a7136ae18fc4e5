/**
 * Sizes of chunks. Method: sweeps over sizes and wishes around every boundary; what the head of chunks.ts promises is
 * checked on each.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { ChunkList } from "../../transport/kv/chunks.ts";

function sizes(chunkBytes: number, add: (list: ChunkList) => void): number[] {
  const list = new ChunkList(chunkBytes);
  add(list);
  assert.equal(
    list.bytes,
    list.chunks.reduce((sum, { bytes }) => sum + bytes, 0),
  );
  return list.chunks.map(({ bytes }) => bytes);
}

test("blocks that fit a chunk are never cut", () => {
  assert.deepEqual(
    sizes(1_000, (list) => list.addBlocks(0, 0, 300, 7)),
    [900, 900, 300],
  );
  assert.deepEqual(
    sizes(1_000, (list) => list.addBlocks(0, 0, 1_000, 2)),
    [1_000, 1_000],
  );
  // A tail of one block of 100 is not worth a chunk of its own.
  assert.deepEqual(
    sizes(1_000, (list) => list.addBlocks(0, 0, 100, 21)),
    [1_000, 600, 500],
  );
  assert.deepEqual(
    sizes(1_000, (list) => list.addBlocks(0, 0, 100, 1)),
    [100],
  );
});

test("larger blocks are cut into even pieces that end on cache lines", () => {
  assert.deepEqual(
    sizes(1_024, (list) => list.addBlocks(0, 0, 1_500, 2)),
    [768, 732, 768, 732],
  );
  assert.deepEqual(
    sizes(1_024, (list) => list.addBlocks(0, 0, 1_025, 1)),
    [576, 449],
  );
  assert.deepEqual(
    sizes(3, (list) => list.addBlocks(0, 0, 10, 1)),
    [2, 3, 2, 3],
  );
});

test("chunks of tokens begin on whole blocks where they can", () => {
  assert.deepEqual(
    sizes(1_000, (list) => list.addTokens(0, 0, 10, 250, 32)),
    [960, 960, 580],
  );
  assert.deepEqual(
    sizes(1_000, (list) => list.addTokens(0, 0, 10, 196, 32)),
    [960, 320, 680],
  );
  assert.deepEqual(
    sizes(100, (list) => list.addTokens(0, 0, 10, 25, 32)),
    [100, 100, 50],
  );
  assert.deepEqual(
    sizes(5, (list) => list.addTokens(0, 0, 10, 3, 1)),
    [10, 10, 10],
  );
});

test("no chunk outgrows the wish, no tail is under an eighth of it", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 64 }).map((lines) => lines * 64),
      fc.integer({ min: 1, max: 20_000 }),
      fc.integer({ min: 1, max: 40 }),
      fc.constantFrom(1, 3, 16, 128),
      fc.boolean(),
      (chunkBytes, unitBytes, units, align, blocks) => {
        const cut = sizes(chunkBytes, (list) =>
          blocks ? list.addBlocks(0, 0, unitBytes, units) : list.addTokens(0, 0, unitBytes, units, align),
        );
        const most = blocks ? chunkBytes : Math.max(chunkBytes, unitBytes);
        for (const bytes of cut) {
          assert.ok(bytes > 0 && bytes <= most, `${bytes} of ${chunkBytes}`);
          if (cut.length > 1) assert.ok(bytes * 8 >= Math.min(chunkBytes, unitBytes), `${bytes} of ${chunkBytes}`);
          if (cut.length > 1 && !blocks) assert.ok(bytes * 8 >= chunkBytes, `${bytes} of ${chunkBytes}`);
        }
        assert.equal(
          cut.reduce((sum, bytes) => sum + bytes, 0),
          unitBytes * units,
        );
      },
    ),
    { numRuns: 5_000 },
  );
});
