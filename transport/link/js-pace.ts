/** A token bucket: at most `rateBytesPerSecond`, with bursts of a few milliseconds' worth. Time is an argument, in microseconds. */

const BURST_US = 20_000;
const BURST_BYTES_MIN = 16 * 1024;

export class TokenBucket {
  #rateBytesPerSecond = 0;
  #burstBytes = 0;
  #bytes = 0;
  #filledUs = 0;

  /** 0: no limit. */
  setRate(rateBytesPerSecond: number, nowUs: number): void {
    this.#fill(nowUs);
    this.#rateBytesPerSecond = rateBytesPerSecond;
    this.#burstBytes = Math.max((rateBytesPerSecond * BURST_US) / 1e6, BURST_BYTES_MIN);
    this.#bytes = Math.min(this.#bytes, this.#burstBytes);
  }

  /** Whole bytes that may be spent now; below one after more was spent than was there. */
  allowanceBytes(nowUs: number): number {
    if (this.#rateBytesPerSecond === 0) return Number.POSITIVE_INFINITY;
    this.#fill(nowUs);
    return Math.floor(this.#bytes);
  }

  spend(bytes: number): void {
    if (this.#rateBytesPerSecond > 0) this.#bytes -= bytes;
  }

  /** Time until half a burst may be spent: waking for every byte would cost more than it sends. */
  waitUs(): number {
    if (this.#rateBytesPerSecond === 0) return 0;
    return Math.max(((this.#burstBytes / 2 - this.#bytes) * 1e6) / this.#rateBytesPerSecond, 0);
  }

  #fill(nowUs: number): void {
    const earned = ((nowUs - this.#filledUs) * this.#rateBytesPerSecond) / 1e6;
    this.#bytes = Math.min(this.#bytes + earned, this.#burstBytes);
    this.#filledUs = nowUs;
  }
}
