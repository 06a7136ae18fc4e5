/**
 * What models keep, between nodes over the real link: slices of heads (tensor parallelism), MLA latents, attention beside fixed-size state.
 * Method: both pools are filled with random bytes; afterwards each value that should have moved is looked up in both by the words of layout.ts
 * (test/kv/copier.ts, which knows nothing of plans), and every byte outside the target's blocks is what it was.
 */
import assert from "node:assert/strict";
import { randomFillSync } from "node:crypto";
import test, { type TestContext } from "node:test";
import type { FetchRequest, GroupBlocks } from "../../transport/ferry/ferry.ts";
import { denseGroup, denseLayout, latentLayout, layoutOf, stateGroup } from "../../transport/kv/build.ts";
import type { Layout } from "../../transport/kv/layout.ts";
import type { Blocks } from "../../transport/memory/pool.ts";
import { native, nativeProblem } from "../../transport/native.ts";
import { valueAddress, valuesOf } from "../kv/copier.ts";
import { openTestNode, type TestNode } from "./node.ts";

const skip = native === undefined ? `no addon: ${nativeProblem}` : false;
const IDENTITY = { model: "contents", revision: "1", element: "bf16", rope: "none", profile: "", extra: "" };

interface End {
  readonly node: TestNode;
  readonly layout: Layout;
  readonly model: number;
  readonly memory: Uint8Array;
}

/** A node whose blocks have `blockBytes`, with random bytes in all of them. */
async function open(t: TestContext, name: string, blockBytes: number, layoutFor: (blockCount: number) => Layout): Promise<End> {
  const node = await openTestNode({ name, blockBytes, poolBytes: 4 << 20, settings: { chunkBytes: 20_000 } });
  t.after(() => node.close());
  const layout = layoutFor(node.pool.blockCount);
  const { model } = await node.ferry.registerModel(IDENTITY, layout);
  const memory = node.pool.region.view.subarray(node.pool.dataOffset);
  randomFillSync(memory);
  return { node, layout, model, memory };
}

interface Moved {
  readonly source: readonly GroupBlocks[];
  readonly target: readonly GroupBlocks[];
  readonly heads?: { readonly first: number; readonly count: number };
}

/** Offers these groups, fetches them, and compares. Returns the order in which they travelled. */
async function move(from: End, to: End, { source, target, heads }: Moved): Promise<string> {
  const before = Uint8Array.from(to.memory);
  const handle = await from.node.ferry.offer({ model: from.model, groups: source });
  const request: FetchRequest = { peer: peerOf(from), model: to.model, source: { handle }, into: target };
  const { done } = await to.node.ferry.fetch(heads === undefined ? request : { ...request, heads });
  const { order } = await done;
  source.forEach((group, index) => compare(from, to, group, target[index] as GroupBlocks, heads));
  assertOutside(to, target, before);
  return order;
}

const peerOf = ({ node }: End): string => `127.0.0.1:${node.address.port}`;

function compare(from: End, to: End, source: GroupBlocks, target: GroupBlocks, heads = { first: 0, count: 1_024 }): void {
  const [theirs, ours] = [from, to].map(({ layout }) => Math.max(layout.groups[source.group]?.blockTokens ?? 0, 1)) as [number, number];
  let compared = 0;
  target.blocks.ids.forEach((block, index) => {
    for (const { value, bytes } of valuesOf(to.layout, target.group, block)) {
      const token = index * ours + value.token;
      if (token >= target.tokens || value.head < heads.first || value.head >= heads.first + heads.count) continue;
      const held = source.blocks.ids[Math.floor(token / theirs)] as number;
      const [read, written] = [valueAddress(from.layout, { ...value, block: held, token: token % theirs }), valueAddress(to.layout, value)];
      for (let byte = 0; byte < bytes; byte++) {
        if (from.memory[read + byte] !== to.memory[written + byte]) assert.fail(`${JSON.stringify(value)} is not what was sent`);
      }
      compared += 1;
    }
  });
  assert.ok(compared > 1_000, `${compared} values compared`);
}

function assertOutside({ node, memory }: End, groups: readonly GroupBlocks[], before: Uint8Array): void {
  const inside = new Set(groups.flatMap(({ blocks }) => [...blocks.ids]));
  const { blockBytes, blockCount } = node.pool;
  for (let block = 0; block < blockCount; block++) {
    if (inside.has(block)) continue;
    const [from, to] = [block * blockBytes, (block + 1) * blockBytes];
    assert.equal(Buffer.compare(memory.subarray(from, to), before.subarray(from, to)), 0, `block ${block} was nobody's target`);
  }
}

/** Not neighbours, and not in order. */
async function scattered({ node }: End, count: number): Promise<Blocks> {
  const blocks = await node.ferry.alloc(2 * count);
  const pick = (_: number, index: number): boolean => index % 2 === 0;
  return { ids: blocks.ids.filter(pick).reverse(), generations: blocks.generations.filter(pick).reverse() };
}

