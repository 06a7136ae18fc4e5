/**
 * What is asked and said beside transfers: look-ups that wait for the remote's answer, each with its deadline, and hints (an offer of
 * the remote that nobody wants, KV that will be asked for) while it is away; `limits.lookupsPendingMax` of each.
 */
import { codeOfNumber, type ErrorCode } from "../errors.ts";
import { limits } from "../limits.ts";
import type { Capability } from "./greeting.ts";
import type { Discard, Lookup, LookupReply, Prewarm } from "./messages.ts";

export type Hint = Discard | Prewarm;

type Done = (matched: number, code: ErrorCode | "") => void;

interface Pending {
  readonly message: Lookup;
  readonly endsUs: number;
  readonly done: Done;
  /** Over this connection. */
  isSaid: boolean;
}

export class PendingLookups {
  readonly #pending = new Map<number, Pending>();

  /** Until when each is worth a connection. */
  readonly #hints = new Map<Hint, number>();

  get size(): number {
    return this.#pending.size + this.#hints.size;
  }

  get isFull(): boolean {
    return this.#pending.size >= limits.lookupsPendingMax;
  }

  /** To be said when the remote is there again. The oldest are forgotten: what a hint is for happens without it, only later. */
  keep(nowUs: number, hint: Hint): void {
    const [oldest] = this.#hints.keys();
    if (oldest !== undefined && this.#hints.size >= limits.lookupsPendingMax) this.#hints.delete(oldest);
    this.#hints.set(hint, nowUs + limits.lookupTimeoutMs * 1000);
  }

  add(nowUs: number, message: Lookup, isSaid: boolean, done: Done): void {
    this.#pending.set(message.id, { message, endsUs: nowUs + limits.lookupTimeoutMs * 1000, done, isSaid });
  }

  /** What is to be asked over this connection, the first time or again. */
  takeLookups(): Lookup[] {
    const unsaid = [...this.#pending.values()].filter(({ isSaid }) => !isSaid);
    for (const pending of unsaid) pending.isSaid = true;
    return unsaid.map(({ message }) => message);
  }

  /** What could not be said before. */
  takeHints(isCapable: (capability: Capability) => boolean): Hint[] {
    const kept = [...this.#hints.keys()].filter(({ kind }) => isCapable(kind));
    this.#hints.clear();
    return kept;
  }

  handleDown(): void {
    for (const pending of this.#pending.values()) pending.isSaid = false;
  }

  handleReply(reply: LookupReply): void {
    const pending = this.#pending.get(reply.id);
    if (pending === undefined) return;
    this.#pending.delete(reply.id);
    const asked = pending.message.keys.length / 32;
    pending.done(Math.min(reply.matched, asked), reply.code === 0 ? "" : codeOfNumber(reply.code));
  }

  expire(nowUs: number, code: ErrorCode): void {
    for (const [id, { endsUs, done }] of this.#pending) {
      if (nowUs < endsUs) continue;
      this.#pending.delete(id);
      done(0, code);
    }
    for (const [hint, endsUs] of this.#hints) if (nowUs >= endsUs) this.#hints.delete(hint);
  }

  nextDeadlineUs(): number {
    let next = Number.POSITIVE_INFINITY;
    for (const { endsUs } of this.#pending.values()) next = Math.min(next, endsUs);
    for (const endsUs of this.#hints.values()) next = Math.min(next, endsUs);
    return next;
  }
}
