/** Offers: blocks that a fetch may take away, or one for each reader, named by a handle. The blocks stay pinned until the offer has ended. */
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
  /** Of the first token in its sequence; undefined: not said. */
  readonly position: number | undefined;
  /** Identities of the peers that may fetch it; undefined: whoever knows the handle. */
  readonly peers: readonly string[] | undefined;
  /** "all", or the layers that the engine has reported so far. */
  ready: "all" | Set<number>;
  /** How many fetches read it in all: the most that one of them has said. */
  readers: number;
  claims: number;
  /** Claims that have ended. */
  settled: number;
  /** Of the first that did not end well. */
  failure: string;
  /** Why nobody may claim it any more, or "". */
  closed: "" | "cancelled" | "deadline_exceeded";
  readonly running: Set<OutgoingTransfer>;
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
  add(
    chosen: string | undefined,
    record: Pick<OfferRecord, "model" | "groups" | "endsUs" | "trace" | "position" | "peers" | "ready" | "onEnd">,
  ): OfferRecord {
    if (this.#offers.size >= limits.offersMax) throw new KvferryError("full", `${limits.offersMax} offers are open`);
    const handle = chosen === undefined ? newHandle(this.#incarnation, this.#random) : checkHandle(this.#incarnation, chosen);
    if (this.#offers.has(handle)) throw new KvferryError("invalid_argument", "an offer with this handle is open");
    const unclaimed = { readers: 1, claims: 0, settled: 0, failure: "", closed: "", running: new Set<OutgoingTransfer>() } as const;
    const offer: OfferRecord = { ...record, ...unclaimed, handle };
    this.#offers.set(handle, offer);
    return offer;
  }

  /** Throws handle_unknown or incarnation_mismatch. */
  get(handle: string): OfferRecord {
    const offer = this.#offers.get(handle);
    if (offer === undefined) throw unknownHandle(this.#incarnation, handle);
    return offer;
  }

  isFor(identity: string, { peers }: OfferRecord): boolean {
    return peers === undefined || (identity !== "" && peers.includes(identity));
  }

  /** For a fetch that says how many there are of its kind. Throws handle_unknown, incarnation_mismatch, fingerprint_mismatch. */
  claim(nowUs: number, handle: string, fingerprint: string, readers: number): OfferRecord {
    const offer = this.get(handle);
    const all = Math.max(offer.readers, readers);
    if (offer.closed !== "" || nowUs >= offer.endsUs) throw new KvferryError("handle_unknown", "the offer takes no more readers");
    if (offer.claims >= all) throw new KvferryError("handle_unknown", "the offer is being fetched already");
    if (offer.model.fingerprint !== fingerprint) throw new KvferryError("fingerprint_mismatch");
    offer.readers = all;
    offer.claims++;
    return offer;
  }

  /** The fetch ended before anything was sent: it may come again, or another in its place. */
  unclaim(offer: OfferRecord): void {
    offer.claims--;
    if (offer.closed !== "" && offer.settled === offer.claims) this.end(offer, false, offer.failure || offer.closed);
  }

  /** A claim has ended; with the last of them so has the offer. */
  settle(offer: OfferRecord, ok: boolean, code: string): void {
    offer.settled++;
    if (!ok && offer.failure === "") offer.failure = code;
    if (offer.settled < offer.claims) return;
    if (offer.claims >= offer.readers) this.end(offer, offer.failure === "", offer.failure);
    else if (offer.closed !== "") this.end(offer, false, offer.failure || offer.closed);
  }

  /** Ends an offer: its blocks are the engine's alone again. */
  end(offer: OfferRecord, ok: boolean, code: string): void {
    if (!this.#offers.delete(offer.handle)) return;
    offer.onEnd(ok, code);
  }

  /** Takes an offer back; transfers that read its blocks are cancelled first, and the last ends the offer when it is gone. */
  withdraw(nowUs: number, offer: OfferRecord, code: "cancelled" | "deadline_exceeded"): void {
    offer.closed = code;
    if (offer.running.size === 0) this.end(offer, false, code);
    for (const transfer of [...offer.running]) transfer.cancel(nowUs, code, "the offer was withdrawn", true);
  }

  /** A peer says that nobody will fetch it any more. */
  discard(identity: string, handle: string): void {
    const offer = this.#offers.get(handle);
    if (offer === undefined || !this.isFor(identity, offer)) return;
    offer.closed = "cancelled";
    if (offer.settled === offer.claims) this.end(offer, false, "cancelled");
  }

  expire(nowUs: number): void {
    for (const offer of this.#offers.values()) {
      if (nowUs < offer.endsUs) continue;
      // Transfers have their own deadlines.
      offer.closed = "deadline_exceeded";
      if (offer.running.size === 0) this.end(offer, false, "deadline_exceeded");
    }
  }

  nextDeadlineUs(): number {
    let next = Number.POSITIVE_INFINITY;
    for (const offer of this.#offers.values()) if (offer.running.size === 0) next = Math.min(next, offer.endsUs);
    return next;
  }
}
