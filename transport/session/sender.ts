/**
 * One outgoing transfer as a sans-IO state machine. PURE: time comes in as an argument, in integer microseconds.
 * `handle*` takes an event, `poll*` says what to do next, `nextDeadlineUs` when to be woken.
 *
 *   offered -> sending -> done
 *        \________|____--> failed(code)      suspended while the connection is away
 */
import { assert } from "../check.ts";
import { ERRORS, type ErrorCode } from "../errors.ts";
import { limits } from "../limits.ts";
import type { RetryPolicy } from "../policy/retry.ts";
import type { WindowPolicy } from "../policy/window.ts";
import { Deadlines } from "./deadlines.ts";
import { EventQueue } from "./events.ts";
import { Outbox } from "./outbox.ts";

export type SenderState = "offered" | "sending" | "suspended" | "done" | "failed";

export interface SenderOptions {
  readonly nowUs: number;
  readonly deadlineUs: number;
  readonly stallUs: number;
  /** Bytes of each chunk, and the layer each waits for. */
  readonly chunkBytes: Uint32Array;
  readonly chunkLayer: Uint32Array;
  readonly layers: number;
  readonly window: WindowPolicy;
  readonly retry: RetryPolicy;
}

export type SenderEvent =
  /** Nothing moved for so long although something could; told once, until `moving`. */
  | { readonly kind: "stalled"; readonly silentUs: number }
  | { readonly kind: "moving" }
  | { readonly kind: "done"; readonly bytes: number; readonly retries: number }
  | { readonly kind: "failed"; readonly code: ErrorCode };

/** One attempt to send one chunk. */
export interface Attempt {
  readonly chunk: number;
  readonly sequence: number;
}

const NONE: readonly Attempt[] = Object.freeze([]);

export class Sender {
  readonly #chunkBytes: Uint32Array;
  readonly #outbox: Outbox;
  readonly #window: WindowPolicy;
  readonly #retry: RetryPolicy;
  readonly #deadlines: Deadlines;
  readonly #events = new EventQueue<SenderEvent>();
  #state: SenderState = "offered";
  #retries = 0;
  /** Of attempts, as they lie in memory: all, those that were acknowledged; and of these what travelled. */
  #takenBytes = 0;
  #answeredBytes = 0;
  #wireBytes = 0;
  /** Nothing is submitted before: the link was full, so often in a row. */
  #gateUs = -1;
  #fulls = 0;
  /** The receiver took its memory back and has not said why yet; nothing is sent into it until this moment, at which it will not say so any more. */
  #grantOverUntilUs = Number.POSITIVE_INFINITY;
  /** What came due until here was offered to pollSend. */
  #polledUs = -1;

  constructor(options: SenderOptions) {
    this.#chunkBytes = options.chunkBytes;
    this.#outbox = new Outbox(options.chunkBytes, options.chunkLayer, options.layers);
    this.#window = options.window;
    this.#retry = options.retry;
    this.#deadlines = new Deadlines(options.nowUs, options.deadlineUs, options.stallUs);
    this.#expect(options.nowUs);
  }

  get state(): SenderState {
    return this.#state;
  }
  get inFlightBytes(): number {
    return this.#outbox.inFlightBytes;
  }
  get inFlightChunks(): number {
    return this.#outbox.inFlightChunks;
  }
  /** What could be submitted and is not: the window is full. */
  get waitingBytes(): number {
    return this.#state === "sending" ? this.#outbox.waitingBytes : 0;
  }
  /** As far as the receiver's word has come. */
  isPlaced(chunk: number): boolean {
    return this.#outbox.isPlaced(chunk);
  }
  get ackedBytes(): number {
    return this.#outbox.placedBytes;
  }
  /** Of the bytes of chunks, the share that travels: less than 1 where they are coded, as far as acknowledged ones have shown. */
  get wireShare(): number {
    return this.#answeredBytes === 0 ? 1 : this.#wireBytes / this.#answeredBytes;
  }
  /** Payload given to the link as it travels, repeats counted; what was not acknowledged by its share. */
  get sentBytes(): number {
    return this.#wireBytes + Math.round((this.#takenBytes - this.#answeredBytes) * this.wireShare);
  }
  /** Attempts that failed and were made again. */
  get retries(): number {
    return this.#retries;
  }

