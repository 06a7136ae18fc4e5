/**
 * kvferry codec encode and decode. What is encoded lies in a safetensors file as well: `blocks` (U8, one block behind the other, in the order of `tilesOfKv`) and
 * `block_bytes` (U32) in place of `kv`, with everything else that the dump held.
 */
import { expected, integer } from "../../check.ts";
import type { Calibration } from "../../codec/calibration.ts";
import { profileId } from "../../codec/identity.ts";
import { needsCalibration } from "../../codec/fit.ts";
import { parseProfile } from "../../codec/parse.ts";
import type { Profile, Side } from "../../codec/profile.ts";
import { bytesOf, type TensorShape } from "../../codec/safetensors.ts";
import type { ModelShape } from "../../codec/spec.ts";
import { KvferryError } from "../../errors.ts";
import { limits } from "../../limits.ts";
import { type Dump, type KvShape, kvShape, ropeOf } from "./dump.ts";
import { TensorFile, writeTensors } from "../../config/tensor-file.ts";
import { emptyParts, gather, scatter, type Tile, tilesOfKv } from "./tiles.ts";

const METADATA_KEY = "kvferry_codec";
const OURS = ["kv", "blocks", "block_bytes"];

interface EncodedHead {
  readonly profile: Profile;
  readonly id: string;
  /** Hash of the calibration that it needs; "": none. */
  readonly calibration: string;
  readonly span: number;
  readonly shape: readonly number[];
}

export interface Written {
  readonly kvBytes: number;
  readonly encodedBytes: number;
}

/** Planes of the tile under way, read once. */
export function planesOf(read: (side: Side, layer: number) => Uint16Array): (tile: Tile) => (layer: number) => Uint16Array {
  let held = "";
  const planes = new Map<number, Uint16Array>();
  return (tile) => {
    const wanted = `${tile.side} ${tile.firstLayer}`;
    if (wanted !== held) planes.clear();
    held = wanted;
    return (layer) => {
      const plane = planes.get(layer) ?? read(tile.side, layer);
      planes.set(layer, plane);
      return plane;
    };
  };
}

/** Throws KvferryError. */
export function encodeFile(dump: Dump, profile: Profile, span: number, calibration: Calibration | undefined, out: string): Written {
  const planes = planesOf(dump.plane);
  const blocks: Uint8Array[] = [];
  for (const tile of tilesOfKv(profile, dump, dump.tokens, span, calibration)) {
    const room = new Uint8Array(tile.codec.bound(tile.tokens));
    const { bytes } = tile.codec.encode(gather(planes(tile), tile, dump), tile.tokens, tile.firstToken, room, tile.end);
    blocks.push(room.slice(0, bytes));
  }
  const encodedBytes = blocks.reduce((sum, { length }) => sum + length, 0);
  const others = othersOf(dump.file);
  const shapes: TensorShape[] = [
    { name: "blocks", dtype: "U8", shape: [encodedBytes] },
    { name: "block_bytes", dtype: "U32", shape: [blocks.length] },
    ...others,
  ];
  const head: EncodedHead = {
    profile,
    id: profileId(profile, calibration?.hash),
    calibration: usesCalibration(profile) ? (calibration?.hash ?? "") : "",
    span,
    shape: dump.file.tensor("kv").shape,
  };
  writeTensors(
    out,
    inFileOrder(shapes),
    { ...dump.metadata, [METADATA_KEY]: JSON.stringify(head) },
    valuesOf(
      dump.file,
      inFileOrder(shapes),
      new Map<string, readonly Uint8Array[]>([
        ["blocks", blocks],
        ["block_bytes", [new Uint8Array(Uint32Array.from(blocks, ({ length }) => length).buffer)]],
      ]),
    ),
  );
  return { kvBytes: dump.file.tensor("kv").bytes, encodedBytes };
}

/** Throws KvferryError on what encodeFile has not written, and on blocks that are not whole. */
export function decodeFile(path: string, calibration: Calibration | undefined, out: string): Written {
  const file = new TensorFile(path);
  try {
    const head = parseEncodedHead(file);
    checkCalibration(head, calibration, path);
    const shape = kvShape(head.shape, path);
    const { kv, encodedBytes } = decodeBlocks(file, head, shape, calibration);
    const metadata = Object.fromEntries([...file.head.metadata].filter(([key]) => key !== METADATA_KEY));
    const shapes = inFileOrder([{ name: "kv", dtype: "BF16", shape: head.shape }, ...othersOf(file)]);
    writeTensors(out, shapes, metadata, valuesOf(file, shapes, new Map([["kv", [new Uint8Array(kv.buffer)]]])));
    return { kvBytes: kv.byteLength, encodedBytes };
  } finally {
    file.close();
  }
}

