/**
 * The parts that a profile is put together from, as data: each has a kind, a line of help, and parameters with their bounds. The parser, the JSON schema, the
 * types' check and `kvferry codec list` all read this list. PURE.
 */
import { limits } from "../limits.ts";

export type Parameter =
  | { readonly type: "integer"; readonly low: number; readonly high: number; readonly preset: number; readonly help: string }
  | { readonly type: "number"; readonly low: number; readonly high: number; readonly preset: number; readonly help: string }
  | { readonly type: "choice"; readonly choices: readonly string[]; readonly preset: string; readonly help: string }
  /** One number for all, a list with one for each layer, or a list of lists with one for each head of each layer. */
  | { readonly type: "levels"; readonly low: number; readonly high: number; readonly preset: number; readonly help: string }
  /** A list with one number for each layer; empty: 1 for all. */
  | { readonly type: "factors"; readonly low: number; readonly high: number; readonly preset: readonly number[]; readonly help: string }
  /** A list of layers, ascending. */
  | { readonly type: "layers"; readonly preset: readonly number[]; readonly help: string }
  /** A file: its path in a profile that somebody writes, which is read with it; from then on its hex SHA-256. */
  | { readonly type: "file"; readonly preset: ""; readonly help: string };

export interface Component {
  readonly kind: string;
  readonly help: string;
  readonly parameters: Readonly<Record<string, Parameter>>;
}

export type Stage = "merge" | "transform" | "quantizer" | "codec";

const integer = (low: number, high: number, preset: number, help: string): Parameter => ({ type: "integer", low, high, preset, help });
const choice = (choices: readonly string[], help: string): Parameter => ({ type: "choice", choices, preset: choices[0]!, help });
const levels = (low: number, preset: number, help: string): Parameter => ({ type: "levels", low, high: 256, preset, help });

const share = (preset: number, help: string): Parameter => ({ type: "number", low: 0, high: 1, preset, help });

const SEED_MAX = 2 ** 32 - 1;
const ZSTD_LEVEL = integer(-5, 19, 1, "of zstd");
const SHARED_RANGES = {
  axis: choice(["token", "channel", "tensor"], "what a group shares: a token's channels, a channel's tokens, or a head's whole tile"),
  group: integer(1, limits.channelsMax, 64, "channels or tokens of a group"),
  recent: integer(0, limits.codecTokensMax, 0, "tokens before the end of a sequence that travel as they are"),
};

