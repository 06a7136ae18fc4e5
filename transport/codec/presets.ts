/** Profiles with names. The figures behind them stand in bench/RESULTS.md. PURE. */
import { parseProfile } from "./parse.ts";
import type { Profile } from "./profile.ts";

interface Preset {
  readonly help: string;
  readonly profile: Profile;
}

const UNROTATE = { kind: "unrotate" };
const MEAN = { kind: "mean" };
const SCALE = { kind: "scale" };
const HADAMARD = { kind: "hadamard" };
const KLT = { kind: "klt", block: "tile" };
const STATIC = { kind: "rans-static" };
const PACK = { kind: "pack" };
const CACHEGEN = { transform: [{ kind: "delta", anchor: 10 }], quantizer: { kind: "cachegen" }, codec: { kind: "rans" } };

/**
 * A step for each channel and no matrix product. The steps of K and V stand to each other as the roots of what their noise costs (`sensitivity`): on SmolLM2-135M
 * that of V is 0.4 of that of K.
 */
function diagonal(k: number, v: number): unknown {
  return {
    k: { transform: [UNROTATE, MEAN], quantizer: { kind: "step", step: k }, codec: STATIC },
    v: { transform: [MEAN], quantizer: { kind: "step", step: v }, codec: STATIC },
  };
}

/** One step behind a KLT of five layers. More of K's components carry nothing, so that finer steps of K cost less. */
function crossLayer(k: number, v: number): unknown {
  return {
    layers: 5,
    k: { transform: [UNROTATE, MEAN, SCALE, KLT], quantizer: { kind: "step", step: k }, codec: STATIC },
    v: { transform: [MEAN, SCALE, KLT], quantizer: { kind: "step", step: v }, codec: STATIC },
  };
}

function both(quantizer: unknown, codec: unknown, exempt?: number): unknown {
  return { ...(exempt === undefined ? {} : { exempt }), k: { quantizer, codec }, v: { quantizer, codec } };
}

const group = (levels: number, axis: string): unknown => ({ kind: "group", levels, axis, group: 64 });

const WRITTEN: Readonly<Record<string, readonly [help: string, profile: unknown]>> = {
  lossless: ["every bit comes back", both({ kind: "none" }, { kind: "exponent" }, 0)],
  "cpu-near": ["as good as a bf16 engine's own noise, without a matrix product", diagonal(0.25, 0.1)],
  "cpu-fast": ["near fp8's error, without a matrix product", diagonal(0.55, 0.22)],
  "gpu-near": ["fp8's error at three times its ratio; a KLT of five layers", crossLayer(0.48, 0.21)],
  "gpu-fast": ["ten times smaller; a KLT of five layers", crossLayer(1, 0.44)],
  "gpu-max": ["where the link is all that counts; a KLT of five layers", crossLayer(1.7, 0.75)],
  fp8: ["what engines store as fp8", both({ kind: "fp8" }, { kind: "none" })],
  int8: ["256 levels for each token and head", both(group(256, "token"), PACK)],
  int4: ["16 levels for each token and head", both(group(16, "token"), PACK)],
  hadamard4: [
    "int4 behind a signed Hadamard transform, K around its mean and without its rotary embedding",
    {
      k: { transform: [UNROTATE, MEAN, HADAMARD], quantizer: group(16, "token"), codec: PACK },
      v: { transform: [HADAMARD], quantizer: group(16, "token"), codec: PACK },
    },
  ],
  turbo4: [
    "int4 behind a signed Hadamard transform alone; needs no calibration",
    {
      k: { transform: [HADAMARD], quantizer: group(16, "token"), codec: PACK },
      v: { transform: [HADAMARD], quantizer: group(16, "token"), codec: PACK },
    },
  ],
  kivi4: [
    "KIVI: 16 levels, K by channel and V by token",
    { k: { quantizer: group(16, "channel"), codec: PACK }, v: { quantizer: group(16, "token"), codec: PACK } },
  ],
  cachegen: ["CacheGen: differences from an anchor every ten tokens", { k: CACHEGEN, v: CACHEGEN }],
};

export const PRESETS = presetsOf(WRITTEN);

/** For comparison in files. No peer is offered one, nothing chooses one. */
export const YARDSTICKS = presetsOf({ lz4: ["what lz4 finds in KV", both({ kind: "none" }, { kind: "lz4" }, 0)] });

function presetsOf(written: typeof WRITTEN): ReadonlyMap<string, Preset> {
  return new Map(
    Object.entries(written).map(([name, [help, profile]]) => [name, Object.freeze({ help, profile: parseProfile(profile, name) })]),
  );
}
