/** What the addon has of GPUs: types of native.ts. */

export interface NativeCuda {
  /** Why no kernel runs here, "" if one can. */
  readonly problem: string;
  /** 1000 x major + 10 x minor; 0 without a driver. */
  readonly version: number;
  /** Of the kernels in this build; 0: it was made without nvcc. */
  readonly kernelBytes: number;
  readonly gpus: readonly {
    readonly name: string;
    readonly capability: string;
    readonly multiprocessors: number;
    readonly bytes: number;
  }[];
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
 * A codec as GPUs run it, for tests: "emulator" takes threads and blocks in turn, "emulator-reversed" the last first, "cuda" is the first GPU. Throws TypeError on
 * what a GPU does not do, and an Error with `code` "unsupported" where there is none.
 */
export type NativeDeviceCodecClass<Spec> = new (
  spec: Spec,
  device: "emulator" | "emulator-reversed" | "cuda",
  workBytes?: number,
) => NativeDeviceCodec;
