/**
 * The chunks of an outgoing transfer: what has become of each, and which one goes next. Constant work for each chunk that is asked for;
 * typed arrays, because a transfer may have a million chunks. PURE.
 */
import { assert } from "../check.ts";
import { Pauses } from "./pauses.ts";

const WAITING = 0;
const IN_FLIGHT = 1;
const PLACED = 2;

export class Outbox {
  readonly #bytes: Uint32Array;
  readonly #layerOf: Uint32Array;
  readonly #state: Uint8Array;
  readonly #sequence: Uint32Array;
  /** 1 if an attempt was lost without a word: the peer may have placed the chunk all the same. */
  readonly #doubtful: Uint8Array;
  /** Failures of the chunk in the span of progress that #failureSpan names. */
  readonly #failures: Uint8Array;
  readonly #failureSpan: Uint32Array;
  #span = 0;

  /** Chunks sorted by layer; those of layer n begin at #layerStart[n]. */
  readonly #order: Uint32Array;
  readonly #layerStart: Uint32Array;
  readonly #layerReady: Uint8Array;
  /** Bytes of the layer that are not placed. */
  readonly #layerBytes: Float64Array;
  /** Ready layers in the order in which they became so; the cursor stands in one of them. */
  readonly #readyLayers: number[] = [];
  #cursorLayer = 0;
  #cursor = 0;
  /** What the link had no room for, the next one last. */
  readonly #refused: number[] = [];
  readonly #pauses = new Pauses();

  #placedChunks = 0;
  #placedBytes = 0;
  #inFlightChunks = 0;
  #inFlightBytes = 0;
  #movableBytes = 0;
  #unknown: number;

  constructor(chunkBytes: Uint32Array, chunkLayer: Uint32Array, layers: number) {
    assert(chunkBytes.length === chunkLayer.length, "each chunk has its layer");
    const count = chunkBytes.length;
    this.#bytes = chunkBytes;
    this.#layerOf = chunkLayer;
    this.#state = new Uint8Array(count);
    this.#sequence = new Uint32Array(count);
    this.#doubtful = new Uint8Array(count);
    this.#failures = new Uint8Array(count);
    this.#failureSpan = new Uint32Array(count);
    this.#unknown = count;
    this.#layerStart = new Uint32Array(layers + 1);
    this.#layerReady = new Uint8Array(layers);
    this.#layerBytes = new Float64Array(layers);
    const chunksOf = new Uint32Array(layers);
    for (const [chunk, layer] of chunkLayer.entries()) {
      assert(layer < layers, "a chunk belongs to a layer of the transfer");
      chunksOf[layer]! += 1;
      this.#layerBytes[layer]! += chunkBytes[chunk]!;
    }
    for (let layer = 0; layer < layers; layer++) this.#layerStart[layer + 1] = this.#layerStart[layer]! + chunksOf[layer]!;
    this.#order = new Uint32Array(count);
    const fill = this.#layerStart.slice();
    for (let chunk = 0; chunk < count; chunk++) this.#order[fill[chunkLayer[chunk]!]!++] = chunk;
  }

  get count(): number {
    return this.#bytes.length;
  }
  get placedBytes(): number {
    return this.#placedBytes;
  }
  get inFlightBytes(): number {
    return this.#inFlightBytes;
  }
  get inFlightChunks(): number {
    return this.#inFlightChunks;
  }
  get allPlaced(): boolean {
    return this.#placedChunks === this.#bytes.length;
  }
  /** Some chunk of a ready layer is not placed yet. */
  get hasMovable(): boolean {
    return this.#movableBytes > 0;
  }
  /** Of ready layers, what is neither placed nor under way. */
  get waitingBytes(): number {
    return this.#movableBytes - this.#inFlightBytes;
  }
  /** Each chunk is placed, under way or was lost without a word: the peer may have them all. */
  get mayAllBePlaced(): boolean {
    return this.#unknown === 0;
  }
  /** When the next pause ends. */
  get nextUs(): number {
    return this.#pauses.nextUs;
  }

  isPlaced(chunk: number): boolean {
    return this.#state[chunk] === PLACED;
  }
  isInFlight(chunk: number, sequence: number): boolean {
    return this.#state[chunk] === IN_FLIGHT && this.#sequence[chunk] === sequence;
  }

