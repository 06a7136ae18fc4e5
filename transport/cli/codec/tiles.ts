/** The KV of a dump cut into tiles, and what the native codec makes of each. */
import type { Calibration } from "../../codec/calibration.ts";
import { nvcompOf } from "../../codec/fit.ts";
import type { Profile } from "../../codec/profile.ts";
import { type ModelShape, specOf, type TileLayers, tilesOf } from "../../codec/spec.ts";
import { KvferryError } from "../../errors.ts";
import { nvcompRefusal } from "../../native-device.ts";
import { native, nativeProblem } from "../../native.ts";
import { limits } from "../../limits.ts";
import type { KvShape } from "./dump.ts";
import { lz4Over, type TileCoder } from "./lz4.ts";

export interface Tile extends TileLayers {
  readonly codec: TileCoder;
  readonly firstToken: number;
  readonly tokens: number;
  /** Of the whole sequence. */
  readonly end: number;
}

export interface TileOptions {
  /** Tokens of a tile. */
  readonly span: number;
  readonly calibration: Calibration | undefined;
  /** Blocks carry a checksum of what they decode to. */
  readonly verify?: boolean;
}

const ELEMENT_BYTES = 2;

/**
 * All tiles, layers first: those of the same layers share a codec, which lives no longer than they are asked for. Throws KvferryError.
 * @param rowsOf tokens of each of these layers' heads
 */
export function* tilesOfKv(
  { version, exempt, layers: tileLayers, k, v }: Profile,
  model: ModelShape,
  rowsOf: (layers: TileLayers) => number,
  { span, calibration, verify = false }: TileOptions,
): Generator<Tile> {
  // Of what is merged already.
  const profile = { version, exempt, layers: tileLayers, k, v };
  for (const layers of tilesOf(profile, model.layers)) {
    const tokens = rowsOf(layers);
    const bytes = layers.layers * model.heads * model.channels * Math.min(span, tokens) * ELEMENT_BYTES;
    if (bytes > limits.codecTileBytesMax) {
      throw new KvferryError(
        "invalid_argument",
        `a tile of ${bytes} bytes is more than ${limits.codecTileBytesMax}: fewer --tokens, or fewer layers`,
      );
    }
    const codec = openCodec(profile, layers, model, calibration, verify);
    for (let firstToken = 0; firstToken < tokens; firstToken += span) {
      yield { ...layers, codec, firstToken, tokens: Math.min(span, tokens - firstToken), end: tokens };
    }
  }
}

function openCodec(
  profile: Profile,
  layers: TileLayers,
  model: ModelShape,
  calibration: Calibration | undefined,
  verify: boolean,
): TileCoder {
  if (native === undefined) throw new KvferryError("unsupported", `codecs need the addon: ${nativeProblem}`);
  const nvcomp = nvcompOf(profile);
  if (nvcomp !== undefined) throw new KvferryError("unsupported", nvcompRefusal(nvcomp, native.cuda(), "kvferry codec"));
  const pipeline = profile[layers.side];
  const isLz4 = pipeline.codec.kind === "lz4";
  const plain = { ...profile, [layers.side]: { ...pipeline, codec: { kind: "none" } } };
  const spec = specOf(isLz4 ? plain : profile, layers, model, calibration);
  try {
    const codec = new native.NativeCodec({ ...spec, verify });
    return isLz4 ? lz4Over(codec) : codec;
  } catch (error) {
    if (error instanceof TypeError) throw new KvferryError("unsupported", error.message, { cause: error });
    throw error;
  }
}

/** The planes of a dump, [heads, tokens, channels], as the tile's canonical streams: token by token, head by head. */
export function gather(plane: (layer: number) => Uint16Array, tile: Tile, { heads, channels }: KvShape): Uint8Array[] {
  return Array.from({ length: tile.layers }, (_, part) => {
    const from = plane(tile.firstLayer + part);
    const stream = new Uint16Array(tile.tokens * heads * channels);
    for (let token = 0; token < tile.tokens; token++) {
      for (let head = 0; head < heads; head++) {
        const at = (head * tile.end + tile.firstToken + token) * channels;
        stream.set(from.subarray(at, at + channels), (token * heads + head) * channels);
      }
    }
    return new Uint8Array(stream.buffer);
  });
}

/** The other way round. */
export function scatter(
  parts: readonly Uint8Array[],
  plane: (layer: number) => Uint16Array,
  tile: Tile,
  { heads, channels }: KvShape,
): void {
  parts.forEach((part, at) => {
    const to = plane(tile.firstLayer + at);
    const stream = new Uint16Array(part.buffer, part.byteOffset, part.length / ELEMENT_BYTES);
    for (let token = 0; token < tile.tokens; token++) {
      for (let head = 0; head < heads; head++) {
        const from = (token * heads + head) * channels;
        to.set(stream.subarray(from, from + channels), (head * tile.end + tile.firstToken + token) * channels);
      }
    }
  });
}

export function emptyParts(tile: Tile, { heads, channels }: KvShape): Uint8Array[] {
  return Array.from({ length: tile.layers }, () => new Uint8Array(tile.tokens * heads * channels * ELEMENT_BYTES));
}
