/**
 * What the bytes are, and whether they arrived. Content is a function of (seed, slot, position in the request's stream), so that a block in
 * the wrong place, a stale one and a lost one all show. Random content is compared byte by byte with what it should be; a file's content
 * (`kv:FILE`, which only the sender has) by a SHA-256 of every chunk: not the CRC that the link computes, which would vouch for itself.
 */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { expected } from "../transport/check.ts";
import { KvferryError } from "../transport/errors.ts";
import type { ChunkSpan, Plane } from "../transport/link/link.ts";
import { mix } from "./random.ts";
import type { Place } from "./workload.ts";

export interface Content {
  /** True if every end can make it from the seed alone. */
  readonly derived: boolean;
  /** Writes the bytes of stream position `start` (of all planes, one behind the other) into `target`. */
  write(target: Uint8Array, slot: number, start: number): void;
}

export function randomContent(seed: number): Content {
  return {
    derived: true,
    write(target, slot, start) {
      const key = mix(seed, slot);
      const words = start % 4 === 0 && target.byteOffset % 4 === 0 ? target.length >>> 2 : 0;
      const view = new Uint32Array(target.buffer, words === 0 ? 0 : target.byteOffset, words);
      const first = start >>> 2;
      for (let index = 0; index < words; index++) view[index] = mix(key, first + index);
      for (let index = words * 4; index < target.length; index++) target[index] = byteAt(key, start + index);
    },
  };
}

/** The file's bytes, repeated, each slot beginning elsewhere in it. */
export function fileContent(path: string, seed: number): Content {
  const bytes = readData(path);
  if (bytes.length === 0) throw expected("a file with bytes in it", "--data", path);
  return {
    derived: false,
    write(target, slot, start) {
      let from = (mix(seed, slot) + start) % bytes.length;
      for (let done = 0; done < target.length; ) {
        const count = Math.min(target.length - done, bytes.length - from);
        target.set(bytes.subarray(from, from + count), done);
        done += count;
        from = 0;
      }
    },
  };
}

function readData(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    throw new KvferryError("invalid_argument", `--data: ${(error as Error).message}`, { cause: error });
  }
}

/** Fills one slot's bytes in `view`, and returns the digest of each chunk where the receiver cannot know it otherwise. */
export function fillSlot(view: Uint8Array, place: Place, chunks: readonly ChunkSpan[], slot: number, content: Content): string[] {
  eachRun(place, chunks, (offset, bytes, start) => content.write(view.subarray(offset, offset + bytes), slot, start));
  return content.derived ? [] : chunkDigests(view, place, chunks);
}

/** Overwrites one slot, so that what is found there later was put there later. */
export function poisonSlot(view: Uint8Array, place: Place, chunks: readonly ChunkSpan[], value: number): void {
  eachRun(place, chunks, (offset, bytes) => view.fill(value, offset, offset + bytes));
}

/** Bytes of a slot that are not what they should be. */
export function countWrong(view: Uint8Array, place: Place, chunks: readonly ChunkSpan[], slot: number, content: Content): number {
  let wrong = 0;
  let wanted = new Uint8Array(0);
  eachRun(place, chunks, (offset, bytes, start) => {
    if (wanted.length < bytes) wanted = new Uint8Array(bytes);
    const expectedBytes = wanted.subarray(0, bytes);
    content.write(expectedBytes, slot, start);
    const found = Buffer.from(view.buffer, view.byteOffset + offset, bytes);
    if (found.equals(expectedBytes)) return;
    for (let at = 0; at < bytes; at++) if (found[at] !== expectedBytes[at]) wrong++;
  });
  return wrong;
}

/** SHA-256 of each chunk of a slot, in order. */
export function chunkDigests(view: Uint8Array, place: Place, chunks: readonly ChunkSpan[]): string[] {
  const starts = planeStarts(place, chunks);
  const stream = new Uint8Array(starts.at(-1)!);
  eachRun(place, chunks, (offset, bytes, start) => stream.set(view.subarray(offset, offset + bytes), start));
  return chunks.map(({ plane, start, bytes }) => {
    const from = starts[plane]! + start;
    return createHash("sha256")
      .update(stream.subarray(from, from + bytes))
      .digest("base64");
  });
}

/**
 * Visits what the chunks of a slot cover, in runs that lie together in memory: (offset in the region, bytes, position in the request's
 * stream, all planes one behind the other). A last block that is partly filled is visited only as far as chunks reach.
 */
export function eachRun(place: Place, chunks: readonly ChunkSpan[], visit: (offset: number, bytes: number, start: number) => void): void {
  const starts = planeStarts(place, chunks);
  place.planes.forEach((plane, index) => {
    const base = starts[index]!;
    const length = starts[index + 1]! - base;
    walk(plane, place.blockLists[plane.blockList]!, (offset, bytes, start) => {
      const inside = Math.min(bytes, length - start);
      if (inside > 0) visit(offset, inside, base + start);
    });
  });
}

/** Visits the plane's stream in order: (offset in the region, bytes, position in the plane's stream). */
function walk(plane: Plane, blocks: Uint32Array, visit: (offset: number, bytes: number, start: number) => void): void {
  const { tokens, heads, channels, elementBytes } = plane;
  const together = plane.channelStride === elementBytes || channels === 1;
  const headBytes = channels * elementBytes;
  const wholeToken = together && (heads === 1 || plane.headStride === headBytes);
  const wholeBlock = wholeToken && (tokens === 1 || plane.tokenStride === heads * headBytes);
  let start = 0;
  const put = (offset: number, bytes: number): void => {
    visit(offset, bytes, start);
    start += bytes;
  };
  blocks.forEach((block, index) => {
    const base = plane.offset + block * plane.blockStride;
    const first = index === 0 ? plane.firstToken : 0;
    if (wholeBlock) return put(base + first * plane.tokenStride, (tokens - first) * heads * headBytes);
    for (let token = first; token < tokens; token++) {
      const at = base + token * plane.tokenStride;
      if (wholeToken) put(at, heads * headBytes);
      else for (let head = 0; head < heads; head++) walkHead(plane, at + head * plane.headStride, together, put);
    }
  });
}

function walkHead(plane: Plane, offset: number, together: boolean, put: (offset: number, bytes: number) => void): void {
  if (together) return put(offset, plane.channels * plane.elementBytes);
  for (let channel = 0; channel < plane.channels; channel++) put(offset + channel * plane.channelStride, plane.elementBytes);
}

/** Where each plane's part of the request's stream begins, and last where it all ends. */
function planeStarts(place: Place, chunks: readonly ChunkSpan[]): number[] {
  const lengths = new Float64Array(place.planes.length);
  for (const { plane, start, bytes } of chunks) lengths[plane] = Math.max(lengths[plane]!, start + bytes);
  const starts = [0];
  for (const length of lengths) starts.push(starts.at(-1)! + length);
  return starts;
}

/** Byte `position` of the little-endian words that mix() gives. */
function byteAt(key: number, position: number): number {
  return (mix(key, position >>> 2) >>> ((position & 3) * 8)) & 0xff;
}
