/**
 * Which lanes hold up what they carry. PURE. A path of several routes may lose one of them, and a remote may trickle: the chunk that such a lane has
 * taken would wait with it until the transfer's deadline. Closed, it gives the chunk back to the others.
 */
import type { LaneInfo } from "../link/link.ts";

export interface SlowLane {
  readonly lane: number;
  readonly reason: string;
}

/** A lane that had something to carry all this time and carried less than this. A lane that lost everything for a while comes back sooner by itself. */
const WINDOW_US = 3_000_000;
const LEAST_BYTES = 4_096;

interface Watch {
  readonly sinceUs: number;
  readonly bytes: number;
  readonly unanswered: number;
  readonly isReceiving: boolean;
}

export class LaneHealth {
  readonly #watched = new Map<number, Watch>();

  /**
   * Each lane is named once; it is watched anew when it is up again.
   * @param isHeard something was heard of the remote lately; where it says nothing at all, no lane is to blame
   */
  handleReading(nowUs: number, lanes: readonly LaneInfo[], isHeard: boolean): readonly SlowLane[] {
    const slow: SlowLane[] = [];
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
}

/** Another chunk, a lane that counts from nothing, an answer, or enough bytes. */
function hasMoved(watch: Watch, bytes: number, unanswered: number, isReceiving: boolean): boolean {
  if (watch.isReceiving !== isReceiving || bytes < watch.bytes || bytes - watch.bytes >= LEAST_BYTES) return true;
  return !isReceiving && unanswered < watch.unanswered;
}
