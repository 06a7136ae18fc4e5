/** kvferry codec compare: what each profile makes of a dump, how fast, and how far from it what comes back is. */
import { profileId } from "../../codec/identity.ts";
import type { Profile } from "../../codec/profile.ts";
import type { NativeMergeMap, NativeStored } from "../../native-codec.ts";
import type { Dump, KvShape } from "./dump.ts";
import { planesOf } from "./encoded-file.ts";
import { type Maps, sourceOf } from "./merged.ts";
import { emptyParts, gather, type Tile, type TileOptions, tilesOfKv } from "./tiles.ts";

export interface NamedProfile {
  /** As it was asked for: a preset's name or a file. */
  readonly name: string;
  readonly profile: Profile;
}

/** Relative: the root of the squared differences over that of the squares. Of merged tokens: what is left at each position that they stand for. */
export interface CodecError {
  readonly k: number;
  readonly v: number;
  /** The largest difference of any value. */
  readonly largest: number;
}

export interface Compared {
  readonly profile: string;
  readonly id: string;
  readonly ratio: number;
  /** The share that merging leaves; 1: nothing is merged. */
  readonly tokensLeft: number;
  readonly kvBytes: number;
  readonly encodedBytes: number;
  /** Of bf16, on one thread; merging is not in it. */
  readonly encodeBytesPerSecond: number;
  readonly decodeBytesPerSecond: number;
  readonly error: CodecError;
  readonly tiles: number;
  /** Tiles that travel as they are, by reason. */
  readonly stored: Readonly<Partial<Record<Exclude<NativeStored, "">, number>>>;
}

/** Throws KvferryError. */
export function compare({ name, profile }: NamedProfile, dump: Dump, options: TileOptions): Compared {
  const source = sourceOf(dump, profile);
  const planes = planesOf(source.plane);
  const originals = planesOf(dump.plane);
  const errors = { k: new Difference(), v: new Difference() };
  const stored: Partial<Record<NativeStored, number>> = {};
  let [tiles, codedBytes, encodedBytes] = [0, 0, source.mapBytes.length];
  let [encodeNs, decodeNs] = [0, 0];
  for (const tile of tilesOfKv(profile, dump, source.rowsOf, options)) {
    const parts = gather(planes(tile), tile, dump);
    const room = new Uint8Array(tile.codec.bound(tile.tokens));
    const back = emptyParts(tile, dump);
    const encode = () => tile.codec.encode(parts, tile.tokens, tile.firstToken, room, tile.end);
    const decode = (bytes: number): void => tile.codec.decode(room.subarray(0, bytes), back, tile.tokens, tile.firstToken);
    // The first time of each codec its memory is made: that is not the rate of the others.
    if (tile.firstToken === 0) decode(encode().bytes);
    const beginNs = process.hrtime.bigint();
    const encoded = encode();
    const encodedNs = process.hrtime.bigint();
    decode(encoded.bytes);
    decodeNs += Number(process.hrtime.bigint() - encodedNs);
    encodeNs += Number(encodedNs - beginNs);
    tiles++;
    encodedBytes += encoded.bytes;
    if (encoded.stored !== "") stored[encoded.stored] = (stored[encoded.stored] ?? 0) + 1;
    parts.forEach((part, at) => {
      codedBytes += part.length;
      const maps = source.maps?.[tile.firstLayer + at];
      if (maps === undefined) errors[tile.side].add(halvesOf(part), halvesOf(back[at]!));
      else addMerged(errors[tile.side], maps, originals(tile)(tile.firstLayer + at), halvesOf(back[at]!), tile, dump);
    });
  }
  const kvBytes = dump.file.tensor("kv").bytes;
  return {
    profile: name,
    id: profileId(profile, options.calibration?.hash),
    ratio: kvBytes / encodedBytes,
    tokensLeft: tokensLeft(source.maps, dump),
    kvBytes,
    encodedBytes,
    encodeBytesPerSecond: (codedBytes / encodeNs) * 1e9,
    decodeBytesPerSecond: (codedBytes / decodeNs) * 1e9,
    error: { k: errors.k.relative, v: errors.v.relative, largest: Math.max(errors.k.largest, errors.v.largest) },
    tiles,
    stored,
  };
}

export function halvesOf(bytes: Uint8Array): Uint16Array {
  return new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.length / 2);
}

/** @param plane bf16 [heads, tokens, channels] of what was merged */
function addMerged(
  error: Difference,
  maps: readonly NativeMergeMap[],
  plane: Uint16Array,
  back: Uint16Array,
  tile: Tile,
  { heads, tokens, channels }: KvShape,
): void {
  maps.forEach(({ setOf }, head) => {
    setOf.forEach((set, token) => {
      const row = set - tile.firstToken;
      if (row < 0 || row >= tile.tokens) return;
      const [at, found] = [(head * tokens + token) * channels, (row * heads + head) * channels];
      error.add(plane.subarray(at, at + channels), back.subarray(found, found + channels));
    });
  });
}

function tokensLeft(maps: Maps | undefined, { layers, heads, tokens }: KvShape): number {
  return maps === undefined ? 1 : maps.flat().reduce((sum, { sizes }) => sum + sizes.length, 0) / (layers * heads * tokens);
}

export class Difference {
  largest = 0;
  #square = 0;
  #difference = 0;
  readonly #bits = new Uint32Array(2);
  readonly #floats = new Float32Array(this.#bits.buffer);

  get relative(): number {
    return this.#difference === 0 ? 0 : Math.sqrt(this.#difference / this.#square);
  }

  /** Of bf16. What is the same bit for bit differs by nothing, infinities too. */
  add(before: Uint16Array, after: Uint16Array): void {
    const [bits, floats] = [this.#bits, this.#floats];
    for (let at = 0; at < before.length; at++) {
      bits[0] = before[at]! << 16;
      bits[1] = after[at]! << 16;
      const value = floats[0]!;
      if (Number.isFinite(value)) this.#square += value * value;
      if (bits[0] === bits[1]) continue;
      const difference = Math.abs(value - floats[1]!);
      this.#difference += difference * difference;
      this.largest = Math.max(this.largest, difference);
    }
  }
}

export function tableOf(results: readonly Compared[]): string {
  const rows = results.map((one) => [
    one.profile,
    one.ratio.toFixed(2),
    (one.encodeBytesPerSecond / 1e6).toFixed(0),
    (one.decodeBytesPerSecond / 1e6).toFixed(0),
    percent(one.error.k),
    percent(one.error.v),
    one.error.largest.toPrecision(3),
    [
      ...(one.tokensLeft < 1 ? [`${percent(one.tokensLeft)} of the tokens left`] : []),
      ...Object.entries(one.stored).map(([reason, count]) => `${count} of ${one.tiles} tiles stored: ${reason}`),
    ].join(", "),
  ]);
  const head = ["profile", "ratio", "encode MB/s", "decode MB/s", "K error", "V error", "largest", ""];
  const widths = head.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column]!.length)));
  return [head, ...rows]
    .map((row) =>
      row
        .map((cell, column) => (column === 0 || column === 7 ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!)))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

function percent(part: number): string {
  return `${(100 * part).toPrecision(3)} %`;
}
