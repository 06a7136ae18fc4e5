/**
 * What a path (all lanes to one peer) gives now, from what the kernel counts of each lane (TCP_INFO) and from chunk acknowledgements. PURE.
 *
 * Delivered bytes of all lanes over the time between two readings are one sample. A sample counts as what is *available* only while the lanes
 * had more to send than the path took; a sender that had nothing to say proves no more than that so much is possible. The median of the last
 * samples keeps out what a congestion control does to itself for a moment (BBR leaves the path for 200 ms every 10 s); samples that agree with
 * each other and not with those before them are a step, and the past is forgotten.
 */
import { assert } from "../check.ts";
import type { LaneInfo } from "../link/link.ts";
import { createEstimate, type EstimatePolicy } from "./estimate.ts";

/** What stood in the way of more. */
export type PathLimit = "network" | "receiver" | "send buffer" | "nothing to send" | "unknown";

export interface PathEstimate {
  /** Bytes a second that the path takes, lanes together; 0 = nothing known. */
  readonly goodputBytesPerSecond: number;
  /** 0 = nothing known .. 1 = measured long and recently. */
  readonly confidence: number;
  /** Least and mean round trip over the lanes, and what the second has more than the first; 0 = not known. */
  readonly minRttUs: number;
  readonly rttUs: number;
  readonly queueUs: number;
  /** Of the bytes that were sent, the share that was sent again; of the last second or so. */
  readonly lossRatio: number;
  readonly limit: PathLimit;
  readonly reason: string;
}

/** Readings nearer to each other than this say more about the scheduler than about the path. */
export const READING_US = 100_000;

const SAMPLES = 7;
/** A sample agrees with another if it is within a quarter of it. */
const AGREES_PARTS = 4;
/** So many that agree among themselves and not with the estimate are a step. */
const STEP_SAMPLES = 3;
const LOSS_WEIGHT_PARTS = 8;
const HALF_AFTER = 4;
const SILENCE_HALF_US = 30_000_000;
/** A lane that was kept from sending for so much of its time by the other end's window, or by its own buffer, is limited by it. */
const LIMITED_PARTS = 4;

interface Sample {
  readonly bytesPerSecond: number;
  readonly us: number;
}

