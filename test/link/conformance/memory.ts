/** Memory with guards: what no grant names must stay as it was. */
import assert from "node:assert/strict";
import type { ChunkSpan, Plane } from "../../../transport/link/link.ts";
import { privateRegion, type Region } from "../../../transport/memory/region.ts";
import { addressOf } from "../../kv/copier.ts";

/** The sender's content: every byte depends on where it lies and on a seed. */
export function fillPattern(bytes: Uint8Array, seed: number): void {
  let state = (seed * 2_654_435_761) >>> 0 || 1;
  for (let at = 0; at < bytes.length; at++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    bytes[at] = state & 0xff;
  }
}

export class Memory {
  readonly region: Region;
  /** What the region should hold. */
  readonly #expected: Uint8Array;

  constructor(bytes: number, seed: number) {
    this.region = privateRegion(bytes);
    fillPattern(this.region.view, seed);
    this.#expected = this.region.view.slice();
  }

  get view(): Uint8Array {
    return this.region.view;
  }

  /** Content that the test itself writes. */
  write(at: number, bytes: Uint8Array): void {
    this.region.view.set(bytes, at);
    this.#expected.set(bytes, at);
  }

  /** What a chunk of `from` should have left here. */
  expectChunk(span: ChunkSpan, to: Side, from: Memory, source: Side): void {
    const content = new Uint8Array(span.bytes);
    forEachPiece(source, span, (address, at, count) => content.set(from.#expected.subarray(address, address + count), at));
    forEachPiece(to, span, (address, at, count) => this.#expected.set(content.subarray(at, at + count), address));
  }

  /** What a payload should have left here. */
  expectPayload(span: ChunkSpan, to: Side, payload: Uint8Array): void {
    forEachPiece(to, span, (address, at, count) => this.#expected.set(payload.subarray(at, at + count), address));
  }

  /** Takes what is there for right: a chunk was begun and not committed. */
  acceptChunk(span: ChunkSpan, to: Side): void {
    forEachPiece(to, span, (address, _at, count) => {
      this.#expected.set(this.region.view.subarray(address, address + count), address);
    });
  }

  /** The whole region holds what it should, byte for byte. */
  check(what: string): void {
    if (Buffer.compare(this.region.view, this.#expected) === 0) return;
    const at = this.region.view.findIndex((byte, index) => byte !== this.#expected[index]);
    assert.fail(`${what}: byte ${at} of ${this.region.bytes} is ${this.region.view[at]}, not ${this.#expected[at]}`);
  }

  /** As check, but the bytes of these chunks may hold anything: they were being written when it was called off. */
  checkOutside(side: Side, spans: readonly ChunkSpan[], what: string): void {
    for (const span of spans) this.acceptChunk(span, side);
    this.check(what);
  }
}

export interface Side {
  readonly planes: readonly Plane[];
  readonly blockLists: readonly Uint32Array[];
}

/** Visits a span element by element, as link.ts defines the stream: the oracle, which knows nothing of runs. */
function forEachPiece(side: Side, span: ChunkSpan, visit: (address: number, at: number, count: number) => void): void {
  const plane = side.planes[span.plane] as Plane;
  const blocks = side.blockLists[plane.blockList] as Uint32Array;
  for (let at = 0; at < span.bytes; ) {
    const count = Math.min(plane.elementBytes - ((span.start + at) % plane.elementBytes), span.bytes - at);
    visit(addressOf(plane, blocks, span.start + at), at, count);
    at += count;
  }
}
