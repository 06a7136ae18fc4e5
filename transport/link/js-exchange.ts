/**
 * What one connection may send and what may land on it: placements, chunk slots, the send queue, chunks without an answer. It knows frames and
 * lanes by name, no sockets. Everything runs on one thread, so that revoking is complete when the call returns.
 */
import { assert } from "../check.ts";
import { ERRORS, type ErrorCode, KvferryError } from "../errors.ts";
import type { FrameHeader } from "./frame.ts";
import type { EventQueue } from "./js-events.ts";
import { Fifo } from "./js-fifo.ts";
import type { Placement } from "./js-placement.ts";
import { SendQueue } from "./js-send-queue.ts";
import type { ConnectionId, Rank } from "./link.ts";

/** Chunks that a lane may have sent without an answer. */
const UNANSWERED_CHUNKS = 4_096;
/** Lane of an event about a chunk that no lane had taken. */
const NO_LANE = -1;

interface Sent {
  /** Undefined once the chunk has had its event (answered or revoked). */
  placement: Placement | undefined;
  isAnswered: boolean;
  readonly grant: number;
  readonly generation: number;
  readonly chunk: number;
  readonly sequence: number;
  readonly bytes: number;
  readonly submittedUs: number;
}

/** What the exchange asks of a lane. */
export interface LaneHandler {
  /** There is something to take. */
  run(): void;
  /** The memory being sent was taken back: go on with zeros. */
  abandon(): void;
  /** The memory being written was taken back: throw the rest away. */
  letGo(): void;
}

/** A lane as the exchange sees it. */
export class LaneLedger {
  readonly lane: number;
  readonly handler: LaneHandler;
  readonly sent = new Fifo<Sent>();
  isResting = false;
  unansweredBytes = 0;
  sending: Placement | undefined;
  receiving: { readonly placement: Placement; readonly chunk: number } | undefined;

  constructor(lane: number, handler: LaneHandler) {
    this.lane = lane;
    this.handler = handler;
  }
}

export interface Outgoing {
  readonly placement: Placement;
  readonly chunk: number;
  readonly sequence: number;
}

export interface Answer {
  readonly type: "ack" | "nack";
  readonly status: ErrorCode | undefined;
}

/** Where an arriving chunk goes: into a placement's runs, or nowhere with an answer at its end. */
export type Arrival = { readonly placement: Placement } | { readonly answer: Answer };

export class Exchange {
  readonly id: ConnectionId;
  readonly #events: EventQueue;
  readonly #queue: SendQueue;
  readonly #lanes = new Set<LaneLedger>();
  readonly #grants = new Map<number, Placement>();
  #gone = false;

  constructor(id: ConnectionId, events: EventQueue, sendQueueChunks: number) {
    this.id = id;
    this.#events = events;
    this.#queue = new SendQueue(sendQueueChunks);
  }

  get hasQueued(): boolean {
    return this.#queue.chunks > 0;
  }