/** Sums over the lanes of two readings. */
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
  #before = new Map<number, LaneInfo>();
  #readUs = -1;
  #wasBacklogged = false;
  #samples: Sample[] = [];
  #measured = 0;
  #sampleUs = 0;
  #goodput = 0;
  #loss = 0;
  #rttUs = 0;
  #minRttUs = 0;
  #limit: PathLimit = "unknown";
  #reason = "nothing measured";

  /** A chunk of `bytes` was acknowledged `durationUs` after it was submitted. */
  handleAcked(nowUs: number, bytes: number, durationUs: number): void {
    this.#acks.handleSample(nowUs, bytes, durationUs);
  }

  /** When the next reading would say something. */
  nextReadingUs(): number {
    // A round trip is what a sender needs to hear of what it did.
    return this.#readUs < 0 ? 0 : this.#readUs + Math.max(READING_US, Math.min(this.#rttUs, 3 * READING_US));
  }

  /**
   * @param lanes what the kernel counts of each lane that is up
   * @param backlogBytes bytes that wait for a lane, or for the window
   */
  handleReading(nowUs: number, lanes: readonly LaneInfo[], backlogBytes: number): void {
    const interval = this.#interval(nowUs, lanes, backlogBytes);
    this.#remember(nowUs, lanes, backlogBytes);
    if (interval === undefined) return;
    if (interval.sentBytes > 0) this.#loss += (interval.repeatedBytes / interval.sentBytes - this.#loss) / LOSS_WEIGHT_PARTS;
    this.#limit = limitOf(interval);
    const bytesPerSecond = (interval.deliveredBytes * 1_000_000) / interval.us;
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
    };
    if (this.#measured === 0) return { ...shared, ...acks };
    let confidence = this.#measured / (this.#measured + HALF_AFTER);
    for (let silentUs = nowUs - this.#sampleUs; silentUs >= SILENCE_HALF_US && confidence > 0.001; silentUs -= SILENCE_HALF_US)
      confidence /= 2;
    return { ...shared, goodputBytesPerSecond: this.#goodput, confidence, reason: this.#reason };
  }

  #interval(nowUs: number, lanes: readonly LaneInfo[], backlogBytes: number): Interval | undefined {
    const us = nowUs - this.#readUs;
    if (this.#readUs < 0 || us <= 0) return undefined;
    const sum = { deliveredBytes: 0, sentBytes: 0, repeatedBytes: 0, busyUs: 0, receiverUs: 0, bufferUs: 0 };
    for (const lane of lanes) {
      const before = this.#before.get(lane.lane);
      // A lane that was opened anew under its number has counted from nothing.
      const since = before !== undefined && before.bytesSent <= lane.bytesSent && before.busyUs <= lane.busyUs ? before : undefined;
      sum.deliveredBytes += lane.bytesDelivered - (since?.bytesDelivered ?? 0);
      sum.sentBytes += lane.bytesSent - (since?.bytesSent ?? 0);
      sum.repeatedBytes += lane.bytesRetransmitted - (since?.bytesRetransmitted ?? 0);
      sum.busyUs = Math.max(sum.busyUs, lane.busyUs - (since?.busyUs ?? 0));
      sum.receiverUs = Math.max(sum.receiverUs, lane.receiveWindowLimitedUs - (since?.receiveWindowLimitedUs ?? 0));
      sum.bufferUs = Math.max(sum.bufferUs, lane.sendBufferLimitedUs - (since?.sendBufferLimitedUs ?? 0));
    }
    return { us, ...sum, isBacklogged: this.#wasBacklogged && isBacklogged(lanes, backlogBytes) };
  }

  #remember(nowUs: number, lanes: readonly LaneInfo[], backlogBytes: number): void {
    this.#before = new Map(lanes.map((lane) => [lane.lane, lane]));
    this.#readUs = nowUs;
    this.#wasBacklogged = isBacklogged(lanes, backlogBytes);
    const timed = lanes.filter(({ rttUs, minRttUs }) => rttUs > 0 && minRttUs > 0);
    if (timed.length === 0) return;
    this.#minRttUs = timed.reduce((least, { minRttUs }) => Math.min(least, minRttUs), Number.POSITIVE_INFINITY);
    this.#rttUs = Math.round(timed.reduce((sum, { rttUs }) => sum + rttUs, 0) / timed.length);
  }

  #add(nowUs: number, sample: Sample): void {
    assert(sample.bytesPerSecond > 0, "a sample measured something");
    this.#samples.push(sample);
    if (this.#samples.length > SAMPLES) this.#samples.shift();
    this.#measured += 1;
    this.#sampleUs = nowUs;
    const latest = this.#samples.slice(-STEP_SAMPLES);
    const middle = medianOf(latest);
    const isStep =
      latest.length === STEP_SAMPLES && latest.every((one) => agrees(one.bytesPerSecond, middle)) && !agrees(middle, this.#goodput);
    if (isStep) this.#samples = latest;
    const median = isStep ? middle : medianOf(this.#samples);
    const near = this.#samples.filter((one) => agrees(one.bytesPerSecond, median));
    // The middle of an even number may be far from all of them.
    const good = near.length > 0 ? near : this.#samples;
    const us = good.reduce((total, one) => total + one.us, 0);
    this.#goodput = good.reduce((total, one) => total + one.bytesPerSecond * one.us, 0) / us;
    this.#reason = isStep
      ? `a step: the last ${STEP_SAMPLES} readings agree with each other and not with those before`
      : `${good.length} of the last ${this.#samples.length} readings agree, ${this.#measured} in all`;
  }
}

function isBacklogged(lanes: readonly LaneInfo[], backlogBytes: number): boolean {
  return backlogBytes > 0 || lanes.some(({ notSentBytes }) => notSentBytes > 0);
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

function medianOf(samples: readonly Sample[]): number {
  const sorted = samples.map(({ bytesPerSecond }) => bytesPerSecond).sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[half]! : (sorted[half - 1]! + sorted[half]!) / 2;
}
