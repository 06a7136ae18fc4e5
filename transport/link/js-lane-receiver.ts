/**
 * A lane's receiving half without its socket: bytes in any pieces, judged in the order of wire.md. Payload goes straight to the runs of the
 * grant, or nowhere. What the peer may not send throws KvferryError (protocol_error).
 */
import type { RunCursor } from "../kv/runs.ts";
import { scatter } from "../kv/runs.ts";
import { limits } from "../limits.ts";
import { decodeHeader, decodeTrailer, type FrameHeader, VERDICT_WHOLE } from "./frame.ts";
import { checksum, type LinkContext } from "./js-context.ts";
import type { Answer, Exchange, LaneLedger } from "./js-exchange.ts";
import type { Placement } from "./js-placement.ts";
import { ERRORS } from "../errors.ts";

export interface ReceiverOwner {
  /** A frame that is no chunk. */
  handleFrame(header: FrameHeader): void;
  /** A chunk begins. Throws protocol_error if none may. */
  handleChunk(): void;
  answer(header: FrameHeader): void;
  /** There is no room for the event of the next chunk: no more bytes, please, until `resume`. */
  handleStarved(): void;
}

type Reading = "header" | "waiting" | "payload" | "trailer";

export class LaneReceiver {
  readonly #context: LinkContext;
  readonly #exchange: Exchange;
  readonly #ledger: LaneLedger;
  readonly #owner: ReceiverOwner;
  #reading: Reading = "header";
  /** The beginning of a header or trailer whose rest has not come. */
  readonly #partial = new Uint8Array(limits.frameHeaderBytes);
  #partialBytes = 0;
  #header: FrameHeader | undefined;
  /** Undefined: the chunk is thrown away, and this is what to say at its end. */
  #placement: Placement | undefined;
  #refusal: Answer = { type: "nack", status: "grant_unknown" };
  #cursor: RunCursor | undefined;
  #leftBytes = 0;
  #crc = 0;
  /** Came after the lane was starved. */
  #held: Uint8Array[] = [];

  constructor(context: LinkContext, exchange: Exchange, ledger: LaneLedger, owner: ReceiverOwner) {
    this.#context = context;
    this.#exchange = exchange;
    this.#ledger = ledger;
    this.#owner = owner;
  }

  feed(bytes: Uint8Array): void {
    let rest = bytes;
    while (rest.length > 0 && this.#reading !== "waiting") rest = this.#step(rest);
    if (rest.length > 0) this.#held.push(rest);
  }

  /** There may be room again; false if not. */
  resume(): boolean {
    if (this.#reading === "waiting") this.#beginChunk();
    if (this.#reading === "waiting") return false;
    const held = this.#held;
    this.#held = [];
    for (const bytes of held) this.feed(bytes);
    return this.#held.length === 0;
  }

  /** The memory was taken back: the rest of the chunk is thrown away. */
  letGo(): void {
    this.#placement = undefined;
    this.#cursor = undefined;
    this.#refusal = { type: "nack", status: "grant_unknown" };
  }

  /** Goes one step; returns the bytes behind it. */
  #step(bytes: Uint8Array): Uint8Array {
    if (this.#reading === "payload") return this.#takePayload(bytes);
    const wanted = this.#reading === "header" ? limits.frameHeaderBytes : limits.frameTrailerBytes;
    let whole = bytes;
    let used = wanted;
    if (this.#partialBytes > 0 || bytes.length < wanted) {
      used = Math.min(wanted - this.#partialBytes, bytes.length);
      this.#partial.set(bytes.subarray(0, used), this.#partialBytes);
      this.#partialBytes += used;
      if (this.#partialBytes < wanted) return bytes.subarray(used);
      whole = this.#partial;
      this.#partialBytes = 0;
    }
    if (this.#reading === "header") this.#takeHeader(whole);
    else this.#takeTrailer(whole);
    return bytes.subarray(used);
  }

  #takeHeader(bytes: Uint8Array): void {
    const header = decodeHeader(bytes, this.#context.limits.chunkBytesMax) as FrameHeader;
    if (header.type === "pad") return this.#beginPadding(header);
    if (header.type !== "chunk") return this.#owner.handleFrame(header);
    this.#owner.handleChunk();
    this.#header = header;
    this.#beginChunk();
  }

  #beginPadding(header: FrameHeader): void {
    this.#header = header;
    this.#placement = this.#cursor = undefined;
    this.#leftBytes = header.bytes;
    this.#reading = "payload";
  }

  #beginChunk(): void {
    const header = this.#header as FrameHeader;
    if (!this.#context.events.reserve("arrival")) {
      this.#reading = "waiting";
      this.#owner.handleStarved();
      return;
    }
    const arrival = this.#exchange.handleArrival(this.#ledger, header);
    if ("placement" in arrival) {
      this.#placement = arrival.placement;
      this.#cursor = arrival.placement.cursor(header.chunk);
    } else {
      this.#placement = this.#cursor = undefined;
      this.#refusal = arrival.answer;
    }
    this.#leftBytes = header.bytes;
    this.#crc = 0;
    this.#reading = "payload";
  }

  #takePayload(bytes: Uint8Array): Uint8Array {
    const count = Math.min(this.#leftBytes, bytes.length);
    if (this.#placement !== undefined && this.#cursor !== undefined) {
      scatter(this.#placement.memory, this.#cursor, bytes, 0, count);
      if (this.#header?.checksum) this.#crc = checksum(count === bytes.length ? bytes : bytes.subarray(0, count), this.#crc);
    }
    this.#leftBytes -= count;
    if (this.#leftBytes === 0) this.#reading = this.#header?.type === "pad" ? "header" : "trailer";
    return bytes.subarray(count);
  }

  #takeTrailer(bytes: Uint8Array): void {
    const { crc, verdict } = decodeTrailer(bytes) as { crc: number; verdict: number };
    const header = this.#header as FrameHeader;
    let { type, status } = this.#refusal;
    if (this.#placement !== undefined) {
      const isRight = !header.checksum || crc === this.#crc;
      ({ type, status } = this.#exchange.handleLanded(this.#ledger, header, verdict === VERDICT_WHOLE, isRight));
    }
    this.#placement = this.#cursor = undefined;
    this.#reading = "header";
    this.#owner.answer({
      ...header,
      type,
      checksum: false,
      coded: false,
      bytes: 0,
      status: status === undefined ? 0 : ERRORS[status].number,
    });
  }
}
