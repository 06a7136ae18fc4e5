/** Cuts the stream of a plane into chunks of about the wished size, with no tail that is not worth a header. PURE. */
import { expected } from "../check.ts";
import { limits } from "../limits.ts";
import type { ChunkSpan } from "../link/link.ts";

/** A tail shorter than this part of a chunk is shared out with the chunk before it. */
const TAIL_PART = 8;
/** Cuts inside a block fall on a cache line. */
const LINE_BYTES = 64;

export class ChunkList {
  readonly chunks: ChunkSpan[] = [];
  readonly #layers: number[] = [];
  readonly #chunkBytes: number;
  bytes = 0;

  constructor(chunkBytes: number) {
    this.#chunkBytes = chunkBytes;
  }

  get layers(): Uint32Array {
    return Uint32Array.from(this.#layers);
  }

  /** A plane of whole blocks: several to a chunk, or several chunks to a block. */
  addBlocks(plane: number, layer: number, blockBytes: number, blocks: number): void {
    if (blockBytes <= this.#chunkBytes) {
      this.#addUnits(plane, layer, blockBytes, blocks, 1);
      return;
    }
    const pieces = Math.ceil(blockBytes / this.#chunkBytes);
    this.#admit(pieces * blocks);
    for (let block = 0; block < blocks; block++) {
      let from = 0;
      for (let piece = 1; piece <= pieces; piece++) {
        const even = (piece * blockBytes) / pieces;
        const to = piece === pieces ? blockBytes : cutNear(even, blockBytes / pieces);
        this.#push(plane, layer, block * blockBytes + from, to - from);
        from = to;
      }
    }
  }

  /**
   * A plane of whole tokens, or `parts` planes from `plane` on, of which a chunk has the same tokens. Chunks begin on multiples of `alignTokens` where they
   * are that long.
   */
  addTokens(plane: number, layer: number, tokenBytes: number, tokens: number, alignTokens: number, parts = 1): void {
    this.#addUnits(plane, layer, tokenBytes * parts, tokens, alignTokens, parts);
  }

  #addUnits(plane: number, layer: number, unitBytes: number, units: number, align: number, parts = 1): void {
    if (unitBytes > limits.chunkBytesMax) throw expected(`at most chunkBytesMax (${limits.chunkBytesMax})`, "bytes of a token", unitBytes);
    const fitting = Math.max(Math.floor(this.#chunkBytes / unitBytes), 1);
    const most = fitting >= align ? fitting - (fitting % align) : fitting;
    const count = Math.ceil(units / most);
    this.#admit(count);
    let tail = units - (count - 1) * most;
    let beforeTail = most;
    if (count > 1 && tail * unitBytes * TAIL_PART < this.#chunkBytes) {
      const both = most + tail;
      beforeTail = Math.ceil(both / 2);
      if (beforeTail >= align) beforeTail -= beforeTail % align;
      tail = both - beforeTail;
    }
    for (let chunk = 0, start = 0; chunk < count; chunk++) {
      const taken = chunk === count - 1 ? tail : chunk === count - 2 ? beforeTail : most;
      this.#push(plane, layer, (start * unitBytes) / parts, taken * unitBytes);
      start += taken;
    }
  }

  #admit(more: number): void {
    const count = this.chunks.length + more;
    if (count > limits.chunksPerTransferMax)
      throw expected(`at most chunksPerTransferMax (${limits.chunksPerTransferMax})`, "chunks", count);
  }

  #push(plane: number, layer: number, start: number, bytes: number): void {
    this.chunks.push(Object.freeze({ plane, start, bytes }));
    this.#layers.push(layer);
    this.bytes += bytes;
  }
}

/**
 * Rounds up, so that no piece outgrows a chunk of whole lines. Small pieces are not worth it, and must not vanish in
 * the rounding.
 */
function cutNear(offset: number, pieceBytes: number): number {
  return pieceBytes >= 2 * LINE_BYTES ? Math.ceil(offset / LINE_BYTES) * LINE_BYTES : Math.floor(offset);
}
