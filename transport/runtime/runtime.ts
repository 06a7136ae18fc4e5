/**
 * The outside world as the ferry sees it: a clock, a source of randomness and one timer. `realRuntime` is the host's;
 * the simulator has its own, so that everything above this folder runs under a virtual clock unchanged.
 */
import { randomBytes } from "node:crypto";

export interface Runtime {
  /** Monotonic, integer microseconds. */
  nowUs(): number;
  random(count: number): Uint8Array;
  /** Asks for one call of `turn` at `atUs` (a later call replaces it; Infinity = none). */
  wakeAt(atUs: number): void;
  /** Asks for a call of `turn` soon: after the running callback, before I/O. Coalesced. */
  wakeSoon(): void;
}

/** One loop, one timer: calls `turn(nowUs)` when something happened or a deadline came. */
export class Loop implements Runtime {
  #turn: ((nowUs: number) => void) | undefined;
  #timer: NodeJS.Timeout | undefined;
  #timerAtUs = Number.POSITIVE_INFINITY;
  #soon = false;

  start(turn: (nowUs: number) => void): void {
    this.#turn = turn;
  }

  nowUs(): number {
    return Math.floor(performance.now() * 1000);
  }

  random(count: number): Uint8Array {
    return randomBytes(count);
  }

  wakeAt(atUs: number): void {
    if (atUs === this.#timerAtUs) return;
    this.#timerAtUs = atUs;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (atUs === Number.POSITIVE_INFINITY || this.#turn === undefined) return;
    // setTimeout counts in whole milliseconds and caps at 2^31: a timer that is early only costs one idle turn.
    const delayMs = Math.min(Math.max(Math.ceil((atUs - this.nowUs()) / 1000), 0), 60_000);
    this.#timer = setTimeout(this.#onTimer, delayMs);
  }

  wakeSoon(): void {
    if (this.#soon || this.#turn === undefined) return;
    this.#soon = true;
    queueMicrotask(this.#onSoon);
  }

  /** Runs a turn now: for the link's wake, which already is a callback of its own. */
  run(): void {
    this.#turn?.(this.nowUs());
  }

  stop(): void {
    this.#turn = undefined;
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  readonly #onTimer = (): void => {
    this.#timerAtUs = Number.POSITIVE_INFINITY;
    this.run();
  };

  readonly #onSoon = (): void => {
    this.#soon = false;
    this.run();
  };
}

/** One loop for several users: each has a turn after another whenever the loop turns, and the earliest of what they wait for wakes it. */
export class SharedLoop {
  readonly #loop: Loop;
  readonly #users: { readonly turn: (nowUs: number) => void; atUs: number }[] = [];
  #isTurning = false;

  constructor(loop: Loop) {
    this.#loop = loop;
  }

  /** `turn` of the new user is called in the order in which users came. */
  newRuntime(turn: (nowUs: number) => void): Runtime {
    const user = { turn, atUs: Number.POSITIVE_INFINITY };
    this.#users.push(user);
    const loop = this.#loop;
    return {
      nowUs: () => loop.nowUs(),
      random: (count) => loop.random(count),
      wakeSoon: () => loop.wakeSoon(),
      wakeAt: (atUs) => {
        user.atUs = atUs;
        if (!this.#isTurning) this.#wake();
      },
    };
  }

  /** @param before called in front of all turns; true: it has more to do at once */
  start(before: () => boolean): void {
    this.#loop.start((nowUs) => {
      this.#isTurning = true;
      try {
        const hasMore = before();
        for (const { turn } of this.#users) turn(nowUs);
        if (hasMore) this.#loop.wakeSoon();
      } finally {
        this.#isTurning = false;
        this.#wake();
      }
    });
  }

  #wake(): void {
    this.#loop.wakeAt(Math.min(...this.#users.map(({ atUs }) => atUs)));
  }
}
