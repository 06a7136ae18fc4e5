/**
 * What is asked and said beside transfers: look-ups that wait for the remote's answer, each with its deadline, and offers of the remote that nobody
 * wants, while it is away; `limits.lookupsPendingMax` of each.
 */
import { codeOfNumber, type ErrorCode } from "../errors.ts";
import { limits } from "../limits.ts";
import type { Discard, Lookup, LookupReply } from "./messages.ts";

type Done = (matched: number, code: ErrorCode | "") => void;

export class PendingLookups {
  readonly #pending = new Map<number, { readonly message: Lookup; readonly endsUs: number; readonly done: Done }>();

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

  add(nowUs: number, message: Lookup, done: Done): void {
    this.#pending.set(message.id, { message, endsUs: nowUs + limits.lookupTimeoutMs * 1000, done });
  }

  /** What has to be asked again over a new connection, and what could not be said before. */
  takeMessages(discards: boolean): (Lookup | Discard)[] {
    const kept = discards ? [...this.#discards.keys()] : [];
    this.#discards.clear();
    return [...Array.from(this.#pending.values(), ({ message }) => message), ...kept];
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
