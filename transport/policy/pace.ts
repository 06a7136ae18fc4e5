/**
 * How fast a path may be used. PURE; every answer has its reason. What bounds it: a cap for the peer, the share of its tenant's cap, and, while
 * nothing but background transfers are under way, what leaves others' traffic alone: background grows while it makes no queue and falls at once when
 * there is one, whoever made it. A queue that does not get shorter in many seconds, though background has left, is none: the route has grown longer.
 * While urgent transfers come, all of them leave the queue short (short-queue.ts).
 */
import { limits } from "../limits.ts";
import type { PathEstimate } from "./path-estimate.ts";
import type { Priority } from "./priority.ts";
import { ShortQueue } from "./short-queue.ts";

export interface Pace {
  /** Bytes a second, lanes together; 0 = no bound. */
  readonly bytesPerSecond: number;
  readonly reason: string;
}

export interface PaceInput {
  readonly estimate: PathEstimate;
  /** Caps in bytes a second; 0 = none. Of a tenant: its cap, and how many of its peers have something under way. */
  readonly peerCap: number;
  readonly tenantCap: number;
  readonly tenantSharing: number;
  /** Of what is under way, or was a moment ago. */
  readonly mostUrgent: Priority;
}

/** A queue of an eighth of the round trip, or 1.5 ms where that is more, is somebody's. */
const QUEUE_PARTS = 8;
const QUEUE_LEAST_US = 1_500;
/** One that stands in so many readings: a flow that looks for more makes one for a moment. */
const READINGS = 3;
/** A queue of others is gone for a moment at least so often: BBR empties it every ten seconds, a loss-based flow with its losses. */
const ROUTE_US = 15_000_000;
/** Up by a quarter of itself a reading until there was a queue, by a sixteenth from then on; down to seven tenths. */
const FIRST_PARTS = 4;
const UP_PARTS = 16;
const DOWN = 0.7;
/** Never less than so much of what the path once gave, so that it notices when others have gone; nor so little that a chunk takes as long as a stall. */
const LEAST_PARTS = 50;
const LEAST = (limits.chunkBytesDefault * 1_000) / limits.stallMs;

export type Caps = Pick<PaceInput, "peerCap" | "tenantCap" | "tenantSharing">;

export class PacePolicy {
  #background = 0;
  #hasYielded = false;
  /** Of the last readings, the newest first. */
  #queues: readonly number[] = [];
  #best = 0;
  readonly #shortQueue = new ShortQueue();
  /** What the classes under way ask for, as of the last reading. */
  #yielding: Pace | undefined;
  /** What the least round trip that is known says too little, since the route has grown longer. */
  #longerUs = 0;
  /** Since when background goes at its least, and the shortest queue in that time. */
  #leastSinceUs = -1;
  #leastQueueUs = 0;
  #answer: Pace = { bytesPerSecond: 0, reason: "no cap" };

  get answer(): Pace {
    return this.#answer;
  }

  /** The path is held below what would make a queue. */
  get isShort(): boolean {
    return this.#shortQueue.isBounding;
  }

  handleReading(nowUs: number, input: PaceInput): Pace {
    const { estimate, mostUrgent } = input;
    this.#queues = [estimate.queueUs, ...this.#queues].slice(0, READINGS);
    this.#yielding =
      this.#yield(nowUs, estimate, mostUrgent === "background") ?? this.#leaveShort(nowUs, estimate, mostUrgent === "urgent");
    return this.handleCaps(input);
  }

  /** Others of the tenant send as well now, or no more; or its cap is another. */
  handleCaps({ peerCap, tenantCap, tenantSharing }: Caps): Pace {
    const share = tenantCap > 0 ? Math.max(Math.floor(tenantCap / Math.max(tenantSharing, 1)), 1) : 0;
    const caps: Pace[] = [];
    if (peerCap > 0) caps.push({ bytesPerSecond: peerCap, reason: "the cap of the peer" });
    if (share > 0) caps.push({ bytesPerSecond: share, reason: `the tenant's cap, shared by ${Math.max(tenantSharing, 1)} peers` });
    if (this.#yielding !== undefined) caps.push(this.#yielding);
    const isLess = (one: Pace, least: Pace): boolean => least.bytesPerSecond === 0 || one.bytesPerSecond < least.bytesPerSecond;
    this.#answer = caps.reduce((least, one) => (isLess(one, least) ? one : least), NO_CAP);
    return this.#answer;
  }

  #yield(nowUs: number, estimate: PathEstimate, onlyBackground: boolean): Pace | undefined {
    const { goodputBytesPerSecond: goodput, minRttUs } = estimate;
    this.#longerUs = Math.min(this.#longerUs, estimate.queueUs);
    const queueUs = Math.min(...this.#queues) - this.#longerUs;
    this.#best = Math.max(this.#best, goodput);
    if (!onlyBackground || goodput <= 0 || minRttUs <= 0) {
      this.#background = 0;
      this.#hasYielded = false;
      this.#leastSinceUs = -1;
      return undefined;
    }
    const least = Math.max(this.#best / LEAST_PARTS, LEAST);
    const boundUs = boundOf(estimate);
    const yields = queueUs > boundUs;
    this.#hasYielded ||= yields;
    const growth = 1 + 1 / (this.#hasYielded ? UP_PARTS : FIRST_PARTS);
    if (this.#background === 0) this.#background = Math.max(goodput / 2, least);
    else if (yields) this.#background = Math.max(this.#background * DOWN, least);
    // A pace that nobody reaches says nothing about the path: it does not run away from what is used.
    else this.#background = Math.min(this.#background * growth, Math.max(goodput * 2, least));
    this.#lookWhetherLonger(nowUs, estimate.queueUs, yields && this.#background <= least);
    const reason = yields ? `background yields to a queue of ${queueUs} us` : "background, and no queue";
    return { bytesPerSecond: Math.ceil(this.#background), reason };
  }

  #leaveShort(nowUs: number, estimate: PathEstimate, isUrgent: boolean): Pace | undefined {
    if (!isUrgent) {
      this.#shortQueue.end();
      return undefined;
    }
    const queueUs = Math.min(...this.#queues);
    const bytesPerSecond = this.#shortQueue.handleReading(nowUs, { estimate, queueUs, boundUs: boundOf(estimate) });
    return bytesPerSecond === undefined
      ? undefined
      : { bytesPerSecond, reason: `urgent transfers come: the queue (${queueUs} us) stays short` };
  }

  /** The kernel remembers the least round trip for five minutes: what is always there while we hardly send is the way, not a queue on it. */
  #lookWhetherLonger(nowUs: number, queueUs: number, isAtLeast: boolean): void {
    if (!isAtLeast) {
      this.#leastSinceUs = -1;
      return;
    }
    if (this.#leastSinceUs < 0) {
      this.#leastSinceUs = nowUs;
      this.#leastQueueUs = queueUs;
    }
    this.#leastQueueUs = Math.min(this.#leastQueueUs, queueUs);
    if (nowUs - this.#leastSinceUs < ROUTE_US) return;
    this.#longerUs = this.#leastQueueUs;
    this.#leastSinceUs = -1;
  }
}

function boundOf({ minRttUs }: PathEstimate): number {
  return Math.max(minRttUs / QUEUE_PARTS, QUEUE_LEAST_US);
}

const NO_CAP: Pace = Object.freeze({ bytesPerSecond: 0, reason: "no cap" });
