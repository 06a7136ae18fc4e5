/** kvferry codec compare: what each profile makes of a dump, how fast, and how far from it what comes back is. */
import type { Calibration } from "../../codec/calibration.ts";
import { profileId } from "../../codec/identity.ts";
import type { Profile } from "../../codec/profile.ts";
import type { NativeStored } from "../../native.ts";
import type { Dump } from "./dump.ts";
import { planesOf } from "./encoded-file.ts";
import { emptyParts, gather, tilesOfKv } from "./tiles.ts";

export interface NamedProfile {
  /** As it was asked for: a preset's name or a file. */
  readonly name: string;
  readonly profile: Profile;
}

/** Relative: the root of the squared differences over that of the squares. */
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
  readonly kvBytes: number;
  readonly encodedBytes: number;
  /** Of bf16, on one thread. */
  readonly encodeBytesPerSecond: number;
  readonly decodeBytesPerSecond: number;
  readonly error: CodecError;
  readonly tiles: number;
  /** Tiles that travel as they are, by reason. */
  readonly stored: Readonly<Partial<Record<Exclude<NativeStored, "">, number>>>;
}

/** Throws KvferryError. */
export function compare({ name, profile }: NamedProfile, dump: Dump, span: number, calibration: Calibration | undefined): Compared {
  const planes = planesOf(dump.plane);
  const errors = { k: new Difference(), v: new Difference() };
  const stored: Partial<Record<NativeStored, number>> = {};
  let [tiles, kvBytes, encodedBytes] = [0, 0, 0];
  let [encodeNs, decodeNs] = [0, 0];
  for (const tile of tilesOfKv(profile, dump, dump.tokens, span, calibration)) {
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
      kvBytes += part.length;
      errors[tile.side].add(part, back[at]!);
    });
  }
  return {
    profile: name,
    id: profileId(profile, calibration?.hash),
    ratio: kvBytes / encodedBytes,
    kvBytes,
    encodedBytes,
    encodeBytesPerSecond: (kvBytes / encodeNs) * 1e9,
    decodeBytesPerSecond: (kvBytes / decodeNs) * 1e9,
    error: { k: errors.k.relative, v: errors.v.relative, largest: Math.max(errors.k.largest, errors.v.largest) },
    tiles,
    stored,
  };
}

export class Difference {
  largest = 0;
  #square = 0;
  #difference = 0;

  get relative(): number {
    return this.#difference === 0 ? 0 : Math.sqrt(this.#difference / this.#square);
  }

  /** Of bf16. What is the same bit for bit differs by nothing, infinities too. */
  add(before: Uint8Array, after: Uint8Array): void {
    const [one, other] = [before, after].map((bytes) => new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.length / 2)) as [
      Uint16Array,
      Uint16Array,
    ];
    const bits = new Uint32Array(2);
    const floats = new Float32Array(bits.buffer);
    for (let at = 0; at < one.length; at++) {
      bits[0] = one[at]! << 16;
      bits[1] = other[at]! << 16;
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
    Object.entries(one.stored)
      .map(([reason, count]) => `${count} of ${one.tiles} ${reason}`)
      .join(", "),
  ]);
  const head = ["profile", "ratio", "encode MB/s", "decode MB/s", "K error", "V error", "largest", "stored tiles"];
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
