/** How large a chunk is, one sentence for each rule, then as a property: overhead under a hundredth, and short where that allows it. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { limits } from "../../transport/limits.ts";
import { type ChunkSizeInput, chooseChunkSize } from "../../transport/policy/chunk-size.ts";
import { PRIORITIES } from "../../transport/policy/priority.ts";

const KiB = 1024;
const MiB = 1024 * KiB;
const MB = 1_000_000;
const INPUT: ChunkSizeInput = {
  ...{ goodputBytesPerSecond: 120 * MB, lanes: 1, rttUs: 50_000, priority: "normal" },
  ...{ transferBytes: 0, mostBytes: limits.chunkBytesMax, local: false },
};
const sizeOf = (changes: Partial<ChunkSizeInput>): number => chooseChunkSize({ ...INPUT, ...changes }).bytes;

test("a quarter of the default while the rate is not known, the default on a host, and never more than both ends take", () => {
  assert.equal(sizeOf({ goodputBytesPerSecond: 0, local: true }), limits.chunkBytesDefault);
  assert.equal(sizeOf({ goodputBytesPerSecond: 0 }), 256 * KiB);
  assert.equal(sizeOf({ goodputBytesPerSecond: 0, mostBytes: 64 * KiB }), 64 * KiB);
  assert.equal(sizeOf({ mostBytes: 5_000 }), 5_000);
});

test("nothing urgent waits longer for a chunk than an eighth of a round trip, between 8 and 20 ms; for background half of that", () => {
  // 120 MB/s: 8 ms are 960 kB, and 4 ms 480 kB.
  assert.deepEqual([sizeOf({ rttUs: 1_000 }), sizeOf({ rttUs: 1_000, priority: "background" })], [512 * KiB, 256 * KiB]);
  assert.deepEqual([sizeOf({ rttUs: 100_000 }), sizeOf({ rttUs: 1_000_000 })], [MiB, MiB]);
  assert.match(chooseChunkSize({ ...INPUT, rttUs: 1_000 }).reason, /nothing urgent waits longer than 8000 us/);
});

test("more lanes make each of them slower, and chunks smaller, as far as the loop has the time for so many", () => {
  assert.deepEqual(
    [1, 4, 16].map((lanes) => sizeOf({ lanes, rttUs: 1_000 })),
    [512 * KiB, 128 * KiB, 128 * KiB],
  );
});

test("a small transfer is cut in four for each lane", () => {
  assert.equal(sizeOf({ transferBytes: 4 * MiB, lanes: 4, goodputBytesPerSecond: 400 * MB }), 256 * KiB);
  assert.match(chooseChunkSize({ ...INPUT, transferBytes: MiB }).reason, /4 for each of 1 lanes/);
});

test("a lane so fast that a mebibyte is soon over gets larger ones, so that deciding costs no more than a hundredth", () => {
  assert.equal(sizeOf({ goodputBytesPerSecond: 800 * MB, rttUs: 100 }), MiB);
  assert.equal(sizeOf({ goodputBytesPerSecond: 6_000 * MB, rttUs: 100 }), 8 * MiB);
  assert.match(chooseChunkSize({ ...INPUT, goodputBytesPerSecond: 6_000 * MB }).reason, /or their number costs too much/);
});

test("a lane so slow that its frame's head would show gets no smaller ones than that allows", () => {
  assert.equal(sizeOf({ goodputBytesPerSecond: MB / 10, lanes: 8 }), 8 * KiB);
});

test("property: within the limits, a power of two or all that is taken, overhead at most a hundredth, and no longer than may be waited for", () => {
  const input: fc.Arbitrary<ChunkSizeInput> = fc.record({
    goodputBytesPerSecond: fc.double({ min: 0, max: 5e10, noNaN: true }),
    lanes: fc.integer({ min: 1, max: limits.lanesMax }),
    rttUs: fc.nat(2_000_000),
    priority: fc.constantFrom(...PRIORITIES),
    transferBytes: fc.nat(2 ** 31 - 1),
    mostBytes: fc.integer({ min: limits.chunkBytesMin, max: limits.chunkBytesMax }),
    local: fc.boolean(),
  });
  fc.assert(
    fc.property(input, (of) => {
      const { bytes, reason } = chooseChunkSize(of);
      assert.ok(Number.isInteger(bytes) && bytes >= limits.chunkBytesMin && bytes <= of.mostBytes && reason !== "");
      if (bytes === of.mostBytes || of.goodputBytesPerSecond === 0) return;
      assert.equal(Math.log2(bytes) % 1, 0);
      const laneRate = of.goodputBytesPerSecond / of.lanes;
      const framing = limits.frameHeaderBytes + limits.frameTrailerBytes;
      const overhead = Math.max(framing, (laneRate * 12) / MB);
      assert.ok(overhead * 100 <= bytes, `${overhead} for ${bytes}`);
      const ofLoop = Math.min((of.goodputBytesPerSecond * 12 * 50) / MB, limits.chunkBytesDefault);
      assert.ok(ofLoop <= bytes, `${bytes} are too many chunks`);
      // Larger than what 20 ms take only where the overhead asks for it.
      assert.ok(bytes <= Math.max(laneRate * 0.02, 2 * 100 * overhead, 2 * ofLoop), `${bytes} at ${laneRate}`);
    }),
  );
});
