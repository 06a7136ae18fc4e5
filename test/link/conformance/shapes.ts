/** Pairs of planes that give the same stream: every way in which the two ends of a transfer may lie. */
import type { ChunkSpan, Plane } from "../../../transport/link/link.ts";
import type { Side } from "./memory.ts";

export interface Shape {
  readonly name: string;
  readonly sender: Side;
  readonly receiver: Side;
  readonly chunks: readonly ChunkSpan[];
  readonly bytes: number;
}

const flatPlane = (offset: number, blockBytes: number, blockStride: number, blockList = 0): Plane => ({
  blockList,
  offset,
  blockStride,
  tokens: 1,
  tokenStride: 0,
  heads: 1,
  headStride: 0,
  channels: 1,
  channelStride: 0,
  elementBytes: blockBytes,
  firstToken: 0,
});

/** Chunks of `chunkBytes` and a rest, over one plane. */
export function cut(plane: number, bytes: number, chunkBytes: number): ChunkSpan[] {
  const chunks: ChunkSpan[] = [];
  for (let start = 0; start < bytes; start += chunkBytes) chunks.push({ plane, start, bytes: Math.min(chunkBytes, bytes - start) });
  return chunks;
}

/** Blocks of `blockBytes` that lie as they are on both sides, in different places. */
export function flatShape(blocks: number, blockBytes: number, chunkBytes: number): Shape {
  const stride = blockBytes + 64;
  const plane = flatPlane(128, blockBytes, stride);
  // Every other block, backwards on one side: neighbours in the stream are no neighbours in memory.
  const sender = Uint32Array.from({ length: blocks }, (_, at) => 2 * at);
  const receiver = Uint32Array.from({ length: blocks }, (_, at) => 2 * (blocks - 1 - at) + 1);
  return {
    name: `flat, ${blocks} blocks of ${blockBytes} bytes`,
    sender: { planes: [plane], blockLists: [sender] },
    receiver: { planes: [plane], blockLists: [receiver] },
    chunks: cut(0, blocks * blockBytes, chunkBytes),
    bytes: 128 + 2 * blocks * stride + 64,
  };
}

/** One block that lies together: the receiver's memory is as large as the chunk, and a guard on each side. */
export function plainShape(chunks: number, chunkBytes: number): Shape {
  const plane = flatPlane(64, chunks * chunkBytes, 0);
  const side = { planes: [plane], blockLists: [Uint32Array.of(0)] };
  return { name: "plain", sender: side, receiver: side, chunks: cut(0, chunks * chunkBytes, chunkBytes), bytes: chunks * chunkBytes + 128 };
}

interface Axes {
  readonly tokens: number;
  readonly heads: number;
  readonly channels: number;
  readonly elementBytes: number;
}

const nhd = ({ tokens, heads, channels, elementBytes }: Axes, offset = 32, blockList = 0): Plane => ({
  blockList,
  offset,
  blockStride: tokens * heads * channels * elementBytes + 48,
  tokens,
  tokenStride: heads * channels * elementBytes,
  heads,
  headStride: channels * elementBytes,
  channels,
  channelStride: elementBytes,
  elementBytes,
  firstToken: 0,
});

const hnd = (axes: Axes, offset = 32, blockList = 0): Plane => ({
  ...nhd(axes, offset, blockList),
  tokenStride: axes.channels * axes.elementBytes,
  headStride: axes.tokens * axes.channels * axes.elementBytes,
});

/** As vLLM's CPU backend stores K: the tokens of a channel lie together. */
const transposed = (axes: Axes, offset = 32): Plane => ({
  ...nhd(axes, offset),
  tokenStride: axes.elementBytes,
  headStride: axes.channels * axes.tokens * axes.elementBytes,
  channelStride: axes.tokens * axes.elementBytes,
});

const AXES: Axes = { tokens: 8, heads: 3, channels: 10, elementBytes: 2 };
const BYTES = 24_576;

function pair(name: string, sender: Plane, receiver: Plane, senderBlocks: number[], receiverBlocks: number[], tokens: number): Shape {
  const tokenBytes = sender.heads * sender.channels * sender.elementBytes;
  return {
    name,
    sender: { planes: [sender], blockLists: [Uint32Array.from(senderBlocks)] },
    receiver: { planes: [receiver], blockLists: [Uint32Array.from(receiverBlocks)] },
    // Cuts within tokens, heads and elements: a link knows of none of them.
    chunks: cut(0, tokens * tokenBytes, 7 * tokenBytes + 13),
    bytes: BYTES,
  };
}

export const SHAPES: readonly Shape[] = [
  flatShape(5, 1000, 1700),
  flatShape(3, 40_000, 30_000),
  pair("NHD to HND", nhd(AXES), hnd(AXES), [4, 1, 0], [2, 3, 5], 24),
  pair("HND to NHD of twice the block size", hnd(AXES), nhd({ ...AXES, tokens: 16 }), [1, 0, 3, 2], [0, 2], 32),
  pair("transposed channels to NHD", transposed(AXES), nhd(AXES), [0, 1, 2], [5, 4, 3], 24),
  pair("NHD to transposed channels", nhd(AXES), transposed(AXES), [6, 2], [1, 7], 16),
  pair("from the middle of a block", { ...nhd(AXES), firstToken: 5 }, { ...hnd(AXES), firstToken: 2 }, [3, 0, 1], [2, 5, 4], 18),
  pair("a slice of the heads", { ...nhd({ ...AXES, heads: 6 }), heads: 3, offset: 92 }, nhd(AXES), [1, 2], [2, 1], 16),
  {
    name: "several block lists",
    sender: { planes: [nhd(AXES), nhd(AXES, 9_000, 1)], blockLists: [Uint32Array.of(0, 3), Uint32Array.of(5, 1, 2)] },
    receiver: { planes: [hnd(AXES), hnd(AXES, 9_000, 1)], blockLists: [Uint32Array.of(7, 2), Uint32Array.of(0, 4, 3)] },
    chunks: [...cut(0, 960, 500), ...cut(1, 1_440, 333)],
    bytes: BYTES,
  },
  {
    name: "fixed-size state",
    sender: { planes: [flatPlane(0, 5_000, 6_000)], blockLists: [Uint32Array.of(2)] },
    receiver: { planes: [flatPlane(100, 5_000, 5_000)], blockLists: [Uint32Array.of(1)] },
    chunks: cut(0, 5_000, 4_096),
    bytes: BYTES,
  },
  {
    name: "blocks that touch, as one run",
    sender: { planes: [flatPlane(0, 512, 512)], blockLists: [Uint32Array.of(1, 2, 3, 4)] },
    receiver: { planes: [flatPlane(64, 512, 512)], blockLists: [Uint32Array.of(3, 4, 0, 1)] },
    chunks: cut(0, 2_048, 700),
    bytes: BYTES,
  },
];
