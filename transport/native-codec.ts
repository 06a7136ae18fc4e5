/** What the addon has of codecs: types of native.ts. */

/**
 * What a codec does to tiles: `parts` planes of some tokens at once, each a canonical stream. A row is one token of a tile: part by part, head by
 * head, channel by channel; "of the width" is one number for each column of a row. schemas/codec.md describes what comes out.
 */
export interface NativeCodecSpec {
  readonly element: "bf16" | "f16" | "f32";
  readonly parts: number;
  readonly heads: number;
  readonly channels: number;
  /** Tokens at positions below this travel as they are. */
  readonly exempt?: number;
  /** Blocks carry a checksum of what they decode to: where something is lost, encoding decodes as well. */
  readonly verify?: boolean;
  /** In this order forward. */
  readonly transform?: {
    /** At most channels / 2 frequencies: twice as many channels of each head were rotated. */
    readonly rope?: { readonly inverseFrequencies: Float32Array; readonly pairing: "half" | "adjacent" };
    /** Of the width. */
    readonly mean?: Float32Array;
    /** Of the width; forward multiplies. */
    readonly scale?: Float32Array;
    /** Of the width, 1 or -1: Hadamard over each head, whose channels are a power of two. */
    readonly signs?: Int8Array;
    /** width / block matrices of block x block; rows are components, orthonormal. */
    readonly klt?: { readonly block: number; readonly matrices: Float32Array };
    /** Of every `anchor` coded tokens the first, and of the others what they differ from it as it is decoded. */
    readonly delta?: { readonly anchor: number };
  };
  readonly quantizer:
    | { readonly kind: "none" }
    /** Of the width. Never clips. */
    | { readonly kind: "step"; readonly steps: Float32Array }
    /** `levels` of parts x heads, 2..256. `group`: channels of a token ("token") or tokens of a channel ("channel") that share a range; "tensor" has none. */
    | {
        readonly kind: "group";
        readonly levels: Uint16Array;
        readonly axis: "token" | "channel" | "tensor";
        readonly group?: number;
        /** So many tokens before the sequence's end travel as they are. */
        readonly recent: number;
      }
    /** Saturates at the largest value. */
    | { readonly kind: "fp8"; readonly format: "e4m3" | "e5m2" }
    /** Bins to either side of zero, by what is largest in a part of a token; anchors of a delta have 8 bits. `levels` of parts, 3..256. */
    | { readonly kind: "cachegen"; readonly levels: Uint16Array };
  readonly codec:
    | { readonly kind: "none" | "pack" | "rans" | "exponent" }
    /** Of GPUs alone: NativeDeviceCodec. */
    | { readonly kind: "nvcomp-ans" | "nvcomp-bitcomp" }
    /** Of the width: places in the list of Gaussian tables. */
    | { readonly kind: "rans-static"; readonly classes: Uint8Array }
    | { readonly kind: "planes" | "zstd"; readonly level?: number };
  /** One of codecIsas, for tests. */
  readonly isa?: string;
}

/** What is merged, and how: native/codec/merge.h. Shares are from 0 to 1. */
export interface NativeMergeRules {
  /** Of the tokens, the share that is left; undefined: neighbours merge where their cosine is above `cosine`. */
  readonly budget?: number;
  readonly cosine?: number;
  /** Tokens at the beginning of the sequence that stay as they are. */
  readonly sinks: number;
  /** Of all tokens of the sequence the last ones, and of those that merge at once those that rank highest: they stay as they are. */
  readonly recent: number;
  readonly heavy: number;
  /** Of a set at most. */
  readonly members: number;
  /** Members weigh exp(-d^2 / (2 sigma^2)) with d their key's distance from the pivot's; Infinity: all the same; 0: the root mean square of a set's d. */
  readonly sigma: number;
  /** Values are scaled by the size of their set. */
  readonly isSum: boolean;
  /** All heads of a layer have the same sets. */
  readonly byLayer: boolean;
}

/** Tokens merge before keys and values are coded, each by its spec; both have one shape. A tile has the parts of keys, then those of values. */
export interface NativeMergingSpec {
  readonly merge: NativeMergeRules;
  /** One flag for each part of keys; 1: nothing merges there. */
  readonly skipped: Uint8Array;
  readonly k: NativeCodecSpec;
  readonly v: NativeCodecSpec;
}

/** Elements and maps as schemas/codec.md has them ("Merged tokens"). */
export interface NativeMergedLayer {
  /** [heads, ceil(tokens / 2)] */
  readonly map: Uint8Array;
  /** Rows of each head. */
  readonly counts: Uint32Array;
  /** Elements [heads, tokens, channels]; of each head the first rows are used. */
  readonly keys: Uint8Array;
  readonly values: Uint8Array;
}

export interface NativeMergeMap {
  /** Of each token; sets are counted in the order of their first tokens. */
  readonly setOf: Uint32Array;
  /** Tokens of each set. */
  readonly sizes: Uint32Array;
  /** Of each set, the token whose position stands for it. */
  readonly pivots: Uint32Array;
}

