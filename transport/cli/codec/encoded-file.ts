/**
 * kvferry codec encode and decode. What is encoded lies in a safetensors file as well: `blocks` (U8, one block behind the other, in the order of `tilesOfKv`) and
 * `block_bytes` (U32), and `merge_map` if tokens were merged, in place of `kv`, with everything else that the dump held. A block's checksum is of its head alone, and
 * knows no place: the metadata has one of each tensor.
 */
import { expected, integer } from "../../check.ts";
import type { Calibration } from "../../codec/calibration.ts";
import { profileId } from "../../codec/identity.ts";
import { needsCalibration } from "../../codec/fit.ts";
import { parseProfile } from "../../codec/parse.ts";
import { type Profile, type Side, SIDES } from "../../codec/profile.ts";
import { bytesOf, type TensorShape } from "../../codec/safetensors.ts";
import type { ModelShape } from "../../codec/spec.ts";
import { KvferryError } from "../../errors.ts";
import { limits } from "../../limits.ts";
import { checksum } from "../../link/js-context.ts";
import { type Dump, ENCODED_KEY, type KvShape, kvShape, ropeOf } from "./dump.ts";
import { TensorFile, writeTensors } from "../../config/tensor-file.ts";
import { expandHead, MAP, mapBytes, type Maps, readMapsOf, rowsOfLayers, sourceOf } from "./merged.ts";
import { emptyParts, gather, scatter, type Tile, type TileOptions, tilesOfKv } from "./tiles.ts";

const MERGED_KEY = "kvferry_merged";
const OURS = ["kv", "blocks", "block_bytes", MAP];

