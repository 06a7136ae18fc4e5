/**
 * Messages of the engine API as bytes: plain msgpack. Integers travel as integers whatever their size, typed arrays as binary (u32,
 * little-endian), and nothing else than nil, booleans, numbers, text, binary, arrays and maps with text keys travels at all.
 */
import { Packr } from "msgpackr";
import { KvferryError } from "../errors.ts";
import { scanMessage } from "./scan.ts";

export type Message = Readonly<Record<string, unknown>>;

const packr = new Packr({
  useRecords: false,
  mapsAsObjects: true,
  moreTypes: false,
  variableMapSize: true,
  // Integers above 2^32 become numbers, not BigInts; the schema then refuses those that a number cannot hold exactly.
  int64AsType: "number",
  // The socket's buffer is taken back when its callback returns.
  copyBuffers: true,
});

/** The bytes are fresh: they may be queued. */
export function encodeMessage(message: Message): Uint8Array {
  return packr.pack(portable(message)) as Uint8Array;
}

/** Throws message_malformed for bytes that are no message: one map of the types above. */
export function decodeMessage(bytes: Uint8Array): Message {
  const problem = scanMessage(bytes);
  if (problem !== "") throw new KvferryError("message_malformed", problem);
  // As plain bytes, so that binary comes out as Uint8Array whatever kind of buffer the socket gave.
  const value: unknown = packr.unpack(new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length));
  if (typeof value !== "object" || value === null || Array.isArray(value) || value instanceof Uint8Array) {
    throw new KvferryError("message_malformed", "the message is not a map");
  }
  return value as Message;
}

/** u32 values behind binary; undefined if the length does not fit. */
export function wordsOf(bytes: Uint8Array): Uint32Array | undefined {
  if (bytes.length % 4 !== 0) return undefined;
  if (bytes.byteOffset % 4 === 0) return new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
  return new Uint32Array(bytes.slice().buffer);
}

/** What the packer would write in a way of its own, in the plain form. */
function portable(value: unknown): unknown {
  if (typeof value === "number") {
    return Number.isSafeInteger(value) && (value > 0xffff_ffff || value < -0x8000_0000) ? BigInt(value) : value;
  }
  if (typeof value !== "object" || value === null) return value;
  if (ArrayBuffer.isView(value)) return Buffer.from(value.buffer, value.byteOffset, value.byteLength);
  if (Array.isArray(value)) return value.map(portable);
  // Without a prototype, so that a field called __proto__ is a field like any other.
  const plain = Object.create(null) as Record<string, unknown>;
  for (const key in value) {
    const field = (value as Message)[key];
    if (field !== undefined) plain[key] = portable(field);
  }
  return plain;
}
