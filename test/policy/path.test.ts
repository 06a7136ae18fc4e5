/** The decisions of a path together: what is read goes in, and lanes, pace, window and chunk size come out, each with its reason. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { limits } from "../../transport/limits.ts";
import { Path, type PathDecision, type PathLoad, type PathOptions } from "../../transport/policy/path.ts";
import { CountingLanes } from "./lanes.ts";

const MB = 1_000_000;
const MiB = 1024 * 1024;
const OPTIONS: PathOptions = {
  ...{ least: 1, most: limits.lanesMax, local: false, peerCap: 0 },
  ...{ windowBytes: limits.windowBytesMax, chunkBytes: 0 },
};
const LOAD: PathLoad = { backlogBytes: 1_000 * MB, lanesActive: 16, mostUrgent: "normal", tenantCap: 0, tenantSharing: 1 };

function connected(path: Path): PathDecision {
  path.handleConnected();
  return path.handleRoundTrip(50_000);
}

/** A path that has been read for so long at this rate. */
function pathAt(bytesPerSecond: number, seconds: number, options: Partial<PathOptions> = {}, load: Partial<PathLoad> = {}): Path {
  const path = new Path({ ...OPTIONS, ...options });
  const { lanes } = connected(path).lanes;
  const counting = new CountingLanes(lanes);
  for (let nowUs = path.nextReadingUs(); nowUs <= seconds * 1_000_000; nowUs = path.nextReadingUs())
    path.handleReading(nowUs, counting.pass(100_000, bytesPerSecond / 10), { ...LOAD, ...load });
  return path;
}

test("before anything is known: lanes to begin with, no pace, room for a fast path, small chunks, and a reason for each", () => {
  const path = new Path(OPTIONS);
  const { lanes, pace } = path.decision;
  assert.deepEqual([lanes.lanes, pace.bytesPerSecond], [16, 0]);
  const window = path.newWindow().window();
  const chunk = path.chunkSize(0, "out", "normal", 0, limits.chunkBytesMax);
  assert.equal(chunk.bytes, 256 * 1024);
  for (const { reason } of [lanes, pace, window, chunk]) assert.notEqual(reason, "");
});

test("a connection over a long way begins with many lanes", () => {
  assert.equal(connected(new Path(OPTIONS)).lanes.lanes, 16);
});

test("so does one to a stranger, and a short way takes some of them back, however long its handshake took", () => {
  const path = new Path(OPTIONS);
  path.handleConnected();
  assert.equal(path.handleRoundTrip(3_000).lanes.lanes, 16);
  assert.equal(path.handleRoundTrip(200).lanes.lanes, 4);
  assert.equal(new Path({ ...OPTIONS, local: true }).decision.lanes.lanes, 4);
});

test("what looks have found on a short way stays when it is connected again", () => {
  const path = pathAt(125 * MB, 20);
  const { lanes } = path.decision.lanes;
  path.handleConnected();
  assert.equal(path.handleRoundTrip(200).lanes.lanes, lanes);
});

test("readings make the estimate, and the window and the chunk follow it", () => {
  const path = pathAt(125 * MB, 2);
  const { goodputBytesPerSecond } = path.estimate(2_000_000);
  assert.ok(Math.abs(goodputBytesPerSecond / (125 * MB) - 1) < 0.01, String(goodputBytesPerSecond));
  const { bytes } = path.newWindow().window();
  assert.ok(bytes >= 2 * 125 * MB * 0.05 && bytes <= 64 * MiB, String(bytes));
  // Sixteen lanes of 8 MB/s, and 8 ms: 64 kB, but the loop has the time for chunks of 75 kB.
  assert.equal(path.chunkSize(2_000_000, "out", "normal", 0, limits.chunkBytesMax).bytes, 128 * 1024);
});

test("a window that a transfer holds goes on following the path", () => {
  const path = new Path(OPTIONS);
  const window = path.newWindow();
  const before = window.window().bytes;
  connected(path);
  const lanes = new CountingLanes(16);
  path.handleReading(0, lanes.all, LOAD);
  path.handleReading(100_000, lanes.pass(100_000, 200 * MB), LOAD);
  assert.ok(window.window().bytes > 2 * before);
});

test("lanes that grow are not held back by a window of what they had before", () => {
  const path = new Path(OPTIONS);
  connected(path);
  const lanes = new CountingLanes(16);
  path.handleReading(0, lanes.all, LOAD);
  for (const rate of [100, 200, 400, 800, 1_600]) {
    path.handleReading(path.nextReadingUs(), lanes.pass(100_000, (rate * MB) / 10), LOAD);
    assert.ok(path.newWindow().window().bytes >= 2 * rate * MB * 0.05, `${rate} MB/s`);
  }
});

test("chunks of a size that the operator fixed, as far as both ends take them", () => {
  const path = new Path({ ...OPTIONS, chunkBytes: 4 * MiB });
  assert.deepEqual(path.chunkSize(0, "out", "urgent", 0, limits.chunkBytesMax), { bytes: 4 * MiB, reason: "fixed by the configuration" });
  assert.equal(path.chunkSize(0, "out", "urgent", 0, 2 * MiB).bytes, 2 * MiB);
});

test("caps of the peer and of the tenant, and what background leaves to others, are one pace", () => {
  assert.equal(new Path({ ...OPTIONS, peerCap: 10 * MB }).decision.pace.bytesPerSecond, 10 * MB);
  assert.equal(pathAt(100 * MB, 1, { peerCap: 10 * MB }, { tenantCap: 12 * MB, tenantSharing: 2 }).decision.pace.bytesPerSecond, 6 * MB);
  assert.match(pathAt(100 * MB, 1, {}, { mostUrgent: "background" }).decision.pace.reason, /background/);
});

test("acknowledgements alone tell the rate where nobody reads the kernel", () => {
  const path = new Path(OPTIONS);
  for (let chunk = 1; chunk <= 100; chunk++) path.handleAcked(chunk * 10_000, MB, 10_000);
  assert.ok(Math.abs(path.estimate(1_000_000).goodputBytesPerSecond / (100 * MB) - 1) < 0.05);
});
