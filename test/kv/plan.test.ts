/**
 * Plans of known transfers, and of those that cannot be. Method: models and layouts that real engines have, the
 * numbers worked out by hand; each way in which two layouts may not fit has its case, and the sentence of the error is
 * part of it.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { KvferryError } from "../../transport/errors.ts";
import { denseGroup, denseLayout, latentLayout, layoutOf, opaqueLayout, stateGroup, vllmCpuLayout } from "../../transport/kv/build.ts";
import type { Layout } from "../../transport/kv/layout.ts";
import { planTransfer, type TransferPlan } from "../../transport/kv/plan.ts";
import { flatPlanes } from "../../transport/kv/planes.ts";
import { limits } from "../../transport/limits.ts";
import { addressOf } from "./copier.ts";

const MiB = 2 ** 20;
const llama = {
  layers: 32,
  kvHeads: 8,
  headDim: 128,
  blockTokens: 16,
  element: "bf16",
  blockCount: 8_192,
  order: "NHD",
  form: "layer-major",
  kv: "split",
} as const;
const small = { ...llama, layers: 2, headDim: 16, blockCount: 64 } as const;

function manifest(tokens: number, heads = 8, firstHead = 0, group = 0) {
  return { fingerprint: "", groups: [{ group, tokens }], firstHead, heads };
}

/** Runs as a link would find them: neighbours in the stream that are neighbours in memory. */
function runsOf(plan: TransferPlan, blockLists: readonly Uint32Array[]): number[] {
  const runs: number[] = [];
  for (const plane of plan.senderPlanes) {
    const blocks = blockLists[plane.blockList] as Uint32Array;
    const total = blocks.length * plane.tokens * plane.heads * plane.channels * plane.elementBytes;
    let end = -1;
    for (let position = 0; position < total; position += plane.elementBytes) {
      const address = addressOf(plane, blocks, position);
      if (address === end) runs[runs.length - 1] = (runs.at(-1) as number) + plane.elementBytes;
      else runs.push(plane.elementBytes);
      end = address + plane.elementBytes;
    }
  }
  return runs;
}

function refusal(run: () => unknown): { readonly code: string; readonly message: string } {
  try {
    run();
  } catch (error) {
    assert.ok(error instanceof KvferryError, String(error));
    return error;
  }
  return assert.fail("was planned");
}

test("the canonical workload: 2,048 tokens of Llama-3.1-8B are 8,192 runs of 32 KiB", () => {
  const layout = denseLayout(llama);
  const plan = planTransfer(layout, layout, manifest(2_048), MiB);
  assert.equal(plan.order, "flat");
  assert.equal(plan.bytes, 256 * MiB);
  assert.deepEqual([plan.senderBlocks, plan.receiverBlocks], [[128], [128]]);
  assert.equal(plan.chunks.length, 256);
  assert.ok(plan.chunks.every(({ bytes }) => bytes === MiB));
  const scattered = Uint32Array.from({ length: 128 }, (_, index) => index * 7);
  const runs = runsOf(plan, [scattered]);
  assert.equal(runs.length, 8_192);
  assert.ok(runs.every((bytes) => bytes === 32_768));
  assert.deepEqual(
    plan.layers,
    Array.from({ length: 32 }, (_, layer) => layer),
  );
  assert.deepEqual(
    [...plan.chunkLayer],
    Array.from({ length: 256 }, (_, chunk) => Math.floor(chunk / 8)),
  );
});

