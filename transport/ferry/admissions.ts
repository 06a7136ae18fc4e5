/** The transfers under way, counted by peer: what the admission policy decides with. */
import { KvferryError } from "../errors.ts";
import { limits } from "../limits.ts";
import { admit } from "../policy/admission.ts";

interface Share {
  transfers: number;
  bytes: number;
}

export class Admissions {
  readonly #transfersMax: number;
  readonly #tickets = new Map<number, { readonly peer: string; readonly bytes: number }>();
  readonly #shares = new Map<string, Share>();
  #bytes = 0;
  #next = 1;
  closed = false;

  constructor(transfersMax: number) {
    this.#transfersMax = transfersMax;
  }

  get size(): number {
    return this.#tickets.size;
  }

  /** Of all that is under way. */
  get bytes(): number {
    return this.#bytes;
  }

  /** The number of the new transfer, for `end`. Throws draining, too_many_transfers or full. */
  admit(peer: string, bytes: number): number {
    if (this.closed) throw new KvferryError("draining");
    const share = this.#shares.get(peer) ?? { transfers: 0, bytes: 0 };
    const load = {
      transfers: this.#tickets.size,
      bytes: this.#bytes,
      peers: this.#shares.size,
      transfersOfPeer: share.transfers,
      bytesOfPeer: share.bytes,
    };
    const bounds = { transfersMax: this.#transfersMax, bytesMax: limits.admittedBytesMax };
    const { admit: admitted, code, reason } = admit(load, bytes, bounds);
    if (!admitted) throw new KvferryError(code || "full", reason);
    this.#shares.set(peer, { transfers: share.transfers + 1, bytes: share.bytes + bytes });
    this.#bytes += bytes;
    const ticket = this.#next++;
    this.#tickets.set(ticket, { peer, bytes });
    return ticket;
  }

  /** Idempotent. */
  end(ticket: number): void {
    const ended = this.#tickets.get(ticket);
    if (ended === undefined) return;
    this.#tickets.delete(ticket);
    this.#bytes -= ended.bytes;
    const share = this.#shares.get(ended.peer);
    if (share === undefined) return;
    share.transfers -= 1;
    share.bytes -= ended.bytes;
    if (share.transfers === 0) this.#shares.delete(ended.peer);
  }
}
