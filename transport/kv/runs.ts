/**
 * A plane's stream as runs of memory, and copies between such runs and plain bytes: `native/core/runs.h` in TypeScript, for the link of a host
 * without the addon, for tests and for the simulator. transport/link/link.ts says what a plane is. PURE.
 */
import type { Plane } from "../link/link.ts";

/** Copies shorter than this go byte by byte: naming a part of an array costs more. */
const SHORT_BYTES = 48;

/**
 * Walks `bytes` of the stream from `start` in as few runs as the strides allow: neighbours in the stream that are neighbours in memory come as
 * one run, across blocks too. The plane must fit (`planeFits`) and the span lie within the stream (`streamBytes`).
 */
export class RunCursor {
  /** The run that `next` found: bytes from the region's base, and how many. */
  offset = 0;
  bytes = 0;
  readonly #plane: Plane;
  readonly #blocks: Uint32Array;
  /** Bytes that lie together whatever the neighbours, and how many such units there are along each axis. */
  readonly #unitBytes: number;
  readonly #channels: number;
  readonly #heads: number;
  readonly #tokens: number;
  #left: number;
  #block: number;
  #token: number;
  #head: number;
  #channel: number;
  #inUnit: number;
  #address: number;

  constructor(plane: Plane, blocks: Uint32Array, start: number, bytes: number) {
    const { tokens, heads, channels, elementBytes } = plane;
    const headBytes = channels * elementBytes;
    const tokenBytes = heads * headBytes;
    const channelsLie = channels === 1 || plane.channelStride === elementBytes;
    const headsLie = channelsLie && (heads === 1 || plane.headStride === headBytes);
    const tokensLie = headsLie && (tokens === 1 || plane.tokenStride === tokenBytes);
    this.#plane = plane;
    this.#blocks = blocks;
    this.#unitBytes = tokensLie ? tokens * tokenBytes : headsLie ? tokenBytes : channelsLie ? headBytes : elementBytes;
    this.#tokens = tokensLie ? 1 : tokens;
    this.#heads = headsLie ? 1 : heads;
    this.#channels = channelsLie ? 1 : channels;
    this.#left = bytes;

    const at = start + plane.firstToken * tokenBytes;
    const inBlock = at % (tokens * tokenBytes);
    const unit = Math.floor(inBlock / this.#unitBytes);
    this.#block = Math.floor(at / (tokens * tokenBytes));
    this.#inUnit = inBlock % this.#unitBytes;
    this.#channel = unit % this.#channels;
    this.#head = Math.floor(unit / this.#channels) % this.#heads;
    this.#token = Math.floor(unit / (this.#channels * this.#heads));
    this.#address = this.#find();
  }

  /** Bytes of the span that no run has named yet. */
  get left(): number {
    return this.#left;
  }

  /** Finds the next run, of at most `limit` bytes; false at the end. */
  next(limit: number): boolean {
    const most = Math.min(limit, this.#left);
    if (most <= 0) return false;
    const start = this.#address;
    let found = 0;
    do {
      const take = Math.min(this.#unitBytes - this.#inUnit, most - found);
      found += take;
      this.#inUnit += take;
      this.#address += take;
      if (this.#inUnit === this.#unitBytes) this.#advance();
    } while (found < most && this.#address === start + found);
    this.#left -= found;
    this.offset = start;
    this.bytes = found;
    return true;
  }

  /** Elements of a transposed row that lie ahead at the same distance; 0 if there are none or the cursor stands within one. */
  get rowElements(): number {
    return this.#channels === 1 || this.#inUnit !== 0
      ? 0
      : Math.min(this.#channels - this.#channel, Math.floor(this.#left / this.#unitBytes));
  }
  get rowStride(): number {
    return this.#plane.channelStride;
  }
  get elementBytes(): number {
    return this.#unitBytes;
  }
  get rowOffset(): number {
    return this.#address;
  }

  /** Goes on behind `count` elements of the row. */
  skipElements(count: number): void {
    this.#left -= count * this.#unitBytes;
    this.#channel += count - 1;
    this.#advance();
  }

  /** To the beginning of the next unit. */
  #advance(): void {
    this.#inUnit = 0;
    this.#channel += 1;
    if (this.#channel >= this.#channels) {
      this.#channel = 0;
      this.#head += 1;
      if (this.#head >= this.#heads) {
        this.#head = 0;
        this.#token += 1;
        if (this.#token >= this.#tokens) {
          this.#token = 0;
          this.#block += 1;
        }
      }
    }
    this.#address = this.#find();
  }

  /** NaN behind the last block, where no run begins. */
  #find(): number {
    const { offset, blockStride, tokenStride, headStride, channelStride } = this.#plane;
    const block = this.#blocks[this.#block] ?? Number.NaN;
    const inBlock = this.#token * tokenStride + this.#head * headStride + this.#channel * channelStride;
    return offset + block * blockStride + inBlock + this.#inUnit;
  }
}

/** Copies the next `count` bytes of the stream to `to` from `at`; returns how many there were. */
export function gather(to: Uint8Array, at: number, region: Uint8Array, from: RunCursor, count: number): number {
  let done = 0;
  while (done < count) {
    const element = from.elementBytes;
    const row = element <= 8 ? Math.min(from.rowElements, Math.floor((count - done) / element)) : 0;
    if (row > 0) {
      copyRow(to, at + done, element, region, from.rowOffset, from.rowStride, row, element);
      from.skipElements(row);
      done += row * element;
    } else {
      if (!from.next(count - done)) break;
      copyBytes(to, at + done, region, from.offset, from.bytes);
      done += from.bytes;
    }
  }
  return done;
}

/** Copies `count` bytes of `from` from `at` to the next places of the stream; returns how many there was room for. */
export function scatter(region: Uint8Array, to: RunCursor, from: Uint8Array, at: number, count: number): number {
  let done = 0;
  while (done < count) {
    const element = to.elementBytes;
    const row = element <= 8 ? Math.min(to.rowElements, Math.floor((count - done) / element)) : 0;
    if (row > 0) {
      copyRow(region, to.rowOffset, to.rowStride, from, at + done, element, row, element);
      to.skipElements(row);
      done += row * element;
    } else {
      if (!to.next(count - done)) break;
      copyBytes(region, to.offset, from, at + done, to.bytes);
      done += to.bytes;
    }
  }
  return done;
}

/** True if every byte that the plane can name over these blocks lies in a region of `regionBytes`, and there is one. */
export function planeFits(plane: Plane, blocks: Uint32Array, regionBytes: number): boolean {
  const { offset, tokens, heads, channels, elementBytes, firstToken } = plane;
  const strides = [plane.blockStride, plane.tokenStride, plane.headStride, plane.channelStride];
  if (![tokens, heads, channels, elementBytes].every((count) => Number.isSafeInteger(count) && count > 0)) return false;
  if (![offset, firstToken, ...strides].every((number) => Number.isSafeInteger(number) && number >= 0)) return false;
  if (firstToken >= tokens || blocks.length === 0 || !Number.isSafeInteger(tokens * heads * channels * elementBytes)) return false;
  let last = 0;
  for (const block of blocks) if (block > last) last = block;
  // Sums above 2^53 are rounded, but never down to what a region can hold.
  const counts = [last, tokens - 1, heads - 1, channels - 1];
  return strides.reduce((end, stride, axis) => end + stride * counts[axis]!, offset + elementBytes) <= regionBytes;
}

/** Bytes of the plane's stream over `blocks` blocks. */
export function streamBytes(plane: Plane, blocks: number): number {
  return Math.max(plane.tokens * blocks - plane.firstToken, 0) * plane.heads * plane.channels * plane.elementBytes;
}

function copyBytes(to: Uint8Array, at: number, from: Uint8Array, start: number, count: number): void {
  if (count > SHORT_BYTES) to.set(from.subarray(start, start + count), at);
  else for (let index = 0; index < count; index++) to[at + index] = from[start + index]!;
}

/** `count` elements of `bytes` each, with a distance on either side. */
function copyRow(
  to: Uint8Array,
  at: number,
  toStride: number,
  from: Uint8Array,
  start: number,
  fromStride: number,
  count: number,
  bytes: number,
): void {
  for (let element = 0, read = start, write = at; element < count; element++, read += fromStride, write += toStride) {
    for (let byte = 0; byte < bytes; byte++) to[write + byte] = from[read + byte]!;
  }
}
