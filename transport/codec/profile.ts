/** What a profile is: how KV is compressed, as data. `parse.ts` makes one of what is written somewhere, `fit.ts` says what fits together. PURE. */

export type Transform =
  | { readonly kind: "unrotate" | "mean" | "scale" }
  | { readonly kind: "affine"; readonly by: "channel" | "head"; readonly deviations: number }
  | { readonly kind: "hadamard"; readonly seed: number }
  | { readonly kind: "klt"; readonly block: "tile" | "head" }
  | { readonly kind: "delta"; readonly anchor: number };

/** One number for all, for each layer, or for each head of each layer. */
export type Levels = number | readonly number[] | readonly (readonly number[])[];

interface SharedRanges {
  readonly axis: "token" | "channel" | "tensor";
  readonly group: number;
  readonly recent: number;
}

export type Quantizer =
  | { readonly kind: "none" }
  | { readonly kind: "step"; readonly step: number; readonly factors: readonly number[] }
  | ({ readonly kind: "group"; readonly levels: Levels } & SharedRanges)
  /** `scores`: hash of the file that the levels were made of. */
  | ({
      readonly kind: "mixhq";
      readonly scores: string;
      readonly bits: number;
      readonly high: number;
      readonly low: number;
      readonly levels: Levels;
    } & SharedRanges)
  | { readonly kind: "fp8"; readonly format: "e4m3" | "e5m2" }
  | { readonly kind: "cachegen"; readonly levels: Levels };

export type Codec =
  | { readonly kind: "none" | "pack" | "rans" | "rans-static" | "exponent" | "nvcomp-ans" | "nvcomp-bitcomp" | "lz4" }
  | { readonly kind: "planes" | "zstd"; readonly level: number };

export interface Pipeline {
  readonly transform: readonly Transform[];
  readonly quantizer: Quantizer;
  readonly codec: Codec;
}

/** Token merging, before all else: see `merge.ts`. */
export interface Merge {
  readonly kind: "kvmerger";
  readonly by: "budget" | "threshold";
  readonly budget: number;
  readonly cosine: number;
  readonly sinks: number;
  readonly recent: number;
  readonly heavy: number;
  readonly members: number;
  readonly pivot: "attention" | "key-norm";
  readonly weights: "gaussian" | "adaptive" | "mean";
  readonly sigma: number;
  readonly values: "average" | "sum";
  readonly scope: "head" | "layer";
  readonly skip: readonly number[];
}

export interface Profile {
  readonly version: 1;
  /** The first tokens of a sequence travel as they are wherever something is lost: attention leans on them. */
  readonly exempt: number;
  /** How many layers a tile has. */
  readonly layers: number;
  /** Left out where nothing is merged. */
  readonly merge?: Merge;
  readonly k: Pipeline;
  readonly v: Pipeline;
}

export type Side = "k" | "v";
export const SIDES: readonly Side[] = ["k", "v"];
