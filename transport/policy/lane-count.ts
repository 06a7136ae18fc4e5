/**
 * How many lanes a path has. PURE; every answer has its reason.
 *
 * A look is a stretch of readings with the same lanes, all of them busy. After each look one thing is decided by what was seen in it:
 *
 *   a queue stood all the time      the path is full: the lanes whose part of what is under way is the queue go; back, if that cost goodput, unless others
 *                                   had it: then the queue stays. The last two stay where one that pauses or repairs would leave the path empty
 *   lanes wait for a window         twice the lanes; back, if that gained less than a twentieth
 *   no queue was ever seen          the same, where more lanes can help: a loss-based congestion control (whose lanes then stay until a queue stands), or
 *                                   lanes so fast that a processor may bound them
 *
 * So lanes are never added where a queue stands: they would only take from others on the path. Looks decide for a few seconds, the search; what it found
 * stays until the next one, a minute later, then two and so on: beside others' flows the same lanes get another rate every few seconds, and each try costs
 * a lane its window. Between searches only more lanes come, where the path gives something else and several looks in a row find that they may help.
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
  /** What the path is held to, bytes a second; 0 = nothing. */
  readonly paceBytesPerSecond: number;
  /** That is because urgent transfers come, and leaves no queue to see. */
  readonly isShort: boolean;
}

/** On a host, and on a path that is as short. */
const START_SHORT = 4;
/**
 * A path this long fills slowly from a few lanes' initial windows: so many begin together, and what is too many goes again. A stranger on another host
 * is taken for one until its round trip is known: lanes that are opened after that come when the others have filled the path.
 */
const LONG_RTT_US = 2_000;
const START_LONG = 16;
/** Before a look: time for lanes to take their share. BBR looks for a quarter more once in eight round trips, and with the look's own four that is once. */
const SETTLE_US = 300_000;
const SETTLE_ROUNDS = 6;
const LOOK_US = 500_000;
const LOOK_ROUNDS = 4;
/** Twice the lanes must gain a twentieth; fewer may lose as much, or a tenth of a loss-based congestion control to others. */
const GAIN_PARTS = 20;
const YIELD_PARTS = 10;
/** Who has less than so much of a path leaves no more to others. */
const SHARE_LEAST = 0.1;
/** Lanes that stay are paced by what they had, so no more than half of them go at once, whatever the queue. */
const FEWER_MOST_PARTS = 2;
/** So many of them go at once where nobody looks what it costs: the others grow by a quarter in eight round trips. */
const SHORT_PARTS = 3;
/** Looks belong to a search that begin within so long, taken together; then it rests for a minute, and for twice as long after the next. */
const SEARCH_US = 8_000_000;
const SEARCH_ROUNDS = 80;
const REST_US = 60_000_000;
const REST_MOST_US = 960_000_000;
/** So many looks in a row have to say that more lanes may help before a search that rests is overruled: others' flows pause now and then. */
const OVERRULED_LOOKS = 3;
/** A path that gives so much more or less than when its lanes were enough is another one; lanes that slow down for losses become too few by and by. */
const OTHER_PARTS = 4;
const OTHER_LOSS_PARTS = 8;
/** BBR leaves a path for two readings every ten seconds. */
const PAUSE_PARTS = 2;
/** A queue that is worth the name: an eighth of the round trip; one that shows is a sixteenth. */
const STANDS_PARTS = 8;
const SHOWS_PARTS = 16;
const QUEUE_LEAST_US = 1_000;
/** Lanes that wait for a window: for a sixteenth of the time, because BBR does so only where it looks for more. */
const HELD_PARTS = 16;
/** What holds a path to so little that its lanes would be slower than this takes lanes away at once: a chunk on each of them would take seconds. */
const PACED_BYTES_PER_SECOND = 1_000_000;
/** A lane slower than this is not bounded by a processor. */
const EASY_BYTES_PER_SECOND = 500_000_000;

/** What was seen with one number of lanes. */
class Look {
  readonly madeUs: number;
  readonly #startUs: number;
  readonly endUs: number;
  readonly #rates: number[] = [];
  #held = 0;
  /** Lanes paused, or the path is another one now: what was seen before and after are two things. */
  isBroken = false;
  leastQueueUs = Number.POSITIVE_INFINITY;
  mostQueueUs = 0;

  /** `rounds`: round trips before it begins; 0 = nothing has changed. */
  constructor(nowUs: number, rttUs: number, rounds: number) {
    this.madeUs = nowUs;
    this.#startUs = nowUs + (rounds > 0 ? Math.max(SETTLE_US, rounds * rttUs) : 0);
    this.endUs = this.#startUs + Math.max(LOOK_US, LOOK_ROUNDS * rttUs);
  }