  markReady(layer: number): void {
    if (layer >= this.#layerReady.length || this.#layerReady[layer] === 1) return;
    this.#layerReady[layer] = 1;
    this.#movableBytes += this.#layerBytes[layer]!;
    this.#readyLayers.push(layer);
    if (this.#readyLayers.length === this.#cursorLayer + 1) this.#cursor = this.#layerStart[layer]!;
  }

  /** The chunk to send next, or -1: what the link refused, then retries that are due, then the first of the ready layers. */
  peek(nowUs: number): number {
    for (let at = this.#refused.length - 1; at >= 0; at--) {
      if (this.#state[this.#refused[at]!] === WAITING) return this.#refused[at]!;
      this.#refused.pop();
    }
    while (this.#pauses.nextUs <= nowUs) {
      const chunk = this.#pauses.first;
      if (this.#state[chunk] === WAITING) return chunk;
      this.#pauses.removeFirst();
    }
    return this.#peekFresh();
  }

  #peekFresh(): number {
    while (this.#cursorLayer < this.#readyLayers.length) {
      const layer = this.#readyLayers[this.#cursorLayer]!;
      for (; this.#cursor < this.#layerStart[layer + 1]!; this.#cursor++) {
        const chunk = this.#order[this.#cursor]!;
        if (this.#state[chunk] === WAITING) return chunk;
      }
      this.#cursorLayer += 1;
      const next = this.#readyLayers[this.#cursorLayer];
      if (next !== undefined) this.#cursor = this.#layerStart[next]!;
    }
    return -1;
  }

  /** Sends what peek() gave at the same moment; returns the attempt's number. */
  take(chunk: number): number {
    assert(this.#state[chunk] === WAITING, "only a waiting chunk is sent");
    if (this.#refused.at(-1) === chunk) this.#refused.pop();
    else if (this.#pauses.first === chunk) this.#pauses.removeFirst();
    else this.#cursor += 1;
    this.#state[chunk] = IN_FLIGHT;
    this.#inFlightChunks += 1;
    this.#inFlightBytes += this.#bytes[chunk]!;
    if (this.#doubtful[chunk] === 0) this.#unknown -= 1;
    return (this.#sequence[chunk]! += 1);
  }

  /** Placed, whatever was known of it before. */
  place(chunk: number): void {
    if (this.#state[chunk] === IN_FLIGHT) this.#land(chunk);
    else if (this.#doubtful[chunk] === 0) this.#unknown -= 1;
    this.#state[chunk] = PLACED;
    this.#placedChunks += 1;
    this.#placedBytes += this.#bytes[chunk]!;
    const layer = this.#layerOf[chunk]!;
    this.#layerBytes[layer]! -= this.#bytes[chunk]!;
    if (this.#layerReady[layer] === 1) this.#movableBytes -= this.#bytes[chunk]!;
    this.#span += 1;
  }

  placeAll(): void {
    for (let chunk = 0; chunk < this.#state.length; chunk++) if (this.#state[chunk] !== PLACED) this.place(chunk);
  }

  /** An attempt failed; `doubtful`: the peer may have placed it. Returns how often since any chunk was placed. */
  fail(chunk: number, doubtful: boolean): number {
    this.#land(chunk);
    if (doubtful) this.#doubtful[chunk] = 1;
    else if (this.#doubtful[chunk] === 0) this.#unknown += 1;
    if (this.#failureSpan[chunk] !== this.#span) this.#failures[chunk] = 0;
    this.#failureSpan[chunk] = this.#span;
    this.#failures[chunk] = Math.min(this.#failures[chunk]! + 1, 255);
    return this.#failures[chunk]!;
  }

  pause(chunk: number, untilUs: number): void {
    this.#pauses.add(chunk, untilUs);
  }

  /** The link had no room: the attempts never were. In the order in which they were taken. */
  untake(chunks: readonly { readonly chunk: number; readonly sequence: number }[]): void {
    for (let at = chunks.length - 1; at >= 0; at--) {
      const { chunk, sequence } = chunks[at]!;
      if (!this.isInFlight(chunk, sequence)) continue;
      this.#land(chunk);
      this.#sequence[chunk]! -= 1;
      if (this.#doubtful[chunk] === 0) this.#unknown += 1;
      this.#refused.push(chunk);
    }
  }

  /** Nothing is under way any more, and nobody knows what became of it. */
  forgetFlights(): void {
    for (let chunk = 0; chunk < this.#state.length && this.#inFlightChunks > 0; chunk++) {
      if (this.#state[chunk] !== IN_FLIGHT) continue;
      this.#land(chunk);
      this.#doubtful[chunk] = 1;
    }
  }

  /**
   * The peer's word on what is placed (bit i of byte i>>3); everything else starts anew. False if it contradicts what was acknowledged
   * or names chunks that are not there.
   */
  restart(bitmap: Uint8Array): boolean {
    const count = this.#state.length;
    for (let bit = count; bit < bitmap.length * 8; bit++) if (hasBit(bitmap, bit)) return false;
    for (let chunk = 0; chunk < count; chunk++) {
      const placed = hasBit(bitmap, chunk);
      if (!placed && this.#state[chunk] === PLACED) return false;
      if (placed && this.#state[chunk] !== PLACED) this.place(chunk);
      if (!placed && this.#doubtful[chunk] === 1) {
        this.#doubtful[chunk] = 0;
        this.#unknown += 1;
      }
    }
    this.#refused.length = 0;
    this.#pauses.clear();
    this.#cursorLayer = 0;
    const first = this.#readyLayers[0];
    if (first !== undefined) this.#cursor = this.#layerStart[first]!;
    return true;
  }

  #land(chunk: number): void {
    assert(this.#state[chunk] === IN_FLIGHT, "only what is under way lands");
    this.#state[chunk] = WAITING;
    this.#inFlightChunks -= 1;
    this.#inFlightBytes -= this.#bytes[chunk]!;
  }
}

function hasBit(bitmap: Uint8Array, bit: number): boolean {
  return ((bitmap[bit >> 3] ?? 0) & (1 << (bit & 7))) !== 0;
}
