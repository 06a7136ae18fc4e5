/**
 * One control connection of the virtual link with what may travel over its lanes: placements, chunk slots, the queue of chunks to send, chunks
 * without an answer. The rules are those of wire.md and native/OWNERSHIP.md.
 */
import { ERRORS } from "../../transport/errors.ts";
import type { ChunkSend, Endpoint, LinkEvent, PlacementSpec, Rank } from "../../transport/link/link.ts";
import { decodeMessage } from "../../transport/peer/messages.ts";
import { codecOf } from "./codecs.ts";
import type { VirtualLane } from "./lane.ts";
import type { VirtualLink } from "./link.ts";
import type { Pipe, PipeEnd } from "./network.ts";
import { chunkRuns } from "./runs.ts";

export const CODE = Object.freeze({
  closed: ERRORS.closed.number,
  cancelled: ERRORS.cancelled.number,
  connectFailed: ERRORS.connect_failed.number,
  connectTimeout: ERRORS.connect_timeout.number,
  connectionLost: ERRORS.connection_lost.number,
  laneLost: ERRORS.lane_lost.number,
  protocolError: ERRORS.protocol_error.number,
  checksumMismatch: ERRORS.checksum_mismatch.number,
  codecFailed: ERRORS.codec_failed.number,
  duplicateChunk: ERRORS.duplicate_chunk.number,
  chunkBusy: ERRORS.chunk_busy.number,
  grantUnknown: ERRORS.grant_unknown.number,
});

/** Who has sent so much more than the mean of those that wait takes every second turn. */
const LEAD_BYTES = 4 * 2 ** 20;

const RANKS: readonly Rank[] = [0, 1, 2];
/** A rank that more urgent ones have passed by so much has a turn. */
const PASSED_BYTES = 32 * 2 ** 20;

const FREE = 0;
const COMMITTED = -1;

export class Placement {
  readonly id: number;
  readonly spec: PlacementSpec;
  revoked = false;
  /** Its `revoked` was emitted: nothing touches the memory any more. */
  over = false;
  pins = 0;
  /** Chunks submitted and not answered. */
  outstandingChunks = 0;
  outstandingBytes = 0;
  /** Bytes that lanes took; whether it has let its last turn pass, being ahead of the others. */
  takenBytes = 0;
  passed = false;
  rank: Rank;
  /** FREE, COMMITTED or 1 + the lane that writes. */
  readonly slots: Int32Array;
  readonly sequences: Uint32Array;
  readonly #runs: (number[] | undefined)[];

  constructor(id: number, spec: PlacementSpec) {
    this.id = id;
    // Lists that the caller changes later change nothing.
    this.spec = {
      ...spec,
      blockLists: spec.blockLists.map((blocks) => blocks.slice()),
      chunks: [...spec.chunks],
      planes: [...spec.planes],
    };
    this.slots = new Int32Array(spec.chunks.length);
    this.sequences = new Uint32Array(spec.chunks.length);
    this.#runs = Array.from<number[] | undefined>({ length: spec.chunks.length });
    this.rank = spec.rank ?? 1;
    for (const chunk of spec.committed ?? []) this.slots[chunk] = COMMITTED;
  }

  bytesOf(chunk: number): number {
    return this.spec.chunks[chunk]?.bytes ?? 0;
  }

  runs(chunk: number): readonly number[] {
    return (this.#runs[chunk] ??= chunkRuns(this.spec, chunk));
  }
}

export interface Head {
  readonly grant: number;
  readonly generation: number;
  readonly chunk: number;
  readonly sequence: number;
  /** Of the payload, as it travels. */
  readonly bytes: number;
  /** What made it fewer (codecs.ts), or "". */
  readonly coded: string;
}

export interface Queued extends ChunkSend {
  readonly to: Placement;
  readonly submittedUs: number;
}

export class Exchange implements PipeEnd {
  readonly id: number;
  readonly link: VirtualLink;
  readonly remote: Endpoint;
  readonly lanes = new Map<number, VirtualLane>();
  /** Lanes that are being dialled, and what ends that. */
  readonly opening = new Map<number, (code: number) => void>();
  readonly placements = new Set<Placement>();
  readonly grants = new Map<number, Placement>();
  /** Chunks that no lane has taken, by placement; placements take turns. */
  readonly #queues = new Map<Placement, Queued[]>();
  #queued = 0;
  readonly #passedBytes = [0, 0, 0];
  /** Messages that were sent before the connection was there. */
  #early: Uint8Array[] = [];
  readonly tokens = new Set<string>();
  /** Of lanes that the other end opens. */
  acceptedRate = 0;
  pipe: Pipe | undefined;
  side: 0 | 1 = 0;
  /** Told its owner that it is there. */
  open = false;
  gone = false;
  /** Asked to end: what was sent goes out, nothing more is taken. */
  closing = false;

