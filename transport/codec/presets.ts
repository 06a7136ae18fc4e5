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

/** A step for each channel and no matrix product. The step of V is the one that costs least bits at equal noise of the model. */
function diagonal(step: number): unknown {
  return {
    k: { transform: [UNROTATE, MEAN], quantizer: { kind: "step", step }, codec: STATIC },
    v: { transform: [MEAN], quantizer: { kind: "step", step: 0.4 * step }, codec: STATIC },
  };
}

/** One step behind a KLT of five layers. */
function crossLayer(step: number): unknown {
  return {
    layers: 5,
    k: { transform: [UNROTATE, MEAN, SCALE, KLT], quantizer: { kind: "step", step }, codec: STATIC },
    v: { transform: [MEAN, SCALE, KLT], quantizer: { kind: "step", step: 0.5 * step }, codec: STATIC },
  };
}

function both(quantizer: unknown, codec: unknown, exempt?: number): unknown {
  return { ...(exempt === undefined ? {} : { exempt }), k: { quantizer, codec }, v: { quantizer, codec } };
}

const group = (levels: number, axis: string): unknown => ({ kind: "group", levels, axis, group: 64 });

const WRITTEN: Readonly<Record<string, readonly [help: string, profile: unknown]>> = {
  lossless: ["every bit comes back", both({ kind: "none" }, { kind: "exponent" }, 0)],
  "cpu-near": ["as good as a bf16 engine's own noise, without a matrix product", diagonal(0.25)],
  "cpu-fast": ["near fp8's error, without a matrix product", diagonal(0.6)],
  "gpu-near": ["fp8's error at three times its ratio; a KLT of five layers", crossLayer(0.6)],
  "gpu-fast": ["ten times smaller; a KLT of five layers", crossLayer(1.3)],
  "gpu-max": ["where the link is all that counts; a KLT of five layers", crossLayer(2.5)],
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
  cachegen: ["CacheGen: differences from an anchor every ten tokens", both({ kind: "cachegen" }, { kind: "rans" })],
};

export const PRESETS: ReadonlyMap<string, Preset> = new Map(
  Object.entries(WRITTEN).map(([name, [help, profile]]) => [name, Object.freeze({ help, profile: parseProfile(profile, name) })]),
);
