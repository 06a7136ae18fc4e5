/** What the parts of a JavaScript link share: bounds, events, the clock, buffers and the checksum. */
import { crc32c } from "../kv/crc32c.ts";
import { native } from "../native.ts";
import type { EventQueue } from "./js-events.ts";
import type { Refusals } from "./js-refusals.ts";
import type { JsTls } from "./js-tls.ts";
import type { LinkLimits } from "./native-link.ts";

/** What one write to a socket carries at most: small enough that what was just gathered is still in cache when it is checksummed. */
export const PIECE_BYTES = 256 * 1024;
/** Shorter pieces are copied to a buffer of their own size, so that many of them do not hold many large ones. */
const SHORT_BYTES = 16 * 1024;
const KEPT_BUFFERS = 32;

export interface LinkContext {
  readonly limits: LinkLimits;
  readonly events: EventQueue;
  readonly buffers: PieceBuffers;
  readonly refusals: Refusals;
  /** What new sockets speak TLS with. */
  tls: JsTls | undefined;
  nowUs(): number;
}

export const checksum: (bytes: Uint8Array, seed?: number) => number = native === undefined ? crc32c : native.crc32c;

export function nowUs(): number {
  return performance.now() * 1000;
}

/** Buffers of PIECE_BYTES that were used before: fresh memory costs its first touch. */
export class PieceBuffers {
  readonly #free: Buffer[] = [];

  take(): Buffer {
    return this.#free.pop() ?? Buffer.allocUnsafeSlow(PIECE_BYTES);
  }

  give(buffer: Buffer): void {
    if (this.#free.length < KEPT_BUFFERS) this.#free.push(buffer);
  }

  /** The first `bytes` of a taken buffer, to be written; `isLent` = give the buffer back after that, else it is back already. */
  cut(buffer: Buffer, bytes: number): { readonly piece: Buffer; readonly isLent: boolean } {
    if (bytes > SHORT_BYTES) return { piece: buffer.subarray(0, bytes), isLent: true };
    const piece = Buffer.from(buffer.subarray(0, bytes));
    this.give(buffer);
    return { piece, isLent: false };
  }
}
