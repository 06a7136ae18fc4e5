/**
 * The lane's client again, of grants whose planes have codecs: coded chunks that are right, changed under a right CRC, cut, too long, of another chunk or codec, and
 * chunks that come as they are. What decodes is what the scalar decoder makes of it; of what does not, no byte is written, and the lane goes on.
 */
import assert from "node:assert/strict";
import { crc32c } from "../../../transport/kv/crc32c.ts";
import type { ChunkSpan, Plane } from "../../../transport/link/link.ts";
import type { NativeCodec, NativeCodecSpec, NativeMergingSpec } from "../../../transport/native-codec.ts";
import { mapsBytes, PLAIN, reseal } from "../../codec/merged.ts";
import { encode, HEADER_BYTES, make, randomParts } from "../../codec/tiles.ts";
import { chunkFrame, headerOf } from "../../link/raw.ts";
import { mutate } from "../mutate.ts";
import { Random } from "../random.ts";
import type { Target } from "../target.ts";
import { type Ground, generateStream, LaneSession, PARTS } from "./lanes.ts";
import { KINDS } from "./live.ts";

const SHAPE = { element: "bf16", parts: PARTS, heads: 2, channels: 8 } as const;
const TOKEN_BYTES = 2 * SHAPE.heads * SHAPE.channels;
const WIDTH = PARTS * SHAPE.heads * SHAPE.channels;
const BLOCK_TOKENS = 4;
const BLOCKS = Uint32Array.from({ length: 80 }, (_, at) => at ^ 1);
const POSITION = 2;
/** Of the chunks of each codec's planes. */
const TOKENS = [1, 7, 40, 100, 172];

const specs = (): Spec[] => {
  const steps = new Float32Array(WIDTH).fill(0.1);
  const classes = Uint8Array.from({ length: WIDTH }, (_, column) => 20 + (column % 5));
  const rope = { inverseFrequencies: new Float32Array(4).fill(0.3), pairing: "half" } as const;
  const levels = Uint16Array.of(16, 5, 256, 3);
  return [
    { ...SHAPE, quantizer: { kind: "none" }, codec: { kind: "exponent" } },
    { ...SHAPE, exempt: 4, quantizer: { kind: "step", steps }, transform: { rope }, codec: { kind: "rans-static", classes } },
    { ...SHAPE, verify: true, quantizer: { kind: "step", steps }, codec: { kind: "rans" } },
    { ...SHAPE, quantizer: { kind: "group", levels, axis: "channel", group: 8, recent: 3 }, codec: { kind: "pack" } },
    { ...SHAPE, quantizer: { kind: "fp8", format: "e4m3" }, codec: { kind: "none" } },
    {
      merge: { ...PLAIN, budget: 0.5, sinks: 4, recent: 0.1, sigma: 1 },
      skipped: Uint8Array.of(0),
      k: { ...SHAPE, parts: 1, quantizer: { kind: "none" }, codec: { kind: "exponent" } },
      v: { ...SHAPE, parts: 1, quantizer: { kind: "fp8", format: "e4m3" }, codec: { kind: "none" } },
    },
  ];
};

type Spec = NativeCodecSpec | NativeMergingSpec;

interface Subject {
  readonly spec: Spec;
  readonly codec: NativeCodec;
}

/** Of each spec two planes with chunks, and last a plane without a codec. */
interface CodedGround extends Ground {
  readonly subjects: readonly Subject[];
  readonly spans: readonly ChunkSpan[];
}

/** Made when it is first needed, as codecs are. */
let made: CodedGround | undefined;

function ground(): CodedGround {
  made ??= makeGround();
  return made;
}

function makeGround(): CodedGround {
  const subjects = specs().map((spec) => ({ spec, codec: make(spec) }));
  const count = PARTS * subjects.length + 1;
  const planeBytes = BLOCK_TOKENS * TOKEN_BYTES;
  const blockStride = count * planeBytes + 24;
  const inside = { tokens: BLOCK_TOKENS, heads: SHAPE.heads, channels: SHAPE.channels, channelStride: 2, elementBytes: 2, firstToken: 0 };
  const headBytes = 2 * SHAPE.channels;
  const planes = Array.from(
    { length: count },
    (_, plane): Plane => ({
      ...{ ...inside, blockList: 0, offset: 40 + plane * planeBytes, blockStride },
      // Tokens and heads either way round.
      ...(plane % 2 === 0
        ? { tokenStride: TOKEN_BYTES, headStride: headBytes }
        : { tokenStride: headBytes, headStride: BLOCK_TOKENS * headBytes }),
    }),
  );
  const spans = [...subjects.keys()].flatMap((subject) => spansOf(PARTS * subject, PARTS));
  const decoders = new Map(spans.map((span, chunk) => [chunk, decoderOf(subjects[span.plane / PARTS]!.spec, span)]));
  const all = [...spans, ...spansOf(count - 1, 1)];
  return {
    ...{ subjects, spans: all, decoders, blocks: BLOCKS, regionBytes: 40 + blockStride * (BLOCKS.length + 1) },
    coding: { codecs: planes.map((_, plane) => (plane % PARTS === 0 ? subjects[plane / PARTS]?.codec : undefined)), position: POSITION },
    planes: () => planes,
    chunks: () => all,
  };
}

