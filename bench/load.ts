/** Keeps requests going on one or two requesters until it is told to stop, and writes down how long each took. */
import { KvferryError } from "../transport/errors.ts";
import type { Endpoint } from "./endpoint.ts";
import type { Requester } from "./requests.ts";
import { Samples } from "./statistics.ts";

export interface LoadDirection {
  readonly requester: Requester;
  /** Index of slots in the requester's own list. */
  readonly slots: number;
}

export interface LoadLimit {
  readonly seconds?: number | undefined;
  readonly requests?: number | undefined;
  /** So many requests on every slot of every direction. */
  readonly perSlot?: number | undefined;
}

export interface LoadResult {
  readonly seconds: number;
  readonly requests: number;
}

/** Of each request: until all of it is verified and placed; of that, handing it to the link, and the rest. */
export class LoadSamples {
  readonly latencyUs = new Samples();
  readonly postUs = new Samples();
  readonly transferUs = new Samples();
}

/** No request may take longer without any other ending. */
const SILENCE_MS = 20_000;

class Lane {
  readonly startedMs: Float64Array;
  readonly postedMs: Float64Array;
  readonly direction: LoadDirection;
  /** Slots whose request has ended since the last turn. */
  done: number[] = [];
  next = 0;
  running = 0;
  begun = 0;

  constructor(direction: LoadDirection) {
    this.direction = direction;
    this.startedMs = new Float64Array(direction.slots).fill(Number.NaN);
    this.postedMs = new Float64Array(direction.slots);
  }
}

/** Drives the directions of one endpoint. `complete` is what their requesters call. */
export class Load {
  readonly #endpoint: Endpoint;
  #lanes: Lane[] = [];
  #depth = 1;
  #limit: LoadLimit = {};
  #startMs = 0;
  #begun = 0;
  #ended = 0;
  #lastMs = 0;
  #samples = new LoadSamples();
  #interrupted = false;
  #failure: Error | undefined;
  #settle: { resolve: () => void; reject: (error: Error) => void } | undefined;

  constructor(endpoint: Endpoint) {
    this.#endpoint = endpoint;
    endpoint.afterPoll = () => this.#turn();
    endpoint.onFailure = (error) => {
      this.#failure ??= error;
      this.#settle?.reject(error);
    };
  }

  setDirections(directions: readonly LoadDirection[]): void {
    this.#lanes = directions.map((direction) => new Lane(direction));
    this.#endpoint.requesters = directions.map(({ requester }) => requester);
  }

  /** A requester's onComplete, for direction `direction`. */
  complete(direction: number, slot: number): void {
    this.#lanes[direction]!.done.push(slot);
  }

  get isInterrupted(): boolean {
    return this.#interrupted;
  }

  /** Nothing more is waited for, now and later. */
  interrupt(): void {
    this.#interrupted = true;
    this.#settle?.resolve();
  }

  /** Runs until the limit; then until every request begun has ended. Rejects with KvferryError. */
  async run(limit: LoadLimit, depth: number, samples = new LoadSamples()): Promise<LoadResult> {
    if (this.#interrupted) return { seconds: 0, requests: 0 };
    if (this.#failure !== undefined) throw this.#failure;
    for (const lane of this.#lanes) lane.begun = 0;
    this.#limit = limit;
    this.#depth = depth;
    this.#samples = samples;
    this.#begun = 0;
    this.#ended = 0;
    this.#startMs = performance.now();
    this.#lastMs = this.#startMs;
    const over = new Promise<void>((resolve, reject) => {
      this.#settle = { resolve, reject };
    });
    const watch = setInterval(() => {
      if (performance.now() - this.#lastMs > SILENCE_MS)
        this.#settle?.reject(new KvferryError("deadline_exceeded", `no request ended in ${SILENCE_MS} ms`));
    }, 1_000);
    try {
      this.#turn();
      await over;
    } finally {
      clearInterval(watch);
      this.#settle = undefined;
    }
    return { seconds: (this.#lastMs - this.#startMs) / 1000, requests: this.#ended };
  }

  #turn(): void {
    if (this.#settle === undefined) return;
    const nowMs = performance.now();
    for (const lane of this.#lanes) {
      if (lane.done.length > 0) this.#collect(lane, nowMs);
      while (this.#mayBegin(lane, nowMs)) this.#begin(lane);
    }
    if (this.#lanes.every(({ running }) => running === 0)) this.#settle.resolve();
  }

  #collect(lane: Lane, nowMs: number): void {
    for (const slot of lane.done) {
      const [startedMs, postedMs] = [lane.startedMs[slot]!, lane.postedMs[slot]!];
      this.#samples.latencyUs.add((nowMs - startedMs) * 1000);
      this.#samples.postUs.add((postedMs - startedMs) * 1000);
      this.#samples.transferUs.add((nowMs - postedMs) * 1000);
      lane.startedMs[slot] = Number.NaN;
      lane.running--;
      this.#ended++;
    }
    lane.done = [];
    this.#lastMs = nowMs;
  }

  #mayBegin(lane: Lane, nowMs: number): boolean {
    if (lane.running >= Math.min(this.#depth, lane.direction.slots)) return false;
    if (this.#limit.requests !== undefined && this.#begun >= this.#limit.requests) return false;
    if (this.#limit.perSlot !== undefined && lane.begun >= this.#limit.perSlot * lane.direction.slots) return false;
    return this.#limit.seconds === undefined || nowMs - this.#startMs < this.#limit.seconds * 1000;
  }

  #begin(lane: Lane): void {
    while (!Number.isNaN(lane.startedMs[lane.next]!)) lane.next = (lane.next + 1) % lane.direction.slots;
    const slot = lane.next;
    lane.next = (slot + 1) % lane.direction.slots;
    lane.running++;
    this.#begun++;
    lane.begun++;
    lane.startedMs[slot] = performance.now();
    lane.direction.requester.begin(slot);
    lane.postedMs[slot] = performance.now();
  }
}
