/**
 * How many bytes of a transfer may be under way. PURE; every answer has its reason.
 *
 * Twice what a path holds (goodput x round trip), and what its lanes keep before the wire besides: a lane takes its next chunk when it can
 * send it, so that more under way than this would wait here as well as there. While the path is unknown, room for a fast one.
 */
import { integer } from "../check.ts";
import { limits } from "../limits.ts";

export interface Window {
  readonly bytes: number;
  readonly chunks: number;
  readonly reason: string;
}

/** What is known of the path; `chunkBytes` of the transfer. */
export interface WindowPath {
  readonly goodputBytesPerSecond: number;
  readonly rttUs: number;
  readonly lanes: number;
}

export interface WindowPolicy {
  window(): Window;
}

export interface WindowOptions {
  /** The most it may ever grow to. */
  readonly bytes?: number;
  readonly chunks?: number;
  readonly path?: () => WindowPath;
}

/** Throws invalid_argument for bounds that limits.ts does not allow. */
export function createWindow(options: WindowOptions = {}): WindowPolicy {
  const bytes = integer(options.bytes ?? limits.windowBytesDefault, "windowBytes", 1, limits.windowBytesMax);
  const chunks = integer(options.chunks ?? limits.windowChunksMax, "windowChunks", 1, limits.windowChunksMax);
  return new PathWindow(bytes, chunks, options.path ?? (() => UNKNOWN));
}

const UNKNOWN: WindowPath = Object.freeze({ goodputBytesPerSecond: 0, rttUs: 0, lanes: 1 });
const MiB = 1024 * 1024;
/** Enough for a fast path from the first round on, without filling every queue of a slow one. */
const START_BYTES = 32 * MiB;
/** Each lane can have a chunk on the wire and one behind it, also while the loop is busy elsewhere. */
const CHUNKS_OF_LANE = 2;
const FLOOR_BYTES = 8 * MiB;
const GAIN = 2;
/** The loop may be away for so long before a lane runs dry. */
const AWAY_US = 20_000;

class PathWindow implements WindowPolicy {
  readonly #bytesMax: number;
  readonly #chunksMax: number;
  readonly #path: () => WindowPath;
  #of: WindowPath | undefined;
  #window: Window | undefined;

  constructor(bytesMax: number, chunksMax: number, path: () => WindowPath) {
    this.#bytesMax = bytesMax;
    this.#chunksMax = chunksMax;
    this.#path = path;
  }

  window(): Window {
    const path = this.#path();
    if (this.#window === undefined || this.#of !== path) {
      this.#of = path;
      this.#window = this.#derive(path);
    }
    return this.#window;
  }

  #derive({ goodputBytesPerSecond, rttUs, lanes }: WindowPath): Window {
    if (goodputBytesPerSecond <= 0) {
      return { bytes: Math.min(START_BYTES, this.#bytesMax), chunks: this.#chunksMax, reason: "start: the path is not known yet" };
    }
    const product = (goodputBytesPerSecond * (rttUs + AWAY_US)) / 1_000_000;
    const wanted = Math.ceil(GAIN * product) + lanes * CHUNKS_OF_LANE * limits.chunkBytesDefault;
    const bytes = Math.min(Math.max(wanted, FLOOR_BYTES), this.#bytesMax);
    const of =
      bytes === this.#bytesMax ? "its bound" : bytes === FLOOR_BYTES ? "the least" : `${GAIN} x what the path holds, and ${lanes} lanes`;
    return { bytes, chunks: this.#chunksMax, reason: of };
  }
}
