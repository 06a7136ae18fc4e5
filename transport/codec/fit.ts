/** Which parts of a profile fit together, and a sentence for those that do not. What depends on a model's shape is checked by `spec.ts`. PURE. */
import { COMPONENTS } from "./components.ts";
import type { Codec, Levels, Pipeline, Profile, Quantizer, Side, Transform } from "./profile.ts";

/** Codecs that the CPU has not. */
const NVCOMP = ["nvcomp-ans", "nvcomp-bitcomp"] as const;

/** What each quantizer leaves behind, and which codecs take it. */
const CODECS: Readonly<Record<Quantizer["kind"], readonly Codec["kind"][]>> = {
  none: ["none", "exponent", "planes", "zstd", "lz4", ...NVCOMP],
  step: ["none", "rans", "rans-static", "zstd", "lz4", ...NVCOMP],
  group: ["none", "pack", "rans", "zstd", "lz4", ...NVCOMP],
  mixhq: ["none", "pack", "rans", "zstd", "lz4", ...NVCOMP],
  fp8: ["none", "rans", "zstd", "lz4", ...NVCOMP],
  cachegen: ["none", "pack", "rans", "zstd", "lz4"],
};

const CALIBRATED: readonly Transform["kind"][] = ["mean", "scale", "affine", "klt"];

/** "" if all fits. */
export function misfitOf(profile: Profile): string {
  for (const side of ["k", "v"] as const) {
    const misfit = misfitOfPipeline(profile[side], side, profile.layers);
    if (misfit !== "") return `${side}: ${misfit}`;
  }
  if (profile.merge !== undefined && has(profile.k, "unrotate"))
    return "merge: what became one token has no position that unrotate could go by";
  return "";
}

export function has(pipeline: Pipeline, kind: Transform["kind"]): boolean {
  return pipeline.transform.some((one) => one.kind === kind);
}

/** Does it use anything that was measured on a model? */
export function needsCalibration({ transform, quantizer }: Pipeline): boolean {
  return quantizer.kind === "step" || transform.some(({ kind }) => CALIBRATED.includes(kind));
}

export function isLossless({ quantizer }: Pipeline): boolean {
  return quantizer.kind === "none";
}

/** Can it be had only where the system's zstd is? */
export function needsZstd({ k, v }: Profile): boolean {
  return [k, v].some(({ codec }) => codec.kind === "zstd" || codec.kind === "planes");
}

/** Of all that it does. */
export function losesNothing({ merge, k, v }: Profile): boolean {
  return merge === undefined && isLossless(k) && isLossless(v);
}

/** The codec of NVIDIA's that it asks for, if any. */
export function nvcompOf({ k, v }: Pick<Profile, Side>): (typeof NVCOMP)[number] | undefined {
  // What is worse about a profile is said.
  return NVCOMP.findLast((kind) => k.codec.kind === kind || v.codec.kind === kind);
}

function misfitOfPipeline(pipeline: Pipeline, side: Side, layers: number): string {
  const { transform, quantizer, codec } = pipeline;
  if (isLossless(pipeline) && transform.length > 0) {
    return `the quantizer none keeps values as they are, so that no transform can come before it (${transform[0]?.kind})`;
  }
  const takes = CODECS[quantizer.kind];
  if (!takes.includes(codec.kind))
    return `the codec ${codec.kind} does not take what the quantizer ${quantizer.kind} makes; ${takes.join(", ")} do`;
  if (quantizer.kind === "cachegen" && isByHead(quantizer.levels)) {
    return "cachegen has levels for all or for each layer, not for each head";
  }
  if (quantizer.kind === "mixhq" && !isByHead(quantizer.levels)) {
    return "mixhq has levels for each head of each layer: they come from the file of scores";
  }
  return misfitOfTransform(pipeline, side) || misfitOfKlt(pipeline, side, layers);
}

function isByHead(levels: Levels): boolean {
  return typeof levels !== "number" && typeof levels[0] !== "number";
}

function misfitOfTransform(pipeline: Pipeline, side: Side): string {
  const places = pipeline.transform.map(({ kind }) => COMPONENTS.transform.findIndex((one) => one.kind === kind));
  if (places.some((place, at) => place <= (places[at - 1] ?? -1))) {
    return `transforms stand in this order, each once: ${COMPONENTS.transform.map(({ kind }) => kind).join(", ")}`;
  }
  if (side === "v" && has(pipeline, "unrotate")) return "unrotate is for K: values carry no rotary embedding";
  const mixes = has(pipeline, "hadamard") || has(pipeline, "klt");
  if (pipeline.quantizer.kind === "step" && mixes && !has(pipeline, "scale") && !has(pipeline, "affine")) {
    return "steps in units of the weights need scale or affine in front of hadamard or klt, which mix channels of different weights";
  }
  return "";
}

function misfitOfKlt(pipeline: Pipeline, side: Side, layers: number): string {
  const klt = pipeline.transform.find((one) => one.kind === "klt");
  if (klt === undefined) return "";
  const before = side === "k" ? (["unrotate", "mean", "scale"] as const) : (["mean", "scale"] as const);
  const missing = before.find((kind) => !has(pipeline, kind));
  if (missing !== undefined) return `klt was calibrated behind ${before.join(", ")}, and ${missing} is missing`;
  const strange = (["affine", "hadamard"] as const).find((kind) => has(pipeline, kind));
  if (strange !== undefined) return `klt was calibrated without ${strange}, and needs none`;
  const { quantizer } = pipeline;
  if (klt.block === "tile" && layers > 1 && quantizer.kind === "step" && quantizer.factors.length > 0) {
    return "factors by layer mean nothing behind a klt that mixes layers";
  }
  return "";
}
