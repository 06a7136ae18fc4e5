/**
 * How many lanes a path has. PURE; every answer has its reason.
 *
 * By marginal goodput: the number is doubled, and stays doubled only if that gained enough; halved where lanes stand in each other's way, and stays
 * halved only if nothing was lost. What tells where to try: a loss-based congestion control with loss, a window or buffer that is too small for one lane
 * (both: more lanes), a standing queue with repeats (fewer). A path whose queue stands is full: more lanes would only take from others on it.
 */
import { assert } from "../check.ts";
import { isLossBased } from "./congestion.ts";
import type { PathEstimate } from "./path-estimate.ts";

export interface LaneCount {
  readonly lanes: number;
  readonly reason: string;
}

export interface LaneCountOptions {
  /** The bounds; equal = fixed by the operator. */
  readonly least: number;
  readonly most: number;
  /** Both ends on one host: lanes are there for its processors, not for a path. */
  readonly local: boolean;
}

export interface LaneCountInput {
  readonly estimate: PathEstimate;
  readonly lanesUp: number;
  /** More waits to be sent than the path has taken. */
  readonly isBacklogged: boolean;
  readonly congestionControl: string;
}

/** On a host, and before anything is known of the path. */
const START_LOCAL = 4;
/** A path this long fills slowly from a few lanes' initial windows: so many begin together, and what is too many goes again. */
const LONG_RTT_US = 2_000;
const START_LONG = 16;
/** A trial: time for lanes to grow, then time to look. */
const SETTLE_US = 500_000;
const SETTLE_RTTS = 8;
const LOOK_US = 700_000;
const LOOK_RTTS = 6;
/** Twice the lanes must gain a tenth; half of them may lose a fiftieth. */
const GAIN_PARTS = 10;
const LOSS_PARTS = 50;
/** After a trial that failed nothing is tried for so long, and for twice as long after the next. */
const HOLD_US = 10_000_000;
const HOLD_MOST_US = 320_000_000;
/** A queue that stands for a quarter of the round trip, and repeats of a hundredth: lanes in each other's way. */
const QUEUE_PARTS = 4;
const QUEUE_LEAST_US = 1_000;
const CROWDED_LOSS = 0.01;
/** Loss that a loss-based congestion control feels on a long path. */
const FELT_LOSS = 0.00001;

interface Trial {
  readonly from: number;
  readonly to: number;
  readonly baseline: number;
  readonly lookAtUs: number;
  readonly endsUs: number;
  looks: number;
  sum: number;
}

export class LaneCountPolicy {
  readonly #options: LaneCountOptions;
  #answer: LaneCount;
  #trial: Trial | undefined;
  #holdUntilUs = 0;
  #holdUs = HOLD_US;

  constructor(options: LaneCountOptions) {
    assert(options.least >= 1 && options.least <= options.most, "bounds of lanes are ordered");
    this.#options = options;
    const start = Math.min(Math.max(START_LOCAL, options.least), options.most);
    this.#answer = {
      lanes: start,
      reason: options.least === options.most ? "fixed by the configuration" : "nothing is known of the path yet",
    };
  }

  get answer(): LaneCount {
    return this.#answer;
  }

  /** The round trip of a new connection is known, from its handshake. */
  handleConnected(rttUs: number): LaneCount {
    if (this.#isFixed || rttUs < LONG_RTT_US || this.#answer.lanes >= START_LONG) return this.#answer;
    const lanes = Math.min(START_LONG, this.#options.most);
    return this.#say(lanes, `start on a path of ${rttUs} us: that many initial windows fill it sooner`);
  }

  handleReading(nowUs: number, input: LaneCountInput): LaneCount {
    const { estimate, isBacklogged, lanesUp } = input;
    if (this.#isFixed) return this.#answer;
    if (!isBacklogged || estimate.goodputBytesPerSecond <= 0) {
      // A trial without load says nothing.
      this.#trial = undefined;
      return this.#answer;
    }
    if (this.#trial !== undefined) return this.#judge(nowUs, this.#trial, estimate);
    if (lanesUp < this.#answer.lanes || nowUs < this.#holdUntilUs) return this.#answer;
    const next = this.#next(input);
    return next === undefined ? this.#answer : this.#try(nowUs, next, estimate);
  }

  get #isFixed(): boolean {
    return this.#options.least === this.#options.most || this.#options.local;
  }

  /** What to try next; undefined: all is well as it is. */
  #next({ estimate, congestionControl }: LaneCountInput): LaneCount | undefined {
    const { lanes } = this.#answer;
    const { queueUs, minRttUs, lossRatio, limit } = estimate;
    const isQueued = queueUs > Math.max(minRttUs / QUEUE_PARTS, QUEUE_LEAST_US);
    const more = Math.min(lanes * 2, this.#options.most);
    const fewer = Math.max(lanes >> 1, this.#options.least);
    if (limit === "receiver" || limit === "send buffer")
      return more > lanes ? { lanes: more, reason: `lanes wait for the ${limit}` } : undefined;
    if (isQueued) {
      const isCrowded = lossRatio > CROWDED_LOSS && fewer < lanes;
      return isCrowded ? { lanes: fewer, reason: `a queue of ${queueUs} us and ${percent(lossRatio)} repeated` } : undefined;
    }
    if (more === lanes) return undefined;
    if (isLossBased(congestionControl) && lossRatio > FELT_LOSS)
      return { lanes: more, reason: `${congestionControl} slows down for a loss of ${percent(lossRatio)}` };
    return { lanes: more, reason: "no queue: the path may have more" };
  }

  #try(nowUs: number, { lanes, reason }: LaneCount, { goodputBytesPerSecond, rttUs }: PathEstimate): LaneCount {
    const lookAtUs = nowUs + Math.max(SETTLE_US, SETTLE_RTTS * rttUs);
    const endsUs = lookAtUs + Math.max(LOOK_US, LOOK_RTTS * rttUs);
    this.#trial = { from: this.#answer.lanes, to: lanes, baseline: goodputBytesPerSecond, lookAtUs, endsUs, looks: 0, sum: 0 };
    return this.#say(lanes, `trying ${lanes} after ${this.#trial.from}: ${reason}`);
  }

  #judge(nowUs: number, trial: Trial, { goodputBytesPerSecond }: PathEstimate): LaneCount {
    if (nowUs < trial.lookAtUs) return this.#answer;
    trial.looks += 1;
    trial.sum += goodputBytesPerSecond;
    if (nowUs < trial.endsUs) return this.#answer;
    this.#trial = undefined;
    const gain = trial.sum / trial.looks / trial.baseline - 1;
    const isMore = trial.to > trial.from;
    const kept = isMore ? gain * GAIN_PARTS >= 1 : gain * LOSS_PARTS >= -1;
    const found = `${trial.to} lanes after ${trial.from} ${gain >= 0 ? "gained" : "lost"} ${percent(Math.abs(gain))}`;
    if (kept) {
      this.#holdUs = HOLD_US;
      return this.#say(trial.to, found);
    }
    this.#holdUntilUs = nowUs + this.#holdUs;
    this.#holdUs = Math.min(this.#holdUs * 2, HOLD_MOST_US);
    return this.#say(trial.from, `${found}: back`);
  }

  #say(lanes: number, reason: string): LaneCount {
    this.#answer = { lanes, reason };
    return this.#answer;
  }
}

function percent(ratio: number): string {
  return `${(ratio * 100).toFixed(ratio < 0.001 ? 3 : 1)} %`;
}