interface EncodedHead {
  readonly profile: Profile;
  readonly id: string;
  /** Hash of the calibration that it needs; "": none. */
  readonly calibration: string;
  readonly span: number;
  readonly shape: readonly number[];
  /** CRC32C of each tensor's bytes. */
  readonly checksums: Readonly<Record<string, number>>;
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
export function encodeFile(dump: Dump, profile: Profile, options: TileOptions, out: string): Written {
  const { span, calibration } = options;
  const source = sourceOf(dump, profile);
  const planes = planesOf(source.plane);
  const blocks: Uint8Array[] = [];
  for (const tile of tilesOfKv(profile, dump, source.rowsOf, options)) {
    const room = new Uint8Array(tile.codec.bound(tile.tokens));
    const { bytes } = tile.codec.encode(gather(planes(tile), tile, dump), tile.tokens, tile.firstToken, room, tile.end);
    blocks.push(room.slice(0, bytes));
  }
  const blocksBytes = blocks.reduce((sum, { length }) => sum + length, 0);
  const isMerged = source.maps !== undefined;
  const { layers, heads, tokens } = dump;
  const others = othersOf(dump.file);
  const shapes: TensorShape[] = [
    { name: "blocks", dtype: "U8", shape: [blocksBytes] },
    ...(isMerged ? ([{ name: MAP, dtype: "U8", shape: [layers, heads, mapBytes(tokens)] }] as const) : []),
    { name: "block_bytes", dtype: "U32", shape: [blocks.length] },
    ...others,
  ];
  const made = new Map<string, readonly Uint8Array[]>([
    ["blocks", blocks],
    [MAP, [source.mapBytes]],
    ["block_bytes", [new Uint8Array(Uint32Array.from(blocks, ({ length }) => length).buffer)]],
  ]);
  const head: EncodedHead = {
    profile,
    id: profileId(profile, calibration?.hash),
    calibration: usesCalibration(profile) ? (calibration?.hash ?? "") : "",
    span,
    shape: dump.file.tensor("kv").shape,
    checksums: Object.fromEntries(shapes.map((shape) => [shape.name, checksumOf(valuesOf(dump.file, [shape], made))])),
  };
  const metadata = { ...dump.metadata, [ENCODED_KEY]: JSON.stringify(head) };
  writeTensors(out, inFileOrder(shapes), metadata, valuesOf(dump.file, inFileOrder(shapes), made));
  return { kvBytes: dump.file.tensor("kv").bytes, encodedBytes: blocksBytes + source.mapBytes.length };
}

/**
 * Throws KvferryError on what encodeFile has not written, and on blocks that are not whole.
 * @param isRagged merged tokens stay merged; else each token gets what it was merged into
 */
export function decodeFile(path: string, calibration: Calibration | undefined, isRagged: boolean, out: string): Written {
  const file = new TensorFile(path);
  try {
    const head = parseEncodedHead(file);
    checkTensors(head, file);
    checkCalibration(head, calibration, path);
    const shape = kvShape(head.shape, path);
    const maps = head.profile.merge === undefined ? undefined : readMapsOf(file, shape);
    if (isRagged && maps === undefined) throw new KvferryError("invalid_argument", `${path} has no merged tokens that could stay so`);
    const decoded = decodeBlocks(file, head, shape, maps, calibration);
    const made = maps === undefined || !isRagged ? wholeOf(decoded, head.shape, maps, shape) : raggedOf(decoded, maps, shape);
    const metadata = Object.fromEntries([...file.head.metadata].filter(([key]) => key !== ENCODED_KEY));
    if (maps !== undefined) metadata[MERGED_KEY] = head.id;
    const shapes = inFileOrder([...made.keys(), ...othersOf(file)]);
    const values = new Map([...made].map(([{ name }, bytes]) => [name, [bytes]] as const));
    writeTensors(out, shapes, metadata, valuesOf(file, shapes, values));
    return { kvBytes: bytesOf("BF16", head.shape), encodedBytes: decoded.encodedBytes };
  } finally {
    file.close();
  }
}

interface Decoded {
  /** All planes, K and V layer by layer: without merged tokens that is `kv`. */
  readonly values: Uint16Array;
  /** bf16 [heads, rows, channels]. */
  readonly plane: (side: Side, layer: number) => Uint16Array;
  readonly rows: readonly number[];
  readonly encodedBytes: number;
}

type Made = ReadonlyMap<TensorShape, Uint8Array>;

/** `kv`, merged tokens each at all positions that they stand for. */
function wholeOf(
  { values, plane, rows }: Decoded,
  shape: readonly number[],
  maps: Maps | undefined,
  { layers, heads, tokens, channels }: KvShape,
): Made {
  const kv = maps === undefined ? values : roomFor(layers * 2 * heads * tokens * channels, "it");
  const row = tokens * channels;
  maps?.forEach((ofLayer, layer) => {
    SIDES.forEach((side, at) => {
      const from = plane(side, layer);
      const ofHead = rows[layer]! * channels;
      ofLayer.forEach((map, head) => {
        const first = ((layer * 2 + at) * heads + head) * row;
        expandHead(map, from.subarray(head * ofHead, (head + 1) * ofHead), channels, kv.subarray(first, first + row));
      });
    });
  });
  return new Map([[{ name: "kv", dtype: "BF16", shape }, new Uint8Array(kv.buffer)]]);
}

/** Layer by layer, head by head: K of all that is left, then V; how many tokens each stands for, and the position of its pivot. */
function raggedOf({ plane, rows }: Decoded, maps: Maps, { layers, heads, channels }: KvShape): Made {
  const all = maps.flat();
  const counts = Uint32Array.from(all, ({ sizes }) => sizes.length);
  const left = counts.reduce((sum, count) => sum + count, 0);
  const kv = new Uint16Array(2 * left * channels);
  let at = 0;
  counts.forEach((count, index) => {
    const [layer, head] = [Math.floor(index / heads), index % heads];
    for (const side of SIDES) {
      const first = head * rows[layer]! * channels;
      kv.set(plane(side, layer).subarray(first, first + count * channels), at);
      at += count * channels;
    }
  });
  const sizes = Uint32Array.from(all.flatMap((map) => [...map.sizes]));
  const positions = Uint32Array.from(all.flatMap(({ pivots }) => [...pivots]));
  const bytes = (numbers: Uint16Array | Uint32Array): Uint8Array => new Uint8Array(numbers.buffer);
  return new Map<TensorShape, Uint8Array>([
    [{ name: "merged_kv", dtype: "BF16", shape: [2 * left, channels] }, bytes(kv)],
    [{ name: "merged_counts", dtype: "U32", shape: [layers, heads] }, bytes(counts)],
    [{ name: "merged_sizes", dtype: "U32", shape: [left] }, bytes(sizes)],
    [{ name: "merged_positions", dtype: "U32", shape: [left] }, bytes(positions)],
  ]);
}

function decodeBlocks(
  file: TensorFile,
  head: EncodedHead,
  shape: KvShape,
  maps: Maps | undefined,
  calibration: Calibration | undefined,
): Decoded {
  const metadata = Object.fromEntries(file.head.metadata);
  const { layers, heads, tokens, channels } = shape;
  const model: ModelShape = { ...shape, model: metadata["model"] ?? "", element: "bf16", rope: ropeOf(file, metadata, channels) };
  const blockBytes = uint32s(file, "block_bytes");
  const all = file.read("blocks");
  const rows = maps === undefined ? Array.from({ length: layers }, () => tokens) : rowsOfLayers(maps, head.profile.layers);
  const ends = rows.flatMap((count) => SIDES.map(() => heads * count * channels));
  ends.forEach((values, index) => (ends[index] = values + (ends[index - 1] ?? 0)));
  const values = roomFor(ends.at(-1)!, file.path);
  const plane = (side: Side, layer: number): Uint16Array => {
    const index = 2 * layer + SIDES.indexOf(side);
    return values.subarray(ends[index - 1] ?? 0, ends[index]);
  };
  let index = 0;
  let at = 0;
  for (const tile of tilesOfKv(head.profile, model, ({ firstLayer }) => rows[firstLayer]!, { span: head.span, calibration })) {
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
    scatter(parts, (layer) => plane(tile.side, layer), tile, shape);
    index++;
    at += bytes;
  }
  if (index !== blockBytes.length || at !== all.length)
    throw new KvferryError("invalid_argument", `${file.path} has more blocks than its KV needs`);
  return { values, plane, rows, encodedBytes: at + (maps === undefined ? 0 : file.tensor(MAP).bytes) };
}

/** Throws invalid_argument: how much there is stands in the file, which may say anything. */
function roomFor(values: number, what: string): Uint16Array {
  try {
    return new Uint16Array(values);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new KvferryError("invalid_argument", `${what} would become ${2 * values} bytes, more than there is room for`, { cause: error });
  }
}

function parseEncodedHead(file: TensorFile): EncodedHead {
  const text = file.head.metadata.get(ENCODED_KEY);
  if (text === undefined) throw new KvferryError("invalid_argument", `${file.path} is not encoded: kvferry codec encode makes such files`);
  let value: Readonly<Record<string, unknown>>;
  try {
    value = Object(JSON.parse(text)) as Readonly<Record<string, unknown>>;
  } catch (cause) {
    throw new KvferryError("invalid_argument", `${file.path}: ${ENCODED_KEY} is no JSON`, { cause });
  }
  const { profile, id, calibration, span, shape, checksums } = value;
  const [wanted, wantedId] = [String(calibration), String(id)];
  if (!Array.isArray(shape)) throw expected("an array", `shape of ${file.path}`, shape);
  const head = {
    profile: parseProfile(profile, `profile of ${file.path}`),
    id: wantedId,
    calibration: wanted,
    span: integer(span, `span of ${file.path}`, 1, limits.codecTokensMax),
    shape: Array.from(shape as readonly unknown[], Number),
    checksums: Object(checksums) as EncodedHead["checksums"],
  };
  if (profileId(head.profile, wanted) !== wantedId)
    throw new KvferryError("invalid_argument", `${file.path}: the profile is not the one that its id names`);
  return head;
}

/** Throws invalid_argument. */
function checkTensors({ checksums }: EncodedHead, file: TensorFile): void {
  for (const name of new Set([...Object.keys(checksums), ...file.head.tensors.keys()])) {
    if (checksumOf([file.read(name)]) !== checksums[name])
      throw new KvferryError("invalid_argument", `${name} of ${file.path} is not what was encoded: its checksum is another`);
  }
}

function checksumOf(pieces: Iterable<Uint8Array>): number {
  let sum = 0;
  for (const piece of pieces) sum = checksum(piece, sum);
  return sum;
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
