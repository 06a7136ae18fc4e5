/** Where a chunk lies: written from the words of link.ts alone, so that it shares no mistake with the product's own walks over planes. */
import type { ChunkSpan, PlacementSpec, Plane } from "../../transport/link/link.ts";
import { codecOf } from "./codecs.ts";

/** Offsets and lengths in turn, in the order of the stream. Throws if the chunk leaves its blocks or the region. */
export function chunkRuns(spec: PlacementSpec, chunk: number): number[] {
  const span = spec.chunks[chunk];
  if (span === undefined) throw new RangeError(`chunk ${chunk} names nothing`);
  const parts = codecOf(spec, chunk)?.parts ?? 1;
  const part = (at: number): ChunkSpan => ({ plane: span.plane + at, start: span.start, bytes: span.bytes / parts });
  return Array.from({ length: parts }, (_, at) => partRuns(spec, chunk, part(at))).flat();
}

function partRuns(spec: PlacementSpec, chunk: number, span: ChunkSpan): number[] {
  const plane = spec.planes[span.plane];
  const blocks = plane && spec.blockLists[plane.blockList];
  if (plane === undefined || blocks === undefined) throw new RangeError(`chunk ${chunk} names nothing`);
  const { elementBytes, channels, heads, tokens } = plane;
  const headBytes = channels * elementBytes;
  const tokenBytes = heads * headBytes;
  const runs: number[] = [];
  const end = span.start + span.bytes + plane.firstToken * tokenBytes;
  for (let at = span.start + plane.firstToken * tokenBytes; at < end; ) {
    const token = Math.floor(at / tokenBytes);
    const block = blocks[Math.floor(token / tokens)];
    if (block === undefined) throw new RangeError(`chunk ${chunk} leaves its blocks`);
    const head = Math.floor((at % tokenBytes) / headBytes);
    const channel = Math.floor((at % headBytes) / elementBytes);
    const inside = at % elementBytes;
    const length = Math.min(elementBytes - inside, end - at);
    pushRun(runs, addressOf(plane, block, token % tokens, head, channel) + inside, length);
    at += length;
  }
  for (let at = 0; at < runs.length; at += 2) {
    if (runs[at]! + runs[at + 1]! > spec.region.bytes) throw new RangeError(`chunk ${chunk} leaves the region`);
  }
  return runs;
}

function addressOf(plane: Plane, block: number, token: number, head: number, channel: number): number {
  const { offset, blockStride, tokenStride, headStride, channelStride } = plane;
  return offset + block * blockStride + token * tokenStride + head * headStride + channel * channelStride;
}

function pushRun(runs: number[], offset: number, length: number): void {
  const last = runs.length - 2;
  if (last >= 0 && offset === runs[last]! + runs[last + 1]!) runs[last + 1]! += length;
  else runs.push(offset, length);
}

export function gather(memory: Uint8Array, runs: readonly number[], bytes: number): Uint8Array {
  const payload = new Uint8Array(bytes);
  let filled = 0;
  for (let at = 0; at < runs.length; at += 2) filled += copy(memory, runs[at]!, payload, filled, runs[at + 1]!);
  return payload;
}

/** Writes the first bytes of the payload, as many as it has, into the runs. */
export function scatter(memory: Uint8Array, runs: readonly number[], payload: Uint8Array): void {
  let taken = 0;
  for (let at = 0; at < runs.length && taken < payload.length; at += 2) {
    taken += copy(payload, taken, memory, runs[at]!, Math.min(runs[at + 1]!, payload.length - taken));
  }
}

/** Byte by byte: runs are short here, and a view for each would cost more. */
function copy(from: Uint8Array, fromAt: number, to: Uint8Array, toAt: number, length: number): number {
  for (let at = 0; at < length; at++) to[toAt + at] = from[fromAt + at]!;
  return length;
}
