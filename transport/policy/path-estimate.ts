/**
 * What a path (all lanes to one peer) gives now, from what the kernel counts of each lane (TCP_INFO) and from chunk acknowledgements. PURE.
 *
 * Delivered bytes of all lanes over the time between two readings are one sample. A sample counts as what is *available* only while the lanes
 * had more to send than the path took, most of them at least: the last ones of a transfer, which wait to send again what was lost, say nothing of the path. A
 * sender that had nothing to say proves no more than that so much is possible. The estimate is the mean of the last samples that agree with a typical one,
 * which keeps out what a congestion control does to itself for a moment (BBR leaves the path for 200 ms every 10 s). Two samples above all before them, or
 * three below that agree with each other, are a step, and the past is forgotten: bytes that have arrived prove what the path can, a pause proves nothing.
 */
import { assert } from "../check.ts";
import type { LaneInfo } from "../link/link.ts";
import { createEstimate, type EstimatePolicy } from "./estimate.ts";

/** What stood in the way of more. */
export type PathLimit = "network" | "receiver" | "send buffer" | "nothing to send" | "unknown";

/** The wire with all bytes of what is sent. */
export interface WireState {
  /** 0 = not known. */
  readonly bytesPerSecond: number;
  /** How often stored chunks have shown it. */
  readonly looks: number;
}

export interface PathEstimate {
  /** Bytes a second that the path takes, lanes together; 0 = nothing known. */
  readonly goodputBytesPerSecond: number;
  /** What it took between the last two readings alone. */
  readonly latestBytesPerSecond: number;
  /** 0 = nothing known .. 1 = measured long and recently. */
  readonly confidence: number;
  /** Least and mean round trip over the lanes, and what the second has more than the first; 0 = not known. */
  readonly minRttUs: number;
  readonly rttUs: number;
  readonly queueUs: number;
  /** Of the bytes that were sent, the share that was sent again; of the last second or so. */
  readonly lossRatio: number;
  readonly limit: PathLimit;
  /** Of the time between the last two readings, the share in which lanes waited for the other end's window or their own buffer. */
  readonly heldRatio: number;
  readonly reason: string;
}

/** Readings nearer to each other than this say more about the scheduler than about the path. */
export const READING_US = 100_000;

const SAMPLES = 7;
/** From so many on a rate is believed where it decides what is coded. */
const KNOWN_SAMPLES = 4;
/** A sample agrees with another if it is within a quarter of it. */
const AGREES_PARTS = 4;
/** So many above, or below, all that were before are a step. */
const STEP_UP_SAMPLES = 2;
const STEP_DOWN_SAMPLES = 3;
const LOSS_WEIGHT_PARTS = 8;
const HALF_AFTER = 4;
const SILENCE_HALF_US = 30_000_000;
/** Lanes that were kept from sending for so much of their time by the other end's window, or by their own buffer, are limited by it. */
const LIMITED_PARTS = 2;
/** Lanes with something to send show what the path takes if they are half of those that take chunks. */
const MOST_PARTS = 2;

const NEW_LANE = Object.freeze({
  ...{ bytesDelivered: 0, bytesSent: 0, bytesRetransmitted: 0 },
  ...{ busyUs: 0, receiveWindowLimitedUs: 0, sendBufferLimitedUs: 0 },
});

interface Sample {
  readonly bytesPerSecond: number;
  readonly us: number;
}

/** Sums over the lanes of two readings; of times the longest `busy`, and the mean of what held lanes back. */
interface Interval {
  readonly us: number;
  readonly deliveredBytes: number;
  readonly sentBytes: number;
  readonly repeatedBytes: number;
  readonly busyUs: number;
  readonly receiverUs: number;
  readonly bufferUs: number;
  readonly isBacklogged: boolean;
}

export class PathEstimator {
  /** For a link whose kernel counters nobody can read: acknowledgements alone. */
  readonly #acks: EstimatePolicy = createEstimate();
  /** Of chunks that were stored: what is coded may have waited for its coder. */
  readonly #storedAcks: EstimatePolicy = createEstimate();
  #before = new Map<number, LaneInfo>();
  #readUs = -1;
  #wasBacklogged = false;
  #samples: Sample[] = [];
  #measured = 0;
  #sampleUs = 0;
  #goodput = 0;
  #latest = 0;
  #loss = 0;
  #rttUs = 0;
  #minRttUs = 0;
  #limit: PathLimit = "unknown";
  #held = 0;
  #reason = "nothing measured";

