/** The window's rule, one sentence each, and as a property: whatever the path it stays inside its bounds and says why. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { limits } from "../../transport/limits.ts";
import { createWindow, type WindowPath } from "../../transport/policy/window.ts";

const MiB = 1024 * 1024;

const windowOf = (path: WindowPath, bytes = limits.windowBytesMax) => createWindow({ bytes, path: () => path }).window();

test("starts with room for four lanes, and never beyond what was configured", () => {
  assert.ok(createWindow().window().bytes >= 4 * 2 * limits.chunkBytesDefault);
  assert.equal(createWindow({ bytes: 5 }).window().bytes, 5);
  assert.equal(createWindow({ chunks: 2 }).window().chunks, 2);
});

test("refuses bounds beyond the limits", () => {
  for (const options of [{ bytes: 0 }, { bytes: limits.windowBytesMax + 1 }, { chunks: 0 }, { chunks: limits.windowChunksMax + 1 }]) {
    assert.throws(() => createWindow(options), { code: "invalid_argument" });
  }
});

test("holds at least what the path does, twice, and two chunks for each lane", () => {
  const { bytes, reason } = windowOf({ goodputBytesPerSecond: 500_000_000, rttUs: 50_000, lanes: 4 });
  assert.ok(bytes >= 2 * 25_000_000 + 8 * MiB && bytes < 100 * MiB, String(bytes));
  assert.match(reason, /what the path holds/);
});

test("a slow path gets the least, a fast one its bound, and both say so", () => {
  assert.match(windowOf({ goodputBytesPerSecond: 1_000, rttUs: 50_000, lanes: 1 }).reason, /the least/);
  assert.deepEqual(windowOf({ goodputBytesPerSecond: 5e10, rttUs: 20_000, lanes: 4 }, 64 * MiB).bytes, 64 * MiB);
  assert.match(windowOf({ goodputBytesPerSecond: 5e10, rttUs: 20_000, lanes: 4 }, 64 * MiB).reason, /bound/);
});

test("follows the path that it is of", () => {
  let path: WindowPath = { goodputBytesPerSecond: 0, rttUs: 0, lanes: 1 };
  const window = createWindow({ path: () => path, bytes: limits.windowBytesMax });
  const before = window.window().bytes;
  path = { goodputBytesPerSecond: 10 ** 9, rttUs: 100_000, lanes: 8 };
  assert.ok(window.window().bytes > before);
});

test("property: 0 < window <= bound, whatever the path", () => {
  const path = fc.record({
    goodputBytesPerSecond: fc.double({ min: 0, max: 1e12, noNaN: true }),
    rttUs: fc.nat(10_000_000),
    lanes: fc.integer({ min: 1, max: 64 }),
  });
  fc.assert(
    fc.property(fc.integer({ min: 1, max: limits.windowBytesMax }), path, (bound, of) => {
      const { bytes, reason } = windowOf(of, bound);
      assert.ok(bytes > 0 && bytes <= bound && Number.isInteger(bytes) && reason !== "");
    }),
  );
});