function spansOf(plane: number, parts: number): ChunkSpan[] {
  let token = 0;
  return TOKENS.map((tokens) => {
    const start = token * TOKEN_BYTES;
    token += tokens;
    return { plane, start, bytes: tokens * TOKEN_BYTES * parts };
  });
}

const tokensOf = ({ bytes }: ChunkSpan): number => bytes / (PARTS * TOKEN_BYTES);
const positionOf = ({ start }: ChunkSpan): number => POSITION + start / TOKEN_BYTES;

/** By the scalar decoder, whatever the link has. */
function decoderOf(spec: Spec, span: ChunkSpan): (block: Uint8Array) => Uint8Array | undefined {
  const isa = "scalar";
  const oracle = make("merge" in spec ? { ...spec, k: { ...spec.k, isa }, v: { ...spec.v, isa } } : { ...spec, isa });
  return (block) => {
    const parts = Array.from({ length: PARTS }, () => new Uint8Array(span.bytes / PARTS));
    try {
      oracle.decode(Uint8Array.from(block), parts, tokensOf(span), positionOf(span));
    } catch (error) {
      assert.equal((error as { code?: string }).code, "codec_failed");
      return undefined;
    }
    return Buffer.concat(parts);
  };
}

/** A block that a sender would have made of the chunk, at its place or at another. */
function blockOf(random: Random, span: ChunkSpan): Uint8Array {
  const { codec } = ground().subjects[Math.floor(span.plane / PARTS)] ?? ground().subjects[0]!;
  const [tokens, position] = random.chance(1, 15)
    ? [random.pick(TOKENS), random.below(300)]
    : [Math.max(1, Math.floor(tokensOf(span))), positionOf(span)];
  return encode(codec, randomParts(SHAPE, tokens, random), tokens, position).block;
}

/** Its bytes changed; most headers are right again. */
function harmed(random: Random, block: Uint8Array, span: ChunkSpan): Uint8Array {
  const changed = Uint8Array.from(random.chance(1, 4) ? block.subarray(0, 1 + random.below(block.length)) : mutate(block, random, 2));
  if (changed.length < HEADER_BYTES || random.chance(1, 5)) return changed;
  const { spec } = ground().subjects[Math.floor(span.plane / PARTS)] ?? ground().subjects[0]!;
  if ("merge" in spec) {
    reseal(changed, mapsBytes(spec, Math.floor(tokensOf(span))));
    return changed;
  }
  const view = new DataView(changed.buffer);
  if (random.chance(7, 8)) view.setUint32(28, changed.length - HEADER_BYTES, true);
  view.setUint32(HEADER_BYTES - 4, crc32c(changed.subarray(0, HEADER_BYTES - 4)), true);
  return changed;
}

function frame(random: Random): Uint8Array {
  const { spans } = ground();
  const chunk = random.chance(1, 40) ? random.pick([spans.length, 2 ** 32 - 1]) : random.below(spans.length);
  const span = spans[chunk] ?? spans[0]!;
  const fields = {
    grant: random.pick([1, 1, 1, 1, 2, 3, 4, 5, 6, 77]),
    generation: random.chance(1, 20) ? random.below(4) : 1,
    chunk,
    sequence: random.chance(1, 40) ? 0 : random.between(1, 300),
    checksum: random.chance(20, 21),
  };
  if (random.chance(1, 20)) return headerOf({ type: "ping", ...fields });
  if (random.chance(1, 8)) return chunkFrame(fields, new Uint8Array(span.bytes).fill(random.below(256)));
  let block = blockOf(random, span);
  if (random.chance(3, 5)) block = harmed(random, block, span);
  // One that is no shorter than the chunk, as one of a token is, would end the lane each time.
  if (block.length >= span.bytes && random.chance(9, 10)) block = block.subarray(0, Math.max(1, span.bytes - 1));
  const whole = chunkFrame({ ...fields, coded: random.chance(30, 31) }, block.length === 0 ? Uint8Array.of(0) : block);
  if (random.chance(1, 20)) return whole.subarray(0, random.below(whole.length));
  return random.chance(1, 20) ? mutate(whole, random, 1) : whole;
}

function seeds(): Uint8Array[] {
  const random = new Random(3);
  const { spans, decoders } = ground();
  const frames = [...decoders!.keys()].flatMap((chunk) => {
    const span = spans[chunk]!;
    const { codec } = ground().subjects[span.plane / PARTS]!;
    const { block } = encode(codec, randomParts(SHAPE, tokensOf(span), random), tokensOf(span), positionOf(span));
    const fields = { grant: 1, generation: 1, chunk };
    return block.length < span.bytes ? [chunkFrame({ ...fields, coded: true }, block)] : [];
  });
  return [...frames, Buffer.concat(frames)].map((bytes, at) => Uint8Array.of(at % 4 === 0 ? 2 : 255, ...bytes));
}

export const codedLaneTargets: readonly Target[] = KINDS.filter(({ native }) => native).map((kind) => ({
  name: `${kind.name}-coded-lane`,
  corpus: "coded-lane",
  about: "a hostile client's coded chunks on a lane of a live link: what decodes is the scalar decoder's, what does not leaves no byte",
  skip: kind.skip,
  native: kind.native,
  seeds,
  generate: (random, pool) => generateStream(random, pool, frame),
  open: () => new LaneSession(kind, ground()).open(),
}));
