/** Look-ups that wait for the remote's answer, each with its deadline; `limits.lookupsPendingMax` of them. */
import { codeOfNumber, type ErrorCode } from "../errors.ts";
import { limits } from "../limits.ts";
import type { Lookup, LookupReply } from "./messages.ts";

type Done = (matched: number, code: ErrorCode | "") => void;

export class PendingLookups {
  readonly #pending = new Map<number, { readonly message: Lookup; readonly endsUs: number; readonly done: Done }>();

  get size(): number {
    return this.#pending.size;
  }

  add(nowUs: number, message: Lookup, done: Done): void {
    this.#pending.set(message.id, { message, endsUs: nowUs + limits.lookupTimeoutMs * 1000, done });
  }

  /** What has to be asked again over a new connection. */
  messages(): Lookup[] {
    return Array.from(this.#pending.values(), ({ message }) => message);
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
  }

  nextDeadlineUs(): number {
    let next = Number.POSITIVE_INFINITY;
    for (const { endsUs } of this.#pending.values()) next = Math.min(next, endsUs);
    return next;
  }
}