function decodeBlocks(
  file: TensorFile,
  head: EncodedHead,
  shape: KvShape,
  calibration: Calibration | undefined,
): { kv: Uint16Array; encodedBytes: number } {
  const metadata = Object.fromEntries(file.head.metadata);
  const model: ModelShape = { ...shape, model: metadata["model"] ?? "", element: "bf16", rope: ropeOf(file, metadata, shape.channels) };
  const blockBytes = uint32s(file, "block_bytes");
  const all = file.read("blocks");
  const kv = new Uint16Array(shape.layers * 2 * shape.heads * shape.tokens * shape.channels);
  const planeValues = shape.heads * shape.tokens * shape.channels;
  let index = 0;
  let at = 0;
  for (const tile of tilesOfKv(head.profile, model, shape.tokens, head.span, calibration)) {
    const bytes = blockBytes[index];
    if (bytes === undefined || at + bytes > all.length)
      throw new KvferryError("invalid_argument", `${file.path} has fewer blocks than its KV needs`);
    const parts = emptyParts(tile, shape);
    try {
      tile.codec.decode(all.subarray(at, at + bytes), parts, tile.tokens, tile.firstToken);
    } catch (error) {
      throw new KvferryError("invalid_argument", `block ${index} of ${file.path} does not decode: ${(error as Error).message}`, {
        cause: error,
      });
    }
    const plane = (layer: number): Uint16Array => {
      const from = (layer * 2 + (tile.side === "k" ? 0 : 1)) * planeValues;
      return kv.subarray(from, from + planeValues);
    };
    scatter(parts, plane, tile, shape);
    index++;
    at += bytes;
  }
  if (index !== blockBytes.length || at !== all.length)
    throw new KvferryError("invalid_argument", `${file.path} has more blocks than its KV needs`);
  return { kv, encodedBytes: at };
}

function parseEncodedHead(file: TensorFile): EncodedHead {
  const text = file.head.metadata.get(METADATA_KEY);
  if (text === undefined) throw new KvferryError("invalid_argument", `${file.path} is not encoded: kvferry codec encode makes such files`);
  let value: Readonly<Record<string, unknown>>;
  try {
    value = Object(JSON.parse(text)) as Readonly<Record<string, unknown>>;
  } catch (cause) {
    throw new KvferryError("invalid_argument", `${file.path}: ${METADATA_KEY} is no JSON`, { cause });
  }
  const { profile, id, calibration, span, shape } = value;
  const [wanted, wantedId] = [String(calibration), String(id)];
  if (!Array.isArray(shape)) throw expected("an array", `shape of ${file.path}`, shape);
  const head = {
    profile: parseProfile(profile, `profile of ${file.path}`),
    id: wantedId,
    calibration: wanted,
    span: integer(span, `span of ${file.path}`, 1, limits.codecTokensMax),
    shape: Array.from(shape as readonly unknown[], Number),
  };
  if (profileId(head.profile, wanted) !== wantedId)
    throw new KvferryError("invalid_argument", `${file.path}: the profile is not the one that its id names`);
  return head;
}

function checkCalibration({ profile, calibration: wanted }: EncodedHead, calibration: Calibration | undefined, path: string): void {
  if (!usesCalibration(profile) || calibration?.hash === wanted) return;
  const given = calibration === undefined ? "none was given (--calibration)" : `${calibration.hash.slice(0, 16)}... was given`;
  throw new KvferryError("invalid_argument", `${path} was encoded with the calibration ${wanted.slice(0, 16)}..., and ${given}`);
}

function usesCalibration({ k, v }: Profile): boolean {
  return needsCalibration(k) || needsCalibration(v);
}

function othersOf(file: TensorFile): TensorShape[] {
  return [...file.head.tensors].filter(([name]) => !OURS.includes(name)).map(([name, { dtype, shape }]) => ({ name, dtype, shape }));
}

/** What needs the widest alignment first. */
function inFileOrder(shapes: readonly TensorShape[]): TensorShape[] {
  const width = ({ dtype }: TensorShape): number => bytesOf(dtype, []);
  return [...shapes].sort((one, other) => width(other) - width(one));
}

function* valuesOf(
  file: TensorFile,
  shapes: readonly TensorShape[],
  made: ReadonlyMap<string, readonly Uint8Array[]>,
): Generator<Uint8Array> {
  for (const { name } of shapes) yield* made.get(name) ?? [file.read(name)];
}

function uint32s(file: TensorFile, name: string): Uint32Array {
  const { dtype } = file.tensor(name);
  if (dtype !== "U32") throw expected("U32", `dtype of ${name} (of ${file.path})`, dtype);
  const bytes = file.read(name);
  return new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
}
