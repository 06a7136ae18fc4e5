/**
 * Which lanes hold up what they carry. PURE. A path of several routes may lose one of them, and a remote may trickle: the chunk that such a lane has
 * taken would wait with it until the transfer's deadline. A lane whose last packets were lost waits for TCP's timeout, at the end of a transfer beside lanes
 * that have nothing to do. Closed, it gives its chunks back to the others.
 */
import { limits } from "../limits.ts";
import type { LaneInfo } from "../link/link.ts";

export interface SlowLane {
  readonly lane: number;
  readonly reason: string;
}

/** A lane that had something to carry all this time and carried less than this. A lane that lost everything for a while comes back sooner by itself. */
const WINDOW_US = 3_000_000;
const LEAST_BYTES = 4_096;
/** The remote has said nothing for so many heartbeats: no lane is to blame. */
const HEARTBEATS = 4;
/** After a round trip and this a silent lane is doubted, after twice as long given up: an answer is put off for 40 ms, TCP's timeout is 200 ms and a round trip. */
const SILENCE_US = 25_000;
/** What a slow lane sends at once: between two such pieces it is silent too. */
const PIECE_BYTES = 8_192;

interface Watch {
  readonly sinceUs: number;
  readonly bytes: number;
  readonly unanswered: number;
  readonly isReceiving: boolean;
}

export class LaneHealth {
  readonly #watched = new Map<number, Watch>();
  #lookUs = Number.POSITIVE_INFINITY;
  #isDoubtful = false;

  /** When the lanes should be looked at again, if no reading comes before. */
  get nextLookUs(): number {
    return this.#lookUs;
  }

  /** A lane is silent that should not be. Whether it is the lane or the path, the next word of the remote will show. */
  get isDoubtful(): boolean {
    return this.#isDoubtful;
  }

  /**
   * Each lane is named once; it is watched anew when it is up again.
   * @param heardUs when something was heard of the remote; where it says nothing at all, no lane is to blame
   */
  handleReading(nowUs: number, lanes: readonly LaneInfo[], heardUs: number): readonly SlowLane[] {
    const isHeard = nowUs - heardUs < HEARTBEATS * limits.busyHeartbeatMs * 1000;
    const slow: SlowLane[] = this.#silent(nowUs, lanes, heardUs);
    const engaged = isHeard ? lanes.filter((info) => info.isReceiving || info.notSentBytes > 0 || info.unansweredBytes > 0) : [];
    for (const lane of [...this.#watched.keys()]) if (!engaged.some((info) => info.lane === lane)) this.#watched.delete(lane);
    for (const info of engaged) {
      const { lane, isReceiving, unansweredBytes: unanswered } = info;
      const bytes = isReceiving ? info.bytesReceived : info.bytesDelivered;
      const watch = this.#watched.get(lane);
      if (watch === undefined || hasMoved(watch, bytes, unanswered, isReceiving)) {
        this.#watched.set(lane, { sinceUs: nowUs, bytes, unanswered, isReceiving });
      } else if (nowUs - watch.sinceUs >= WINDOW_US) {
        this.#watched.delete(lane);
        const what = isReceiving ? "received" : "delivered";
        slow.push({ lane, reason: `${what} ${bytes - watch.bytes} bytes in ${Math.round((nowUs - watch.sinceUs) / 1000)} ms` });
      }
    }
    return slow;
  }

  /**
   * Those that wait for TCP's timeout while others have nothing to carry, and whose remote was heard in the second half of their silence: its packets come
   * through, and this lane's do not. Where most lanes are silent it is the path.
   */
  #silent(nowUs: number, lanes: readonly LaneInfo[], heardUs: number): SlowLane[] {
    this.#lookUs = Number.POSITIVE_INFINITY;
    this.#isDoubtful = false;
    const slow: SlowLane[] = [];
    if (lanes.every(({ unansweredBytes }) => unansweredBytes > 0)) return slow;
    for (const info of lanes) {
      const { lane, unansweredBytes, rttUs, deliveryRateBytesPerSecond: rate, socket: { silentUs } = { silentUs: 0 } } = info;
      // One that has never delivered anything is given any time.
      if (unansweredBytes === 0 || silentUs === 0 || rate === 0) continue;
      const halfUs = rttUs + SILENCE_US + Math.ceil((PIECE_BYTES * 1_000_000) / rate);
      if (silentUs < halfUs) this.#lookUs = Math.min(this.#lookUs, nowUs + halfUs - silentUs);
      else if (silentUs < 2 * halfUs) this.#doubt(nowUs + 2 * halfUs - silentUs);
      else if (heardUs <= nowUs - silentUs + halfUs) this.#doubt(nowUs + halfUs);
      else slow.push({ lane, reason: `nothing came or went for ${Math.round(silentUs / 1000)} ms` });
    }
    return slow.length * 2 <= lanes.length ? slow : [];
  }

  #doubt(lookUs: number): void {
    this.#isDoubtful = true;
    this.#lookUs = Math.min(this.#lookUs, lookUs);
  }
}

/** Another chunk, a lane that counts from nothing, an answer, or enough bytes. */
function hasMoved(watch: Watch, bytes: number, unanswered: number, isReceiving: boolean): boolean {
  if (watch.isReceiving !== isReceiving || bytes < watch.bytes || bytes - watch.bytes >= LEAST_BYTES) return true;
  return !isReceiving && unanswered < watch.unanswered;
}
