/** How transfers ended, by the id of their first message: the answer to whom the last word of this side did not reach. Bounded; the oldest are forgotten. */
import { ERRORS, type ErrorCode, KvferryError } from "../errors.ts";
import { limits } from "../limits.ts";
import type { Cancel, Done } from "./messages.ts";

export interface Ended {
  readonly ok: boolean;
  readonly code: ErrorCode | "";
  readonly grant: number;
}

export class EndedTransfers {
  readonly #ended = new Map<number, Ended>();
  /** This side's part in them. */
  readonly #fromReceiver: boolean;

  constructor(part: "sender" | "receiver") {
    this.#fromReceiver = part === "receiver";
  }

  add(id: number, ended: Ended): void {
    this.#ended.set(id, ended);
    if (this.#ended.size <= limits.endedTransfersKept) return;
    const [oldest] = this.#ended.keys();
    if (oldest !== undefined) this.#ended.delete(oldest);
  }

  has(id: number): boolean {
    return this.#ended.has(id);
  }

  isDone(id: number): boolean {
    return this.#ended.get(id)?.ok === true;
  }

  /** The last word once more, about an offer of that id; only a receiver can say that all is well. */
  answer(of: number, id = of): Done | Cancel {
    const ended = this.#ended.get(of);
    if (ended?.ok === true && this.#fromReceiver) return { kind: "done", id, grant: ended.grant, fetch: 0 };
    const error = new KvferryError(ended?.code || "grant_unknown", "the transfer has ended here");
    return cancelOf({ id, fetch: 0, grant: 0, fromReceiver: this.#fromReceiver }, error);
  }

  clear(): void {
    this.#ended.clear();
  }
}

export function cancelOf(of: Omit<Cancel, "kind" | "code" | "detail">, error: KvferryError): Cancel {
  return { kind: "cancel", ...of, code: ERRORS[error.code].number, detail: error.detail.slice(0, limits.detailCharacters) };
}
