/** What the tests of device codecs work on: a spec, tiles in paged KV, and their blocks by the scalar oracle. */
import assert from "node:assert/strict";
import type { NativeCodecSpec } from "../../transport/native-codec.ts";
import { native } from "../../transport/native.ts";
import type { NativeDeviceCodec } from "../../transport/native-device.ts";
import { encode, make, randomParts } from "../codec/tiles.ts";
import { Random } from "../fuzz/random.ts";
import { makePaged, type Paged, putParts } from "./paged.ts";

/** And on a machine with a GPU that: KVFERRY_TEST_GPU=1. */
export const DEVICES = ["emulator", "emulator-reversed", ...(process.env["KVFERRY_TEST_GPU"] === "1" ? (["cuda"] as const) : [])] as const;

export interface Tile {
  readonly token: number;
  readonly tokens: number;
  readonly position: number;
  readonly end: number;
}

/** `nvcomp`: the path of a library in its place. */
export function device(spec: NativeCodecSpec, name: (typeof DEVICES)[number], nvcomp?: string): NativeDeviceCodec {
  assert.ok(native !== undefined, "there is an addon");
  // Little work memory, so that the tiles of a call are worked on in turns.
  return new native.DeviceCodec(spec, name, 3 << 20, nvcomp);
}

export const numbersOf = (tiles: readonly Tile[]): Float64Array =>
  Float64Array.from(tiles.flatMap(({ token, tokens, position, end }) => [token, tokens, position, end]));

/** A few tiles that follow one another in their planes. */
function randomTiles(random: Random): Tile[] {
  const position = random.pick([0, 0, 3, 1_000, 2 ** 28]);
  const sizes = Array.from({ length: random.between(1, 4) }, () => random.pick([0, 1, 2, 5, 17, 40]));
  const end = position + sizes.reduce((sum, size) => sum + size, 0) + random.pick([0, 0, 7]);
  let token = 0;
  return sizes.map((tokens) => {
    const tile = { token, tokens, position: position + token, end };
    token += tokens;
    return tile;
  });
}

export interface Case {
  readonly spec: NativeCodecSpec;
  readonly tiles: readonly Tile[];
  readonly paged: Paged;
  readonly parts: readonly Uint8Array[][];
  readonly expected: readonly { block: Uint8Array; stored: string }[];
}

/** The tiles' blocks by the oracle. */
export function makeCase(seed: number, randomSpec: (random: Random) => NativeCodecSpec): Case {
  const random = new Random(seed);
  const spec = randomSpec(random);
  const tiles = randomTiles(random);
  const paged = makePaged(
    spec,
    tiles.reduce((sum, { tokens }) => sum + tokens, 0),
    random,
  );
  const parts = tiles.map(({ tokens }) => randomParts(spec, tokens, random));
  for (const [at, { token, tokens }] of tiles.entries()) putParts(paged, parts[at] as Uint8Array[], token, tokens);
  const oracle = make({ ...spec, isa: "scalar" });
  const expected = tiles.map(({ tokens, position, end }, at) => encode(oracle, parts[at] as Uint8Array[], tokens, position, end));
  return { spec, tiles, paged, parts, expected };
}
