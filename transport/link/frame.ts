/**
 * Preamble, frame header, trailer and control framing as schemas/wire.md has them: bytes in, values out, no clock and no socket, so that
 * fuzzing and golden files reach all of it. `native/core/frame.h` is the same page in C++.
 *
 * A decoder gives undefined when it needs more bytes and throws KvferryError (protocol_error) for bytes that no peer may send.
 */
import { KvferryError } from "../errors.ts";
import { crc32c } from "../kv/crc32c.ts";
import { limits } from "../limits.ts";

export const TOKEN_BYTES = 16;
export const VERDICT_WHOLE = 0;
export const VERDICT_ABANDONED = 1;
const FLAG_CHECKSUM = 1;
const FLAG_CODED = 2;
const PREAMBLE_MAGIC = 0x59_46_56_4b; // "KVFY"
const FRAME_MAGIC = 0x43_46_56_4b; // "KVFC"

export interface Preamble {
  /** Judged by the caller: another version than ours is answered, not dropped. */
  readonly version: number;
  readonly kind: "control" | "lane";
  readonly lane: number;
  /** 16 bytes; zero for control. */
  readonly token: Uint8Array;
}

export type FrameType = "chunk" | "ack" | "nack" | "ping" | "pong" | "pad";
const TYPES: readonly FrameType[] = ["chunk", "ack", "nack", "ping", "pong", "pad"];

export interface FrameHeader {
  readonly type: FrameType;
  /** The trailer carries a checksum of the payload (chunk). */
  readonly checksum: boolean;
  /** The payload is what the codec of the chunk's plane made of it (chunk). */
  readonly coded?: boolean;
  readonly grant: number;
  readonly generation: number;
  readonly chunk: number;
  readonly bytes: number;
  readonly sequence: number;
  readonly status: number;
}

export interface Trailer {
  readonly crc: number;
  readonly verdict: number;
}

export function encodePreamble(preamble: Preamble): Uint8Array {
  const bytes = new Uint8Array(limits.preambleBytes);
  const view = viewOf(bytes);
  view.setUint32(0, PREAMBLE_MAGIC, true);
  view.setUint8(4, preamble.version);
  view.setUint8(5, preamble.kind === "lane" ? 1 : 0);
  view.setUint16(6, preamble.lane, true);
  bytes.set(preamble.token.subarray(0, TOKEN_BYTES), 8);
  view.setUint32(44, crc32c(bytes.subarray(0, 44)), true);
  return bytes;
}

export function decodePreamble(bytes: Uint8Array): Preamble | undefined {
  if (bytes.length < limits.preambleBytes) return undefined;
  const view = viewOf(bytes);
  if (view.getUint32(0, true) !== PREAMBLE_MAGIC) throw broken("a preamble of another magic");
  if (view.getUint32(44, true) !== crc32c(bytes.subarray(0, 44))) throw broken("a preamble with a wrong checksum");
  const kind = view.getUint8(5);
  if (kind > 1) throw broken(`a preamble of kind ${kind}`);
  if (!isZero(bytes.subarray(24, 44))) throw broken("a preamble whose reserved bytes are set");
  const lane = view.getUint16(6, true);
  const token = bytes.slice(8, 8 + TOKEN_BYTES);
  if (kind === 0 && (lane !== 0 || !isZero(token))) throw broken("a control preamble with a lane or a token");
  return { version: view.getUint8(4), kind: kind === 1 ? "lane" : "control", lane, token };
}

/** Writes 48 bytes at `at`. */
export function writeHeader(header: FrameHeader, bytes: Uint8Array, at: number): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset + at, limits.frameHeaderBytes);
  view.setUint32(0, FRAME_MAGIC, true);
  view.setUint8(4, 1);
  view.setUint8(5, TYPES.indexOf(header.type) + 1);
  view.setUint16(6, (header.checksum ? FLAG_CHECKSUM : 0) | (header.coded === true ? FLAG_CODED : 0), true);
  view.setUint32(8, header.grant % 2 ** 32, true);
  view.setUint32(12, Math.floor(header.grant / 2 ** 32), true);
  view.setUint32(16, header.generation, true);
  view.setUint32(20, header.chunk, true);
  view.setUint32(24, header.bytes, true);
  view.setUint32(28, header.sequence, true);
  view.setUint32(32, header.status, true);
  view.setUint32(36, 0, true);
  view.setUint32(40, 0, true);
  view.setUint32(44, crc32c(bytes.subarray(at, at + 44)), true);
}

export function encodeHeader(header: FrameHeader): Uint8Array {
  const bytes = new Uint8Array(limits.frameHeaderBytes);
  writeHeader(header, bytes, 0);
  return bytes;
}