const HEADS = 4;
const BLOCK_TOKENS = 16;
/** Layers x (K, V) x tokens x heads x channels x bytes of a value. */
const denseBytes = (heads: number, blockTokens = BLOCK_TOKENS): number => 3 * 2 * blockTokens * heads * 64 * 2;

function slice(t: TestContext, name: string, firstHead: number, heads: number, order: "NHD" | "HND" = "NHD"): Promise<End> {
  return open(t, name, denseBytes(heads), (blockCount) =>
    denseLayout({
      ...{ layers: 3, kvHeads: HEADS, firstHead, heads, headDim: 64, blockTokens: BLOCK_TOKENS },
      ...{ element: "bf16", order, form: "block-contiguous", kv: "split", blockCount },
    }),
  );
}

test("one holder of all heads, a receiver of half of them: its own half comes", { skip }, async (t) => {
  const [whole, half] = [await slice(t, "whole", 0, HEADS), await slice(t, "half", 2, 2, "HND")];
  const source = [{ group: 0, blocks: await scattered(whole, 4), tokens: 60 }];
  const target = [{ group: 0, blocks: await scattered(half, 4), tokens: 60 }];
  assert.equal(await move(whole, half, { source, target, heads: { first: 2, count: 2 } }), "canonical");
  assert.equal(await move(whole, half, { source, target }), "canonical", "what it holds is what it wants, unless it says so");
  const one = { first: 3, count: 1 };
  const before = Uint8Array.from(half.memory);
  randomFillSync(whole.memory);
  await move(whole, half, { source, target, heads: one });
  compare({ ...half, memory: before }, half, target[0] as GroupBlocks, target[0] as GroupBlocks, { first: 2, count: 1 });
});

test("two holders of half the heads each, one receiver of all: the halves meet", { skip }, async (t) => {
  const [low, high, whole] = [await slice(t, "low", 0, 2), await slice(t, "high", 2, 2, "HND"), await slice(t, "whole", 0, HEADS)];
  const target = [{ group: 0, blocks: await scattered(whole, 3), tokens: 48 }];
  const lows = [{ group: 0, blocks: await scattered(low, 3), tokens: 48 }];
  const highs = [{ group: 0, blocks: await scattered(high, 3), tokens: 48 }];
  await move(low, whole, { source: lows, target, heads: { first: 0, count: 2 } });
  await move(high, whole, { source: highs, target, heads: { first: 2, count: 2 } });
  compare(low, whole, lows[0] as GroupBlocks, target[0] as GroupBlocks, { first: 0, count: 2 });
});

test("heads that the holder has not are refused", { skip }, async (t) => {
  const [low, whole] = [await slice(t, "low", 0, 2), await slice(t, "whole", 0, HEADS)];
  const handle = await low.node.ferry.offer({
    model: low.model,
    groups: [{ group: 0, blocks: await low.node.ferry.alloc(1), tokens: 16 }],
  });
  const into = [{ group: 0, blocks: await whole.node.ferry.alloc(1), tokens: 16 }];
  const heads = { first: 2, count: 2 };
  const { done } = await whole.node.ferry.fetch({ peer: peerOf(low), model: whole.model, source: { handle }, into, heads });
  await assert.rejects(done, { code: "layout_unconvertible" });
});

test("a part of the heads that are wanted is refused", { skip }, async (t) => {
  const [low, whole] = [await slice(t, "low", 0, 2), await slice(t, "whole", 0, HEADS)];
  for (const heads of [
    { first: 0, count: HEADS },
    { first: 1, count: 2 },
  ]) {
    const handle = await low.node.ferry.offer({
      model: low.model,
      groups: [{ group: 0, blocks: await low.node.ferry.alloc(1), tokens: 16 }],
    });
    const into = [{ group: 0, blocks: await whole.node.ferry.alloc(1), tokens: 16 }];
    const { done } = await whole.node.ferry.fetch({ peer: peerOf(low), model: whole.model, source: { handle }, into, heads });
    await assert.rejects(done, { code: "layout_unconvertible" });
  }
});

test("MLA latents, in blocks of one size and of another", { skip }, async (t) => {
  const latent = (name: string, blockTokens: number): Promise<End> =>
    open(t, name, 3 * blockTokens * 576 * 2, (blockCount) =>
      latentLayout({ layers: 3, channels: 576, blockTokens, element: "bf16", form: "block-contiguous", blockCount }),
    );
  const [holder, same, larger] = [await latent("holder", 16), await latent("same", 16), await latent("larger", 64)];
  const source = [{ group: 0, blocks: await scattered(holder, 9), tokens: 131 }];
  const [alike, other] = [await scattered(same, 9), await scattered(larger, 3)];
  assert.equal(await move(holder, same, { source, target: [{ group: 0, blocks: alike, tokens: 131 }] }), "flat");
  assert.equal(await move(holder, larger, { source, target: [{ group: 0, blocks: other, tokens: 131 }] }), "canonical");
});

const STATE_VALUES = 5_000;

