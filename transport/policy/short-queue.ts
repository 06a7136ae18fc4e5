/**
 * How fast a path may be used while urgent transfers come over it: as fast as it goes without a queue. PURE. BBR lanes believe together in more than the
 * path gives and fill its queue as far as their windows reach: a round trip more for whoever comes, and where the queue has no room for it, losses that
 * hold up everything behind them. What is paced a little below needs no more time, and leaves the queue to nobody.
 */
import type { PathEstimate } from "./path-estimate.ts";

export interface ShortQueueInput {
  readonly estimate: PathEstimate;
  /** Of the last few readings the shortest. */
  readonly queueUs: number;
  /** What counts as a queue. */
  readonly boundUs: number;
}

/** To begin with, and when a queue stands again; then once in so many readings, because what is done shows a round trip later. */
const DRAIN = 0.9;
const AGAIN = 0.96;
const AGAIN_READINGS = 4;
/** Up by so much of itself a reading while there is none, by more with each ten of them, to no more than a quarter above what is used. */
const UP_PARTS = 128;
const UP_SOONER_READINGS = 10;
const UP_SOONER_MOST = 8;
const MOST = 1.25;
/** What the path once gave is believed a little less with each reading: a lane that pauses is no slower path. */
const FORGET = 0.99;
/** A queue that stands for so long although less and less is sent is somebody else's; then it is left alone, and tried again later. */
const THEIRS_US = 3_000_000;
const HOLD_US = 60_000_000;

export class ShortQueue {
  /** Bytes a second; 0 = no bound. */
  #level = 0;
  /** Since when a queue stands, while bounded; negative: none does. */
  #standsSinceUs = -1;
  /** Since one stands, or none does. */
  #readings = 0;
  #best = 0;
  #holdUntilUs = 0;

  get isBounding(): boolean {
    return this.#level > 0;
  }

  /** Nothing urgent comes. */
  end(): void {
    this.#level = 0;
    this.#best = 0;
    this.#standsSinceUs = -1;
  }

  /** Bytes a second; undefined: no bound. */
  handleReading(nowUs: number, { estimate, queueUs, boundUs }: ShortQueueInput): number | undefined {
    const { goodputBytesPerSecond: goodput } = estimate;
    if (goodput <= 0 || nowUs < this.#holdUntilUs) return undefined;
    this.#best = Math.max(goodput, this.#best * FORGET);
    if (queueUs > boundUs) this.#drain(nowUs, goodput);
    else if (this.#level > 0) this.#grow();
    return this.#level > 0 ? Math.ceil(this.#level) : undefined;
  }

  #grow(): void {
    if (this.#standsSinceUs >= 0) this.#readings = 0;
    this.#standsSinceUs = -1;
    const sooner = Math.min(1 + Math.floor(++this.#readings / UP_SOONER_READINGS), UP_SOONER_MOST);
    this.#level = Math.min(this.#level * (1 + sooner / UP_PARTS), this.#best * MOST);
  }

  #drain(nowUs: number, goodput: number): void {
    if (this.#standsSinceUs < 0) {
      this.#standsSinceUs = nowUs;
      this.#readings = 0;
      this.#level = DRAIN * (this.#level > 0 ? this.#level : this.#best);
    } else if (nowUs - this.#standsSinceUs >= THEIRS_US) {
      this.end();
      this.#holdUntilUs = nowUs + HOLD_US;
    } else if (++this.#readings % AGAIN_READINGS === 0) this.#level = AGAIN * Math.min(this.#level, goodput);
  }
}
