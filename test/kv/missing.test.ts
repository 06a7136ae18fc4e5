/**
 * What is told of a transfer that was not whole in time: against a plan whose bytes are looked at one by one, for layouts that are equal and that are not,
 * and any chunks that are there.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { denseLayout } from "../../transport/kv/build.ts";
import { describeMissing, missingBlocks } from "../../transport/kv/missing.ts";
import { planTransfer } from "../../transport/kv/plan.ts";
import type { Plane } from "../../transport/link/link.ts";

const layout = (blockTokens: number, order: "NHD" | "HND") =>
  denseLayout({
    layers: 2,
    kvHeads: 2,
    headDim: 4,
    blockTokens,
    element: "bf16",
    order,
    form: "layer-major",
    kv: "split",
    blockCount: 40,
  });

/** Where a byte of a plane's stream lies, as wire.md has it: token by token. */
function blockAt({ tokens, heads, channels, elementBytes, firstToken }: Plane, at: number): number {
  const token = firstToken + Math.floor(at / (heads * channels * elementBytes));
  return Math.floor(token / tokens);
}

test("the blocks that are told are those of which a byte is missing", () => {
  const layouts = [layout(16, "NHD"), layout(8, "HND"), layout(4, "NHD")];
  const drawn = fc.tuple(fc.nat(2), fc.nat(2), fc.integer({ min: 1, max: 130 }), fc.infiniteStream(fc.boolean()));
  fc.assert(
    fc.property(drawn, ([from, to, tokens, there]) => {
      const groups = [{ group: 0, tokens }];
      const manifest = { fingerprint: "0".repeat(64), groups, firstHead: 0, heads: 2 };
      const plan = planTransfer(layouts[from]!, layouts[to]!, manifest, 4_096);
      const ids = Uint32Array.from({ length: plan.receiverBlocks[0]! }, (_, at) => (at * 7 + 3) % 40);
      const isThere = plan.chunks.map(() => there.next().value);
      const expected = new Set<number>();
      plan.chunks.forEach(({ plane, start, bytes }, chunk) => {
        for (let at = start; at < start + bytes && !isThere[chunk]; at++) expected.add(ids[blockAt(plan.receiverPlanes[plane]!, at)]!);
      });
      const placed = { ...plan, kind: "kv", planes: plan.receiverPlanes, blockLists: [ids] } as const;
      const found = [...missingBlocks(placed, (chunk) => isThere[chunk]!)];
      assert.deepEqual(
        found,
        [...expected].sort((a, b) => a - b),
      );
    }),
    { numRuns: 60 },
  );
});

const PLANE: Plane = {
  ...{ blockList: 0, offset: 0, blockStride: 64, tokens: 1, tokenStride: 0, heads: 1, headStride: 0 },
  ...{ channels: 1, channelStride: 0, elementBytes: 64, firstToken: 0 },
};
const chunksOf = (count: number) => Array.from({ length: count }, (_, at) => ({ plane: 0, start: 64 * at, bytes: 64 }));

test("in words: stretches of ids, offsets of ranges, and never too many", () => {
  const ids = Uint32Array.of(9, 3, 4, 5, 20);
  const of = { planes: [PLANE], layers: [7, 8, 11], chunkLayer: Uint32Array.of(0, 0, 1, 2, 2) };
  const blocks = { ...of, kind: "kv", blockLists: [ids], chunks: chunksOf(5) } as const;
  assert.equal(
    describeMissing(blocks, (chunk) => chunk === 4),
    "missing 4 of 5 blocks: 3-5, 9; in layers 7-8, 11",
  );
  const ranges = { ...blocks, kind: "ranges", planes: [{ ...PLANE, offset: 4_096, blockStride: 2 }] } as const;
  assert.equal(
    describeMissing(ranges, (chunk) => chunk > 1),
    "missing 2 of 5 ranges: 4102, 4114",
  );
  const many = Uint32Array.from({ length: 100_000 }, (_, at) => 2 * at);
  const text = describeMissing(
    { ...blocks, blockLists: [many], chunks: chunksOf(100_000), chunkLayer: new Uint32Array(100_000) },
    () => false,
  );
  assert.match(text, /^missing 100000 of 100000 blocks: 0, 2, .*62, and 99968 more stretches; in layers 7$/);
  assert.ok(text.length < 400);
});
