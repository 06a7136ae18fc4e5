/**
 * A second connection beside one that has fallen silent. TCP waits ever longer before it tries a dead path again, seconds after it has come back; a fresh
 * connection is tried several times a second, and takes over if it comes through while nothing is heard of the old one.
 */
import { KvferryError } from "../errors.ts";
import { limits } from "../limits.ts";
import type { ConnectionId, Endpoint, Link } from "../link/link.ts";

export class Probe {
  readonly #link: Link;
  readonly #address: Endpoint;
  readonly #identity: string | undefined;
  #id: ConnectionId | undefined;
  #nextUs = 0;

  constructor(link: Link, address: Endpoint, identity: string | undefined) {
    this.#link = link;
    this.#address = address;
    this.#identity = identity;
  }

  /** The link's name for it while it is being dialled. */
  get id(): ConnectionId | undefined {
    return this.#id;
  }

  /** How long nothing may be heard of a remote that should speak, before it is doubted. */
  static silenceUs(rttUs: number): number {
    return limits.probeAfterMs * 1000 + 2 * rttUs;
  }

  /** Nothing is heard: tries again, one connection at a time. */
  turn(nowUs: number, rttUs: number): void {
    if (this.#id !== undefined || nowUs < this.#nextUs) return;
    const timeoutMs = limits.probeMs + Math.ceil((4 * rttUs) / 1000);
    this.#nextUs = nowUs + limits.probeMs * 1000;
    try {
      this.#id = this.#link.dial(this.#address, timeoutMs, this.#identity);
    } catch (error) {
      // No room for another connection just now: later, perhaps.
      if (!(error instanceof KvferryError)) throw error;
    }
  }

  /** It came through, or did not. */
  over(): void {
    this.#id = undefined;
  }

  /** The old connection has spoken, or is gone. */
  cancel(): void {
    if (this.#id !== undefined) this.#link.disconnect(this.#id);
    this.#id = undefined;
  }

  nextUs(nowUs: number): number {
    return this.#id === undefined ? Math.max(this.#nextUs, nowUs) : Number.POSITIVE_INFINITY;
  }
}
