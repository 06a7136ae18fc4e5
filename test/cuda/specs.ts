/** Random specs that a GPU does. */
import type { NativeCodecSpec } from "../../transport/native-codec.ts";
import { gaussian, randomMatrix, widthOf } from "../codec/tiles.ts";
import type { Random } from "../fuzz/random.ts";

const list = (count: number, value: () => number): Float32Array => Float32Array.from({ length: count }, value);

type Shape = Pick<NativeCodecSpec, "element" | "parts" | "heads" | "channels" | "exempt">;

function randomTransform(shape: NativeCodecSpec, random: Random): NonNullable<NativeCodecSpec["transform"]> {
  const width = widthOf(shape);
  const isPower = (shape.channels & (shape.channels - 1)) === 0;
  const pairing = random.pick(["half", "adjacent"] as const);
  const pairs = pairing === "half" ? 8 * random.between(0, Math.floor(shape.channels / 16)) : random.between(0, shape.channels / 2);
  return {
    ...(random.chance(1, 2) && {
      rope: { inverseFrequencies: list(pairs, () => 10_000 ** -random.between(0, 1) * random.below(1_000)), pairing },
    }),
    ...(random.chance(1, 2) && { mean: list(width, () => gaussian(random)) }),
    ...(random.chance(1, 2) && { scale: list(width, () => 2 ** random.between(-3, 3) * random.pick([1, -1, 1.3])) }),
    ...(isPower && random.chance(1, 2) && { signs: Int8Array.from({ length: width }, () => random.pick([-1, 1])) }),
  };
}

function randomCoding(shape: NativeCodecSpec, random: Random): Pick<NativeCodecSpec, "quantizer" | "codec"> {
  const [width, heads] = [widthOf(shape), shape.parts * shape.heads];
  const kinds = ["none", "step", "step", "group", "group", "group", "fp8"] as const;
  const isLossless = shape.transform === undefined && shape.element !== "f32" && random.chance(2, 3);
  const kind = isLossless ? "lossless" : random.pick(kinds);
  switch (kind) {
    case "none":
      return { quantizer: { kind }, codec: { kind: "none" } };
    case "lossless":
      return { quantizer: { kind: "none" }, codec: { kind: "exponent" } };
    case "fp8":
      return {
        quantizer: { kind, format: random.pick(["e4m3", "e5m2"] as const) },
        codec: { kind: random.pick(["none", "pack"] as const) },
      };
    case "step":
      return {
        quantizer: { kind, steps: list(width, () => 2 ** random.between(-5, 1)) },
        codec: { kind: "rans-static", classes: Uint8Array.from({ length: width }, () => random.between(8, 40)) },
      };
    case "group": {
      const axis = random.pick(["token", "channel", "tensor"] as const);
      const levels = () => random.pick([2, 4, 8, 15, 16, 16, 32, 64, 128, 256]);
      const [all, isUniform] = [levels(), random.chance(1, 2)];
      const groups = axis === "token" ? [1, 8, 16, 32, 64, 1_000] : [1, 5, 16, 64];
      return {
        quantizer: {
          kind,
          levels: Uint16Array.from({ length: heads }, () => (isUniform ? all : levels())),
          axis,
          group: random.pick(groups),
          recent: random.pick([0, 0, 3, 40]),
        },
        codec: { kind: "pack" },
      };
    }
  }
}

export function randomDeviceSpec(random: Random): NativeCodecSpec {
  const shape: Shape = {
    element: random.pick(["bf16", "bf16", "f16", "f32"] as const),
    parts: random.between(1, 3),
    heads: random.between(1, 4),
    channels: random.pick([8, 16, 24, 64, 72, 80, 128, 256]),
    exempt: random.pick([0, 0, 4, 9]),
  };
  const spec: NativeCodecSpec = { ...shape, quantizer: { kind: "none" }, codec: { kind: "none" } };
  const isPlain = random.chance(1, 3);
  const transformed = isPlain ? spec : { ...spec, transform: randomTransform(spec, random) };
  return { ...transformed, ...randomCoding(transformed, random) };
}

/** A KLT over some of a row's columns, behind any other transform. */
export function randomProductSpec(random: Random): NativeCodecSpec {
  const shape: Shape = {
    element: random.pick(["bf16", "bf16", "f16"] as const),
    parts: random.between(1, 3),
    heads: random.between(1, 3),
    channels: random.pick([8, 24, 64, 128]),
    exempt: random.pick([0, 4]),
  };
  const spec: NativeCodecSpec = { ...shape, quantizer: { kind: "none" }, codec: { kind: "none" } };
  const width = widthOf(spec);
  const block = random.pick([8, 24, 64, 128, 192, width].filter((size) => width % size === 0 && size <= 192));
  const matrices = Array.from({ length: width / block }, () => Array.from(randomMatrix(block, random)));
  return {
    ...spec,
    transform: { ...randomTransform(spec, random), klt: { block, matrices: Float32Array.from(matrices.flat()) } },
    quantizer: { kind: "step", steps: list(width, () => 2 ** random.between(-5, 0)) },
    codec: { kind: "rans-static", classes: Uint8Array.from({ length: width }, () => random.between(8, 40)) },
  };
}