  add(nowUs: number, { goodputBytesPerSecond, latestBytesPerSecond, queueUs, heldRatio }: PathEstimate): void {
    if (nowUs < this.#startUs) return;
    if (latestBytesPerSecond * PAUSE_PARTS < goodputBytesPerSecond) this.isBroken = true;
    this.#rates.push(latestBytesPerSecond);
    this.#held += heldRatio;
    this.leastQueueUs = Math.min(this.leastQueueUs, queueUs);
    this.mostQueueUs = Math.max(this.mostQueueUs, queueUs);
  }

  /** Lanes were held back by windows. */
  get isHeld(): boolean {
    return this.#held * HELD_PARTS > this.#rates.length;
  }

  stands(minRttUs: number): boolean {
    return this.leastQueueUs > Math.max(minRttUs / STANDS_PARTS, QUEUE_LEAST_US);
  }

  shows(minRttUs: number): boolean {
    return this.mostQueueUs > Math.max(minRttUs / SHOWS_PARTS, QUEUE_LEAST_US);
  }

  /** The middle one. */
  get rate(): number {
    return [...this.#rates].sort((a, b) => a - b)[this.#rates.length >> 1] ?? 0;
  }
}

/** A number that is tried, and what the path gave with the one before. */
interface Trial {
  readonly from: number;
  readonly rate: number;
}

export class LaneCountPolicy {
  readonly #options: LaneCountOptions;
  #answer: LaneCount;
  /** The number of a start, of which no look has been taken. */
  #isStart = true;
  #look: Look | undefined;
  #trial: Trial | undefined;
  /** Others fill what we leave: a queue stood, and stayed, when fewer lanes got less. */
  #isShared = false;
  /** What the looks of this search took; when the next begins (0 = this one goes on), and how long it is until then. */
  #searchedUs = 0;
  #restsUntilUs = 0;
  #restUs = REST_US;
  /** The number from which fewer lanes failed in this search; and the one with which the path needed no more when it gave so much. */
  #fewerFailedAt = 0;
  #enough = { lanes: 0, rate: 0 };
  /** The last look had some go. */
  #isShedding = false;
  /** Looks in a row that said that more lanes may help. */
  #wanting = 0;

  constructor(options: LaneCountOptions) {
    assert(options.least >= 1 && options.least <= options.most, "bounds of lanes are ordered");
    this.#options = options;
    const start = Math.min(Math.max(options.local ? START_SHORT : START_LONG, options.least), options.most);
    const unknown = options.local ? "both ends are on one host" : "nothing is known of the path yet";
    this.#answer = { lanes: start, reason: options.least === options.most ? "fixed by the configuration" : unknown };
  }

  get answer(): LaneCount {
    return this.#answer;
  }

  /** The round trip of a new connection is known, from its handshake. */
  handleConnected(rttUs: number): LaneCount {
    this.#look = undefined;
    this.#trial = undefined;
    this.#isShared = false;
    this.#restUs = REST_US;
    this.#beginSearch();
    if (this.#isFixed) return this.#answer;
    if (rttUs < LONG_RTT_US) {
      // What a handshake took may have been too much, and a lane knows better.
      const lanes = Math.min(Math.max(START_SHORT, this.#options.least), this.#answer.lanes);
      return this.#isStart ? this.#say(lanes, `start on a path of ${rttUs} us: a few lanes fill it at once`) : this.#answer;
    }
    const lanes = Math.min(START_LONG, this.#options.most);
    if (lanes <= this.#answer.lanes) return this.#answer;
    this.#isStart = true;
    return this.#say(lanes, `start on a path of ${rttUs} us: that many initial windows fill it sooner`);
  }

  handleReading(nowUs: number, input: LaneCountInput): LaneCount {
    const { estimate, isBacklogged, lanesUp, paceBytesPerSecond: pace } = input;
    if (this.#isFixed) return this.#answer;
    const paced = pace > 0 ? Math.max(Math.ceil(pace / PACED_BYTES_PER_SECOND), this.#options.least) : this.#options.most;
    if (paced < this.#answer.lanes) {
      this.#look = undefined;
      this.#trial = undefined;
      this.#beginSearch();
      return this.#say(paced, `a pace of ${Math.round(pace / 1000)} kB/s is enough for ${paced} lanes`);
    }
    if (!isBacklogged || estimate.goodputBytesPerSecond <= 0) {
      // Without load there is nothing to see, of a trial neither.
      this.#look = undefined;
      this.#trial = undefined;
      return this.#answer;
    }
    const { lanes } = this.#answer;
    if (this.#look === undefined || lanesUp < lanes) this.#look = new Look(nowUs, estimate.rttUs, SETTLE_ROUNDS);
    const look = this.#look;
    this.#isStart = false;
    look.add(nowUs, estimate);
    if (nowUs < look.endUs) return this.#answer;
    if (look.isBroken || look.rate <= 0) {
      this.#look = new Look(nowUs, estimate.rttUs, 0);
      return this.#answer;
    }
    const after = this.#few(input) ?? this.#found(nowUs, look, input, Math.min(paced, this.#options.most));
    this.#look = after.lanes === lanes ? new Look(nowUs, estimate.rttUs, 0) : undefined;
    return this.#say(after.lanes, after.reason);
  }

  get #isFixed(): boolean {
    return this.#options.least === this.#options.most || this.#options.local;
  }

  /** What is paced needs few lanes, and on few each is fast: what is urgent is soon over. Rates say nothing then, because the pace changes them. */
  #few({ isShort, congestionControl }: LaneCountInput): LaneCount | undefined {
    if (!isShort || isLossBased(congestionControl)) return undefined;
    this.#trial = undefined;
    this.#beginSearch();
    const { lanes } = this.#answer;
    const fewer = Math.max(lanes - Math.ceil(lanes / SHORT_PARTS), Math.min(lanes, 2), this.#options.least);
    return { lanes: fewer, reason: `urgent transfers come: ${fewer} lanes carry what is paced` };
  }

  #found(nowUs: number, look: Look, input: LaneCountInput, most: number): LaneCount {
    const judged = this.#judge(look, input);
    const isSearching = this.#search(nowUs, look, input.estimate.minRttUs);
    const found = judged ?? this.#next(isSearching, look, input, most);
    this.#isShedding = judged === undefined && found.lanes < this.#answer.lanes;
    return found;
  }

  #beginSearch(): void {
    this.#restsUntilUs = 0;
    this.#searchedUs = 0;
    this.#fewerFailedAt = 0;
    this.#enough = { lanes: 0, rate: 0 };
    this.#isShedding = false;
  }

  /** A look is over, and not broken: whether it belongs to a search. */
  #search(nowUs: number, look: Look, minRttUs: number): boolean {
    if (nowUs < this.#restsUntilUs) return false;
    if (this.#restsUntilUs > 0) this.#beginSearch();
    // Lanes that go one after the other come to an end by themselves.
    if (this.#isShedding || this.#searchedUs < Math.max(SEARCH_US, SEARCH_ROUNDS * minRttUs)) {
      this.#searchedUs += nowUs - look.madeUs;
      return true;
    }
    this.#restsUntilUs = nowUs + this.#restUs;
    this.#restUs = Math.min(this.#restUs * 2, REST_MOST_US);
    return false;
  }

  /** Whether what was tried stays; undefined: it does, or nothing was. */
  #judge(look: Look, { estimate, congestionControl }: LaneCountInput): LaneCount | undefined {
    const trial = this.#trial;
    this.#trial = undefined;
    if (trial === undefined) return undefined;
    const { lanes } = this.#answer;
    const isMore = lanes > trial.from;
    const gain = look.rate / trial.rate - 1;
    if (isMore ? gain * GAIN_PARTS >= 1 : gain >= -this.#mayLose(trial.from, look, estimate, congestionControl)) {
      this.#isShared ||= gain * GAIN_PARTS < -1;
      // Fewer were too few: a search does not go to and fro.
      if (isMore) this.#fewerFailedAt = lanes;
      return undefined;
    }
    // Lanes of a loss-based congestion control need minutes to grow into what others of them leave: these stay until a queue stands.
    const stays = isMore && isLossBased(congestionControl) && gain * GAIN_PARTS > -1;
    if (isMore) this.#enough = stays ? { lanes, rate: look.rate } : { lanes: trial.from, rate: trial.rate };
    else this.#fewerFailedAt = trial.from;
    if (stays) return undefined;
    const found = gain >= 0 ? `gained ${percent(gain)}` : `lost ${percent(-gain)}`;
    return { lanes: trial.from, reason: `${lanes} lanes ${found} against ${trial.from}: back` };
  }

  /**
   * What fewer lanes lose while the queue stays goes to others on the path, whose share it is: a lane that takes the n-th part of what we have loses us
   * nothing where we are alone, and the n-th part where we are nobody. Not the last but one, and not lanes that are held back by more than the path; and a
   * loss-based flow beside one that is not gets far less than its share.
   */
  #mayLose(from: number, look: Look, { minRttUs }: PathEstimate, congestionControl: string): number {
    const { lanes } = this.#answer;
    const isFast = look.rate / lanes >= EASY_BYTES_PER_SECOND;
    const isTheirs = look.stands(minRttUs) && !look.isHeld && !isFast && lanes > 1;
    if (!isTheirs) return 1 / GAIN_PARTS;
    return isLossBased(congestionControl) ? 1 / YIELD_PARTS : (1 - SHARE_LEAST) * (1 - lanes / from);
  }

  #next(isSearching: boolean, look: Look, { estimate, congestionControl }: LaneCountInput, most: number): LaneCount {
    const { lanes } = this.#answer;
    const { minRttUs, limit } = estimate;
    const rate = look.rate;
    const more = Math.min(lanes * 2, most);
    const stands = look.stands(minRttUs);
    this.#isShared &&= stands;
    const wanted = this.#wanting;
    this.#wanting = 0;
    if (!isSearching && wanted === 0 && this.#enough.lanes !== lanes) this.#enough = { lanes, rate };
    // A second lane goes on where the only one pauses (BBR, for 200 ms every ten seconds) or repairs, and keeps what others on the path would fill.
    const floor = isLossBased(congestionControl) || minRttUs >= LONG_RTT_US || this.#isShared ? 2 : 1;
    const fewer = Math.max(lanes - spareLanes(lanes, look.leastQueueUs, minRttUs), Math.min(floor, lanes), this.#options.least);
    if (stands) {
      const queue = `a queue of ${look.leastQueueUs} us stands`;
      if (look.isHeld) return { lanes, reason: `${queue}, and lanes wait for a window (${limit}): others fill the path` };
      if (fewer === lanes || this.#fewerFailedAt === lanes || !isSearching) return { lanes, reason: `${queue}: the path is full` };
      return this.#try(fewer, rate, `${queue}: fewer lanes than ${lanes} may fill the path as well`);
    }
    if (more === lanes) return { lanes, reason: "as many as allowed" };
    const why = this.#whyMore(look, estimate, congestionControl);
    if (why === undefined) {
      const fills = `${congestionControl || "the congestion control"} fills a path with few lanes`;
      return { lanes, reason: look.shows(minRttUs) ? "a queue shows at times: the path is full" : fills };
    }
    const parts = isLossBased(congestionControl) ? OTHER_LOSS_PARTS : OTHER_PARTS;
    const isOther = Math.abs(rate - this.#enough.rate) * parts >= Math.max(rate, this.#enough.rate);
    if (this.#enough.lanes === lanes && !isOther)
      return { lanes, reason: isSearching ? "more did not help" : "as many as a search has found" };
    this.#wanting = wanted + 1;
    if (!isSearching && this.#wanting < OVERRULED_LOOKS) return { lanes, reason: `as many as a search has found, though: ${why}` };
    return this.#try(more, rate, why);
  }

  /** Where no queue stands: what twice the lanes may help against; undefined: nothing. */
  #whyMore(look: Look, { minRttUs, lossRatio, limit }: PathEstimate, congestionControl: string): string | undefined {
    const { lanes } = this.#answer;
    if (look.isHeld) return `${lanes} lanes wait for a window (${limit})`;
    if (look.shows(minRttUs)) return undefined;
    if (isLossBased(congestionControl)) return `no queue, and ${congestionControl} slows down for losses (${percent(lossRatio)})`;
    return look.rate / lanes >= EASY_BYTES_PER_SECOND ? "no queue: a processor may be what bounds a lane" : undefined;
  }

  #try(lanes: number, rate: number, reason: string): LaneCount {
    this.#trial = { from: this.#answer.lanes, rate };
    return { lanes, reason };
  }

  #say(lanes: number, reason: string): LaneCount {
    this.#answer = { lanes, reason };
    return this.#answer;
  }
}

/** The lanes whose part of what is under way is no more than the queue: what the others have under way fills the path without them. */
function spareLanes(lanes: number, queueUs: number, minRttUs: number): number {
  return Math.floor(lanes * Math.min(queueUs / (queueUs + minRttUs), 1 / FEWER_MOST_PARTS));
}

function percent(ratio: number): string {
  return `${(ratio * 100).toFixed(ratio < 0.001 ? 3 : 1)} %`;
}