test("K and V that lie together move as one run", () => {
  for (const options of [{ form: "block-contiguous" }, { kv: "joined" }, { kv: "joined", order: "HND" }] as const) {
    const layout = denseLayout({ ...small, ...options });
    const plan = planTransfer(layout, layout, manifest(64), MiB);
    assert.deepEqual([plan.order, plan.senderPlanes.length], ["flat", 2]);
    assert.deepEqual(runsOf(plan, [new Uint32Array([5, 3])]).length, 4);
  }
  const vllm = vllmCpuLayout({ layers: 30, kvHeads: 3, headDim: 64, blockTokens: 128, element: "bf16", blockCount: 364 });
  const plan = planTransfer(vllm, vllm, manifest(2_048, 3), MiB);
  assert.deepEqual([plan.order, plan.senderPlanes.length, plan.senderPlanes[0]?.elementBytes], ["flat", 30, 98_304]);
  assert.equal(plan.bytes, 16 * 2_949_120);
});

test("the same blocks in pools of other sizes and forms still move as they lie", () => {
  const [apart, together] = [denseLayout({ ...small, blockCount: 9 }), denseLayout({ ...small, form: "block-contiguous" })];
  for (const [sender, receiver, planes] of [
    [apart, together, 4],
    [together, apart, 4],
    [together, together, 2],
  ] as const) {
    const plan = planTransfer(sender, receiver, manifest(40), MiB);
    assert.deepEqual([plan.order, plan.senderPlanes.length, plan.receiverPlanes.length], ["flat", planes, planes]);
    assert.deepEqual(plan.senderBlocks, [3]);
    // The last block is partly filled and travels whole.
    assert.equal(plan.bytes, 2 * 2 * 3 * 16 * 8 * 16 * 2);
  }
});

test("whatever differs inside a block makes the order canonical", () => {
  const own = denseLayout(small);
  const others: Layout[] = [
    denseLayout({ ...small, order: "HND" }),
    denseLayout({ ...small, kv: "joined" }),
    denseLayout({ ...small, blockTokens: 32 }),
    denseLayout({ ...small, firstHead: 4 }),
    vllmCpuLayout(small),
  ];
  for (const other of others) {
    const [first, heads] = other.groups[0]?.components[0]?.firstHead === 4 ? [4, 4] : [0, 8];
    for (const [sender, receiver] of [
      [own, other],
      [other, own],
    ] as const) {
      const plan = planTransfer(sender, receiver, manifest(50, heads, first), MiB);
      assert.equal(plan.order, "canonical");
      assert.equal(plan.bytes, 2 * 2 * 50 * heads * 16 * 2);
      assert.equal(plan.senderPlanes.length, 4);
    }
  }
  // Part of the heads that both hold.
  assert.equal(planTransfer(own, own, manifest(50, 3, 2), MiB).order, "canonical");
});

test("heads 0 moves what both ends hold", () => {
  const [left, right] = [denseLayout({ ...small, firstHead: 0, heads: 6 }), denseLayout({ ...small, firstHead: 4 })];
  const plan = planTransfer(left, right, manifest(16, 0), MiB);
  assert.deepEqual(plan.senderPlanes.map(({ heads, offset }) => [heads, offset - (left.groups[0]?.components[0]?.offsets[0] ?? 0)])[0], [
    2,
    4 * 32,
  ]);
  assert.equal(plan.bytes, 2 * 2 * 16 * 2 * 16 * 2);
});

