/** Offers: blocks that one fetch may take away, named by a handle. The blocks stay pinned until the offer has ended. */
import { KvferryError } from "../errors.ts";
import { limits } from "../limits.ts";
import type { OutgoingTransfer } from "../peer/outgoing.ts";
import type { GroupBlocks } from "./ferry.ts";
import { checkHandle, newHandle, unknownHandle } from "./handles.ts";
import { groupOf, type Model } from "./models.ts";

export interface OfferRecord {
  readonly handle: string;
  readonly model: Model;
  readonly groups: readonly GroupBlocks[];
  readonly endsUs: number;
  readonly trace: string;
  /** "all", or the layers that the engine has reported so far. */
  ready: "all" | Set<number>;
  transfer: OutgoingTransfer | undefined;
  /** A fetch has claimed it. */
  taken: boolean;
  /** Called once when nothing can read the blocks for this offer any more. */
  readonly onEnd: (ok: boolean, code: string) => void;
}

/** The model's layers that its groups have, each once. */
export function layerCount({ model, groups }: OfferRecord): number {
  return new Set(groups.flatMap(({ group }) => groupOf(model, group).layers)).size;
}

export class OfferTable {
  readonly #offers = new Map<string, OfferRecord>();
  readonly #incarnation: string;
  readonly #random: (count: number) => Uint8Array;

  constructor(incarnation: string, random: (count: number) => Uint8Array) {
    this.#incarnation = incarnation;
    this.#random = random;
  }

  get size(): number {
    return this.#offers.size;
  }

  /** Under a handle that the user chose, or a new one. */
  add(chosen: string | undefined, record: Omit<OfferRecord, "handle" | "transfer" | "taken">): OfferRecord {
    if (this.#offers.size >= limits.offersMax) throw new KvferryError("full", `${limits.offersMax} offers are open`);
    const handle = chosen === undefined ? newHandle(this.#incarnation, this.#random) : checkHandle(this.#incarnation, chosen);
    if (this.#offers.has(handle)) throw new KvferryError("invalid_argument", "an offer with this handle is open");
    const offer: OfferRecord = { ...record, handle, transfer: undefined, taken: false };
    this.#offers.set(handle, offer);
    return offer;
  }

  /** Throws handle_unknown or incarnation_mismatch. */
  get(handle: string): OfferRecord {
    const offer = this.#offers.get(handle);
    if (offer === undefined) throw unknownHandle(this.#incarnation, handle);
    return offer;
  }

  /** Ends an offer: its blocks are the engine's alone again. */
  end(offer: OfferRecord, ok: boolean, code: string): void {
    if (!this.#offers.delete(offer.handle)) return;
    offer.onEnd(ok, code);
  }

  /** Takes an offer back; a transfer that reads its blocks is cancelled first and ends the offer when it is gone. */
  withdraw(nowUs: number, offer: OfferRecord, code: "cancelled" | "deadline_exceeded"): void {
    if (offer.transfer === undefined) this.end(offer, false, code);
    else offer.transfer.cancel(nowUs, code, "the offer was withdrawn", true);
  }

  /** A peer says that nobody will fetch it. */
  discard(handle: string): void {
    const offer = this.#offers.get(handle);
    if (offer !== undefined && !offer.taken) this.end(offer, false, "cancelled");
  }

  expire(nowUs: number): void {
    for (const offer of this.#offers.values()) {
      // A transfer has its own deadline.
      if (offer.transfer === undefined && nowUs >= offer.endsUs) this.end(offer, false, "deadline_exceeded");
    }
  }

  nextDeadlineUs(): number {
    let next = Number.POSITIVE_INFINITY;
    for (const offer of this.#offers.values()) if (offer.transfer === undefined) next = Math.min(next, offer.endsUs);
    return next;
  }
}
