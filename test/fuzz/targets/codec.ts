/**
 * Blocks of encoded tiles at the native decoder, of each quantizer with each coder. The first byte of an input says whose block it is; most get a header with a right
 * length and checksum, so that what is behind it is reached.
 */
import assert from "node:assert/strict";
import { crc32c } from "../../../transport/kv/crc32c.ts";
import type { NativeCodec, NativeCodecSpec } from "../../../transport/native-codec.ts";
import { native, nativeProblem } from "../../../transport/native.ts";
import { codersOf, emptyParts, encode, HEADER_BYTES, randomParts } from "../../codec/tiles.ts";
import { mutate } from "../mutate.ts";
import { Random } from "../random.ts";
import type { Session, Target } from "../target.ts";

const TOKENS = 21;
const POSITION = 2;

interface Subject {
  readonly spec: NativeCodecSpec;
  /** One for each instruction set, the scalar one last. */
  readonly codecs: readonly NativeCodec[];
}

/** Made when they are first needed: a process that fuzzes other targets has no use for them. */
let made: readonly Subject[] | undefined;

function subjects(): readonly Subject[] {
  made ??= specs().flatMap((spec) => {
    try {
      return [
        { spec, codecs: (native?.codecIsas ?? []).map((isa) => new (native as NonNullable<typeof native>).NativeCodec({ ...spec, isa })) },
      ];
    } catch {
      // This host has no zstd.
      return [];
    }
  });
  return made;
}

function specs(): NativeCodecSpec[] {
  const random = new Random(1);
  const shape = { element: "bf16", parts: 2, heads: 2, channels: 24, exempt: 4 } as const;
  const steps = new Float32Array(96).fill(0.1);
  const rope = { inverseFrequencies: new Float32Array(12).fill(0.3), pairing: "half" } as const;
  const group = { kind: "group", levels: Uint16Array.of(16, 5, 256, 3), group: 8 } as const;
  const quantizers: readonly Omit<NativeCodecSpec, "codec">[] = [
    { ...shape, quantizer: { kind: "none" } },
    { ...shape, quantizer: { kind: "none" }, transform: { mean: steps } },
    { ...shape, quantizer: { kind: "step", steps }, transform: { rope, scale: steps } },
    { ...shape, element: "f16", quantizer: { kind: "step", steps }, verify: true },
    { ...shape, quantizer: { ...group, axis: "token", recent: 0 } },
    { ...shape, quantizer: { ...group, axis: "channel", recent: 3 } },
    { ...shape, element: "f32", quantizer: { ...group, axis: "tensor", recent: 0 } },
    { ...shape, quantizer: { kind: "fp8", format: "e5m2" } },
    { ...shape, quantizer: { kind: "cachegen", levels: Uint16Array.of(33, 8) }, transform: { delta: { anchor: 5 } } },
    { ...shape, quantizer: { kind: "cachegen", levels: Uint16Array.of(33, 8) } },
    { ...shape, quantizer: { kind: "step", steps }, transform: { mean: steps, delta: { anchor: 4 } } },
    { ...shape, quantizer: { ...group, axis: "channel", recent: 3 }, transform: { rope, delta: { anchor: 3 } } },
  ];
  return quantizers.flatMap((spec) => codersOf(spec, true, random).map((codec) => ({ ...spec, codec })));
}

function seeds(): Uint8Array[] {
  const random = new Random(2);
  return subjects().map(({ spec, codecs }, index) => {
    const { block } = encode(codecs[0] as NativeCodec, randomParts(spec, TOKENS, random), TOKENS, POSITION);
    return Uint8Array.of(index, ...block);
  });
}

/** A block behind a byte, changed; most headers get a right length and checksum. */
export function generateBlock(random: Random, pool: readonly Uint8Array[]): Uint8Array {
  const input = mutate(random.pick(pool), random);
  if (input.length < 1 + HEADER_BYTES || random.chance(1, 4)) return input;
  const view = new DataView(input.buffer, input.byteOffset + 1, input.byteLength - 1);
  if (random.chance(7, 8)) view.setUint32(28, view.byteLength - HEADER_BYTES, true);
  view.setUint32(44, crc32c(input.subarray(1, 45)), true);
  return input;
}

/** What the parts hold, or the words of the refusal. */
function outcome(codec: NativeCodec, spec: NativeCodecSpec, block: Uint8Array): Uint8Array[] | string {
  const parts = emptyParts(spec, TOKENS);
  try {
    codec.decode(block, parts, TOKENS, POSITION);
    return parts;
  } catch (error) {
    assert.equal((error as { code?: string }).code, "codec_failed", "a block is refused in one way");
    return (error as Error).message;
  }
}

const session: Session = {
  run(input) {
    const all = subjects();
    const { spec, codecs } = all[(input[0] ?? 0) % all.length] as Subject;
    // Of its own memory, so that reading behind its end is seen.
    const block = Uint8Array.from(input.subarray(1));
    const expected = outcome(codecs.at(-1) as NativeCodec, spec, block);
    for (const codec of codecs.slice(0, -1)) assert.deepEqual(outcome(codec, spec, block), expected, "every instruction set agrees");
  },
  close() {},
};

export const codecTargets: readonly Target[] = [
  {
    name: "codec-block",
    corpus: "codec-block",
    about: "blocks of encoded tiles: refused, or decoded to the same on every instruction set, within their memory",
    skip: native === undefined ? `no addon: ${nativeProblem}` : "",
    native: true,
    seeds,
    generate: generateBlock,
    open: async () => session,
  },
];