export function decodeHeader(bytes: Uint8Array, chunkBytesMax: number): FrameHeader | undefined {
  if (bytes.length < limits.frameHeaderBytes) return undefined;
  const view = viewOf(bytes);
  if (view.getUint32(0, true) !== FRAME_MAGIC) throw broken("a frame of another magic");
  if (view.getUint32(44, true) !== crc32c(bytes.subarray(0, 44))) throw broken("a frame header with a wrong checksum");
  const version = view.getUint8(4);
  if (version !== 1) throw broken(`a frame of version ${version}`);
  const type = TYPES[view.getUint8(5) - 1];
  if (type === undefined) throw broken(`a frame of type ${view.getUint8(5)}`);
  const flags = view.getUint16(6, true);
  if ((flags & ~(FLAG_CHECKSUM | FLAG_CODED)) !== 0 || view.getUint32(36, true) !== 0 || view.getUint32(40, true) !== 0) {
    throw broken("a frame header whose reserved fields are set");
  }
  const grantHigh = view.getUint32(12, true);
  if (grantHigh >= 2 ** 21) throw broken("a frame whose grant is 2^53 or above");
  const header: FrameHeader = {
    type,
    checksum: (flags & FLAG_CHECKSUM) !== 0,
    ...((flags & FLAG_CODED) !== 0 ? { coded: true } : {}),
    grant: grantHigh * 2 ** 32 + view.getUint32(8, true),
    generation: view.getUint32(16, true),
    chunk: view.getUint32(20, true),
    bytes: view.getUint32(24, true),
    sequence: view.getUint32(28, true),
    status: view.getUint32(32, true),
  };
  checkFields(header, chunkBytesMax);
  return header;
}

function checkFields({ type, coded, bytes, status }: FrameHeader, chunkBytesMax: number): void {
  if (coded === true && type !== "chunk") throw broken(`a frame of type ${type} that is coded`);
  if (type === "chunk" || type === "pad" ? bytes < 1 || bytes > chunkBytesMax : bytes !== 0)
    throw broken(`a frame of type ${type} with ${bytes} payload bytes`);
  if (status !== 0 && type !== "ack" && type !== "nack") throw broken(`a frame of type ${type} with status ${status}`);
}

/** Writes 8 bytes at `at`. */
export function writeTrailer({ crc, verdict }: Trailer, bytes: Uint8Array, at: number): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset + at, limits.frameTrailerBytes);
  view.setUint32(0, crc, true);
  view.setUint32(4, verdict, true);
}

export function decodeTrailer(bytes: Uint8Array): Trailer | undefined {
  if (bytes.length < limits.frameTrailerBytes) return undefined;
  const view = viewOf(bytes);
  return { crc: view.getUint32(0, true), verdict: view.getUint32(4, true) };
}

/** A control message with its length and checksum in front. */
export function encodeControl(message: Uint8Array, checksum: (bytes: Uint8Array) => number = crc32c): Uint8Array {
  const bytes = new Uint8Array(CONTROL_HEAD_BYTES + message.length);
  const view = viewOf(bytes);
  view.setUint32(0, message.length, true);
  view.setUint32(4, checksum(message), true);
  bytes.set(message, CONTROL_HEAD_BYTES);
  return bytes;
}

export const CONTROL_HEAD_BYTES = 8;

/** Control messages out of a byte stream that comes in any pieces. Holds what was pushed and not taken yet, and no more. */
export class ControlParser {
  readonly #messageBytesMax: number;
  readonly #checksum: (bytes: Uint8Array) => number;
  #buffer = new Uint8Array(0);
  #first = 0;
  #end = 0;

  constructor(messageBytesMax: number = limits.controlMessageBytes, checksum: (bytes: Uint8Array) => number = crc32c) {
    this.#messageBytesMax = messageBytesMax;
    this.#checksum = checksum;
  }

  /** Bytes pushed and not taken. */
  get heldBytes(): number {
    return this.#end - this.#first;
  }

  push(bytes: Uint8Array): void {
    const held = this.heldBytes;
    if (this.#end + bytes.length > this.#buffer.length) {
      const fits = held + bytes.length <= this.#buffer.length;
      // Doubling keeps a message that comes byte by byte linear; a fresh buffer is small again after a large message.
      const target = fits ? this.#buffer : new Uint8Array(held === 0 ? bytes.length : Math.max(2 * held, held + bytes.length));
      target.set(this.#buffer.subarray(this.#first, this.#end));
      this.#buffer = target;
      this.#first = 0;
      this.#end = held;
    }
    this.#buffer.set(bytes, this.#end);
    this.#end += bytes.length;
  }

  /** The next message, a copy; undefined until it is whole. After an error the stream has no meaning: every further call throws too. */
  next(messageBytesMax = this.#messageBytesMax): Uint8Array | undefined {
    const held = this.#buffer.subarray(this.#first, this.#end);
    if (held.length < CONTROL_HEAD_BYTES) return undefined;
    const view = viewOf(held);
    const bytes = view.getUint32(0, true);
    if (bytes === 0 || bytes > messageBytesMax) throw broken(`a control message of ${bytes} bytes`);
    if (held.length < CONTROL_HEAD_BYTES + bytes) return undefined;
    const message = held.slice(CONTROL_HEAD_BYTES, CONTROL_HEAD_BYTES + bytes);
    if (this.#checksum(message) !== view.getUint32(4, true)) throw broken("a control message with a wrong checksum");
    this.#first += CONTROL_HEAD_BYTES + bytes;
    if (this.#first === this.#end) {
      this.#first = this.#end = 0;
      if (this.#buffer.length > KEPT_BYTES) this.#buffer = new Uint8Array(0);
    }
    return message;
  }
}

/** A parser at rest keeps at most this. */
const KEPT_BYTES = 64 * 1024;

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
}

function isZero(bytes: Uint8Array): boolean {
  return bytes.every((byte) => byte === 0);
}

function broken(detail: string): KvferryError {
  return new KvferryError("protocol_error", detail);
}
