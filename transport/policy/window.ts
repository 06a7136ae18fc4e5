/**
 * How many bytes of a transfer may be under way. PURE; every answer has its reason. A later issue derives it from goodput x RTT.
 *
 * A chunk's duration counts from submit to acknowledgement, so it grows with the window once the path is full: a window whose chunks wait
 * long is too large. Additive growth for each window that came back in time, multiplicative cuts otherwise, at most one for each window.
 */
import { integer } from "../check.ts";
import { limits } from "../limits.ts";

export interface WindowPolicy {
  handleAcked(nowUs: number, bytes: number, durationUs: number): void;
  handleFailed(nowUs: number, bytes: number): void;
  window(): Window;
}

export interface Window {
  readonly bytes: number;
  readonly chunks: number;
  readonly reason: string;
}

export interface WindowOptions {
  /** The most it may ever grow to. */
  readonly bytes?: number;
  readonly chunks?: number;
}

/** Throws invalid_argument for bounds that limits.ts does not allow. */
export function createWindow(options: WindowOptions = {}): WindowPolicy {
  const bytesMax = integer(options.bytes ?? limits.windowBytesDefault, "windowBytes", 1, limits.windowBytesMax);
  const chunksMax = integer(options.chunks ?? limits.windowChunksMax, "windowChunks", 1, limits.windowChunksMax);
  return new DurationWindow(bytesMax, chunksMax);
}

/** Each of four lanes can have a chunk on the wire and one behind it, also while the loop is busy elsewhere. */
const FLOOR_CHUNKS = 4 * 2;
/** Four lanes of eight chunks: enough for a fast path from the first round on, without filling every queue of a slow one. */
const START_CHUNKS = 4 * FLOOR_CHUNKS;
/** Chunks may wait this long, or this many times the shortest duration that was seen, whichever is more. */
const PATIENCE_US = 50_000;
const PATIENCE_TIMES = 4;

class DurationWindow implements WindowPolicy {
  readonly #bytesMax: number;
  readonly #floorBytes: number;
  readonly #stepBytes: number;
  #window: Window;
  #shortestUs = Number.POSITIVE_INFINITY;
  /** Acknowledged since the last change: a window's worth of it is a round. */
  #roundBytes = 0;

  constructor(bytesMax: number, chunksMax: number) {
    this.#bytesMax = bytesMax;
    this.#stepBytes = limits.chunkBytesDefault;
    this.#floorBytes = Math.min(FLOOR_CHUNKS * this.#stepBytes, bytesMax);
    this.#window = {
      bytes: Math.min(START_CHUNKS * this.#stepBytes, bytesMax),
      chunks: chunksMax,
      reason: "start: four lanes of eight chunks",
    };
  }

  window(): Window {
    return this.#window;
  }

  handleAcked(_nowUs: number, bytes: number, durationUs: number): void {
    this.#shortestUs = Math.min(this.#shortestUs, durationUs);
    this.#roundBytes += bytes;
    if (this.#roundBytes < this.#window.bytes) return;
    const patienceUs = Math.max(PATIENCE_US, PATIENCE_TIMES * this.#shortestUs);
    if (durationUs <= patienceUs) this.#change(this.#window.bytes + this.#stepBytes, "grown: a window came back in time");
    else this.#change(Math.floor((this.#window.bytes * 7) / 8), "cut: chunks waited too long");
  }

  handleFailed(_nowUs: number, _bytes: number): void {
    // A lane takes many chunks with it: one cut for all that fail before the next acknowledgement.
    if (this.#roundBytes === 0) return;
    this.#change(Math.floor(this.#window.bytes / 2), "cut: a chunk failed");
  }

  #change(wantedBytes: number, reason: string): void {
    this.#roundBytes = 0;
    const bytes = Math.max(this.#floorBytes, Math.min(wantedBytes, this.#bytesMax));
    if (bytes !== this.#window.bytes) this.#window = { bytes, chunks: this.#window.chunks, reason };
  }
}
