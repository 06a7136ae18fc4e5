/** The stage `merge` of a profile as native does it: rules, and the spec of a tile whose tokens are merged. PURE. */
import { KvferryError } from "../errors.ts";
import type { NativeMergeRules, NativeMergingSpec } from "../native-codec.ts";
import type { Calibration } from "./calibration.ts";
import type { Merge, Profile } from "./profile.ts";
import { type ModelShape, specOf, type TileLayers } from "./spec.ts";

export function rulesOf({ by, budget, cosine, sinks, recent, heavy, members, weights, sigma, values, scope }: Merge): NativeMergeRules {
  return {
    ...(by === "budget" ? { budget } : { cosine }),
    ...{ sinks, recent, heavy, members, isSum: values === "sum", byLayer: scope === "layer" },
    sigma: weights === "adaptive" ? 0 : weights === "mean" ? Number.POSITIVE_INFINITY : sigma,
  };
}

/** Throws KvferryError invalid_argument, in words, on a profile that this model or this calibration does not fit, or that chunks of transfers cannot have. */
export function mergingSpecOf(
  { merge, ...profile }: Profile & { readonly merge: Merge },
  { firstLayer, layers }: Omit<TileLayers, "side">,
  model: ModelShape,
  calibration?: Calibration,
): NativeMergingSpec {
  if (merge.pivot === "attention") throw new KvferryError("invalid_argument", ATTENTION_IS_MISSING);
  return {
    merge: rulesOf(merge),
    skipped: Uint8Array.from({ length: layers }, (_, at) => Number(merge.skip.includes(firstLayer + at))),
    k: specOf(profile, { side: "k", firstLayer, layers }, model, calibration),
    v: specOf(profile, { side: "v", firstLayer, layers }, model, calibration),
  };
}

export const ATTENTION_IS_MISSING = "merges by the attention that tokens got, which transfers do not know: there is the pivot key-norm";
