/** Where the chunks of one transfer lie: a checked copy of its description, and for incoming ones the state of each chunk's slot. */
import { expected, integer } from "../check.ts";
import { KvferryError } from "../errors.ts";
import { planeFits, RunCursor, streamBytes } from "../kv/runs.ts";
import { limits } from "../limits.ts";
import { Fifo } from "./js-fifo.ts";
import type { PlacementId, PlacementSpec, Plane, Rank } from "./link.ts";

export interface QueuedChunk {
  readonly chunk: number;
  readonly sequence: number;
  readonly submittedUs: number;
}

export class Placement {
  readonly id: PlacementId;
  readonly incoming: boolean;
  readonly standing: boolean;
  readonly checksum: boolean;
  readonly grant: number;
  readonly generation: number;
  readonly memory: Uint8Array;
  readonly chunks: number;
  revoked = false;
  /** Of the send queue, as are the next three. */
  rank: Rank;
  readonly queued = new Fifo<QueuedChunk>();
  allowanceBytes = 0;
  /** Bytes that left the queue; a standing placement has no end to be fair to, and stays at 0. */
  sentBytes = 0;
  readonly #planes: readonly Plane[];
  readonly #blockLists: readonly Uint32Array[];
  readonly #chunkPlanes: Uint32Array;
  readonly #chunkStarts: Float64Array;
  readonly #chunkBytes: Uint32Array;
  /** Slots of incoming chunks: the highest sequence committed, committed at all, being written. */
  readonly #sequences: Uint32Array;
  readonly #committed: Uint8Array;
  readonly #writing: Uint8Array;

  /** Throws KvferryError: invalid_argument, range_invalid. */
  constructor(id: PlacementId, spec: PlacementSpec, chunkBytesMax: number) {
    checkNumbers(spec);
    this.id = id;
    this.incoming = spec.direction === "in";
    this.standing = spec.standing === true;
    this.checksum = spec.checksum;
    this.rank = spec.rank ?? 1;
    this.grant = spec.grant;
    this.generation = spec.generation;
    this.memory = spec.region.view;
    this.chunks = spec.chunks.length;
    // Copies: what was checked must be what is used.
    this.#planes = spec.planes.map((plane) => ({ ...plane }));
    this.#blockLists = spec.blockLists.map((blocks) => blocks.slice());
    this.#chunkPlanes = Uint32Array.from(spec.chunks, ({ plane }) => integer(plane, "plane of a chunk", 0, this.#planes.length - 1));
    this.#chunkStarts = Float64Array.from(spec.chunks, ({ start }) => integer(start, "start of a chunk", 0, Number.MAX_SAFE_INTEGER));
    this.#chunkBytes = Uint32Array.from(spec.chunks, ({ bytes }) => integer(bytes, "bytes of a chunk", 1, chunkBytesMax));
    this.#checkRanges();
    const slots = this.incoming ? this.chunks : 0;
    this.#sequences = new Uint32Array(slots);
    this.#committed = new Uint8Array(slots);
    this.#writing = new Uint8Array(slots);
    for (const chunk of spec.committed ?? []) {
      integer(chunk, "committed chunk", 0, this.chunks - 1);
      this.#committed[chunk] = 1;
    }
  }

  bytesOf(chunk: number): number {
    return this.#chunkBytes[chunk] as number;
  }

  cursor(chunk: number): RunCursor {
    const plane = this.#planes[this.#chunkPlanes[chunk] as number] as Plane;
    const blocks = this.#blockLists[plane.blockList] as Uint32Array;
    return new RunCursor(plane, blocks, this.#chunkStarts[chunk] as number, this.bytesOf(chunk));
  }

  /** True: the chunk is in place, and another write of this sequence is none. */
  isDuplicate(chunk: number, sequence: number): boolean {
    if (this.#committed[chunk] === 0) return false;
    return !this.standing || sequence <= (this.#sequences[chunk] as number);
  }

  isWriting(chunk: number): boolean {
    return this.#writing[chunk] === 1;
  }

  setWriting(chunk: number, writing: boolean): void {
    this.#writing[chunk] = writing ? 1 : 0;
  }

  commit(chunk: number, sequence: number): void {
    this.#committed[chunk] = 1;
    this.#sequences[chunk] = Math.max(this.#sequences[chunk] as number, sequence);
  }

  #checkRanges(): void {
    const streams = this.#planes.map((plane) => {
      const blocks = this.#blockLists[plane.blockList];
      if (blocks === undefined) throw expected("a block list that is there", "blockList", plane.blockList);
      if (plane.tokens < 1 || plane.heads < 1 || plane.channels < 1 || plane.elementBytes < 1) {
        throw new KvferryError("invalid_argument", "a plane is empty");
      }
      if (!planeFits(plane, blocks, this.memory.length)) throw new KvferryError("range_invalid", "a plane leaves its region");
      return streamBytes(plane, blocks.length);
    });
    for (let chunk = 0; chunk < this.chunks; chunk++) {
      const end = (this.#chunkStarts[chunk] as number) + this.bytesOf(chunk);
      if (end > (streams[this.#chunkPlanes[chunk] as number] as number)) {
        throw new KvferryError("range_invalid", "a chunk leaves its plane's stream");
      }
    }
  }
}

function checkNumbers(spec: PlacementSpec): void {
  if (spec.coding !== undefined) throw new KvferryError("unsupported", "profiles need the native addon");
  if (spec.direction !== "in" && spec.direction !== "out") throw expected('"in" or "out"', "direction", spec.direction);
  integer(spec.grant, "grant", 1, limits.grantMax);
  integer(spec.generation, "generation", 0, 2 ** 32 - 1);
  integer(spec.planes.length, "planes", 1, limits.planesMax);
  integer(spec.blockLists.length, "blockLists", 1, limits.groupsMax);
  integer(spec.chunks.length, "chunks", 1, limits.chunksPerTransferMax);
  for (const blocks of spec.blockLists) integer(blocks.length, "blocks of a list", 0, limits.blocksPerTransferMax);
}
