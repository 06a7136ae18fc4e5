/**
 * What is asked and said beside transfers: look-ups that wait for the remote's answer, each with its deadline, and offers of the remote that nobody
 * wants, while it is away; `limits.lookupsPendingMax` of each.
 */
import { codeOfNumber, type ErrorCode } from "../errors.ts";
import { limits } from "../limits.ts";
import type { Discard, Lookup, LookupReply } from "./messages.ts";

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
  readonly #discards = new Map<Discard, number>();

  get size(): number {
    return this.#pending.size + this.#discards.size;
  }

  get isFull(): boolean {
    return this.#pending.size >= limits.lookupsPendingMax;
  }

  /** To be said when the remote is there again. The oldest are forgotten: an offer ends by itself, only later. */
  keep(nowUs: number, discard: Discard): void {
    const [oldest] = this.#discards.keys();
    if (oldest !== undefined && this.#discards.size >= limits.lookupsPendingMax) this.#discards.delete(oldest);
    this.#discards.set(discard, nowUs + limits.lookupTimeoutMs * 1000);
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

  takeDiscards(): Discard[] {
    const kept = [...this.#discards.keys()];
    this.#discards.clear();
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
    for (const [discard, endsUs] of this.#discards) if (nowUs >= endsUs) this.#discards.delete(discard);
  }

  nextDeadlineUs(): number {
    let next = Number.POSITIVE_INFINITY;
    for (const { endsUs } of this.#pending.values()) next = Math.min(next, endsUs);
    for (const endsUs of this.#discards.values()) next = Math.min(next, endsUs);
    return next;
  }
}
