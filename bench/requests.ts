/**
 * Requests over standing grants, straight on a link: no engine API, no transfer protocol. A request is one slot's chunks, complete when the
 * peer has verified and placed every one. A push submits them; a pull asks the other end to push, and counts what is committed here.
 */
import { assert } from "../transport/check.ts";
import { codeOfNumber, ERRORS, KvferryError } from "../transport/errors.ts";
import { limits } from "../transport/limits.ts";
import type { ChunkSend, ChunkSpan, ConnectionId, Link, LinkEvent, PlacementId } from "../transport/link/link.ts";

/** How often one chunk may fail before the case does; lanes that die under it are counted apart. */
const ATTEMPTS_MAX = 5;
/** Sequences of a request begin at a multiple of this, above every attempt of the request before: both ends know a request by it. */
const SEQUENCES = 16;
const SEQUENCE_MAX = 2 ** 32 - 1 - SEQUENCES;
const LANE_LOST = ERRORS.lane_lost.number;

export interface Requester {
  /** Begins a request on a slot that has none. */
  begin(slot: number): void;
  /** Hands over an event; false if it is not of this requester. */
  handle(event: LinkEvent): boolean;
  /** Offers the link again what it had no room for. */
  flush(): void;
  readonly retries: number;
  /** Payload that waits until the window, or the link, has room. */
  readonly waitingBytes: number;
  /** Payload bytes that were verified and placed, by the lane that brought them. */
  readonly movedByLane: Float64Array;
}

/** What the path says to whoever sends on it, and is told. */
export interface Sending {
  /** What may be under way at once. */
  window(): { readonly bytes: number; readonly chunks: number };
  handleAcked(bytes: number, durationUs: number): void;
}

/** What the path is told by whoever receives: since when the sender might send. */
export interface Receiving {
  handleCommitted(bytes: number, sinceMs: number): void;
}

export class Pusher implements Requester {
  readonly #link: Link;
  readonly #slotOf = new Map<PlacementId, number>();
  readonly #placements: readonly PlacementId[];
  readonly #chunkBytes: readonly number[];
  readonly #onComplete: (slot: number) => void;
  /** Per slot: chunks of the running request that are not acknowledged yet. */
  readonly #missing: Int32Array;
  readonly #sequence: Float64Array;
  readonly movedByLane = new Float64Array(limits.lanesMax);
  readonly #sending: Sending;
  /** From `#next` on they wait. */
  #queue: ChunkSend[] = [];
  #next = 0;
  #waitingBytes = 0;
  #inFlight = { bytes: 0, chunks: 0 };
  #retries = 0;

