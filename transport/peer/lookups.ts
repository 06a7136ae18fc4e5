/**
 * What is asked and said beside transfers: look-ups that wait for the remote's answer, each with its deadline, and hints (an offer of
 * the remote that nobody wants, KV that will be asked for) while it is away; `limits.lookupsPendingMax` of each.
 */
import { codeOfNumber, type ErrorCode } from "../errors.ts";
import { limits } from "../limits.ts";
import type { Discard, Lookup, LookupReply, Prewarm } from "./messages.ts";
import type { Remote as AnyRemote } from "./transfer.ts";

type Remote = Pick<AnyRemote, "up" | "greets" | "isCapable" | "layoutOf" | "send">;

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

  /** To be said when the remote is there again. The oldest are forgotten: what a hint is for happens without it, only later. */
  keep(nowUs: number, hint: Hint): void {
    const [oldest] = this.#hints.keys();
    if (oldest !== undefined && this.#hints.size >= limits.lookupsPendingMax) this.#hints.delete(oldest);
    this.#hints.set(hint, nowUs + limits.lookupTimeoutMs * 1000);
  }

  /** False: it is answered already, and `done` was called. */
  ask(nowUs: number, message: Lookup, remote: Remote, done: Done): boolean {
    const early = isEarly(message);
    const refusal = this.#refusal(message, remote);
    if (refusal !== undefined) {
      done(0, refusal);
      return false;
    }
    remote.send(message, early);
    const isSaid = remote.up || (remote.greets && early);
    this.#pending.set(message.id, { message, endsUs: nowUs + limits.lookupTimeoutMs * 1000, done, isSaid });
    return true;
  }

  #refusal({ tenant, fingerprint }: Lookup, remote: Remote): ErrorCode | "" | undefined {
    // What it says of its models is about those of this tenant alone.
    if (remote.up && tenant === "" && remote.layoutOf(fingerprint) === undefined) return "";
    if (remote.up && tenant !== "" && !remote.isCapable("tenants")) return "unsupported";
    return this.#pending.size >= limits.lookupsPendingMax ? "full" : undefined;
  }

  /** Our Hello is said. */
  handleGreeted(remote: Remote): void {
    for (const pending of this.#pending.values()) {
      if (pending.isSaid || !isEarly(pending.message)) continue;
      pending.isSaid = true;
      remote.send(pending.message, true);
    }
  }

  /** What is to be asked over this connection, the first time or again, and hints that could not be given before. */
  handleUp(remote: Remote): void {
    for (const [id, pending] of this.#pending) {
      const { message, done, isSaid } = pending;
      if (isSaid) continue;
      pending.isSaid = true;
      if (message.tenant === "" || remote.isCapable("tenants")) remote.send(message);
      // It would answer of other content.
      else if (this.#pending.delete(id)) done(0, "unsupported");
    }
    for (const hint of this.#hints.keys()) if (remote.isCapable(hint.kind)) remote.send(hint);
    this.#hints.clear();
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

/** May be said before the remote's Hello, which shows whom another tenant means something to. A large one is none that it takes before it knows us. */
function isEarly({ tenant, keys }: Lookup): boolean {
  return tenant === "" && keys.length <= limits.greetingMessageBytes - FIELDS_BYTES;
}

/** More than all else that a Lookup says. */
const FIELDS_BYTES = 4_096;
