/**
 * What happened, until `poll` hands it over. Bounded by reservations, as in native: whoever may cause an event reserves room before what it
 * reports begins, so that no event is ever lost, and what cannot reserve waits.
 */
import type { LinkEvent } from "./link.ts";
import { Fifo } from "./js-fifo.ts";

/**
 * Chunks that were submitted; chunks and messages that arrive; lanes (two events each); refusals. Events of connections and placements ("table") are
 * bounded by their tables, which keep their place until the event that ends them was handed over.
 */
export type Quota = "submission" | "arrival" | "message" | "lane" | "refusal" | "table";

/** Of lanes that live or have events nobody has seen; more are refused. */
const LANE_EVENTS = 16_384;
/** Refusals that nobody has seen. */
const REFUSAL_EVENTS = 16;

interface Entry {
  readonly event: LinkEvent;
  readonly quota: Quota;
  readonly taken: (() => void) | undefined;
}

export class EventQueue {
  readonly #entries = new Fifo<Entry>();
  readonly #held: Record<Quota, number> = { submission: 0, arrival: 0, message: 0, lane: 0, refusal: 0, table: 0 };
  readonly #bounds: Record<Exclude<Quota, "table">, number>;
  readonly #onWake: () => void;
  #starved: (() => void)[] = [];
  #scheduled = false;
  #told = false;
  #closed = false;

  constructor(completions: number, onWake: () => void) {
    this.#bounds = { submission: completions, arrival: completions, message: completions, lane: LANE_EVENTS, refusal: REFUSAL_EVENTS };
    this.#onWake = onWake;
  }

  /** False: no room now. */
  reserve(quota: Exclude<Quota, "table">): boolean {
    if (this.#held[quota] >= this.#bounds[quota]) return false;
    this.#held[quota] += 1;
    return true;
  }

  /** Gives a reservation back unused. */
  release(quota: Exclude<Quota, "table">): void {
    this.#held[quota] -= 1;
    this.#feed();
  }

  /** `retry` is called once, when there may be room. */
  waitForRoom(retry: () => void): void {
    this.#starved.push(retry);
  }

  /** Uses one reservation up. `taken` is called as the event is handed over. */
  emit(quota: Quota, event: LinkEvent, taken?: () => void): void {
    if (this.#closed) return;
    this.#entries.push({ event, quota, taken });
    this.#wake();
  }

  drain(sink: (event: LinkEvent) => void, max: number): number {
    let handed = 0;
    this.#told = false;
    try {
      while (handed < max) {
        const entry = this.#entries.shift();
        if (entry === undefined) break;
        if (entry.quota !== "table") this.#held[entry.quota] -= 1;
        entry.taken?.();
        handed += 1;
        sink(entry.event);
      }
    } finally {
      if (this.#entries.length > 0) this.#wake();
      if (handed > 0) this.#feed();
    }
    return handed;
  }

  close(): void {
    this.#closed = true;
    this.#entries.clear();
    this.#starved = [];
  }

  /** Once for everything that happens in one turn of Node's loop, and never from within a call into the link. */
  #wake(): void {
    if (this.#scheduled || this.#told) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      if (this.#closed || this.#entries.length === 0) return;
      this.#told = true;
      this.#onWake();
    });
  }

  /** Those who wait read on in a turn of their own: `poll` is no place to receive more. */
  #feed(): void {
    if (this.#starved.length === 0) return;
    const starved = this.#starved;
    this.#starved = [];
    setImmediate(() => {
      if (!this.#closed) for (const retry of starved) retry();
    });
  }
}
