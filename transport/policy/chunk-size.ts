/**
 * How many bytes a chunk has. PURE; the answer has its reason.
 *
 * A chunk is what a lane cannot be talked out of: whatever is more urgent waits for the rest of it. So it should be short in *time*. It costs a
 * header, a trailer and about a dozen microseconds of decisions at each end, whatever its size: that should stay under a hundredth of the lane's bytes
 * and time, and under a fiftieth of the time of the one loop that decides for all lanes.
 */
import { assert } from "../check.ts";
import { limits } from "../limits.ts";
import type { Priority } from "./priority.ts";

export interface ChunkSizeInput {
  /** Of the path, lanes together; 0 = not known. */
  readonly goodputBytesPerSecond: number;
  readonly lanes: number;
  readonly rttUs: number;
  readonly priority: Priority;
  /** Of the transfer; 0 = not known. */
  readonly transferBytes: number;
  /** The most that both ends take. */
  readonly mostBytes: number;
  /** Both ends on one host. */
  readonly local: boolean;
}

export interface ChunkSize {
  readonly bytes: number;
  readonly reason: string;
}

/** Bytes of framing, and microseconds of decisions at one end, for each chunk; a hundred times either is the least. */
const FRAMING_BYTES = limits.frameHeaderBytes + limits.frameTrailerBytes;
const DECISION_US = 12;
const OVERHEAD_PARTS = 100;
const LOOP_PARTS = 50;
/** What may be waited for: an eighth of a round trip, but no less than 8 ms and no more than 20. */
const WAIT_LEAST_US = 8_000;
const WAIT_MOST_US = 20_000;
const WAIT_RTT_PARTS = 8;
/** Sixteen lanes begin together on a path of which nothing is known: with larger chunks the last of them would still carry theirs when the others are done. */
const STRANGER_BYTES = limits.chunkBytesDefault / 4;
/** A transfer is cut in at least so many chunks for each lane, or the lanes would not end together. */
const CHUNKS_PER_LANE = 4;

export function chooseChunkSize(input: ChunkSizeInput): ChunkSize {
  const { goodputBytesPerSecond, lanes, rttUs, priority, transferBytes, mostBytes, local } = input;
  assert(lanes >= 1 && mostBytes >= limits.chunkBytesMin, "a path has lanes, and takes a chunk of the least size");
  if (goodputBytesPerSecond <= 0)
    return { bytes: clamp(local ? limits.chunkBytesDefault : STRANGER_BYTES, mostBytes), reason: "the rate of the path is not known yet" };
  const laneRate = goodputBytesPerSecond / lanes;
  // What yields does so sooner.
  const patienceUs = Math.min(Math.max(rttUs / WAIT_RTT_PARTS, WAIT_LEAST_US), WAIT_MOST_US) / (priority === "background" ? 2 : 1);
  const waited = (laneRate * patienceUs) / 1_000_000;
  const ofLoop = Math.min((goodputBytesPerSecond * DECISION_US * LOOP_PARTS) / 1_000_000, limits.chunkBytesDefault);
  const least = Math.max(FRAMING_BYTES * OVERHEAD_PARTS, (laneRate * DECISION_US * OVERHEAD_PARTS) / 1_000_000, ofLoop);
  const spread = transferBytes > 0 ? transferBytes / (lanes * CHUNKS_PER_LANE) : Number.POSITIVE_INFINITY;
  const wanted = Math.max(Math.min(waited, limits.chunkBytesDefault, spread), least);
  const bytes = clamp(powerOfTwo(wanted, least), mostBytes);
  const chunkUs = Math.round((bytes * 1_000_000) / laneRate);
  const bound =
    wanted === least
      ? `at least ${Math.round(least)} bytes, or their number costs too much`
      : wanted === spread
        ? `${CHUNKS_PER_LANE} for each of ${lanes} lanes`
        : wanted === limits.chunkBytesDefault
          ? "larger ones gain nothing"
          : `nothing urgent waits longer than ${Math.round(patienceUs)} us`;
  return { bytes, reason: `${chunkUs} us on a lane of ${Math.round(laneRate / 1000)} kB/s; ${bound}` };
}

/** What a lane keeps before the wire is waited for too: about what a busy machine needs to notice that there is room, so that the network does not wait for us either. */
const NOT_SENT_US = 20_000;
const NOT_SENT_LEAST = 64 * 1024;

/** @returns TCP_NOTSENT_LOWAT for a lane of so many bytes a second (0 = not known) */
export function notSentLow(laneRate: number): number {
  if (laneRate <= 0) return limits.notSentLowBytes;
  return Math.max(Math.min(powerOfTwo((laneRate * NOT_SENT_US) / 1_000_000, 0), limits.notSentLowBytes), NOT_SENT_LEAST);
}

function clamp(bytes: number, mostBytes: number): number {
  return Math.max(Math.min(bytes, mostBytes), limits.chunkBytesMin);
}

/** The largest that is not above `bytes`, but not below `least`: so sizes do not change with every measurement. */
function powerOfTwo(bytes: number, least: number): number {
  let power = limits.chunkBytesMin;
  while (power * 2 <= bytes || power < least) power *= 2;
  return power;
}
