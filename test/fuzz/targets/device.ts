/**
 * Blocks at the decoder of GPU codecs, on the emulator: what the CPU's decoder refuses is refused, what it decodes comes to the same bits in the pages, and nothing
 * else is written. Inputs are made as those of codec.ts.
 */
import assert from "node:assert/strict";
import type { NativeCodec, NativeCodecSpec } from "../../../transport/native-codec.ts";
import { native, nativeProblem } from "../../../transport/native.ts";
import type { NativeDeviceCodec } from "../../../transport/native-device.ts";
import { emptyParts, encode, make, randomParts } from "../../codec/tiles.ts";
import { makePaged, type Paged, takeParts } from "../../cuda/paged.ts";
import { Random } from "../random.ts";
import type { Session, Target } from "../target.ts";
import { generateBlock } from "./codec.ts";

const TOKENS = 21;
const POSITION = 2;
const FILL = 0x33;
const TILE = Float64Array.of(0, TOKENS, POSITION, POSITION + TOKENS);

interface Subject {
  readonly spec: NativeCodecSpec;
  readonly oracle: NativeCodec;
  readonly device: NativeDeviceCodec;
  readonly paged: Paged;
}

let made: readonly Subject[] | undefined;

function subjects(): readonly Subject[] {
  const random = new Random(1);
  made ??= specs().map((spec) => ({
    spec,
    oracle: make({ ...spec, isa: "scalar" }),
    device: new (native as NonNullable<typeof native>).DeviceCodec(spec, "emulator", 1 << 20),
    paged: makePaged(spec, TOKENS, random),
  }));
  return made;
}

function specs(): NativeCodecSpec[] {
  const shape = { element: "bf16", parts: 2, heads: 2, channels: 24, exempt: 4 } as const;
  const steps = new Float32Array(96).fill(0.1);
  const rope = { inverseFrequencies: new Float32Array(8).fill(0.3), pairing: "half" } as const;
  const group = { kind: "group", levels: Uint16Array.of(16, 15, 256, 2), group: 8, recent: 3 } as const;
  const classes = Uint8Array.from({ length: 96 }, (_, column) => 20 + (column % 5));
  return [
    { ...shape, quantizer: { kind: "none" }, codec: { kind: "none" } },
    { ...shape, quantizer: { kind: "none" }, codec: { kind: "exponent" } },
    { ...shape, heads: 8, channels: 128, quantizer: { kind: "none" }, codec: { kind: "exponent" } },
    { ...shape, quantizer: { kind: "step", steps }, transform: { rope, scale: steps }, codec: { kind: "rans-static", classes } },
    { ...shape, element: "f32", quantizer: { kind: "step", steps }, codec: { kind: "rans-static", classes } },
    { ...shape, quantizer: { ...group, axis: "token" }, codec: { kind: "pack" } },
    { ...shape, quantizer: { ...group, axis: "channel" }, codec: { kind: "pack" } },
    { ...shape, element: "f32", quantizer: { ...group, axis: "tensor" }, codec: { kind: "pack" } },
    { ...shape, quantizer: { kind: "fp8", format: "e5m2" }, codec: { kind: "none" } },
  ];
}

function seeds(): Uint8Array[] {
  const random = new Random(2);
  return subjects().map(({ spec, oracle }, index) =>
    Uint8Array.of(index, ...encode(oracle, randomParts(spec, TOKENS, random), TOKENS, POSITION).block),
  );
}

const session: Session = {
  run(input) {
    const all = subjects();
    const { spec, oracle, device, paged } = all[(input[0] ?? 0) % all.length] as Subject;
    const block = Uint8Array.from(input.subarray(1));
    const expected = emptyParts(spec, TOKENS);
    let refused = "";
    try {
      oracle.decode(block, expected, TOKENS, POSITION);
    } catch (error) {
      refused = (error as Error).message;
    }
    paged.memory.fill(FILL);
    const [problem = ""] = device.decode([block], paged.memory, paged.numbers, paged.lists, TILE);
    assert.equal(problem === "", refused === "", `the CPU says "${refused}", the device "${problem}"`);
    const found = takeParts(paged, 0, TOKENS);
    if (refused === "") assert.deepEqual(found, expected, "both decode to the same");
    const others = paged.memory.length - found.reduce((sum, { length }) => sum + length, 0);
    const untouched = paged.memory.reduce((sum, byte) => sum + (byte === FILL ? 1 : 0), 0);
    assert.ok(untouched >= others, "nothing beside the tile is written");
  },
  close() {},
};

export const deviceTargets: readonly Target[] = [
  {
    name: "device-block",
    corpus: "device-block",
    about: "blocks at the decoder of GPU codecs: refused or decoded as the CPU does, within their memory",
    skip: native === undefined ? `no addon: ${nativeProblem}` : "",
    native: true,
    seeds,
    generate: generateBlock,
    open: async () => session,
  },
];