test("hybrid models: state moves by blocks, layers of both groups in the model's order", () => {
  const full = denseGroup({ ...small, layers: [1, 3], form: "block-contiguous", blockStride: 16_384 });
  const linear = stateGroup({
    layers: [0, 2],
    values: 2_000,
    element: "f32",
    blockCount: 64,
    form: "block-contiguous",
    blockStride: 16_384,
  });
  const layout = layoutOf(64, [full, linear]);
  const moved = {
    fingerprint: "",
    groups: [
      { group: 1, tokens: 1 },
      { group: 0, tokens: 100 },
    ],
    firstHead: 0,
    heads: 8,
  };
  const plan = planTransfer(layout, layout, moved, 4_096);
  assert.deepEqual(plan.layers, [0, 1, 2, 3]);
  assert.deepEqual(
    [plan.senderBlocks, plan.receiverBlocks],
    [
      [1, 7],
      [1, 7],
    ],
  );
  assert.deepEqual(
    plan.senderPlanes.map(({ blockList, elementBytes }) => [blockList, elementBytes]),
    [
      [0, 8_000],
      [1, 8_192],
      [0, 8_000],
      [1, 8_192],
    ],
  );
  assert.deepEqual(
    plan.chunks.filter(({ plane }) => plane === 0).map(({ bytes }) => bytes),
    [4_032, 3_968],
  );
  // In canonical order too.
  const other = layoutOf(64, [
    denseGroup({ ...small, layers: [1, 3], order: "HND", form: "block-contiguous", blockStride: 16_384 }),
    linear,
  ]);
  const converted = planTransfer(layout, other, moved, 4_096);
  assert.equal(converted.order, "canonical");
  assert.deepEqual(
    converted.chunks.filter(({ plane }) => plane === 0).map(({ bytes }) => bytes),
    [4_032, 3_968],
  );
});

test("state as bytes: a whole engine's state in blocks", () => {
  const layout = opaqueLayout(MiB, 64);
  const plan = planTransfer(layout, layout, manifest(23, 0), MiB);
  assert.deepEqual([plan.order, plan.bytes, plan.chunks.length, plan.layers], ["flat", 23 * MiB, 23, [0]]);
});

test("latents have no heads to choose", () => {
  const options = { layers: 2, channels: 576, blockTokens: 64, element: "bf16", blockCount: 8, form: "layer-major" } as const;
  const plan = planTransfer(latentLayout(options), latentLayout({ ...options, blockTokens: 32 }), manifest(100, 0), MiB);
  assert.deepEqual([plan.order, plan.bytes], ["canonical", 2 * 100 * 1_152]);
});

test("pairs that cannot be converted are refused in words", () => {
  const own = denseLayout(small);
  const state = opaqueLayout(4_096, 64);
  const mixed = (change: object): Layout => {
    const group = denseGroup(small);
    return layoutOf(64, [
      { ...group, components: group.components.map((component, at) => (at === 1 ? { ...component, ...change } : component)) },
    ]);
  };
  const table: [Layout, Layout, ReturnType<typeof manifest>, RegExp][] = [
    [own, denseLayout({ ...small, element: "f16" }), manifest(16), /group 0, component k: values bf16 at the sender, f16 at the receiver/],
    [own, denseLayout({ ...small, headDim: 32 }), manifest(16), /group 0, component k: channels 16 at the sender, 32 at the receiver/],
    [own, mixed({ channels: 15 }), manifest(16), /component v: channels 16 at the sender, 15 at the receiver/],
    [own, denseLayout({ ...small, layers: 3 }), manifest(16), /group 0: the sender does not hold layer 2/],
    [own, denseLayout({ ...small, layers: [0, 5] }), manifest(16), /group 0: the receiver does not hold layer 1/],
    [own, state, manifest(1), /group 0 is fixed-size state at the receiver, but has tokens at the sender/],
    [state, own, manifest(1), /group 0 is fixed-size state at the sender, but has tokens at the receiver/],
    [own, own, manifest(16, 8, 0, 1), /the sender has no group 1/],
    [own, own, manifest(16, 8, 1), /heads 1\.\.8 are asked for; heads 0\.\.7 at the sender, 0\.\.7 at the receiver/],
    [own, denseLayout({ ...small, firstHead: 4 }), manifest(16, 6, 2), /heads 2\.\.7 are asked for; heads 0\.\.7 at the sender, 4\.\.7/],
    [
      denseLayout({ ...small, heads: 4 }),
      denseLayout({ ...small, firstHead: 4 }),
      manifest(16, 0),
      /none in common; heads 0\.\.3 at the sender, 4\.\.7/,
    ],
    [own, latentLayout({ ...small, channels: 16 }), manifest(16, 0), /group 0: component 0 k at the sender, latent at the receiver/],
    [opaqueLayout(64, 4), opaqueLayout(128, 4), manifest(1, 0), /component state: channels 64 at the sender, 128 at the receiver/],
  ];
  for (const [sender, receiver, moved, message] of table) {
    const error = refusal(() => planTransfer(sender, receiver, moved, MiB));
    assert.equal(error.code, "layout_unconvertible", error.message);
    assert.match(error.message, message);
  }
});