  constructor(id: number, link: VirtualLink, remote: Endpoint) {
    this.id = id;
    this.link = link;
    this.remote = remote;
  }

  join(pipe: Pipe, side: 0 | 1): void {
    this.pipe = pipe;
    this.side = side;
    this.open = true;
    pipe.attach(side, this);
    for (const message of this.#early.splice(0)) this.send(message);
  }

  isReady(bytes: number): boolean {
    const { messages, messageBytes, options } = this.link;
    return messages === 0 || (messages < options.eventsMax && messageBytes + bytes <= options.controlQueueBytes);
  }

  send(message: Uint8Array): boolean {
    const { link, pipe, side } = this;
    if (this.gone) return false;
    if (pipe === undefined) return this.#sendEarly(message);
    if (this.closing || !pipe.alive(side)) return false;
    const { controlQueueBytes } = link.options;
    if (pipe.pendingBytes(side) + framedBytes(message) > controlQueueBytes) return false;
    const copy = message.slice();
    const other = (): Exchange | undefined => link.otherEnd(pipe, side);
    pipe.send(side, framedBytes(message), () => other()?.handleMessage(copy));
    link.watchQueue("control queue (bytes)", pipe.pendingBytes(side), controlQueueBytes);
    if (link.draw(link.faults.breakConnection)) link.world.after(link.random.below(200), () => pipe.break(link.random.below(2) as 0 | 1));
    return true;
  }

  #sendEarly(message: Uint8Array): boolean {
    const { controlQueueBytes } = this.link.options;
    const waiting = this.#early.reduce((sum, other) => sum + framedBytes(other), framedBytes(message));
    if (waiting > controlQueueBytes) return false;
    this.#early.push(message.slice());
    return true;
  }

  handleMessage(message: Uint8Array): void {
    if (this.gone) return;
    this.link.world.note(() => `${this.link.host.name} hears over ${this.id}: ${describeMessage(message)}`);
    this.link.emit({ kind: "message", connection: this.id, bytes: message });
  }

  handleBroken(): void {
    this.end(CODE.connectionLost, "the network broke it");
  }

  /** Lanes go first, then what no lane took; then `disconnected`. */
  end(code: number, detail: string): void {
    if (this.gone) return;
    this.gone = true;
    this.link.world.note(() => `${this.link.host.name} loses ${this.id}: ${detail}`);
    const laneCode = code === CODE.closed ? CODE.closed : CODE.laneLost;
    for (const fail of [...this.opening.values()]) fail(laneCode);
    for (const lane of [...this.lanes.values()]) lane.end(laneCode);
    for (const queue of this.#queues.values()) {
      for (const { to, chunk, sequence } of queue) this.fail(to, chunk, sequence, -1, CODE.laneLost);
    }
    this.#queues.clear();
    this.#queued = 0;
    this.pipe?.close(this.side);
    this.link.forgetTokens(this);
    this.link.emit({ kind: "disconnected", connection: this.id, code, detail });
  }