/** Merging by itself. Arguments that do not fit throw TypeError. */
export interface NativeMerging {
  /**
   * Undefined: some value is no number, and nothing is merged.
   * @param keys elements [heads, tokens, channels], as values are
   * @param attention [heads, tokens], finite: ranks tokens; undefined: the norm of their keys does
   */
  mergeLayer(
    rules: NativeMergeRules,
    shape: { readonly element: NativeCodecSpec["element"]; readonly heads: number; readonly tokens: number; readonly channels: number },
    keys: Uint8Array,
    values: Uint8Array,
    attention: Float32Array | undefined,
    isSkipped: boolean,
  ): NativeMergedLayer | undefined;
  /** Of one head. A text: why it is none. */
  readMap(map: Uint8Array, tokens: number): NativeMergeMap | string;
  /** exp(-x). */
  decay(x: number): number;
}

/** Why a tile travels as it is; "" if it does not. */
export type NativeStored = "" | "incompressible" | "not_finite" | "out_of_range";

export interface NativeEncoded {
  readonly bytes: number;
  readonly stored: NativeStored;
}

type SentCount = "encodeNs" | "encodedChunks" | "encodedBytes" | "sentBytes";
type ArrivedCount = "decodeNs" | "decodedChunks" | "decodedBytes" | "arrivedBytes" | "failedChunks";
/** Of chunks that links coded. Bytes are original, but those of `sentBytes` (with `stored` chunks) and `arrivedBytes` (of coded ones alone); all threads' time. */
export interface NativeCodecCounts extends Readonly<Record<SentCount | ArrivedCount, number>> {
  readonly stored: Readonly<Record<Exclude<NativeStored, "">, number>>;
}

/**
 * Arguments that do not fit throw TypeError. `position`: of the tile's first token. `end`: behind the last token of the sequence, for `recent`; without it
 * the tile is the sequence's last. `*Later` works on libuv's threads (UV_THREADPOOL_SIZE), and says how long it had a processor: until it settles the memory
 * belongs to it, and must be neither transferred nor written.
 */
export interface NativeCodec {
  /** Of all that decides what a block means, 16 hexadecimal digits. A block of another is refused by it. */
  readonly id: string;
  counts(): NativeCodecCounts;
  /** No block of so many tokens is longer. */
  bound(tokens: number): number;
  /** `out` has bound(tokens) bytes. */
  encode(parts: readonly Uint8Array[], tokens: number, position: number, out: Uint8Array, end?: number): NativeEncoded;
  encodeLater(...tile: Parameters<NativeCodec["encode"]>): Promise<NativeEncoded & { readonly threadNs: number }>;
  /** Throws an Error with `code` "codec_failed" if this is no block of that tile; what `parts` hold then means nothing. */
  decode(block: Uint8Array, parts: readonly Uint8Array[], tokens: number, position: number): void;
  decodeLater(...tile: Parameters<NativeCodec["decode"]>): Promise<{ readonly threadNs: number }>;
}

export interface NativeCodecClass {
  /** Throws TypeError, in words, on a spec that makes no sense or that this host lacks something for. */
  new (spec: NativeCodecSpec | NativeMergingSpec): NativeCodec;
  /** The same on a thread of libuv's, which wide matrices keep busy for a while; until it settles they are not to be written. */
  later(spec: NativeCodecSpec | NativeMergingSpec): Promise<NativeCodec>;
}

/** `isa`: one of `isas`. A table is 256 frequencies that sum to 4096. Undefined: what is given does not decode, or cannot be encoded. */
export interface NativeCoders {
  /** What this CPU has, best first; "scalar" is always there. */
  readonly isas: readonly string[];
  /** `tableOf`: for each column, which of `tables` it uses. */
  encodeRans(symbols: Uint8Array, tables: Uint16Array, tableOf: Uint8Array, isa: string): Uint8Array | undefined;
  decodeRans(stream: Uint8Array, rows: number, tables: Uint16Array, tableOf: Uint8Array, isa: string): Uint8Array | undefined;
  fitTable(counts: Uint32Array): Uint16Array | undefined;
  writeTable(table: Uint16Array): Uint8Array | undefined;
  readTable(bytes: Uint8Array): { frequencies: Uint16Array; bytes: number } | undefined;
  gaussians(): { symbols: Uint32Array; frequencies: Uint16Array };
  encodeExponents(values: Uint8Array, columns: number, isa: string): Uint8Array | undefined;
  decodeExponents(block: Uint8Array, rows: number, columns: number, isa: string): Uint8Array | undefined;
  pack(levels: number, codes: Uint8Array, isa: string): Uint8Array | undefined;
  unpack(levels: number, bytes: Uint8Array, codes: number, isa: string): Uint8Array | undefined;
  splitPlanes(bytes: Uint8Array, elementBytes: number): Uint8Array | undefined;
  joinPlanes(bytes: Uint8Array, elementBytes: number): Uint8Array | undefined;
  /** `problem`: why the system's library cannot be had, "" if it is there. */
  zstd(): { readonly version: string; readonly problem: string };
  encodeZstd(bytes: Uint8Array, level: number): Uint8Array | undefined;
  decodeZstd(frame: Uint8Array, bytes: number): Uint8Array | undefined;
}