test("shards of a state do not stand in for each other", () => {
  const shard = (firstHead: number): Layout => {
    const group = stateGroup({ layers: 1, values: 64, element: "f32", blockCount: 4, form: "block-contiguous" });
    return layoutOf(4, [{ ...group, components: group.components.map((component) => ({ ...component, firstHead })) }]);
  };
  assert.equal(planTransfer(shard(1), shard(1), manifest(1, 0), MiB).bytes, 256);
  assert.match(refusal(() => planTransfer(shard(0), shard(1), manifest(1, 0), MiB)).message, /shard 0 at the sender, 1 at the receiver/);
});

test("absurd requests are refused, none is started on", () => {
  const own = denseLayout(small);
  const wide = denseLayout({ ...small, layers: 1, kvHeads: 1_024, headDim: 16_384, blockTokens: 2, element: "f32", blockCount: 2 });
  const table: [Layout, Layout, ReturnType<typeof manifest>, number, RegExp][] = [
    [own, own, manifest(0), MiB, /groups\[0\]\.tokens but received 0/],
    [own, own, manifest(16 * 64 + 1), MiB, /at most 64 blocks/],
    [own, own, manifest(Number.NaN), MiB, /NaN/],
    [own, own, manifest(2 ** 53), MiB, /9007199254740992/],
    [own, own, manifest(16, -1), MiB, /heads but received -1/],
    [own, own, manifest(16, 8, 1.5), MiB, /firstHead/],
    [own, own, manifest(16, 8, 0, -1), MiB, /groups\[0\]\.group/],
    [own, own, { ...manifest(16), groups: [] }, MiB, /at least one group/],
    [
      own,
      own,
      {
        ...manifest(16),
        groups: [
          { group: 0, tokens: 1 },
          { group: 0, tokens: 1 },
        ],
      },
      MiB,
      /each group once for groups\[1\]\.group/,
    ],
    [own, own, manifest(16), 0, /chunkBytes but received 0/],
    [own, own, manifest(16), limits.chunkBytesMax + 1, /chunkBytes/],
    [
      wide,
      denseLayout({ ...small, layers: 1, kvHeads: 1_024, headDim: 16_384, blockTokens: 1, element: "f32", blockCount: 2 }),
      manifest(1, 1_024),
      MiB,
      /chunkBytesMax \(16777216\) for bytes of a token but received 67108864/,
    ],
    [opaqueLayout(2 ** 30, 64), opaqueLayout(2 ** 30, 64), manifest(64, 0), 4_096, /at most chunksPerTransferMax \(1048576\) for chunks/],
  ];
  for (const [sender, receiver, moved, chunkBytes, message] of table) {
    const error = refusal(() => planTransfer(sender, receiver, moved, chunkBytes));
    assert.equal(error.code, "invalid_argument", error.message);
    assert.match(error.message, message);
  }
});

test("planes for seals: every byte of a block once, layer by layer", () => {
  const layout = denseLayout({ ...small, order: "HND", blockCount: 3 });
  const planes = flatPlanes(layout, 0);
  assert.deepEqual(
    planes.map(({ offset, blockStride, elementBytes }) => [offset, blockStride, elementBytes]),
    [0, 1, 2, 3].map((at) => [at * 12_288, 4_096, 4_096]),
  );
  assert.equal(flatPlanes(vllmCpuLayout(small), 0).length, 2);
  assert.deepEqual(
    flatPlanes(opaqueLayout(100, 3), 0).map(({ elementBytes }) => elementBytes),
    [100],
  );
});
