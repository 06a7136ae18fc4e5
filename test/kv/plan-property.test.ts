/**
 * Plans against an oracle. Method: a random model, two random layouts of it that differ in everything that may differ,
 * memory filled with noise; the plan's chunks are copied byte by byte in random order (copier.ts); then the receiver's
 * whole memory must equal what a loop over (group, layer, half, head, token, channel) makes of it. So every value
 * arrives in its place and no other byte changes.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { parseLayout } from "../../transport/kv/parse.ts";
import type { Layout } from "../../transport/kv/layout.ts";
import type { Manifest } from "../../transport/kv/manifest.ts";
import { planTransfer, type TransferPlan } from "../../transport/kv/plan.ts";
import { planeFits, streamBytes as bytesOf } from "../../transport/kv/runs.ts";
import type { ChunkSpan, Plane } from "../../transport/link/link.ts";
import { blockTokens, type GroupModel, groupModel, type Holder, holderOf, type HolderPlan, inside, sliceAround } from "./arbitrary.ts";
import { copyChunk, valueAddress, valuesOf } from "./copier.ts";

interface World {
  readonly sender: Holder;
  readonly receiver: Holder;
  readonly manifest: Manifest;
  readonly chunkBytes: number;
  readonly seed: number;
}

/** "similar": the same runs, but with other gaps between them and in another order of layers and components. */
type Alike = "same" | "similar" | "not";

const BLOCKS = 9;

/** Head ranges are one for the whole manifest, so all groups of a world have the heads of the first. */
const world: fc.Arbitrary<World> = fc
  .record({
    models: fc.array(groupModel, { minLength: 1, maxLength: 3 }),
    heads: fc.integer({ min: 1, max: 4 }),
    seed: fc.nat(),
    chunkBytes: fc.oneof(fc.integer({ min: 1, max: 64 }), fc.integer({ min: 64, max: 2048 })),
    alike: fc.constantFrom<Alike>("same", "similar", "not"),
  })
  .chain(({ models: drawn, heads, seed, chunkBytes, alike }) => {
    const models = drawn.map((model) => ({ ...model, heads: model.kind === "dense" ? heads : 1 }));
    const range = fc.nat(heads - 1).chain((first) => fc.integer({ min: 1, max: heads - first }).map((count) => ({ first, count })));
    return range.chain((wanted) => {
      const senders = plans(models, sliceAround(heads, wanted));
      const receivers = plans(models, sliceAround(heads, wanted));
      return fc
        .record({
          senders,
          receivers,
          blocks: fc.array(fc.integer({ min: 1, max: BLOCKS }), { minLength: 3, maxLength: 3 }),
          fill: fc.nat(15),
        })
        .map((given) =>
          build(given.senders, matched(given.senders, given.receivers, alike), wanted, given.blocks, given.fill, { chunkBytes, seed }),
        );
    });
  });

function plans(models: readonly GroupModel[], slices: ReturnType<typeof sliceAround>): fc.Arbitrary<HolderPlan[]> {
  return slices.chain((slice) =>
    fc.tuple(
      ...models.map((model) => {
        const own = model.kind === "dense" ? slice : { first: 0, count: 1 };
        return fc.record({ model: fc.constant(model), slice: fc.constant(own), blockTokens, inside });
      }),
    ),
  );
}

function matched(senders: readonly HolderPlan[], receivers: readonly HolderPlan[], alike: Alike): readonly HolderPlan[] {
  if (alike === "not") return receivers;
  return senders.map((sender, group) => {
    const other = receivers[group]?.inside ?? sender.inside;
    return alike === "same" ? sender : { ...sender, inside: { ...other, order: sender.inside.order } };
  });
}

