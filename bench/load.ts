/**
 * Keeps requests going on one or two requesters until it is told to stop, and writes down how long each took. A probe, if there is one, is a
 * third: it is timed by itself, or one request at a time beside the others, and then belongs to no count but its own.
 */
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

/** So long nothing at all may move: over a slow path a request may take longer than that. */
const SILENCE_MS = 20_000;

class Lane {
  readonly startedMs: Float64Array;
  readonly postedMs: Float64Array;
  readonly direction: LoadDirection;
  samples = new LoadSamples();
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
  #probe: Lane | undefined;
  /** Those that are counted now, and what goes along as long as any of them has a request under way. */
  #counted: readonly Lane[] = [];
  #beside: Lane | undefined;
  #depth = 1;
  #limit: LoadLimit = {};
  #startMs = 0;
  #begun = 0;
  #ended = 0;
  #lastMs = 0;
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

  setDirections(directions: readonly LoadDirection[], probe: LoadDirection | undefined): void {
    this.#lanes = directions.map((direction) => new Lane(direction));
    this.#probe = probe === undefined ? undefined : new Lane(probe);
    this.#endpoint.requesters = [...directions, ...(probe === undefined ? [] : [probe])].map(({ requester }) => requester);
  }

  /** A requester's onComplete: of direction `direction`, or of the probe. */
  complete(direction: number | "probe", slot: number): void {
    const lane = direction === "probe" ? this.#probe : this.#lanes[direction];
    lane!.done.push(slot);
  }

  get isInterrupted(): boolean {
    return this.#interrupted;
  }

  /** Nothing more is waited for, now and later. */
  interrupt(): void {
    this.#interrupted = true;
    this.#settle?.resolve();
  }

  /**
   * Runs until the limit; then until every request begun has ended. `beside`: the probe's requests are timed meanwhile. Rejects with
   * KvferryError.
   */
  async run(limit: LoadLimit, depth: number, samples = new LoadSamples(), beside?: LoadSamples): Promise<LoadResult> {
    for (const lane of this.#lanes) lane.samples = samples;
    if (this.#probe !== undefined && beside !== undefined) this.#probe.samples = beside;
    return this.#drive(this.#lanes, beside === undefined ? undefined : this.#probe, limit, depth);
  }

  /** The probe alone, one request at a time. */
  async runProbe(limit: LoadLimit, samples: LoadSamples): Promise<LoadResult> {
    const probe = this.#probe!;
    probe.samples = samples;
    return this.#drive([probe], undefined, limit, 1);
  }

  async #drive(counted: readonly Lane[], beside: Lane | undefined, limit: LoadLimit, depth: number): Promise<LoadResult> {
    if (this.#interrupted) return { seconds: 0, requests: 0 };
    if (this.#failure !== undefined) throw this.#failure;
    for (const lane of counted) lane.begun = 0;
    this.#counted = counted;
    this.#beside = beside;
    this.#limit = limit;
    this.#depth = depth;
    this.#begun = 0;
    this.#ended = 0;
    this.#startMs = performance.now();
    this.#lastMs = this.#startMs;
    const over = new Promise<void>((resolve, reject) => {
      this.#settle = { resolve, reject };
    });
    const watch = this.#watch();
    try {
      this.#turn();
      await over;
    } finally {
      clearInterval(watch);
      this.#settle = undefined;
    }
    return { seconds: (this.#lastMs - this.#startMs) / 1000, requests: this.#ended };
  }

  /** Rejects the run when no byte has moved for too long. */
  #watch(): NodeJS.Timeout {
    let [moved, movedMs] = [Number.NaN, 0];
    return setInterval(() => {
      const now = this.#moved();
      if (now !== moved) [moved, movedMs] = [now, performance.now()];
      else if (performance.now() - movedMs > SILENCE_MS)
        this.#settle?.reject(new KvferryError("deadline_exceeded", `no byte arrived in ${SILENCE_MS} ms`));
    }, 1_000);
  }

  #moved(): number {
    let sum = 0;
    for (const { direction } of this.#counted) for (const bytes of direction.requester.movedByLane) sum += bytes;
    return sum;
  }

  #turn(): void {
    if (this.#settle === undefined) return;
    const nowMs = performance.now();
    for (const lane of this.#counted) {
      const ended = this.#collect(lane, nowMs);
      this.#ended += ended;
      if (ended > 0) this.#lastMs = nowMs;
      for (; this.#mayBegin(lane, nowMs); this.#begun++) this.#begin(lane);
    }
    const isLoaded = this.#counted.some(({ running }) => running > 0);
    if (this.#beside !== undefined) {
      this.#collect(this.#beside, nowMs);
      if (isLoaded && this.#beside.running === 0) this.#begin(this.#beside);
    }
    if (!isLoaded && (this.#beside?.running ?? 0) === 0) this.#settle.resolve();
  }

  /** How many requests have ended since the last turn. */
  #collect(lane: Lane, nowMs: number): number {
    for (const slot of lane.done) {
      const [startedMs, postedMs] = [lane.startedMs[slot]!, lane.postedMs[slot]!];
      lane.samples.latencyUs.add((nowMs - startedMs) * 1000);
      lane.samples.postUs.add((postedMs - startedMs) * 1000);
      lane.samples.transferUs.add((nowMs - postedMs) * 1000);
      lane.startedMs[slot] = Number.NaN;
      lane.running--;
    }
    const ended = lane.done.length;
    lane.done = [];
    return ended;
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
    lane.begun++;
    lane.startedMs[slot] = performance.now();
    lane.direction.requester.begin(slot);
    lane.postedMs[slot] = performance.now();
  }
}
