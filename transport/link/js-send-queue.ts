/**
 * Chunks of one connection that wait for a lane. Placements take turns by bytes (deficit round robin), so that transfers share the connection
 * whatever their chunk sizes. Who has sent much more than the others takes half turns: transfers that began a little earlier, alone with the
 * whole connection, let the others catch up, and short ones pass long ones; nobody waits for more than twice its share.
 */
import type { Placement, QueuedChunk } from "./js-placement.ts";

/** What a placement may send in one turn: a default chunk, so that equal transfers alternate chunk by chunk. */
const TURN_BYTES = 1024 * 1024;
/** A placement that comes with so little goes first, once: a small message need not wait for a round of others. */
const SMALL_BYTES = 64 * 1024;
/** So much more than the mean of those that wait is a lead. */
const LEAD_BYTES = 4 * 1024 * 1024;

export class SendQueue {
  readonly #bound: number;
  /** Placements with something queued; `#turn` is whose turn it is. */
  readonly #ring: Placement[] = [];
  #turn = 0;
  #chunks = 0;
  /** What the placements in the ring have sent together. */
  #sentBytes = 0;

  constructor(bound: number) {
    this.#bound = bound;
  }

  get chunks(): number {
    return this.#chunks;
  }

  /** False: full. */
  push(placement: Placement, queued: QueuedChunk): boolean {
    if (this.#chunks >= this.#bound) return false;
    this.#chunks += 1;
    placement.queued.push(queued);
    if (placement.queued.length === 1) this.#join(placement, placement.bytesOf(queued.chunk));
    return true;
  }

  /** The next chunk in turn. */
  take(): { readonly placement: Placement; readonly queued: QueuedChunk } | undefined {
    for (;;) {
      const placement = this.#ring[this.#turn];
      const queued = placement?.queued.at(0);
      if (placement === undefined || queued === undefined) return undefined;
      const bytes = placement.bytesOf(queued.chunk);
      if (placement.allowanceBytes >= bytes) {
        placement.allowanceBytes -= bytes;
        this.takeOf(placement);
        return { placement, queued };
      }
      placement.allowanceBytes += this.#isAhead(placement) ? TURN_BYTES / 2 : TURN_BYTES;
      this.#turn = (this.#turn + 1) % this.#ring.length;
    }
  }

  /** Takes the placement's first chunk, whoever's turn it is. */
  takeOf(placement: Placement): QueuedChunk | undefined {
    const queued = placement.queued.shift();
    if (queued === undefined) return undefined;
    this.#chunks -= 1;
    if (!placement.standing) {
      const bytes = placement.bytesOf(queued.chunk);
      placement.sentBytes += bytes;
      this.#sentBytes += bytes;
    }
    if (placement.queued.length === 0) this.#leave(placement);
    return queued;
  }

  #join(placement: Placement, bytes: number): void {
    const isSmall = bytes <= SMALL_BYTES;
    placement.allowanceBytes = isSmall ? bytes : 0;
    this.#ring.splice(this.#turn, 0, placement);
    this.#sentBytes += placement.sentBytes;
    // Behind everybody else is just before whose turn it is.
    if (!isSmall && this.#ring.length > 1) this.#turn += 1;
  }

  #isAhead({ sentBytes }: Placement): boolean {
    return (sentBytes - LEAD_BYTES) * this.#ring.length > this.#sentBytes;
  }

  #leave(placement: Placement): void {
    this.#sentBytes -= placement.sentBytes;
    const at = this.#ring.indexOf(placement);
    this.#ring.splice(at, 1);
    if (at < this.#turn) this.#turn -= 1;
    if (this.#turn >= this.#ring.length) this.#turn = 0;
  }
}
