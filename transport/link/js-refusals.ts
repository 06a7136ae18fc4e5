/** Strangers that a JavaScript listener turned away: all are counted, a few are told of. */
import type { EventQueue } from "./js-events.ts";
import type { Endpoint } from "./link.ts";
import { type RefusalCounts, type RefusalReason, refusalCounts } from "./refusals.ts";

export class Refusals {
  readonly #events: EventQueue;
  readonly #counts = new Map<RefusalReason, number>();

  constructor(events: EventQueue) {
    this.#events = events;
  }

  add(reason: RefusalReason, remote: Endpoint, detail: string): void {
    this.#counts.set(reason, (this.#counts.get(reason) ?? 0) + 1);
    // While nobody has heard of the last few, another one is only counted.
    if (this.#events.reserve("refusal")) this.#events.emit("refusal", { kind: "refused", reason, remote, detail });
  }

  counts(): RefusalCounts {
    return refusalCounts((reason) => this.#counts.get(reason) ?? 0);
  }
}