  constructor(
    link: Link,
    placements: readonly PlacementId[],
    chunks: readonly ChunkSpan[],
    sending: Sending,
    onComplete: (slot: number) => void,
  ) {
    this.#link = link;
    this.#sending = sending;
    this.#placements = placements;
    this.#chunkBytes = chunks.map(({ bytes }) => bytes);
    this.#onComplete = onComplete;
    this.#missing = new Int32Array(placements.length);
    this.#sequence = new Float64Array(placements.length);
    placements.forEach((placement, slot) => this.#slotOf.set(placement, slot));
  }

  get retries(): number {
    return this.#retries;
  }

  get waitingBytes(): number {
    return this.#waitingBytes;
  }

  /** Whether a request on this slot still waits for acknowledgements. */
  isBusy(slot: number): boolean {
    return this.#missing[slot] !== 0;
  }

  begin(slot: number): void {
    assert(!this.isBusy(slot), "a slot carries one request at a time");
    const chunks = this.#chunkBytes.length;
    this.#missing[slot] = chunks;
    const sequence = this.#sequence[slot]! + SEQUENCES;
    if (sequence > SEQUENCE_MAX)
      throw new KvferryError("full", "the sequence numbers of a slot are used up: a larger --pool has more slots");
    this.#sequence[slot] = sequence;
    const placement = this.#placements[slot]!;
    for (let chunk = 0; chunk < chunks; chunk++) this.#wait({ placement, chunk, sequence });
    this.flush();
  }

  handle(event: LinkEvent): boolean {
    if (event.kind !== "acked" && event.kind !== "failed") return false;
    const slot = this.#slotOf.get(event.placement);
    if (slot === undefined) return false;
    const bytes = this.#chunkBytes[event.chunk]!;
    this.#inFlight.bytes -= bytes;
    this.#inFlight.chunks -= 1;
    if (event.kind === "acked") {
      this.movedByLane[event.lane]! += bytes;
      this.#sending.handleAcked(event.bytes, event.durationUs);
      const missing = this.#missing[slot]! - 1;
      this.#missing[slot] = missing;
      if (missing === 0) this.#onComplete(slot);
    } else {
      this.#repeat(slot, event.chunk, event.sequence, event.code);
    }
    return true;
  }

  flush(): void {
    if (this.#next === this.#queue.length) return;
    const window = this.#sending.window();
    const batch: ChunkSend[] = [];
    const most = window.chunks - this.#inFlight.chunks;
    let room = window.bytes - this.#inFlight.bytes;
    for (let at = this.#next; at < this.#queue.length && batch.length < most; at++) {
      const chunk = this.#queue[at]!;
      const bytes = this.#bytesOf(chunk);
      // One that is larger than the window goes alone.
      if (bytes > room && (batch.length > 0 || this.#inFlight.chunks > 0)) break;
      room -= bytes;
      batch.push(chunk);
    }
    if (batch.length === 0) return;
    const taken = this.#link.submit(batch);
    for (const chunk of taken === batch.length ? batch : batch.slice(0, taken)) {
      const bytes = this.#bytesOf(chunk);
      this.#waitingBytes -= bytes;
      this.#inFlight.bytes += bytes;
    }
    this.#inFlight.chunks += taken;
    this.#next += taken;
    if (this.#next * 2 < this.#queue.length) return;
    this.#queue = this.#queue.slice(this.#next);
    this.#next = 0;
  }

  #wait(chunk: ChunkSend): void {
    this.#queue.push(chunk);
    this.#waitingBytes += this.#bytesOf(chunk);
  }

  #bytesOf({ chunk }: ChunkSend): number {
    return this.#chunkBytes[chunk]!;
  }

  #repeat(slot: number, chunk: number, sequence: number, code: number): void {
    const attempt = sequence - this.#sequence[slot]! + 1;
    const most = code === LANE_LOST ? SEQUENCES - 1 : ATTEMPTS_MAX;
    if (attempt >= most) throw new KvferryError(codeOfNumber(code), `chunk ${chunk} failed ${attempt} times`);
    this.#retries++;
    this.#wait({ placement: this.#placements[slot]!, chunk, sequence: sequence + 1 });
  }
}

export class Puller implements Requester {
  readonly #link: Link;
  readonly #connection: ConnectionId;
  readonly #slotOf = new Map<PlacementId, number>();
  readonly #chunks: number;
  readonly #onComplete: (slot: number) => void;
  readonly #missing: Int32Array;
  /** Requests begun, by slot; and the last one that brought each chunk. A chunk whose acknowledgement was lost comes a second time. */
  readonly #request: Uint32Array;
  readonly #brought: Uint32Array;
  readonly #receiving: Receiving;
  readonly #begunMs: Float64Array;
  readonly waitingBytes = 0;
  /** What the other end calls slot 0. */
  readonly #firstNumber: number;
  readonly movedByLane = new Float64Array(limits.lanesMax);
  #queue: number[] = [];
  #rejected = 0;

  constructor(
    link: Link,
    connection: ConnectionId,
    placements: readonly PlacementId[],
    chunks: readonly ChunkSpan[],
    receiving: Receiving,
    onComplete: (slot: number) => void,
    firstNumber = 0,
  ) {
    this.#link = link;
    this.#receiving = receiving;
    this.#begunMs = new Float64Array(placements.length);
    this.#connection = connection;
    this.#firstNumber = firstNumber;
    this.#chunks = chunks.length;
    this.#onComplete = onComplete;
    this.#missing = new Int32Array(placements.length);
    this.#request = new Uint32Array(placements.length);
    this.#brought = new Uint32Array(placements.length * chunks.length);
    placements.forEach((placement, slot) => this.#slotOf.set(placement, slot));
  }

  get retries(): number {
    return this.#rejected;
  }

  begin(slot: number): void {
    assert(this.#missing[slot] === 0, "a slot carries one request at a time");
    this.#missing[slot] = this.#chunks;
    this.#request[slot]!++;
    this.#begunMs[slot] = performance.now();
    this.#queue.push(slot);
    this.flush();
  }

  handle(event: LinkEvent): boolean {
    if (event.kind !== "committed" && event.kind !== "rejected") return false;
    const slot = this.#slotOf.get(event.placement);
    if (slot === undefined) return false;
    if (event.kind === "rejected") {
      this.#rejected++;
      return true;
    }
    const request = this.#request[slot]!;
    const at = slot * this.#chunks + event.chunk;
    if (Math.floor(event.sequence / SEQUENCES) !== request || this.#brought[at] === request) return true;
    this.#brought[at] = request;
    this.movedByLane[event.lane]! += event.bytes;
    this.#receiving.handleCommitted(event.bytes, this.#begunMs[slot]!);
    const missing = this.#missing[slot]! - 1;
    this.#missing[slot] = missing;
    if (missing === 0) this.#onComplete(slot);
    return true;
  }

  flush(): void {
    let sent = 0;
    while (sent < this.#queue.length && this.#link.send(this.#connection, goMessage(this.#firstNumber + this.#queue[sent]!))) sent++;
    if (sent > 0) this.#queue = this.#queue.slice(sent);
  }
}

/**
 * Pushes what a puller asks for. Its next "go" may overtake the acknowledgements of its last one: they come over other connections. Such a slot
 * begins again when they are here; a slot that is asked for twice meanwhile begins once.
 */
export class AskedPusher {
  readonly pusher: Pusher;
  readonly #early = new Set<number>();

  constructor(link: Link, placements: readonly PlacementId[], chunks: readonly ChunkSpan[], sending: Sending) {
    this.pusher = new Pusher(link, placements, chunks, sending, (slot) => {
      if (this.#early.delete(slot)) this.pusher.begin(slot);
    });
  }

  handleGo(slot: number): void {
    if (this.pusher.isBusy(slot)) this.#early.add(slot);
    else this.pusher.begin(slot);
  }
}

/** "Push this slot": 4 bytes. */
export function goMessage(slot: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, slot, true);
  return bytes;
}

export function slotOfMessage(bytes: Uint8Array, slots: number): number {
  const slot = bytes.length === 4 ? new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0, true) : -1;
  if (slot < 0 || slot >= slots) throw new KvferryError("protocol_error", "the bench client asks for a slot that is none");
  return slot;
}
