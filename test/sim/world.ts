/**
 * The virtual world: a clock that moves only from event to event, events ordered by (time, order of scheduling), a hash over everything that
 * happened. What runs in it may use promises as long as they wait for nothing outside: they are run down before the next event.
 */
import { hashText, Random } from "./random.ts";

interface Scheduled {
  readonly atUs: number;
  readonly order: number;
  readonly run: () => void;
}

/** A promise is broken: what, when; the run ends. */
export class Violation extends Error {
  override readonly name = "Violation";
}

/** More than that at one moment is a loop that turns for nothing: on a real machine a core at full load. */
const EVENTS_AT_ONCE = 10_000;

/** How many steps of promise reactions an event may cause before the next event. */
const REACTION_STEPS = 12;

export class World {
  readonly random: Random;
  nowUs = 0;
  events = 0;
  /** Since the clock moved. */
  #eventsNow = 0;
  /** Promises that somebody waits for: while there are any, reactions are run down after each event. */
  waiting = 0;
  #stirred = false;
  /** Called after each event. */
  onEvent: () => void = () => {};
  /** Where the trace goes, if anybody wants to read it. */
  onTrace: ((line: string) => void) | undefined;
  #violation: Violation | undefined;
  readonly #heap: Scheduled[] = [];
  #order = 0;
  #hashLow = 0x811c9dc5;
  #hashHigh = 0x01000193;
  readonly #words = new Map<string, number>();

  constructor(seed: number) {
    this.random = new Random(seed, "world");
  }

  get hash(): string {
    return (this.#hashHigh >>> 0).toString(16).padStart(8, "0") + (this.#hashLow >>> 0).toString(16).padStart(8, "0");
  }
  get violation(): Violation | undefined {
    return this.#violation;
  }

  /** The first one counts. */
  violate(message: string): void {
    this.#violation ??= new Violation(`at ${this.nowUs} us: ${message}`);
  }

  /** This event settles a promise. */
  stir(): void {
    this.#stirred = true;
  }

  after(delayUs: number, run: () => void): void {
    this.at(this.nowUs + delayUs, run);
  }

  at(atUs: number, run: () => void): void {
    if (!Number.isSafeInteger(atUs)) throw new RangeError(`time ${atUs}`);
    const heap = this.#heap;
    let at = heap.length;
    heap.push({ atUs: Math.max(atUs, this.nowUs), order: this.#order++, run });
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!before(heap[at] as Scheduled, heap[parent] as Scheduled)) break;
      swap(heap, at, parent);
      at = parent;
    }
  }

  /** Part of the hash, and a line of the trace. */
  trace(what: string, a = 0, b = 0, c = 0, d = 0): void {
    let word = this.#words.get(what);
    if (word === undefined) {
      word = hashText(what);
      this.#words.set(what, word);
    }
    for (const part of [this.nowUs, word, a, b, c, d]) {
      this.#hashLow = Math.imul(this.#hashLow ^ part, 0x01000193);
      this.#hashHigh = Math.imul(this.#hashHigh ^ (this.#hashLow >>> 15) ^ part, 0x85ebca6b);
    }
    this.onTrace?.(`${String(this.nowUs).padStart(11)} ${what} ${a} ${b} ${c} ${d}`);
  }

  /** Words only; for the reader. */
  note(text: () => string): void {
    this.onTrace?.(`${String(this.nowUs).padStart(11)} ${text()}`);
  }

  /** Runs events until `done()` or until none is left before `untilUs`; throws the violation, if there is one. */
  async run(untilUs: number, done: () => boolean = () => false): Promise<void> {
    // Whoever was asked to do something before the run has its say first.
    await reactions();
    while (this.#violation === undefined && !done()) {
      const first = this.#heap[0];
      if (first === undefined || first.atUs > untilUs) {
        this.nowUs = Math.max(this.nowUs, untilUs);
        break;
      }
      this.#removeFirst();
      this.#eventsNow = first.atUs === this.nowUs ? this.#eventsNow + 1 : 0;
      if (this.#eventsNow > EVENTS_AT_ONCE) this.violate("events follow one another without end while the clock stands still");
      this.nowUs = first.atUs;
      this.events += 1;
      try {
        first.run();
        if (this.waiting > 0 || this.#stirred) await reactions();
        this.#stirred = false;
        this.onEvent();
      } catch (error) {
        const reason = error instanceof Error ? (error.stack ?? error.message) : String(error);
        this.violate(error instanceof Violation ? error.message : `threw ${reason}`);
      }
    }
    if (this.#violation !== undefined) throw this.#violation;
  }

  #removeFirst(): void {
    const heap = this.#heap;
    const last = heap.pop() as Scheduled;
    if (heap.length === 0) return;
    heap[0] = last;
    for (let at = 0; ; ) {
      const left = 2 * at + 1;
      let least = at;
      if (left < heap.length && before(heap[left] as Scheduled, heap[least] as Scheduled)) least = left;
      if (left + 1 < heap.length && before(heap[left + 1] as Scheduled, heap[least] as Scheduled)) least = left + 1;
      if (least === at) return;
      swap(heap, at, least);
      at = least;
    }
  }
}

async function reactions(): Promise<void> {
  for (let step = 0; step < REACTION_STEPS; step++) await undefined;
}

function before(one: Scheduled, other: Scheduled): boolean {
  return one.atUs < other.atUs || (one.atUs === other.atUs && one.order < other.order);
}

function swap(heap: Scheduled[], one: number, other: number): void {
  [heap[one], heap[other]] = [heap[other] as Scheduled, heap[one] as Scheduled];
}
