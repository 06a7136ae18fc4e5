/**
 * How much padding opens the window of a path before KV is there to be sent. PURE. A window doubles with each round trip in which the path was kept busy;
 * what is known to be open already needs nothing.
 */

export interface PrewarmInput {
  /** What is about to be sent. */
  readonly bytes: number;
  /** Of the path; 0 = not known. */
  readonly goodputBytesPerSecond: number;
  readonly rttUs: number;
  /** Congestion windows of the lanes that take chunks, together; 0 = not known. */
  readonly windowBytes: number;
  readonly lanes: number;
}

export interface Prewarming {
  /** Of padding on each lane; 0 = none. */
  readonly bytesPerLane: number;
  readonly reason: string;
}

/** Nobody's path takes more than this before it is known. */
const UNKNOWN_MOST_BYTES = 64 * 1024 * 1024;
/** A window that holds the path once over is open; two turns of it make sure. */
const TURNS = 2;

export function choosePadding({ bytes, goodputBytesPerSecond, rttUs, windowBytes, lanes }: PrewarmInput): Prewarming {
  const product = (goodputBytesPerSecond * rttUs) / 1_000_000;
  if (product > 0 && windowBytes >= product) return { bytesPerLane: 0, reason: "the windows hold what the path does already" };
  const wanted = product > 0 ? TURNS * product : UNKNOWN_MOST_BYTES;
  const total = Math.min(wanted, bytes, UNKNOWN_MOST_BYTES);
  const bytesPerLane = Math.ceil(total / Math.max(lanes, 1));
  return {
    bytesPerLane,
    reason: product > 0 ? `${TURNS} times what the path holds` : "the path is not known yet: no more than is about to be sent",
  };
}