  /** The receiver granted memory (again, after a resume); `committed` is its bitmap (bit i of byte i>>3), empty = none. */
  handleAccept(nowUs: number, committed: Uint8Array): void {
    if (this.#over) return;
    const before = this.#outbox.placedBytes;
    this.#outbox.forgetFlights();
    if (!this.#outbox.restart(committed)) return this.#fail("protocol_error");
    this.#state = "sending";
    this.#grantOverUntilUs = Number.POSITIVE_INFINITY;
    this.#gateUs = -1;
    this.#polledUs = -1;
    if (this.#outbox.placedBytes > before) this.#handleProgress(nowUs);
    this.#deadlines.restart(nowUs);
    this.#expect(nowUs);
  }

  /** The engine finished layer `layer` (index into the plan's layers). Chunks of layers that are not ready wait. */
  handleReady(nowUs: number, layer: number): void {
    if (this.#over) return;
    this.#outbox.markReady(layer);
    this.#expect(nowUs);
  }

  /** The peer placed what an attempt brought in `wireBytes` (a chunk that is not coded: in its own), now or before. */
  handleAcked(nowUs: number, chunk: number, wireBytes = this.#chunkBytes[chunk]!): void {
    this.#answeredBytes += this.#chunkBytes[chunk]!;
    this.#wireBytes += wireBytes;
    this.#handlePlaced(nowUs, chunk);
  }

  #handlePlaced(nowUs: number, chunk: number): void {
    // Another attempt's word, or one that comes while the connection is away, is as good: placed is placed.
    if (this.#over || this.#outbox.isPlaced(chunk)) return;
    this.#outbox.place(chunk);
    this.#gateUs = -1;
    this.#fulls = 0;
    this.#handleProgress(nowUs);
  }

  handleFailed(nowUs: number, chunk: number, sequence: number, code: ErrorCode): void {
    if (this.#over || !this.#outbox.isInFlight(chunk, sequence)) return;
    if (code === "duplicate_chunk") return this.#handlePlaced(nowUs, chunk);
    const attempt = this.#outbox.fail(chunk, LOST.has(code));
    if (code === "grant_unknown") return this.#handleGrantOver(nowUs, chunk);
    const decision = this.#retry.decide(nowUs, attempt, code);
    if (!decision.again) return this.#fail(decision.code);
    this.#retries += 1;
    this.#outbox.pause(chunk, decision.atUs);
  }

  /**
   * A receiver that has every chunk takes its memory back, then says Done; one that has given up this connection for a new one takes it back, then grants
   * it again over that. A chunk may hear of the first before the transfer hears of the second. One that says neither has lost the grant for good.
   */
  #handleGrantOver(nowUs: number, chunk: number): void {
    this.#grantOverUntilUs = Math.min(this.#grantOverUntilUs, nowUs + limits.silentMs * 1000);
    this.#outbox.pause(chunk, nowUs);
  }

  get #isGrantOver(): boolean {
    return this.#grantOverUntilUs < Number.POSITIVE_INFINITY;
  }

  /** The connection is away: nothing in flight counts; the transfer waits for handleAccept until its deadline. */
  handleDisconnected(_nowUs: number): void {
    if (this.#over) return;
    this.#outbox.forgetFlights();
    this.#grantOverUntilUs = Number.POSITIVE_INFINITY;
    if (this.#state === "sending") this.#state = "suspended";
  }

  /** The receiver says that every chunk is placed. */
  handleDone(_nowUs: number): void {
    if (this.#over) return;
    // What was never sent cannot have arrived.
    if (!this.#outbox.mayAllBePlaced) return this.#fail("protocol_error");
    this.#outbox.placeAll();
    this.#state = "done";
    this.#events.push({ kind: "done", bytes: this.ackedBytes, retries: this.#retries });
  }

  handleCancel(_nowUs: number, code: ErrorCode): void {
    if (!this.#over) this.#fail(code);
  }

  handleTimeout(nowUs: number): void {
    if (this.#over) return;
    if (this.#deadlines.passed(nowUs)) return this.#fail("deadline_exceeded");
    if (nowUs >= this.#grantOverUntilUs && !this.#outbox.mayAllBePlaced) return this.#fail("grant_unknown");
    const silentUs = this.#deadlines.pollSilence(nowUs);
    if (silentUs > 0) this.#events.push({ kind: "stalled", silentUs });
    this.#polledUs = nowUs;
  }

  /** Next chunks to submit: inside the window, of ready layers, retries first. Each counts as in flight from now. */
  pollSend(nowUs: number, maxChunks: number): readonly Attempt[] {
    if (this.#state !== "sending" || this.#isGrantOver || nowUs < this.#gateUs) return NONE;
    this.#polledUs = nowUs;
    let chunk = this.#outbox.peek(nowUs);
    if (chunk < 0) return NONE;
    const window = this.#window.window();
    const due: Attempt[] = [];
    while (chunk >= 0 && due.length < maxChunks && this.#fits(chunk, window.bytes, window.chunks)) {
      due.push({ chunk, sequence: this.#outbox.take(chunk) });
      this.#takenBytes += this.#chunkBytes[chunk]!;
      chunk = this.#outbox.peek(nowUs);
    }
    return due;
  }

  /** One chunk may always be under way, or a window smaller than it would stop everything. Windows count what travels, chunks what lies in memory. */
  #fits(chunk: number, windowBytes: number, windowChunks: number): boolean {
    const { inFlightBytes, inFlightChunks } = this.#outbox;
    if (inFlightChunks === 0) return true;
    return inFlightChunks < windowChunks && (inFlightBytes + this.#chunkBytes[chunk]!) * this.wireShare <= windowBytes;
  }

  /** The link took only the first of what pollSend gave: these others are to be sent later, no attempt counted. */
  handleFull(nowUs: number, refused: readonly Attempt[]): void {
    if (this.#over || refused.length === 0) return;
    this.#outbox.untake(refused);
    for (const { chunk } of refused) this.#takenBytes -= this.#chunkBytes[chunk]!;
    this.#fulls += 1;
    const decision = this.#retry.decide(nowUs, this.#fulls, "full");
    if (decision.again) this.#gateUs = decision.atUs;
    else this.#fail(decision.code);
  }

  pollEvent(): SenderEvent | undefined {
    return this.#events.poll();
  }

  nextDeadlineUs(): number {
    if (this.#over) return Number.POSITIVE_INFINITY;
    let next = this.#deadlines.nextUs();
    if (this.#isGrantOver && !this.#outbox.mayAllBePlaced) next = Math.min(next, this.#grantOverUntilUs);
    if (this.#state !== "sending" || this.#isGrantOver) return next;
    // What was due at the last poll and not taken waits for the window, and that opens with an event.
    if (this.#gateUs > this.#polledUs) next = Math.min(next, this.#gateUs);
    const retryUs = Math.max(this.#outbox.nextUs, this.#gateUs);
    return retryUs > this.#polledUs ? Math.min(next, retryUs) : next;
  }

  get #over(): boolean {
    return this.#state === "done" || this.#state === "failed";
  }

  #handleProgress(nowUs: number): void {
    this.#retry.handleProgress(nowUs);
    if (this.#deadlines.handleProgress(nowUs)) this.#events.push({ kind: "moving" });
    this.#expect(nowUs);
  }

  /** An engine that has not produced its next layer is no stall; a peer that does not say Done is. */
  #expect(nowUs: number): void {
    this.#deadlines.expect(nowUs, this.#outbox.hasMovable || this.#outbox.allPlaced);
  }

  #fail(code: ErrorCode): void {
    assert(ERRORS[code] !== undefined, "a transfer fails with a code of the list");
    this.#state = "failed";
    this.#outbox.forgetFlights();
    this.#events.push({ kind: "failed", code });
  }
}

/** The attempt ended without the peer's word: it may have placed the chunk. */
const LOST: ReadonlySet<ErrorCode> = new Set<ErrorCode>(["lane_lost", "connection_lost", "peer_silent"]);