/** Layers of attention with layers of linear attention between them; a block serves one or the other. */
function hybrid(t: TestContext, name: string, blockTokens: number, order: "NHD" | "HND"): Promise<End> {
  const attention = 4 * 2 * blockTokens * 2 * 64 * 2;
  const blockStride = Math.max(attention, 40_960);
  return open(t, name, blockStride, (blockCount) =>
    layoutOf(blockCount, [
      denseGroup({
        ...{ layers: [0, 1, 3, 4], kvHeads: 2, headDim: 64, blockTokens, element: "bf16", order, kv: "joined" },
        ...{ form: "block-contiguous", blockStride, blockCount },
      }),
      stateGroup({ layers: [2, 5], values: STATE_VALUES, element: "f32", form: "block-contiguous", blockStride, blockCount }),
    ]),
  );
}

for (const [what, blockTokens, order, travels] of [
  ["alike", 16, "NHD", "flat"],
  ["another", 32, "HND", "canonical"],
] as const) {
  test(`attention and state of a hybrid model in one transfer, to a layout that is ${what}`, { skip }, async (t) => {
    const [holder, asker] = [await hybrid(t, "holder", 16, "NHD"), await hybrid(t, "asker", blockTokens, order)];
    const source = [
      { group: 0, blocks: await scattered(holder, 5), tokens: 70 },
      { group: 1, blocks: await scattered(holder, 2), tokens: 2 },
    ];
    const target = [
      { group: 0, blocks: await scattered(asker, Math.ceil(70 / blockTokens)), tokens: 70 },
      { group: 1, blocks: await scattered(asker, 2), tokens: 2 },
    ];
    assert.equal(await move(holder, asker, { source, target }), travels);
  });
}

test("the state after so many tokens is published, found, fetched and pushed by its key", { skip }, async (t) => {
  const [holder, asker] = [await hybrid(t, "holder", 16, "NHD"), await hybrid(t, "asker", 32, "HND")];
  const keysOf = (tokens: number): Promise<Uint8Array> =>
    holder.node.ferry.keys(
      holder.model,
      1,
      Uint32Array.from({ length: tokens }, (_, index) => index),
    );
  const [after70, after71] = [await keysOf(70), await keysOf(71)];
  assert.deepEqual([after70.length, Buffer.compare(after70, after71) === 0], [32, false]);
  const state = (blocks: Blocks): GroupBlocks => ({ group: 1, blocks, tokens: 1 });
  const published = await holder.node.ferry.alloc(1);
  await holder.node.ferry.publish(holder.model, 1, published, after70);
  const places = await asker.node.ferry.lookup(asker.model, 1, after70, [peerOf(holder)]);
  assert.deepEqual(
    places.map(({ matched }) => matched),
    [0, 1],
  );
  const fetched = await asker.node.ferry.alloc(1);
  const source = { keys: after70, group: 1, tokens: 1 };
  await (await asker.node.ferry.fetch({ peer: peerOf(holder), model: asker.model, source, into: [state(fetched)] })).done;
  compare(holder, asker, state(published), state(fetched));
  const kept = await holder.node.ferry.alloc(1);
  const push = { peer: peerOf(asker), model: holder.model, group: 1, blocks: kept, tokens: 1, keys: after71 };
  await (await holder.node.ferry.push(push)).done;
  compare(holder, asker, state(kept), state(await asker.node.ferry.lease(asker.model, 1, after71)));
});

test("a position is that of all groups of an offer: who offers groups that begin apart says none", { skip }, async (t) => {
  const blockStride = 8_192;
  const { node, model } = await open(t, "windows", blockStride, (blockCount) => {
    const dense = { kvHeads: 2, headDim: 64, blockTokens: 16, element: "bf16", order: "NHD", kv: "split" } as const;
    const placing = { form: "block-contiguous", blockStride, blockCount } as const;
    const groups = [0, 1].map((layer) => denseGroup({ ...dense, ...placing, layers: [layer] }));
    return layoutOf(blockCount, [...groups, stateGroup({ ...placing, layers: [2], values: 64, element: "f32" })]);
  });
  const blocks = await Promise.all([4, 4, 1].map((count) => node.ferry.alloc(count)));
  const offered = (tokens: readonly number[], position?: number): Promise<string> => {
    const groups = tokens.map((count, group) => ({ group, blocks: blocks[group]!, tokens: count }));
    return node.ferry.offer({ model, groups, ...(position === undefined ? {} : { position }) });
  };
  const refusal = /64 tokens of group 0 and 32 of group 1/;
  await assert.rejects(offered([64, 32, 1], 0), { code: "invalid_argument", message: refusal });
  for (const [tokens, position] of [
    [[64, 32, 1], undefined],
    [[64, 64, 1], 16],
    [[64], 16],
  ] as const) {
    await node.ferry.withdraw(await offered(tokens, position));
  }
  await node.ferry.offer({ model, groups: [{ group: 2, blocks: blocks[2]!, tokens: 1 }], position: 0 });
});
