/**
 * Plans of ranges: what a stranger may ask of a buffer. Method: many overlapping ranges of a small buffer, whose chunks would fill memory; the
 * refusal must come before they are made, so the test ends at once or not at all.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { KvferryError } from "../../transport/errors.ts";
import { limits } from "../../transport/limits.ts";
import { planContent } from "../../transport/peer/content.ts";

const MiB = 1 << 20;
const region = { bytes: 1_024 * MiB, path: "", nativeId: -1, view: new Uint8Array(0), close() {} };
const remote = { layout: undefined, firstHead: 0, heads: 0, chunkBytes: limits.chunkBytesMin, coding: undefined };
const ranges = (count: number, bytes: number) => Array.from({ length: count }, () => ({ offset: 0, bytes }));

test("ranges that overlap are counted as often as they are asked for, before a chunk of them is made", () => {
  const plan = planContent("sender", { kind: "ranges", region, ranges: ranges(4, MiB) }, remote);
  assert.equal(plan.chunks.length, (4 * MiB) / limits.chunkBytesMin);
  assert.throws(
    () => planContent("sender", { kind: "ranges", region, ranges: ranges(limits.rangesPerTransferMax, region.bytes) }, remote),
    (error) => error instanceof KvferryError && error.code === "range_invalid",
  );
});
