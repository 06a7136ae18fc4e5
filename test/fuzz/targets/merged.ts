/**
 * Chunks whose tokens are merged, at the native decoder: the first byte of an input says whose chunk it is; most get a right checksum over their map, so that what is
 * behind it is reached. And maps by themselves.
 */
import assert from "node:assert/strict";
import { crc32c } from "../../../transport/kv/crc32c.ts";
import type { NativeCodec, NativeMergingSpec } from "../../../transport/native-codec.ts";
import { native, nativeProblem } from "../../../transport/native.ts";
import {
  JOINED,
  KEPT,
  mapBytes,
  mapOf,
  mapsBytes,
  MERGED_HEAD_BYTES,
  nibblesOf,
  PLAIN,
  randomMergingSpec,
  reseal,
  setsOf,
  tileOf,
  wanderingParts,
} from "../../codec/merged.ts";
import { emptyParts, encode, HEADER_BYTES } from "../../codec/tiles.ts";
import { mutate } from "../mutate.ts";
import { Random } from "../random.ts";
import type { Session, Target } from "../target.ts";

const TOKENS = 21;
const POSITION = 2;
const SPECS = 12;
const skip = native === undefined ? `no addon: ${nativeProblem}` : "";

interface Subject {
  readonly spec: NativeMergingSpec;
  /** One for each instruction set, the scalar one last. */
  readonly codecs: readonly NativeCodec[];
}

/** Made when they are first needed. */
let made: readonly Subject[] | undefined;

function subjects(): readonly Subject[] {
  made ??= specs().map((spec) => ({
    spec,
    codecs: native!.codecIsas.map((isa) => new native!.NativeCodec({ ...spec, k: { ...spec.k, isa }, v: { ...spec.v, isa } })),
  }));
  return made;
}

function specs(): NativeMergingSpec[] {
  const random = new Random(1);
  return Array.from({ length: SPECS }, (_, at) => {
    const spec = randomMergingSpec(random, false, at % 3 === 0);
    return { ...spec, merge: { ...PLAIN, ...spec.merge, budget: 0.5 } };
  });
}

function subjectOf(input: Uint8Array): Subject {
  const all = subjects();
  return all[(input[0] ?? 0) % all.length]!;
}

/** A chunk behind a byte, changed. The checksum over its map is right, mostly, and so are those of its blocks' headers. */
function generateChunk(random: Random, pool: readonly Uint8Array[]): Uint8Array {
  const input = mutate(random.pick(pool), random);
  const chunk = input.subarray(1);
  const maps = mapsBytes(subjectOf(input).spec, TOKENS);
  const front = MERGED_HEAD_BYTES + maps;
  if (chunk.length < front + HEADER_BYTES || random.chance(1, 5)) return input;
  const view = new DataView(chunk.buffer, chunk.byteOffset, chunk.length);
  for (const [begin, end] of blocksOf(view, front)) {
    if (end - begin < HEADER_BYTES || random.chance(1, 8)) continue;
    view.setUint32(begin + 28, end - begin - HEADER_BYTES, true);
    view.setUint32(begin + HEADER_BYTES - 4, crc32c(chunk.subarray(begin, begin + HEADER_BYTES - 4)), true);
  }
  reseal(chunk, maps);
  return input;
}

/** Where keys and values begin and end. */
function blocksOf(view: DataView, front: number): readonly (readonly [number, number])[] {
  const middle = front + Math.min(view.getUint32(12, true), view.byteLength - front);
  return [
    [front, middle],
    [middle, view.byteLength],
  ];
}

/** What the parts hold, or the words of the refusal. */
function outcome(codec: NativeCodec, spec: NativeMergingSpec, chunk: Uint8Array): Uint8Array[] | string {
  const parts = emptyParts(tileOf(spec), TOKENS);
  try {
    codec.decode(chunk, parts, TOKENS, POSITION);
    return parts;
  } catch (error) {
    assert.equal((error as { code?: string }).code, "codec_failed", "a chunk is refused in one way");
    return (error as Error).message;
  }
}

const chunkSession: Session = {
  run(input) {
    const { spec, codecs } = subjectOf(input);
    // Of its own memory, so that reading behind its end is seen.
    const chunk = Uint8Array.from(input.subarray(1));
    const expected = outcome(codecs.at(-1)!, spec, chunk);
    for (const codec of codecs.slice(0, -1)) assert.deepEqual(outcome(codec, spec, chunk), expected, "every instruction set agrees");
  },
  close() {},
};

const mapSession: Session = {
  run(input) {
    const bytes = new Uint8Array(mapBytes(TOKENS));
    bytes.set(input.subarray(0, bytes.length));
    const map = native!.codecMerging.readMap(bytes, TOKENS);
    if (typeof map === "string") return;
    const sets = setsOf(map);
    assert.equal(sets.flat().length, TOKENS, "each token is in one set");
    const nibbles = nibblesOf(bytes, TOKENS).map((bits, token) => {
      const members = sets[map.setOf[token]!]!;
      const mark = members[0] !== token ? JOINED : members.length > 1 ? 0 : bits & KEPT;
      return mark | (map.pivots[map.setOf[token]!] === token ? 4 : 0);
    });
    assert.deepEqual(mapOf(nibbles), bytes, "there is one way to write it");
  },
  close() {},
};

export const mergedTargets: readonly Target[] = [
  {
    name: "merged-chunk",
    corpus: "merged-chunk",
    about: "chunks whose tokens are merged: refused, or decoded to the same on every instruction set, within their memory",
    skip,
    native: true,
    seeds: () =>
      subjects().map(({ spec, codecs }, index) => {
        const random = new Random(2 + index);
        const { block } = encode(codecs[0]!, wanderingParts(spec, TOKENS, random), TOKENS, POSITION, POSITION + TOKENS + index);
        return Uint8Array.of(index, ...block);
      }),
    generate: generateChunk,
    open: async () => chunkSession,
  },
  {
    name: "merge-map",
    corpus: "merge-map",
    about: "maps of merged tokens: each token in one set with one pivot, and the same bytes when written again; or refused",
    skip,
    native: true,
    seeds: () => [mapOf(new Uint8Array(TOKENS).fill(KEPT | 4)), mapOf([0, 5, 6, 1, 0, 6, 1, 5, 6, 6, 4, 0, 5, 4, 4, 0, 1, 1, 5, 6, 6])],
    open: async () => mapSession,
  },
];
