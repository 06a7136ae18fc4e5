/**
 * Chunks of one connection that wait for a lane. The most urgent rank goes first; a lower one gets a turn for every 32 MiB that passed it, so that it is
 * slow and not stuck. Placements of a rank take turns by bytes (deficit round robin), so that transfers share the connection whatever their chunk sizes.
 * Who has sent much more than the others takes half turns: transfers that began a little earlier, alone with the whole connection, let the others catch up,
 * and short ones pass long ones; nobody waits for more than twice its share.
 */
import type { Placement, QueuedChunk } from "./js-placement.ts";
import type { Rank } from "./link.ts";

/** What a placement may send in one turn: a default chunk, so that equal transfers alternate chunk by chunk. */
const TURN_BYTES = 1024 * 1024;
/** A placement that comes with so little goes first, once: a small message need not wait for a round of others. */
const SMALL_BYTES = 64 * 1024;
/** So much more than the mean of those that wait is a lead. */
const LEAD_BYTES = 4 * 1024 * 1024;

/** After so much of more urgent ranks, a rank that waits has a turn. */
const PASSED_BYTES = 32 * 1024 * 1024;

export class SendQueue {
  readonly #bound: number;
  readonly #rings = [new Ring(), new Ring(), new Ring()] as const;
  #chunks = 0;

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
    if (placement.queued.length === 1) this.#rings[placement.rank].join(placement);
    return true;
  }

  /** The next chunk in turn. */
  take(): { readonly placement: Placement; readonly queued: QueuedChunk } | undefined {
    const placement = this.#nextRing()?.next();
    if (placement === undefined) return undefined;
    const queued = this.takeOf(placement)!;
    const bytes = placement.bytesOf(queued.chunk);
    for (const lower of this.#rings.slice(placement.rank + 1)) if (!lower.isEmpty) lower.passedBytes += bytes;
    return { placement, queued };
  }

  /** Takes the placement's first chunk, whoever's turn it is. */
  takeOf(placement: Placement): QueuedChunk | undefined {
    const queued = placement.queued.shift();
    if (queued === undefined) return undefined;
    const ring = this.#rings[placement.rank];
    this.#chunks -= 1;
    if (!placement.standing) ring.countSent(placement, placement.bytesOf(queued.chunk));
    if (placement.queued.length === 0) ring.leave(placement);
    return queued;
  }

  /** What is queued of the placement changes its rank with it. */
  setRank(placement: Placement, rank: Rank): void {
    const isQueued = placement.queued.length > 0;
    if (isQueued) this.#rings[placement.rank].leave(placement);
    placement.rank = rank;
    if (isQueued) this.#rings[rank].join(placement);
  }

  /** The most urgent, unless a lower one has been passed by enough. */
  #nextRing(): Ring | undefined {
    const waiting = this.#rings.filter((ring) => !ring.isEmpty);
    const passed = waiting.find((ring) => ring.passedBytes >= PASSED_BYTES);
    if (passed === undefined) return waiting[0];
    passed.passedBytes = 0;
    return passed;
  }
}

/** Placements of one rank with something queued; `#turn` is whose turn it is. */
class Ring {
  readonly #placements: Placement[] = [];
  #turn = 0;
  /** What the placements in the ring have sent together. */
  #sentBytes = 0;
  /** Of more urgent ranks, since this one had a turn. */
  passedBytes = 0;

  get isEmpty(): boolean {
    return this.#placements.length === 0;
  }

  /** Who sends the next chunk; its allowance is spent. */
  next(): Placement | undefined {
    for (;;) {
      const placement = this.#placements[this.#turn];
      const queued = placement?.queued.at(0);
      if (placement === undefined || queued === undefined) return undefined;
      const bytes = placement.bytesOf(queued.chunk);
      if (placement.allowanceBytes >= bytes) {
        placement.allowanceBytes -= bytes;
        return placement;
      }
      placement.allowanceBytes += this.#isAhead(placement) ? TURN_BYTES / 2 : TURN_BYTES;
      this.#turn = (this.#turn + 1) % this.#placements.length;
    }
  }

  countSent(placement: Placement, bytes: number): void {
    placement.sentBytes += bytes;
    this.#sentBytes += bytes;
  }

  join(placement: Placement): void {
    const bytes = placement.bytesOf(placement.queued.at(0)?.chunk ?? 0);
    const isSmall = bytes <= SMALL_BYTES;
    placement.allowanceBytes = isSmall ? bytes : 0;
    this.#placements.splice(this.#turn, 0, placement);
    this.#sentBytes += placement.sentBytes;
    // Behind everybody else is just before whose turn it is.
    if (!isSmall && this.#placements.length > 1) this.#turn += 1;
  }

  #isAhead({ sentBytes }: Placement): boolean {
    return (sentBytes - LEAD_BYTES) * this.#placements.length > this.#sentBytes;
  }

  leave(placement: Placement): void {
    this.#sentBytes -= placement.sentBytes;
    const at = this.#placements.indexOf(placement);
    this.#placements.splice(at, 1);
    if (at < this.#turn) this.#turn -= 1;
    if (this.#turn >= this.#placements.length) this.#turn = 0;
    if (this.#placements.length === 0) this.passedBytes = 0;
  }
}