export const COMPONENTS: Readonly<Record<Stage, readonly Component[]>> = {
  merge: [
    { kind: "none", help: "tokens stay what they are", parameters: {} },
    {
      kind: "kvmerger",
      help: "neighbours whose keys are alike become one token (KVMerger): for the receiver's memory, not for the wire, where codecs are better at every size",
      parameters: {
        by: choice(["budget", "threshold"], "what says how many merge"),
        budget: share(0.5, "of the tokens that are left, hit exactly unless the other rules forbid it"),
        cosine: { type: "number", low: -1, high: 1, preset: 0.75, help: "threshold: neighbours that are more alike merge" },
        sinks: integer(0, limits.codecExemptMax, 4, "first tokens that stay as they are"),
        recent: share(0.18, "of the tokens, the last ones that stay as they are"),
        heavy: share(0.16, "of the tokens, those with the most attention that stay as they are"),
        members: integer(1, limits.codecTokensMax, 8, "most tokens of one"),
        pivot: choice(["attention", "key-norm"], "which tokens count: by `attention` in the dump, or those with short keys"),
        weights: choice(
          ["gaussian", "adaptive", "mean"],
          "of members by the distance from the pivot; adaptive: sigma is the set's own distance",
        ),
        sigma: { type: "number", low: 1e-3, high: 1e6, preset: 5, help: "of the Gaussian" },
        values: choice(
          ["average", "sum"],
          "average: the receiver adds log n to the logit of n tokens; sum: the paper's scaling, which is worse",
        ),
        scope: choice(["head", "layer"], "what has the same sets: each KV head, or all of a layer"),
        skip: { type: "layers", preset: [], help: "layers whose tokens stay as they are" },
      },
    },
  ],
  /** In the order in which they are applied; a profile names those it wants in the same order. */
  transform: [
    { kind: "unrotate", help: "take the rotary embedding off keys (K alone)", parameters: {} },
    { kind: "mean", help: "subtract the calibrated mean of each channel", parameters: {} },
    {
      kind: "scale",
      help: "weigh each channel: K by the RMS of its queries, V by 1 / RMS of its head, both by the layer's sensitivity",
      parameters: {},
    },
    {
      kind: "affine",
      help: "an offset and a factor bring the calibrated range to -1 to 1",
      parameters: {
        by: choice(["channel", "head"], "what has an offset and a factor"),
        deviations: { type: "number", low: 0.5, high: 64, preset: 4, help: "from a channel's mean to the end of its range" },
      },
    },
    {
      kind: "hadamard",
      help: "signed Hadamard transform of each head; channels are a power of two",
      parameters: { seed: integer(0, SEED_MAX, 1, "of the signs, with the layer and the head") },
    },
    {
      kind: "klt",
      help: "calibrated Karhunen-Loeve transform: a matrix product for each block of channels",
      parameters: { block: choice(["tile", "head"], "tile: all heads of all layers of a tile; head: each head alone") },
    },
    {
      kind: "delta",
      help: "of every few tokens the first, and of the others what they differ from it as it is decoded (CacheGen)",
      parameters: { anchor: integer(2, limits.codecTokensMax, 10, "tokens from one anchor to the next") },
    },
  ],
  quantizer: [
    { kind: "none", help: "values stay as they are", parameters: {} },
    {
      kind: "step",
      help: "uniform steps with escapes, never clipped",
      parameters: {
        step: {
          type: "number",
          low: 1e-4,
          high: 100,
          preset: 0.25,
          help: "in units of the weights: K in noise of logits, V in RMS of its head; behind affine, of half its range",
        },
        factors: { type: "factors", low: 1e-3, high: 1e3, preset: [], help: "of the step, one for each layer; without a KLT over layers" },
      },
    },
    {
      kind: "group",
      help: "the range of a group is cut into levels (KIVI: K by channel, V by token)",
      parameters: {
        levels: levels(2, 16, "for all, for each layer, or for each head of each layer"),
        ...SHARED_RANGES,
      },
    },
    {
      kind: "mixhq",
      help: "groups with levels by head: heads that score high get more (MixHQ, KVServe)",
      parameters: {
        scores: {
          type: "file",
          preset: "",
          help: "a list of layers of lists of heads in JSON, or safetensors with `scores`, f32 [layers, heads]",
        },
        bits: { type: "number", low: 1, high: 8, preset: 3, help: "mean of log2(levels), which as many heads as fit get high for" },
        high: integer(2, 256, 16, "levels of the heads that score highest"),
        low: integer(2, 256, 4, "levels of the others"),
        levels: levels(2, 4, "what follows for each head of each layer; left out beside the path of a file"),
        ...SHARED_RANGES,
      },
    },
    {
      kind: "fp8",
      help: "floats of 8 bits; what is larger than theirs becomes their largest",
      parameters: { format: choice(["e4m3", "e5m2"], "exponent and mantissa bits") },
    },
    {
      kind: "cachegen",
      help: "bins by layer, as wide as the largest value of a token asks for; anchors of a delta get 8 bits",
      parameters: { levels: levels(3, 15, "bins, for all or for each layer") },
    },
  ],
  codec: [
    { kind: "none", help: "codes stay as they are, a byte and more each", parameters: {} },
    { kind: "pack", help: "as many bits as the levels need", parameters: {} },
    { kind: "rans", help: "entropy coded, with a table in each block", parameters: {} },
    { kind: "rans-static", help: "entropy coded, with a Gaussian table for each channel by its calibrated deviation", parameters: {} },
    { kind: "exponent", help: "lossless: exponents entropy coded, sign and mantissa as they are", parameters: {} },
    { kind: "planes", help: "lossless: low and high bytes apart, then zstd", parameters: { level: ZSTD_LEVEL } },
    { kind: "zstd", help: "zstd of the system, where it is found", parameters: { level: ZSTD_LEVEL } },
    { kind: "nvcomp-ans", help: "entropy coded by nvCOMP 6, in GPUs' memory alone", parameters: {} },
    {
      kind: "nvcomp-bitcomp",
      help: "Bitcomp of nvCOMP 6, in GPUs' memory alone; a harmed stream overwrites anything, so no peer's is decoded",
      parameters: {},
    },
    { kind: "lz4", help: "a yardstick, for files alone: lz4 of the codes; finds nothing in KV", parameters: {} },
  ],
};

export const STAGES = Object.keys(COMPONENTS) as readonly Stage[];

export function componentNamed(stage: Stage, kind: unknown): Component | undefined {
  return COMPONENTS[stage].find((component) => component.kind === kind);
}
