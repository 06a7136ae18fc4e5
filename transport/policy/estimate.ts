/**
 * Goodput of a path (a peer, or one lane of it) from its acknowledgements. PURE; the answer has a confidence, so that a decision can tell
 * "slow" from "hardly measured". A simple version behind the interface that routing will use.
 *
 * Chunks overlap, so bytes over a chunk's own duration says too little. Each acknowledgement counts its bytes against the time in which
 * something was under way and nothing else had been acknowledged: since the one before it, or since its own submit if that was later.
 */
import { assert } from "../check.ts";

export interface Estimate {
  readonly goodputBytesPerSecond: number;
  /** 0 = nothing known .. 1 = measured long and recently. */
  readonly confidence: number;
  /** Measurements so far. */
  readonly rounds: number;
  readonly reason: string;
}

export interface EstimatePolicy {
  /** A chunk was acknowledged `durationUs` after it was submitted. */
  handleSample(nowUs: number, bytes: number, durationUs: number): Estimate;
  estimate(nowUs: number): Estimate;
}

export function createEstimate(): EstimatePolicy {
  return new GoodputEstimate();
}

/** Busy time that makes one measurement: long enough to average over bursts of acknowledgements. */
const ROUND_US = 20_000;
/** Weight of a new measurement: an eighth. */
const WEIGHT_PARTS = 8;
/** Confidence is half after this many measurements, and halves with each such silence. */
const ROUNDS_HALF = 4;
const SILENCE_HALF_US = 30_000_000;

class GoodputEstimate implements EstimatePolicy {
  #ackedUs = 0;
  #roundBytes = 0;
  #roundBusyUs = 0;
  #goodputBytesPerSecond = 0;
  #rounds = 0;

  handleSample(nowUs: number, bytes: number, durationUs: number): Estimate {
    assert(bytes >= 0 && durationUs >= 0, "a sample is not negative");
    this.#roundBusyUs += Math.min(Math.max(nowUs - this.#ackedUs, 0), durationUs);
    this.#roundBytes += bytes;
    this.#ackedUs = Math.max(this.#ackedUs, nowUs);
    if (this.#roundBusyUs >= ROUND_US || (this.#rounds === 0 && this.#roundBusyUs > 0)) this.#measure();
    return this.estimate(nowUs);
  }

  estimate(nowUs: number): Estimate {
    const measured = this.#rounds / (this.#rounds + ROUNDS_HALF);
    const silentUs = Math.max(nowUs - this.#ackedUs, 0);
    let confidence = measured;
    for (let left = silentUs; left >= SILENCE_HALF_US && confidence > 0.001; left -= SILENCE_HALF_US) confidence /= 2;
    const reason = this.#rounds === 0 ? "nothing measured" : `${this.#rounds} measurements, the last acknowledgement ${silentUs} us ago`;
    return { goodputBytesPerSecond: this.#goodputBytesPerSecond, confidence, rounds: this.#rounds, reason };
  }

  /** The first measurement stands until a full round is there, so that somebody who asks early gets an order of magnitude. */
  #measure(): void {
    const measured = (this.#roundBytes * 1_000_000) / this.#roundBusyUs;
    if (this.#rounds <= 1) this.#goodputBytesPerSecond = measured;
    else this.#goodputBytesPerSecond += (measured - this.#goodputBytesPerSecond) / WEIGHT_PARTS;
    this.#rounds += 1;
    this.#roundBytes = 0;
    this.#roundBusyUs = 0;
  }
}
