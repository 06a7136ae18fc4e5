/** Workloads between two real layouts: planes as a paged engine lays them out, planned by the same code that plans every transfer. */
import { denseLayout, latentLayout } from "../transport/kv/build.ts";
import type { Layout } from "../transport/kv/layout.ts";
import { planTransfer } from "../transport/kv/plan.ts";
import { expected, integer } from "../transport/check.ts";
import { limits } from "../transport/limits.ts";
import { headsOf, shapeOf, type ShapedSlice } from "./models.ts";
import { shuffled } from "./random.ts";
import type { LayoutOrder, Requests, Side, WorkloadParameters } from "./workload.ts";

/** One layer behind the other, K before V, each with all its blocks: one tensor for each, as engines allocate them. */
export function modelLayout(slice: ShapedSlice, { order, blockTokens }: LayoutOrder, blockCount: number): Layout {
  const { layers, kind, channels } = shapeOf(slice);
  const common = { layers, blockTokens, element: "bf16", blockCount, form: "layer-major" } as const;
  if (kind === "mla") return latentLayout({ ...common, channels });
  return denseLayout({ ...common, kvHeads: headsOf(slice), headDim: channels, order: order === "nhd" ? "NHD" : "HND", kv: "split" });
}

/** Bytes that one block of `blockTokens` takes in all layers. */
export function blockBytesOf(slice: ShapedSlice, blockTokens: number): number {
  const { layers, kind, channels, elementBytes } = shapeOf(slice);
  return layers * (kind === "kv" ? 2 : 1) * blockTokens * headsOf(slice) * channels * elementBytes;
}

type Layouts = NonNullable<WorkloadParameters["layouts"]>;

export function layoutPlaces(parameters: WorkloadParameters, { slice, local, remote }: Layouts): Requests {
  const blocksIn = ({ blockTokens }: LayoutOrder): number => Math.floor(parameters.poolBytes / blockBytesOf(slice, blockTokens));
  const least = Math.min(blocksIn(local), blocksIn(remote));
  integer(Math.max(blocksIn(local), blocksIn(remote)), "blocks of the pool (--pool)", 0, limits.poolBlocksMax);
  if (least < 1) throw expected("a pool that holds a block of both layouts", "--pool", parameters.poolBytes);
  const layouts: Record<Side, Layout> = {
    local: modelLayout(slice, local, blocksIn(local)),
    remote: modelLayout(slice, remote, blocksIn(remote)),
  };
  const manifest = { fingerprint: "0".repeat(64), groups: [{ group: 0, tokens: slice.tokens }], firstHead: 0, heads: headsOf(slice) };
  const plan = planTransfer(layouts.local, layouts.remote, manifest, parameters.chunkBytes);
  const blocks: Record<Side, number> = { local: plan.senderBlocks[0]!, remote: plan.receiverBlocks[0]! };
  const slots = Math.min(4, ...(["local", "remote"] as const).map((side) => Math.floor(layouts[side].blockCount / blocks[side])));
  if (slots < 1) throw expected(`a pool that holds ${slice.tokens} tokens in both layouts`, "--pool", parameters.poolBytes);
  const ids: Record<Side, Uint32Array> = {
    local: shuffled(layouts.local.blockCount, slots * blocks.local, parameters.seed),
    remote: shuffled(layouts.remote.blockCount, slots * blocks.remote, parameters.seed + 1),
  };
  const planes = { local: plan.senderPlanes, remote: plan.receiverPlanes };
  return {
    parameters,
    requestBytes: plan.bytes,
    chunks: plan.chunks,
    slots,
    place: (side, slot) => ({ planes: planes[side], blockLists: [ids[side].slice(slot * blocks[side], (slot + 1) * blocks[side])] }),
  };
}
