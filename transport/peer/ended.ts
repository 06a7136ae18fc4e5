/** How incoming transfers ended, by the sender's id: the answer to a sender that missed it. Bounded; the oldest are forgotten. */
import type { ErrorCode } from "../errors.ts";
import { limits } from "../limits.ts";

export interface Ended {
  readonly ok: boolean;
  readonly code: ErrorCode | "";
  readonly grant: number;
}

export class EndedTransfers {
  readonly #ended = new Map<number, Ended>();

  add(id: number, ended: Ended): void {
    this.#ended.set(id, ended);
    if (this.#ended.size <= limits.endedTransfersKept) return;
    const [oldest] = this.#ended.keys();
    if (oldest !== undefined) this.#ended.delete(oldest);
  }

  get(id: number): Ended | undefined {
    return this.#ended.get(id);
  }

  clear(): void {
    this.#ended.clear();
  }
}
