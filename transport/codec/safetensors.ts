/**
 * The head of a safetensors file: 8 bytes of length, JSON that names tensors with their place, then their bytes. Files come from anywhere: every number is bounded,
 * no tensor leaves the file or lies on another. PURE.
 */
import { expected, integer } from "../check.ts";
import { KvferryError } from "../errors.ts";
import { limits } from "../limits.ts";

export const DTYPE_BYTES = {
  U8: 1,
  I8: 1,
  BOOL: 1,
  F8_E4M3: 1,
  F8_E5M2: 1,
  U16: 2,
  I16: 2,
  F16: 2,
  BF16: 2,
  U32: 4,
  I32: 4,
  F32: 4,
  U64: 8,
  I64: 8,
  F64: 8,
};
export type Dtype = keyof typeof DTYPE_BYTES;

export interface Tensor {
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  /** From the beginning of the file. */
  readonly offset: number;
  readonly bytes: number;
}

export interface SafetensorsHead {
  readonly tensors: ReadonlyMap<string, Tensor>;
  readonly metadata: ReadonlyMap<string, string>;
}

const LENGTH_BYTES = 8;
const ALIGNMENT = 8;
const METADATA = "__metadata__";

/** Bytes of the head, from the first eight of a file; throws invalid_argument if there are no so many in the file. */
export function headBytes(start: Uint8Array, fileBytes: number, name: string): number {
  if (start.length < LENGTH_BYTES) throw expected("a safetensors file", name, start);
  const view = new DataView(start.buffer, start.byteOffset, LENGTH_BYTES);
  const json = Number(view.getBigUint64(0, true));
  if (json > limits.safetensorsHeaderBytes || LENGTH_BYTES + json > fileBytes) {
    const most = Math.min(limits.safetensorsHeaderBytes, fileBytes - LENGTH_BYTES);
    throw expected(`a safetensors file with a head of at most ${most} bytes`, name, json);
  }
  return LENGTH_BYTES + json;
}

/** Throws invalid_argument that names what is wrong. @param head the first `headBytes` of the file */
export function parseHead(head: Uint8Array, fileBytes: number, name: string): SafetensorsHead {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(head.subarray(LENGTH_BYTES)));
  } catch (cause) {
    throw new KvferryError("invalid_argument", `${name}: the head is no JSON in UTF-8`, { cause });
  }
  const entries = Object.entries(object(value, name));
  if (entries.length > limits.safetensorsTensorsMax)
    throw expected(`at most ${limits.safetensorsTensorsMax} tensors`, name, entries.length);
  const tensors = new Map<string, Tensor>();
  const metadata = new Map<string, string>();
  for (const [key, entry] of entries) {
    if (key !== METADATA) tensors.set(key, parseTensor(entry, `${key} (of ${name})`, head.length, fileBytes));
    else for (const [word, text] of Object.entries(object(entry, `${METADATA} (of ${name})`))) metadata.set(word, String(text));
  }
  const inOrder = [...tensors].sort(([, one], [, other]) => one.offset - other.offset || one.bytes - other.bytes);
  inOrder.forEach(([key, { offset }], at) => {
    const before = inOrder[at - 1]?.[1];
    if (before !== undefined && before.offset + before.bytes > offset) throw expected("a place of its own", `${key} (of ${name})`, offset);
  });
  return { tensors, metadata };
}

export interface TensorShape {
  readonly name: string;
  readonly dtype: Dtype;
  readonly shape: readonly number[];
}

/** The head of a file that has these tensors one behind the other, in this order. Throws invalid_argument on one that could not be read. */
export function writeHead(shapes: readonly TensorShape[], metadata: Readonly<Record<string, string>>): Uint8Array {
  let at = 0;
  const entries = shapes.map(({ name, dtype, shape }) => {
    const begin = at;
    at += bytesOf(dtype, shape);
    return [name, { dtype, shape, data_offsets: [begin, at] }] as const;
  });
  const json = new TextEncoder().encode(JSON.stringify({ [METADATA]: metadata, ...Object.fromEntries(entries) }));
  const padded = Math.ceil(json.length / ALIGNMENT) * ALIGNMENT;
  if (padded > limits.safetensorsHeaderBytes) {
    const what = `a head of ${padded} bytes is more than the ${limits.safetensorsHeaderBytes} that are read: less metadata, or fewer tensors`;
    throw new KvferryError("invalid_argument", what);
  }
  const head = new Uint8Array(LENGTH_BYTES + padded).fill(0x20, LENGTH_BYTES);
  new DataView(head.buffer).setBigUint64(0, BigInt(padded), true);
  head.set(json, LENGTH_BYTES);
  return head;
}

export function bytesOf(dtype: Dtype, shape: readonly number[]): number {
  return shape.reduce((product, count) => product * count, DTYPE_BYTES[dtype]);
}

function parseTensor(value: unknown, name: string, headLength: number, fileBytes: number): Tensor {
  const { dtype, shape, data_offsets: place } = object(value, name);
  if (typeof dtype !== "string" || !Object.hasOwn(DTYPE_BYTES, dtype))
    throw expected(`one of ${Object.keys(DTYPE_BYTES).join(", ")}`, `dtype of ${name}`, dtype);
  const counts = list(shape, limits.safetensorsAxesMax, `shape of ${name}`, Number.MAX_SAFE_INTEGER);
  const ends = list(place, 2, `data_offsets of ${name}`, fileBytes - headLength);
  const [begin, end] = ends;
  const bytes = bytesOf(dtype as Dtype, counts);
  if (begin === undefined || end === undefined || end - begin !== bytes)
    throw expected(`two numbers ${bytes} apart`, `data_offsets of ${name}`, String(ends));
  return Object.freeze({ dtype: dtype as Dtype, shape: Object.freeze(counts), offset: headLength + begin, bytes });
}

function object(value: unknown, name: string): Readonly<Record<string, unknown>> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw expected("an object", name, value);
  return value as Readonly<Record<string, unknown>>;
}

function list(value: unknown, most: number, name: string, high: number): number[] {
  if (!Array.isArray(value) || value.length > most) throw expected(`an array of at most ${most}`, name, value);
  return Array.from(value as readonly unknown[], (one) => integer(one, name, 0, high));
}