  /** Throws KvferryError: connection_lost; invalid_argument for a grant that is in use. */
  place(placement: Placement): void {
    if (this.#gone) throw new KvferryError("connection_lost", "the connection is gone");
    if (!placement.incoming) return;
    if (this.#grants.has(placement.grant)) throw new KvferryError("invalid_argument", "the grant is in use on this connection");
    this.#grants.set(placement.grant, placement);
  }

  revoke(placement: Placement, taken: () => void): void {
    placement.revoked = true;
    if (placement.incoming) this.#grants.delete(placement.grant);
    for (let queued = this.#queue.takeOf(placement); queued !== undefined; queued = this.#queue.takeOf(placement)) {
      this.#fail(placement, queued.chunk, queued.sequence, NO_LANE, "cancelled");
    }
    for (const ledger of this.#lanes) {
      for (let index = 0; index < ledger.sent.length; index++) {
        const sent = ledger.sent.at(index) as Sent;
        if (sent.placement !== placement) continue;
        sent.placement = undefined;
        this.#fail(placement, sent.chunk, sent.sequence, ledger.lane, "cancelled");
      }
      if (ledger.sending === placement) {
        ledger.handler.abandon();
        ledger.sending = undefined;
      }
      if (ledger.receiving?.placement === placement) {
        ledger.handler.letGo();
        this.#freeSlot(ledger);
      }
    }
    this.#events.emit("table", { kind: "revoked", placement: placement.id }, taken);
  }

  setRank(placement: Placement, rank: Rank): void {
    this.#queue.setRank(placement, rank);
  }

  restLane(lane: number, isResting: boolean): void {
    for (const ledger of this.#lanes) {
      if (ledger.lane !== lane) continue;
      ledger.isResting = isResting;
      if (this.#queue.chunks > 0) ledger.handler.run();
    }
  }

  /** False: full, or the connection is gone. The caller has reserved a "submission". */
  queue(placement: Placement, chunk: number, sequence: number, submittedUs: number): boolean {
    return !this.#gone && this.#queue.push(placement, { chunk, sequence, submittedUs });
  }

  /** Wakes the lanes, those with the least under way first. */
  kick(): void {
    if (this.#queue.chunks === 0) return;
    const lanes = [...this.#lanes].sort((a, b) => a.unansweredBytes - b.unansweredBytes || a.lane - b.lane);
    for (const ledger of lanes) {
      if (this.#queue.chunks > 0) ledger.handler.run();
    }
  }

  /** Two events of a lane that is to be. False: there are too many that nobody has taken. */
  reserveLane(): boolean {
    if (!this.#events.reserve("lane")) return false;
    if (this.#events.reserve("lane")) return true;
    this.#events.release("lane");
    return false;
  }

  laneUp(ledger: LaneLedger): void {
    this.#lanes.add(ledger);
    this.#events.emit("lane", { kind: "laneUp", connection: this.id, lane: ledger.lane });
  }

  laneDown(ledger: LaneLedger, code: ErrorCode): void {
    // The event of a lane that never was up is not needed.
    if (!this.#lanes.delete(ledger)) this.#events.release("lane");
    for (let sent = ledger.sent.shift(); sent !== undefined; sent = ledger.sent.shift()) {
      if (sent.placement !== undefined) this.#fail(sent.placement, sent.chunk, sent.sequence, ledger.lane, "lane_lost");
    }
    ledger.sending = undefined;
    this.#freeSlot(ledger);
    this.#events.emit("lane", { kind: "laneDown", connection: this.id, lane: ledger.lane, code: ERRORS[code].number });
  }

  /** The next chunk for this lane to send. */
  take(ledger: LaneLedger): Outgoing | undefined {
    if (ledger.isResting || ledger.sent.length >= UNANSWERED_CHUNKS) return undefined;
    const next = this.#queue.take();
    if (next === undefined) return undefined;
    const { placement, queued } = next;
    const { chunk, sequence, submittedUs } = queued;
    const bytes = placement.bytesOf(chunk);
    const { grant, generation } = placement;
    ledger.sent.push({ placement, isAnswered: false, grant, generation, chunk, sequence, bytes, submittedUs });
    ledger.unansweredBytes += bytes;
    ledger.sending = placement;
    return { placement, chunk, sequence };
  }

  /** The payload was copied whole: the memory is not needed any more. */
  handleCopied(ledger: LaneLedger): void {
    ledger.sending = undefined;
  }

  /** ACK or NACK. Throws protocol_error if no such chunk waits for an answer. */
  handleAnswer(ledger: LaneLedger, header: FrameHeader, nowUs: number): void {
    const sent = findSent(ledger.sent, header);
    if (sent === undefined || (header.type === "nack" && header.status === 0)) {
      throw new KvferryError("protocol_error", "an answer to a chunk that was not sent");
    }
    ledger.unansweredBytes -= sent.bytes;
    sent.isAnswered = true;
    if (sent.placement !== undefined) {
      const { chunk, sequence } = sent;
      const about = { placement: sent.placement.id, chunk, sequence, lane: ledger.lane };
      const durationUs = Math.max(nowUs - sent.submittedUs, 0);
      if (header.type === "ack") this.#events.emit("submission", { kind: "acked", ...about, bytes: sent.bytes, durationUs });
      else this.#events.emit("submission", { kind: "failed", ...about, code: header.status });
      sent.placement = undefined;
    }
    while (ledger.sent.at(0)?.isAnswered) ledger.sent.shift();
  }

  /** A CHUNK header, in the order of wire.md. The caller has reserved an "arrival", which is used up or given back. Throws protocol_error. */
  handleArrival(ledger: LaneLedger, header: FrameHeader): Arrival {
    const placement = this.#grants.get(header.grant);
    if (placement === undefined || placement.generation !== header.generation) return this.#discard("nack", "grant_unknown");
    const { chunk, sequence } = header;
    // No placement of this link has a codec.
    const isRight = chunk < placement.chunks && header.coded !== true && header.bytes === placement.bytesOf(chunk) && sequence > 0;
    if (!isRight || (placement.checksum && !header.checksum)) {
      this.#events.release("arrival");
      throw new KvferryError("protocol_error", "a chunk that the grant does not have");
    }
    if (placement.isDuplicate(chunk, sequence)) return this.#discard("ack", "duplicate_chunk");
    if (placement.isWriting(chunk)) return this.#discard("nack", "chunk_busy");
    placement.setWriting(chunk, true);
    ledger.receiving = { placement, chunk };
    return { placement };
  }

  /** The end of a chunk that was being written. */
  handleLanded(ledger: LaneLedger, header: FrameHeader, isWhole: boolean, isRight: boolean): Answer {
    assert(ledger.receiving !== undefined, "a chunk that lands has its slot");
    const { placement, chunk } = ledger.receiving;
    ledger.receiving = undefined;
    placement.setWriting(chunk, false);
    const about = { placement: placement.id, chunk, lane: ledger.lane };
    if (!isWhole || !isRight) {
      const status = isWhole ? "checksum_mismatch" : "cancelled";
      this.#events.emit("arrival", { kind: "rejected", ...about, bytes: header.bytes, code: ERRORS[status].number });
      return { type: "nack", status };
    }
    placement.commit(chunk, header.sequence);
    this.#events.emit("arrival", { kind: "committed", ...about, sequence: header.sequence, bytes: header.bytes });
    return { type: "ack", status: undefined };
  }

  /** The end, after the last lane is down. */
  handleGone(code: ErrorCode, detail: string, taken: () => void): void {
    this.#gone = true;
    for (let next = this.#queue.take(); next !== undefined; next = this.#queue.take()) {
      this.#fail(next.placement, next.queued.chunk, next.queued.sequence, NO_LANE, "lane_lost");
    }
    this.#events.emit("table", { kind: "disconnected", connection: this.id, code: ERRORS[code].number, detail }, taken);
  }

  #discard(type: "ack" | "nack", status: ErrorCode): Arrival {
    this.#events.release("arrival");
    return { answer: { type, status } };
  }

  #freeSlot(ledger: LaneLedger): void {
    if (ledger.receiving === undefined) return;
    ledger.receiving.placement.setWriting(ledger.receiving.chunk, false);
    ledger.receiving = undefined;
    this.#events.release("arrival");
  }

  #fail(placement: Placement, chunk: number, sequence: number, lane: number, code: ErrorCode): void {
    this.#events.emit("submission", { kind: "failed", placement: placement.id, chunk, sequence, lane, code: ERRORS[code].number });
  }
}

/** A peer answers a lane's chunks in their order, so this finds the first one. */
function findSent(all: Fifo<Sent>, header: FrameHeader): Sent | undefined {
  for (let index = 0; index < all.length; index++) {
    const sent = all.at(index) as Sent;
    const isIt =
      sent.chunk === header.chunk &&
      sent.sequence === header.sequence &&
      sent.grant === header.grant &&
      sent.generation === header.generation;
    if (isIt && !sent.isAnswered) return sent;
  }
  return undefined;
}