function build(
  senders: readonly HolderPlan[],
  receivers: readonly HolderPlan[],
  wanted: { readonly first: number; readonly count: number },
  blocks: readonly number[],
  fill: number,
  rest: { readonly chunkBytes: number; readonly seed: number },
): World {
  const counted = senders.map((plan, group) => {
    const smaller = Math.min(plan.blockTokens, (receivers[group] as HolderPlan).blockTokens);
    const most = (blocks[group] as number) * (plan.model.kind === "state" ? 1 : smaller);
    return { group, tokens: plan.model.kind === "state" ? most : Math.max(1, most - fill) };
  });
  // Not always all groups, and not always in order.
  const some = counted.filter(({ group }) => counted.length === 1 || (rest.seed + group) % 4 !== 0);
  const groups = rest.seed % 2 === 0 ? some : some.toReversed();
  const dense = groups.some(({ group }) => senders[group]?.model.kind === "dense");
  // The receiver's pool may be of another size: strides of whole pools then differ too.
  const [sender, receiver] = [holderOf(senders, BLOCKS * 3), holderOf(receivers, BLOCKS * 3 + (rest.seed % 3))];
  const manifest = { fingerprint: "", groups, firstHead: dense ? wanted.first : 0, heads: dense ? wanted.count : 0 };
  return { sender, receiver, manifest, ...rest };
}

/** Repeatable noise; a cryptographer would weep, the test only needs neighbours to differ. */
function noise(bytes: number, seed: number): Uint8Array {
  const memory = new Uint8Array(bytes);
  let state = (seed * 2_654_435_761 + 12_345) >>> 0;
  for (let at = 0; at < bytes; at++) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    memory[at] = state >>> 24;
  }
  return memory;
}

/** Distinct block ids for every list, in no order. */
function lists(layout: Layout, counts: readonly number[], seed: number): Uint32Array[] {
  const ids = Array.from({ length: layout.blockCount }, (_, id) => id);
  const order = noise(ids.length * 2, seed);
  ids.sort((a, b) => (order[a] as number) - (order[b] as number) || a - b);
  let from = 0;
  return counts.map((count) => Uint32Array.from(ids.slice(from, (from += count))));
}

function streamBytes(plane: Plane, plan: TransferPlan, manifest: Manifest): number {
  const group = manifest.groups[plane.blockList];
  assert.ok(group !== undefined);
  const value = plane.heads * plane.channels * plane.elementBytes;
  const wholeBlocks = plan.order === "flat" || plane.tokens === 1;
  return wholeBlocks ? (plan.senderBlocks[plane.blockList] as number) * plane.tokens * value : group.tokens * value;
}

/** Some plans are made for a profile that joins layers, or K and V as well. */
const coding = fc.option(fc.record({ layers: fc.integer({ min: 1, max: 4 }), joinsSides: fc.boolean() }), { nil: undefined, freq: 1 });

/** The same tokens of each plane that a chunk joins. */
function partsOf({ coded }: TransferPlan, { plane, start, bytes }: ChunkSpan): ChunkSpan[] {
  const about = coded[plane];
  const parts = (about?.layers.length ?? 1) * (about?.component === "kv" ? 2 : 1);
  return Array.from({ length: parts }, (_, part) => ({ plane: plane + part, start, bytes: bytes / parts }));
}

test("every value arrives in its place and nothing else changes", () => {
  const orders = { flat: 0, canonical: 0 };
  fc.assert(
    fc.property(world, coding, ({ sender, receiver, manifest, chunkBytes, seed }, joins) => {
      const from = parseLayout(sender.layout, sender.bytes);
      const to = parseLayout(receiver.layout, receiver.bytes);
      const plan = planTransfer(from, to, manifest, chunkBytes, joins);
      orders[plan.order]++;
      const senderLists = lists(from, plan.senderBlocks, seed);
      const receiverLists = lists(to, plan.receiverBlocks, seed + 1);
      const source = { memory: noise(sender.bytes, seed), planes: plan.senderPlanes, blockLists: senderLists };
      const target = { memory: noise(receiver.bytes, seed + 7), planes: plan.receiverPlanes, blockLists: receiverLists };
      for (const { planes, blockLists, memory } of [source, target]) {
        for (const plane of planes) assert.ok(planeFits(plane, blockLists[plane.blockList] as Uint32Array, memory.length));
      }
      const chunks = plan.chunks.flatMap((chunk) => partsOf(plan, chunk));
      for (const { plane, start, bytes } of chunks) {
        const [read, written] = [source.planes[plane] as Plane, target.planes[plane] as Plane];
        const [from, to] = [senderLists[read.blockList] as Uint32Array, receiverLists[read.blockList] as Uint32Array];
        assert.ok(start + bytes <= Math.min(bytesOf(read, from.length), bytesOf(written, to.length)));
      }
      const wanted = target.memory.slice();
      place(from, to, manifest, plan, source.memory, wanted, senderLists, receiverLists);
      const order = noise(chunks.length, seed);
      const shuffled = chunks
        .map((chunk, at) => ({ chunk, at }))
        .sort((a, b) => (order[a.at] as number) - (order[b.at] as number) || a.at - b.at);
      for (const { chunk } of shuffled) copyChunk(source, target, chunk);
      assert.deepEqual(target.memory, wanted);
    }),
    { numRuns: 1_500 },
  );
  assert.ok(orders.flat > 100 && orders.canonical > 100, `both orders were tried: ${JSON.stringify(orders)}`);
});

