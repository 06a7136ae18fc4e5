/** What a transfer has to tell, in order. Stays small without losing anything: a stall and its end that nobody polled cancel out. PURE. */
const OPPOSITES: Readonly<Record<string, string>> = Object.freeze({ stalled: "moving", moving: "stalled" });

export class EventQueue<Event extends { readonly kind: string }> {
  readonly #events: Event[] = [];

  push(event: Event): void {
    const last = this.#events.at(-1);
    if (last !== undefined && OPPOSITES[event.kind] === last.kind) this.#events.pop();
    else this.#events.push(event);
  }

  poll(): Event | undefined {
    return this.#events.shift();
  }
}
