/**
 * One incoming transfer as a sans-IO state machine. PURE, as sender.ts.
 *
 *   granted -> done | failed(code)      suspended while the connection is away; its bitmap survives
 */
import { assert } from "../check.ts";
import type { ErrorCode } from "../errors.ts";
import { Deadlines } from "./deadlines.ts";
import { EventQueue } from "./events.ts";

export type ReceiverState = "granted" | "suspended" | "done" | "failed";

export interface ReceiverOptions {
  readonly nowUs: number;
  readonly deadlineUs: number;
  readonly stallUs: number;
  readonly chunkBytes: Uint32Array;
  readonly chunkLayer: Uint32Array;
  readonly layers: number;
}

export type ReceiverEvent =
  /** Nothing came for so long; told once, until `moving`. The sender's engine may just be slow: only the sender knows. */
  | { readonly kind: "stalled"; readonly silentUs: number }
  | { readonly kind: "moving" }
  /** Every chunk of this layer is placed: the engine may use it. */
  | { readonly kind: "layer"; readonly layer: number }
  | { readonly kind: "done"; readonly bytes: number }
  | { readonly kind: "failed"; readonly code: ErrorCode };

export class Receiver {
  readonly #chunkBytes: Uint32Array;
  readonly #chunkLayer: Uint32Array;
  readonly #bitmap: Uint8Array;
  readonly #layerMissing: Uint32Array;
  readonly #deadlines: Deadlines;
  readonly #events = new EventQueue<ReceiverEvent>();
  #state: ReceiverState = "granted";
  #committedCount = 0;
  #committedBytes = 0;
  #rejected = 0;
  #receivedBytes = 0;

  constructor(options: ReceiverOptions) {
    const { chunkBytes, chunkLayer } = options;
    assert(chunkBytes.length === chunkLayer.length, "each chunk has its layer");
    this.#chunkBytes = chunkBytes;
    this.#chunkLayer = chunkLayer;
    this.#bitmap = new Uint8Array(Math.ceil(chunkBytes.length / 8));
    this.#layerMissing = new Uint32Array(options.layers);
    for (const layer of chunkLayer) {
      assert(layer < options.layers, "a chunk belongs to a layer of the transfer");
      this.#layerMissing[layer]! += 1;
    }
    this.#deadlines = new Deadlines(options.nowUs, options.deadlineUs, options.stallUs);
    if (chunkBytes.length === 0) this.#finish();
  }

  get state(): ReceiverState {
    return this.#state;
  }
  get committedBytes(): number {
    return this.#committedBytes;
  }
  /** Payload that arrived, as it travelled; what was thrown away counted. */
  get receivedBytes(): number {
    return this.#receivedBytes;
  }
  /** Chunks that arrived and were thrown away. */
  get rejected(): number {
    return this.#rejected;
  }

  /** Bit i of byte i>>3; what Accept carries after a resume. A copy. */
  committed(): Uint8Array {
    return this.#bitmap.slice();
  }

  has(chunk: number): boolean {
    return (this.#bitmap[chunk >> 3]! & (1 << (chunk & 7))) !== 0;
  }

  /** Chunks with their bit set. */
  committedChunks(): number[] {
    const chunks: number[] = [];
    for (let chunk = 0; chunk < this.#chunkBytes.length; chunk++) if (this.has(chunk)) chunks.push(chunk);
    return chunks;
  }

  /**
   * The link verified and placed it, which came in `wireBytes` (not coded: its own); also while suspended, until its memory is taken back: the sender was
   * told so.
   */
  handleCommitted(nowUs: number, chunk: number, wireBytes = this.#chunkBytes[chunk]!): void {
    if (this.#over) return;
    assert(chunk < this.#chunkBytes.length, "the link commits chunks of the transfer");
    assert(!this.has(chunk), "a chunk is committed at most once");
    this.#receivedBytes += wireBytes;
    this.#bitmap[chunk >> 3]! |= 1 << (chunk & 7);
    this.#committedCount += 1;
    this.#committedBytes += this.#chunkBytes[chunk]!;
    if (this.#deadlines.handleProgress(nowUs)) this.#events.push({ kind: "moving" });
    const layer = this.#chunkLayer[chunk]!;
    this.#layerMissing[layer]! -= 1;
    if (this.#layerMissing[layer] === 0) this.#events.push({ kind: "layer", layer });
    if (this.#committedCount === this.#chunkBytes.length) this.#finish();
  }

  /** Thrown away: the sender hears of it from the link and sends it again. No progress. */
  handleRejected(_nowUs: number, chunk: number, _code: ErrorCode, wireBytes = this.#chunkBytes[chunk] ?? 0): void {
    if (this.#over) return;
    this.#rejected += 1;
    this.#receivedBytes += wireBytes;
  }

  handleDisconnected(_nowUs: number): void {
    if (this.#state === "granted") this.#state = "suspended";
  }

  /** Memory is granted again in a new generation. */
  handleResumed(nowUs: number): void {
    if (this.#state === "suspended") this.#state = "granted";
    if (!this.#over) this.#deadlines.restart(nowUs);
  }

  handleCancel(_nowUs: number, code: ErrorCode): void {
    if (!this.#over) this.#fail(code);
  }

  handleTimeout(nowUs: number): void {
    if (this.#over) return;
    if (this.#deadlines.passed(nowUs)) return this.#fail("deadline_exceeded");
    const silentUs = this.#deadlines.pollSilence(nowUs);
    if (silentUs > 0) this.#events.push({ kind: "stalled", silentUs });
  }

  pollEvent(): ReceiverEvent | undefined {
    return this.#events.poll();
  }

  nextDeadlineUs(): number {
    return this.#over ? Number.POSITIVE_INFINITY : this.#deadlines.nextUs();
  }

  get #over(): boolean {
    return this.#state === "done" || this.#state === "failed";
  }

  #finish(): void {
    this.#state = "done";
    this.#events.push({ kind: "done", bytes: this.#committedBytes });
  }

  #fail(code: ErrorCode): void {
    this.#state = "failed";
    this.#events.push({ kind: "failed", code });
  }
}