  /** A chunk of `bytes` was acknowledged `durationUs` after it was submitted. `isCoded`: its transfer goes by a profile. */
  handleAcked(nowUs: number, bytes: number, durationUs: number, isCoded = false): void {
    this.#acks.handleSample(nowUs, bytes, durationUs);
    if (!isCoded) this.#storedAcks.handleSample(nowUs, bytes, durationUs);
  }

  /**
   * Bytes a second that the wire takes if nothing is coded: what readings say, or what stored chunks did where they were over before there was a reading of
   * them. 0 = not known yet: the first chunks over a path say too little.
   */
  wireRate(nowUs: number): number {
    return this.wire(nowUs).bytesPerSecond;
  }

  /** The same, with how often chunks that were stored have shown it. */
  wire(nowUs: number): WireState {
    const stored = this.#storedAcks.estimate(nowUs);
    const measured = this.#measured >= KNOWN_SAMPLES ? this.#goodput : 0;
    const bytesPerSecond = Math.max(measured, stored.rounds >= KNOWN_SAMPLES ? stored.goodputBytesPerSecond : 0);
    return { bytesPerSecond, looks: stored.rounds };
  }

  /** When the next reading would say something. */
  nextReadingUs(): number {
    // A round trip is what a sender needs to hear of what it did.
    return this.#readUs < 0 ? 0 : this.#readUs + Math.max(READING_US, Math.min(this.#rttUs, 3 * READING_US));
  }