  submit(to: Placement, send: ChunkSend): boolean {
    if (this.gone || this.#queued >= this.link.options.queueChunks) return false;
    to.outstandingChunks += 1;
    to.outstandingBytes += to.bytesOf(send.chunk);
    const queue = this.#queues.get(to) ?? [];
    if (queue.length === 0) this.#queues.set(to, queue);
    queue.push({ ...send, to, submittedUs: this.link.world.nowUs });
    this.#queued += 1;
    this.link.watchQueue("send queue", this.#queued, this.link.options.queueChunks);
    return true;
  }

  /** The next chunk for a lane: the oldest of the placement whose turn it is, of the most urgent rank unless a lower one was passed by enough. */
  takeQueued(): Queued | undefined {
    const ranks = [...this.#queues.keys()].map(({ rank }) => rank);
    const rank = RANKS.find((one) => ranks.includes(one) && this.#passedBytes[one]! >= PASSED_BYTES) ?? Math.min(...ranks);
    for (const [placement, queue] of this.#queues) {
      if (placement.rank !== rank) continue;
      this.#queues.delete(placement);
      placement.passed = !placement.passed && this.#queues.size > 0 && this.#isAhead(placement);
      const next = placement.passed ? undefined : queue.shift();
      if (queue.length > 0) this.#queues.set(placement, queue);
      if (next === undefined) continue;
      this.#queued -= 1;
      const bytes = placement.bytesOf(next.chunk);
      if (placement.spec.standing !== true) placement.takenBytes += bytes;
      this.#passedBytes[rank] = 0;
      for (const lower of RANKS) if (lower > rank) this.#passedBytes[lower]! += bytes;
      return next;
    }
    return undefined;
  }

  /** Of a placement that is not among the queues just now. */
  #isAhead({ takenBytes }: Placement): boolean {
    const all = [...this.#queues.keys()].reduce((sum, other) => sum + other.takenBytes, takenBytes);
    return takenBytes - LEAD_BYTES > all / (this.#queues.size + 1);
  }

  /** Idle lanes take from the queue, in order of their numbers. */
  wakeLanes(): void {
    for (const lane of [...this.lanes.values()]) lane.pump();
  }

  revoke(placement: Placement): void {
    if (placement.revoked) return;
    placement.revoked = true;
    if (placement.spec.direction === "in") this.grants.delete(placement.spec.grant);
    const queued = this.#queues.get(placement) ?? [];
    this.#queues.delete(placement);
    this.#queued -= queued.length;
    for (const { chunk, sequence } of queued) this.fail(placement, chunk, sequence, -1, CODE.cancelled);
    for (const lane of this.lanes.values()) lane.handleRevoked(placement);
    this.settle(placement);
  }

  unpin(placement: Placement): void {
    placement.pins -= 1;
    this.settle(placement);
  }

  settle(placement: Placement): void {
    if (!placement.revoked || placement.over || placement.pins > 0) return;
    placement.over = true;
    this.placements.delete(placement);
    this.link.emit({ kind: "revoked", placement: placement.id });
  }

  fail(placement: Placement, chunk: number, sequence: number, lane: number, code: number): void {
    this.answer(placement, chunk);
    this.link.emit({ kind: "failed", placement: placement.id, chunk, sequence, lane, code });
  }

  answer(placement: Placement, chunk: number): void {
    placement.outstandingChunks -= 1;
    placement.outstandingBytes -= placement.bytesOf(chunk);
  }

  /** What to do with a chunk whose header has come: its placement (pinned, the slot taken), or the answer. */
  arrive(lane: VirtualLane, head: Head): Placement | { readonly ack: boolean; readonly code: number } | "violation" {
    const placement = this.grants.get(head.grant);
    if (placement === undefined || placement.spec.generation !== head.generation) return { ack: false, code: CODE.grantUnknown };
    if (head.chunk >= placement.spec.chunks.length || head.sequence === 0) return "violation";
    const bytes = placement.bytesOf(head.chunk);
    if (head.coded === "" ? head.bytes !== bytes : head.bytes >= bytes || codecOf(placement.spec, head.chunk) === undefined)
      return "violation";
    const slot = placement.slots[head.chunk]!;
    const again = placement.spec.standing === true && head.sequence > placement.sequences[head.chunk]!;
    if (slot === COMMITTED && !again) return { ack: true, code: CODE.duplicateChunk };
    if (slot > FREE) return { ack: false, code: CODE.chunkBusy };
    placement.slots[head.chunk] = 1 + lane.index;
    placement.pins += 1;
    return placement;
  }

  /** The lane is done with the slot: committed, or free again. */
  leave(placement: Placement, head: Head, committed: boolean, lane: number): void {
    placement.slots[head.chunk] = committed ? COMMITTED : FREE;
    if (committed) {
      placement.sequences[head.chunk] = Math.max(placement.sequences[head.chunk]!, head.sequence);
      this.link.options.watch.onCommitted(this.link, placement, head.chunk);
      const { chunk, sequence, bytes } = head;
      this.link.emit({ kind: "committed", placement: placement.id, chunk, sequence, lane, bytes } satisfies LinkEvent);
    }
    this.unpin(placement);
  }
}

/** With its length and checksum. */
function framedBytes({ length }: Uint8Array): number {
  return length + 8;
}

/** For the reader of a trace. */
function describeMessage(bytes: Uint8Array): string {
  try {
    const { kind, ...fields } = decodeMessage(bytes);
    const plain = Object.entries(fields).filter(([, value]) => typeof value === "number" || typeof value === "boolean");
    return `${kind} ${plain.map(([name, value]) => `${name}=${value}`).join(" ")}`;
  } catch {
    return `${bytes.length} bytes that do not parse`;
  }
}
