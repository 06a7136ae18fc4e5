/** A lane's sending half without its socket: answers, and chunks gathered from where they lie, as pieces of the byte stream. */
import type { RunCursor } from "../kv/runs.ts";
import { gather } from "../kv/runs.ts";
import { limits } from "../limits.ts";
import { type FrameHeader, VERDICT_ABANDONED, VERDICT_WHOLE, writeHeader, writeTrailer } from "./frame.ts";
import { checksum } from "./js-context.ts";
import type { Exchange, LaneLedger } from "./js-exchange.ts";
import { Fifo } from "./js-fifo.ts";
import type { Placement } from "./js-placement.ts";

const HEADER_BYTES = limits.frameHeaderBytes;
const TRAILER_BYTES = limits.frameTrailerBytes;
/** Small chunks share a piece up to here; a chunk that is begun earlier may fill it. */
const PACKED_BYTES = 64 * 1024;
/** A paced lane sends no less than this at once. */
const PACED_BYTES = 4 * 1024;

interface Open {
  readonly placement: Placement;
  readonly cursor: RunCursor;
  readonly checksum: boolean;
  leftBytes: number;
  crc: number;
  isAbandoned: boolean;
}

export class LaneSender {
  readonly #exchange: Exchange;
  readonly #ledger: LaneLedger;
  readonly #answers = new Fifo<FrameHeader>();
  #open: Open | undefined;

  constructor(exchange: Exchange, ledger: LaneLedger) {
    this.#exchange = exchange;
    this.#ledger = ledger;
  }

  get answers(): number {
    return this.#answers.length;
  }

  /** In the middle of a chunk. */
  get isOpen(): boolean {
    return this.#open !== undefined;
  }

  answer(header: FrameHeader): void {
    this.#answers.push(header);
  }

  /** The memory was taken back: what was announced goes on as zeros, and the trailer says so. */
  abandon(): void {
    if (this.#open !== undefined) this.#open.isAbandoned = true;
  }

  /**
   * Writes what comes next in the stream into `piece` and returns how many bytes. A chunk is begun or continued only while `allowanceBytes`
   * last (it may be overdrawn by a little); answers go between chunks in any case.
   */
  fill(piece: Uint8Array, allowanceBytes: number): number {
    let at = 0;
    for (;;) {
      if (this.#open === undefined) {
        at = this.#fillAnswers(piece, at);
        if (at >= PACKED_BYTES || at >= allowanceBytes) return at;
        if (!this.#begin(piece, at)) return at;
        at += HEADER_BYTES;
      } else if (at >= allowanceBytes) return at;
      const open = this.#open as unknown as Open;
      const most = Math.min(piece.length - at - TRAILER_BYTES, Math.max(allowanceBytes - at, PACED_BYTES));
      at += this.#fillPayload(open, piece, at, Math.min(open.leftBytes, most));
      if (open.leftBytes > 0) return at;
      this.#open = undefined;
      const trailer = open.isAbandoned ? { crc: 0, verdict: VERDICT_ABANDONED } : { crc: open.crc, verdict: VERDICT_WHOLE };
      writeTrailer(trailer, piece, at);
      at += TRAILER_BYTES;
      if (!open.isAbandoned) this.#exchange.handleCopied(this.#ledger);
    }
  }

  #fillAnswers(piece: Uint8Array, from: number): number {
    let at = from;
    while (at < PACKED_BYTES) {
      const answer = this.#answers.shift();
      if (answer === undefined) break;
      writeHeader(answer, piece, at);
      at += HEADER_BYTES;
    }
    return at;
  }

  #begin(piece: Uint8Array, at: number): boolean {
    const next = this.#exchange.take(this.#ledger);
    if (next === undefined) return false;
    const { placement, chunk, sequence } = next;
    const { grant, generation } = placement;
    const bytes = placement.bytesOf(chunk);
    writeHeader({ type: "chunk", checksum: placement.checksum, grant, generation, chunk, bytes, sequence, status: 0 }, piece, at);
    const cursor = placement.cursor(chunk);
    this.#open = { placement, cursor, checksum: placement.checksum, leftBytes: bytes, crc: 0, isAbandoned: false };
    return true;
  }

  #fillPayload(open: Open, piece: Uint8Array, at: number, bytes: number): number {
    if (open.isAbandoned) piece.fill(0, at, at + bytes);
    else {
      gather(piece, at, open.placement.memory, open.cursor, bytes);
      if (open.checksum) open.crc = checksum(piece.subarray(at, at + bytes), open.crc);
    }
    open.leftBytes -= bytes;
    return bytes;
  }
}