/** What the receiver's memory must hold afterwards, by the definition of a layout alone. */
function place(
  sender: Layout,
  receiver: Layout,
  manifest: Manifest,
  plan: TransferPlan,
  read: Uint8Array,
  written: Uint8Array,
  senderLists: readonly Uint32Array[],
  receiverLists: readonly Uint32Array[],
): void {
  manifest.groups.forEach(({ group, tokens }, list) => {
    const [from, to] = [sender.groups[group]?.blockTokens as number, receiver.groups[group]?.blockTokens as number];
    (senderLists[list] as Uint32Array).forEach((block, index) => {
      for (const { value, bytes } of valuesOf(sender, group, block)) {
        const heads = value.half === "k" || value.half === "v";
        if (heads && (value.head < manifest.firstHead || value.head >= manifest.firstHead + manifest.heads)) continue;
        const token = index * from + value.token;
        // In flat order the last block travels whole.
        if (from > 0 && plan.order === "canonical" && token >= tokens) continue;
        const [at, inBlock] = from === 0 ? [index, 0] : [Math.floor(token / to), token % to];
        const place = { ...value, block: receiverLists[list]?.[at] as number, token: inBlock };
        const source = valueAddress(sender, value);
        written.set(read.subarray(source, source + bytes), valueAddress(receiver, place));
      }
    });
  });
}

test("chunks tile every stream once, in order, within their bounds, and both ends agree on them", () => {
  fc.assert(
    fc.property(world, coding, ({ sender, receiver, manifest, chunkBytes }, joins) => {
      const plan = planTransfer(sender.layout, receiver.layout, manifest, chunkBytes, joins);
      // The other end parsed the same two layouts from the wire.
      const again = planTransfer(
        parseLayout(JSON.parse(JSON.stringify(sender.layout))),
        parseLayout(JSON.parse(JSON.stringify(receiver.layout))),
        manifest,
        chunkBytes,
        joins,
      );
      assert.deepEqual(again, plan);
      // The same chunks on the way back.
      const back = planTransfer(receiver.layout, sender.layout, manifest, chunkBytes, joins);
      assert.deepEqual([back.order, back.chunks, back.senderPlanes], [plan.order, plan.chunks, plan.receiverPlanes]);
      assert.equal(plan.senderPlanes.length, plan.receiverPlanes.length);
      const reached = plan.senderPlanes.map(() => 0);
      for (const { plane, start, bytes } of plan.chunks.flatMap((chunk) => partsOf(plan, chunk))) {
        assert.equal(start, reached[plane]);
        assert.ok(bytes > 0);
        reached[plane] = start + bytes;
      }
      plan.senderPlanes.forEach((plane, at) => assert.equal(reached[at], streamBytes(plane, plan, manifest), `plane ${at}`));
      plan.receiverPlanes.forEach((plane, at) => assert.equal(plane.blockList, plan.senderPlanes[at]?.blockList));
      assert.equal(
        plan.bytes,
        reached.reduce((sum, bytes) => sum + bytes, 0),
      );
      assert.equal(plan.chunkLayer.length, plan.chunks.length);
      assert.deepEqual(
        [...plan.chunkLayer],
        [...plan.chunkLayer].sort((a, b) => a - b),
      );
    }),
    { numRuns: 500 },
  );
});
