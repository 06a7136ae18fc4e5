/** Which blocks of a transfer are not whole, in words of bounded length: what an engine is told when its deadline has passed. PURE. */
import type { ChunkSpan, Plane } from "../link/link.ts";

export interface Placed {
  /** A range is a block of a plane of its own kind (peer/content.ts). */
  readonly kind: "kv" | "ranges";
  readonly planes: readonly Plane[];
  readonly blockLists: readonly Uint32Array[];
  readonly chunks: readonly ChunkSpan[];
  /** Of each chunk, as a place in `layers`. */
  readonly chunkLayer: Uint32Array;
  readonly layers: readonly number[];
}

/** More stretches than these are only counted. */
const STRETCHES_TOLD = 32;

/** Blocks that a chunk is missing of, by ids, or of ranges by their offsets: ascending, each once. */
export function missingBlocks({ kind, planes, blockLists, chunks }: Placed, isThere: (chunk: number) => boolean): Float64Array {
  // Where in each list a missing chunk begins, and where it ends: one pass over the list then says what lies under any.
  const edges = blockLists.map((list) => new Int32Array(list.length + 1));
  chunks.forEach(({ plane, start, bytes }, chunk) => {
    if (bytes === 0 || isThere(chunk)) return;
    const { blockList, tokens, heads, channels, elementBytes, firstToken } = planes[plane]!;
    const tokenBytes = heads * channels * elementBytes;
    const [first, last] = [start, start + bytes - 1].map((at) => Math.floor((firstToken * tokenBytes + at) / (tokens * tokenBytes)));
    const list = edges[blockList]!;
    list[first!]! += 1;
    list[last! + 1]! -= 1;
  });
  const ids = new Set<number>();
  blockLists.forEach((list, index) => {
    const plane = planes.find(({ blockList }) => blockList === index);
    let covering = 0;
    list.forEach((id, at) => {
      covering += edges[index]![at]!;
      if (covering > 0) ids.add(kind === "kv" || plane === undefined ? id : plane.offset + id * plane.blockStride);
    });
  });
  return Float64Array.from(ids).sort((a, b) => a - b);
}

/** "missing 5 of 12 blocks: 3-6, 9; in layers 2-31", "missing 1 of 3 ranges: 4096". */
export function describeMissing(placed: Placed, isThere: (chunk: number) => boolean): string {
  const ids = missingBlocks(placed, isThere);
  const all = placed.blockLists.reduce((sum, list) => sum + list.length, 0);
  const blocks = `missing ${ids.length} of ${all} ${placed.kind === "kv" ? "blocks" : "ranges"}: ${stretchesOf(ids)}`;
  if (placed.kind !== "kv") return blocks;
  const layers = new Set<number>();
  placed.chunkLayer.forEach((layer, chunk) => {
    if (!isThere(chunk)) layers.add(placed.layers[layer]!);
  });
  return `${blocks}; in layers ${stretchesOf(Float64Array.from(layers).sort((a, b) => a - b))}`;
}

function stretchesOf(numbers: Float64Array): string {
  const stretches: string[] = [];
  for (let at = 0, end = 0; at < numbers.length; at = end) {
    for (end = at + 1; end < numbers.length && numbers[end] === numbers[end - 1]! + 1; end++);
    stretches.push(end - at === 1 ? `${numbers[at]}` : `${numbers[at]}-${numbers[end - 1]}`);
  }
  const told = stretches.slice(0, STRETCHES_TOLD).join(", ");
  return stretches.length > STRETCHES_TOLD ? `${told}, and ${stretches.length - STRETCHES_TOLD} more stretches` : told;
}
