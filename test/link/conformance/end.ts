/**
 * One end of a link under test. Polls when woken, keeps every event, and checks on each what link.ts promises at any time:
 * chunk events only for chunks that were submitted, once each; nothing about a placement after `revoked`, about a connection after `disconnected`.
 */
import assert from "node:assert/strict";
import type { ChunkSend, ConnectionId, Link, LinkEvent, PlacementId, PlacementSpec } from "../../../transport/link/link.ts";
import type { LinkLimits } from "../../../transport/link/native-link.ts";

export type MakeLink = (options: { onWake: () => void; limits?: Partial<LinkLimits> }) => Promise<Link>;

export type EventKind = LinkEvent["kind"];
export type EventOf<Kind extends EventKind> = Extract<LinkEvent, { kind: Kind }>;

/** A wait that takes longer has failed. */
export const WAIT_MS = 20_000;

/** Waits for what has no event of its own: bytes in memory, at a proxy. */
export async function settled(isDone: () => boolean, what: string): Promise<void> {
  const endMs = performance.now() + WAIT_MS;
  while (!isDone()) {
    assert.ok(performance.now() < endMs, `waited for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

interface Waiter {
  readonly isDone: () => boolean;
  readonly resolve: () => void;
}

export class End {
  readonly link: Link;
  readonly events: LinkEvent[] = [];
  /** False: the test polls by itself. */
  polls = true;
  readonly #name: string;
  readonly #placements = new Map<PlacementId, { readonly open: Map<string, number>; isRevoked: boolean }>();
  readonly #ended = new Set<ConnectionId>();
  #waiters: Waiter[] = [];
  #broken: unknown;

  static async open(name: string, make: MakeLink, limits: Partial<LinkLimits> = {}): Promise<End> {
    const made: { end?: End } = {};
    const link = await make({ onWake: () => made.end?.polls && made.end.poll(), limits });
    made.end = new End(name, link);
    return made.end;
  }

  private constructor(name: string, link: Link) {
    this.#name = name;
    this.link = link;
  }

  poll(max = 1_000_000): number {
    const handed = this.link.poll((event) => this.#take(event), max);
    const waiters = this.#waiters;
    this.#waiters = waiters.filter((waiter) => !waiter.isDone());
    for (const waiter of waiters) if (!this.#waiters.includes(waiter)) waiter.resolve();
    return handed;
  }

  place(spec: PlacementSpec): PlacementId {
    const placement = this.link.place(spec);
    assert.ok(placement !== "full", "there is room for a placement");
    this.#placements.set(placement, { open: new Map(), isRevoked: false });
    return placement;
  }

  /** Submits all or fails. */
  submit(placement: PlacementId, chunks: readonly number[], sequence = 1): void {
    assert.equal(this.trySubmit(chunks.map((chunk) => ({ placement, chunk, sequence }))), chunks.length, "all chunks were taken");
  }

  trySubmit(batch: readonly ChunkSend[]): number {
    // An answer may come out of `poll` only later, but the account must be open before.
    for (const send of batch) this.#account(send, 1);
    const taken = this.link.submit(batch);
    for (const send of batch.slice(taken)) this.#account(send, -1);
    return taken;
  }

  /** Waits for an event; those that have come already count. */
  async event<Kind extends EventKind>(kind: Kind, matches: Partial<EventOf<Kind>> = {}): Promise<EventOf<Kind>> {
    const [found] = await this.eventCount(1, kind, matches);
    return found as EventOf<Kind>;
  }

  async eventCount<Kind extends EventKind>(count: number, kind: Kind, matches: Partial<EventOf<Kind>> = {}): Promise<EventOf<Kind>[]> {
    await this.until(() => this.all(kind, matches).length >= count, `${count} x ${kind} ${JSON.stringify(matches)}`);
    return this.all(kind, matches);
  }

  all<Kind extends EventKind>(kind: Kind, matches: Partial<EventOf<Kind>> = {}): EventOf<Kind>[] {
    return this.events.filter((event): event is EventOf<Kind> => {
      if (event.kind !== kind) return false;
      const fields = event as unknown as Record<string, unknown>;
      return Object.entries(matches).every(([field, value]) => fields[field] === value);
    });
  }

  /** Revokes and waits until nothing can touch the memory. */
  async revoke(placement: PlacementId): Promise<void> {
    this.link.revoke(placement);
    await this.event("revoked", { placement });
  }

  /** Waits until something holds after some event. */
  async until(isDone: () => boolean, what: string): Promise<void> {
    if (this.#broken !== undefined) throw this.#broken;
    if (isDone()) return;
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error(`${this.#name} waited for ${what}; it has\n${this.describe()}`)), WAIT_MS);
    });
    await Promise.race([
      new Promise<void>((resolve) => this.#waiters.push({ isDone: () => this.#broken !== undefined || isDone(), resolve })),
      late,
    ]);
    clearTimeout(timer);
    if (this.#broken !== undefined) throw this.#broken;
  }

  describe(): string {
    const last = this.events.slice(-12).map((event) => JSON.stringify({ ...event, ...("bytes" in event ? { bytes: "..." } : {}) }));
    return `${this.events.length} events, the last ones:\n  ${last.join("\n  ")}`;
  }

  /** Throws what was found wrong with any event so far; every chunk of a revoked placement must have had its event. */
  check(): void {
    if (this.#broken !== undefined) throw this.#broken;
  }

  #account({ placement, chunk, sequence }: ChunkSend, change: number): void {
    const open = this.#placements.get(placement)?.open;
    const key = `${chunk}.${sequence}`;
    open?.set(key, (open.get(key) ?? 0) + change);
  }

  #take(event: LinkEvent): void {
    this.events.push(event);
    try {
      if ("connection" in event) this.#checkConnection(event);
      else if ("placement" in event) this.#checkPlacement(event);
    } catch (error) {
      this.#broken ??= new Error(`${this.#name}: ${(error as Error).message} at\n${this.describe()}`, { cause: error });
    }
  }

  #checkConnection(event: Extract<LinkEvent, { connection: ConnectionId }>): void {
    assert.ok(!this.#ended.has(event.connection), `${event.kind} after disconnected`);
    if (event.kind === "disconnected") this.#ended.add(event.connection);
  }

  #checkPlacement(event: Extract<LinkEvent, { placement: PlacementId }>): void {
    const placement = this.#placements.get(event.placement);
    assert.ok(placement !== undefined, `${event.kind} of a placement that is not there`);
    assert.ok(!placement.isRevoked, `${event.kind} after revoked`);
    if (event.kind === "revoked") {
      placement.isRevoked = true;
      for (const [key, count] of placement.open) assert.equal(count, 0, `chunk ${key} had its event before revoked`);
    } else if (event.kind === "acked" || event.kind === "failed") {
      const key = `${event.chunk}.${event.sequence}`;
      assert.ok((placement.open.get(key) ?? 0) > 0, `${event.kind} of chunk ${key}, which was not submitted or had its event`);
      this.#account(event, -1);
    }
  }
}
