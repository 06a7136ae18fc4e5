/** What the addon has of GPUs: types of native.ts, and what they lack in words. */

export interface NativeCuda {
  /** Why no kernel runs here, "" if one can. */
  readonly problem: string;
  /** 1000 x major + 10 x minor; 0 without a driver. */
  readonly version: number;
  /** Of the kernels in this build; 0: it was made without nvcc. */
  readonly kernelBytes: number;
  /** NVIDIA's library of coders: its version, "" if there is none, and why it cannot be used, "" if it can. */
  readonly nvcomp: { readonly version: string; readonly problem: string };
  readonly gpus: readonly {
    readonly name: string;
    readonly capability: string;
    readonly multiprocessors: number;
    readonly bytes: number;
  }[];
}

/** Why nothing is coded with nvCOMP on this host, "" if it can be. `cuda`: undefined without an addon. */
export function nvcompProblem(cuda: NativeCuda | undefined): string {
  if (cuda === undefined) return "the addon is not loaded";
  return [cuda.nvcomp.problem, cuda.problem].filter((problem) => problem !== "").join("; ");
}

/** Why `who`, which codes in the host's memory, cannot use this codec of nvCOMP; what the host lacks comes first. */
export function nvcompRefusal(kind: string, cuda: NativeCuda | undefined, who: string): string {
  const missing = nvcompProblem(cuda);
  return missing === "" ? `${kind} codes in GPUs' memory, and ${who} in the host's` : `${kind} needs nvCOMP and a GPU: ${missing}`;
}

/**
 * Tiles of paged KV that lies in `memory`: a plane for each part as `planeNumbers` packs them, lists of blocks, and of each tile four numbers: its first token in the
 * planes' streams, tokens, position, end of the sequence.
 */
export interface NativeDeviceCodec {
  readonly id: string;
  encode(
    memory: Uint8Array,
    planes: Float64Array,
    lists: readonly Uint32Array[],
    tiles: Float64Array,
  ): { block: Uint8Array; stored: string }[];
  /** Of each block "" or why it is none of that tile, in words; what its pages hold then means nothing. */
  decode(
    blocks: readonly Uint8Array[],
    memory: Uint8Array,
    planes: Float64Array,
    lists: readonly Uint32Array[],
    tiles: Float64Array,
  ): string[];
}

/**
 * A codec as GPUs run it, for tests: "emulator" takes threads and blocks in turn, "emulator-reversed" the last first, "cuda" is the first GPU. `nvcomp` is the path of
 * a library in place of nvCOMP, which emulators need. Throws TypeError on what a GPU does not do, and an Error with `code` "unsupported" where there is no GPU or no
 * nvCOMP for it.
 */
export type NativeDeviceCodecClass<Spec> = new (
  spec: Spec,
  device: "emulator" | "emulator-reversed" | "cuda",
  workBytes?: number,
  nvcomp?: string,
) => NativeDeviceCodec;

/**
 * Merges the tokens of each set (native/codec/merge.h): keys and values of bf16 in the first and second plane, of one tile from their first token on.
 * `begins` of each set, and behind the last, are places among `members`. What comes back is of each set.
 */
export type NativeMergeTokens = (
  device: "emulator" | "emulator-reversed" | "cuda",
  heads: number,
  channels: number,
  memory: Uint8Array,
  planes: Float64Array,
  lists: readonly Uint32Array[],
  tile: Float64Array,
  begins: Uint32Array,
  members: Uint32Array,
  headOf: Uint32Array,
  attention: Float32Array,
  sigma: number,
  sums: boolean,
) => { keys: Float32Array; values: Float32Array; pivots: Uint32Array };
