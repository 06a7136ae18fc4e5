/** The window's rule, one sentence each, and as a property: whatever happens it stays inside its bounds and says why. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { limits } from "../../transport/limits.ts";
import { createWindow } from "../../transport/policy/window.ts";

const MiB = 1024 * 1024;

/** Acknowledges one window's worth. */
function round(window: ReturnType<typeof createWindow>, durationUs: number): void {
  for (let left = window.window().bytes; left > 0; left -= MiB) window.handleAcked(0, MiB, durationUs);
}

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

test("grows by a step for each window that came back in time, up to its bound", () => {
  const window = createWindow({ bytes: 34 * MiB });
  round(window, 1_000);
  assert.equal(window.window().bytes, 33 * MiB);
  assert.match(window.window().reason, /grown/);
  for (let rounds = 0; rounds < 5; rounds++) round(window, 1_000);
  assert.equal(window.window().bytes, 34 * MiB);
});

test("is cut while chunks wait long, down to what four lanes need", () => {
  const window = createWindow();
  window.handleAcked(0, 1, 1_000);
  round(window, 400_000);
  assert.equal(window.window().bytes, 28 * MiB);
  assert.match(window.window().reason, /waited/);
  for (let rounds = 0; rounds < 20; rounds++) round(window, 400_000);
  assert.equal(window.window().bytes, 8 * MiB);
});

test("a long path is not a slow one: durations are compared with the shortest", () => {
  const window = createWindow();
  round(window, 300_000);
  assert.equal(window.window().bytes, 33 * MiB);
});

test("a lane that takes many chunks with it costs one cut", () => {
  const window = createWindow();
  window.handleAcked(0, MiB, 1_000);
  for (let chunk = 0; chunk < 10; chunk++) window.handleFailed(0, MiB);
  assert.equal(window.window().bytes, 16 * MiB);
});

test("property: 0 < window <= bound, whatever happens", () => {
  const step = fc.record({ failed: fc.boolean(), bytes: fc.integer({ min: 1, max: 16 * MiB }), durationUs: fc.nat(5_000_000) });
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: limits.windowBytesMax }),
      fc.integer({ min: 1, max: limits.windowChunksMax }),
      fc.array(step),
      (bytes, chunks, steps) => {
        const window = createWindow({ bytes, chunks });
        for (const { failed, bytes: moved, durationUs } of steps) {
          if (failed) window.handleFailed(0, moved);
          else window.handleAcked(0, moved, durationUs);
          const now = window.window();
          assert.ok(now.bytes > 0 && now.bytes <= bytes && Number.isInteger(now.bytes) && now.chunks === chunks && now.reason !== "");
        }
      },
    ),
  );
});