  /**
   * @param lanes what the kernel counts of each lane that is up
   * @param backlogBytes bytes that wait for a lane, or for the window
   * @param lanesActive those of them that take chunks
   */
  handleReading(nowUs: number, lanes: readonly LaneInfo[], backlogBytes: number, lanesActive = lanes.length): void {
    const isBacklogged =
      backlogBytes > 0 || lanes.filter(({ notSentBytes }) => notSentBytes > 0).length * MOST_PARTS >= Math.max(lanesActive, 1);
    const interval = this.#interval(nowUs, lanes, isBacklogged);
    this.#remember(nowUs, lanes, isBacklogged);
    if (interval === undefined) return;
    if (interval.sentBytes > 0) this.#loss += (interval.repeatedBytes / interval.sentBytes - this.#loss) / LOSS_WEIGHT_PARTS;
    this.#limit = limitOf(interval);
    this.#held = Math.min(Math.max(interval.receiverUs, interval.bufferUs) / interval.us, 1);
    const bytesPerSecond = (interval.deliveredBytes * 1_000_000) / interval.us;
    this.#latest = bytesPerSecond;
    if (interval.deliveredBytes === 0) return;
    if (!interval.isBacklogged && bytesPerSecond <= this.#goodput) return;
    this.#add(nowUs, { bytesPerSecond, us: interval.us });
  }

  /** The path is another one now (a new connection, another address): rates are kept as a first guess, samples are not. */
  handleReconnected(): void {
    this.#before = new Map();
    this.#readUs = -1;
    this.#wasBacklogged = false;
    this.#samples = [];
    this.#measured = Math.min(this.#measured, 1);
  }

  estimate(nowUs: number): PathEstimate {
    const acks = this.#acks.estimate(nowUs);
    const shared = {
      minRttUs: this.#minRttUs,
      rttUs: this.#rttUs,
      queueUs: Math.max(this.#rttUs - this.#minRttUs, 0),
      lossRatio: this.#loss,
      limit: this.#limit,
      heldRatio: this.#held,
    };
    if (this.#measured === 0) return { ...shared, latestBytesPerSecond: acks.goodputBytesPerSecond, ...acks };
    let confidence = this.#measured / (this.#measured + HALF_AFTER);
    for (let silentUs = nowUs - this.#sampleUs; silentUs >= SILENCE_HALF_US && confidence > 0.001; silentUs -= SILENCE_HALF_US)
      confidence /= 2;
    return { ...shared, goodputBytesPerSecond: this.#goodput, latestBytesPerSecond: this.#latest, confidence, reason: this.#reason };
  }

  #interval(nowUs: number, lanes: readonly LaneInfo[], isBacklogged: boolean): Interval | undefined {
    const us = nowUs - this.#readUs;
    if (this.#readUs < 0 || us <= 0) return undefined;
    const sum = { deliveredBytes: 0, sentBytes: 0, repeatedBytes: 0, busyUs: 0, receiverUs: 0, bufferUs: 0 };
    for (const lane of lanes) {
      const before = this.#before.get(lane.lane);
      // A lane that was opened anew under its number has counted from nothing.
      const since = before !== undefined && before.bytesSent <= lane.bytesSent && before.busyUs <= lane.busyUs ? before : NEW_LANE;
      // The kernel counts delivered segments; where their size has changed, their bytes do not grow with what was sent.
      const delivered = Math.min(lane.bytesDelivered, lane.bytesSent) - since.bytesDelivered;
      sum.deliveredBytes += Math.max(delivered, 0);
      sum.sentBytes += lane.bytesSent - since.bytesSent;
      sum.repeatedBytes += Math.max(lane.bytesRetransmitted - since.bytesRetransmitted, 0);
      sum.busyUs = Math.max(sum.busyUs, lane.busyUs - since.busyUs);
      sum.receiverUs += Math.max(lane.receiveWindowLimitedUs - since.receiveWindowLimitedUs, 0) / lanes.length;
      sum.bufferUs += Math.max(lane.sendBufferLimitedUs - since.sendBufferLimitedUs, 0) / lanes.length;
    }
    return { us, ...sum, isBacklogged: this.#wasBacklogged && isBacklogged };
  }

  #remember(nowUs: number, lanes: readonly LaneInfo[], isBacklogged: boolean): void {
    const timed = lanes.filter(({ rttUs, minRttUs }) => rttUs > 0 && minRttUs > 0);
    // The kernel keeps the last round trip of a lane that rests, which was with a queue, for as long as it rests.
    const moved = timed.filter(({ lane, bytesDelivered }) => this.#before.get(lane)?.bytesDelivered !== bytesDelivered);
    this.#before = new Map(lanes.map((lane) => [lane.lane, lane]));
    this.#readUs = nowUs;
    this.#wasBacklogged = isBacklogged;
    if (timed.length > 0) this.#minRttUs = timed.reduce((least, { minRttUs }) => Math.min(least, minRttUs), Number.POSITIVE_INFINITY);
    if (moved.length > 0) this.#rttUs = Math.round(moved.reduce((sum, { rttUs }) => sum + rttUs, 0) / moved.length);
  }

  #add(nowUs: number, sample: Sample): void {
    assert(sample.bytesPerSecond > 0, "a sample measured something");
    this.#samples.push(sample);
    if (this.#samples.length > SAMPLES) this.#samples.shift();
    this.#measured += 1;
    this.#sampleUs = nowUs;
    const step = stepIn(this.#samples);
    if (step > 0) this.#samples = this.#samples.slice(-step);
    const typical = typicalOf(this.#samples);
    const good = this.#samples.filter((one) => agrees(one.bytesPerSecond, typical));
    const us = good.reduce((total, one) => total + one.us, 0);
    this.#goodput = good.reduce((total, one) => total + one.bytesPerSecond * one.us, 0) / us;
    this.#reason =
      step > 0
        ? `a step: the last ${step} readings lie beyond all before`
        : `${good.length} of the last ${this.#samples.length} readings agree, ${this.#measured} in all`;
  }
}

/** How many of the last samples are a step away from all before; 0 = none. */
function stepIn(samples: readonly Sample[]): number {
  const rates = samples.map(({ bytesPerSecond }) => bytesPerSecond);
  const [up, down] = [rates.slice(-STEP_UP_SAMPLES), rates.slice(-STEP_DOWN_SAMPLES)];
  const [beforeUp, beforeDown] = [rates.slice(0, -STEP_UP_SAMPLES), rates.slice(0, -STEP_DOWN_SAMPLES)];
  if (beforeUp.length > 0 && Math.min(...up) > Math.max(...beforeUp)) return STEP_UP_SAMPLES;
  const isDown = beforeDown.length > 0 && Math.max(...down) < Math.min(...beforeDown);
  return isDown && agrees(Math.min(...down), Math.max(...down)) ? STEP_DOWN_SAMPLES : 0;
}

function limitOf({ us, busyUs, receiverUs, bufferUs, isBacklogged: hasMore }: Interval): PathLimit {
  if (receiverUs * LIMITED_PARTS > us && receiverUs >= bufferUs) return "receiver";
  if (bufferUs * LIMITED_PARTS > us) return "send buffer";
  if (!hasMore) return "nothing to send";
  return busyUs > 0 ? "network" : "unknown";
}

function agrees(one: number, other: number): boolean {
  return Math.abs(one - other) * AGREES_PARTS <= Math.max(one, other);
}

/** One of them that a third is not below: a pause, and what it leaves of the reading before and after, are up to four of seven. */
function typicalOf(samples: readonly Sample[]): number {
  const sorted = samples.map(({ bytesPerSecond }) => bytesPerSecond).sort((a, b) => a - b);
  return sorted[Math.floor((sorted.length * 2) / 3)]!;
}
