/**
 * What lies where: a layout describes KV in a region as strides in bytes over (block, head, token, channel). PURE.
 * Layouts are the holder's; they may differ between the two ends of a transfer as long as the content is the same
 * (manifest.ts).
 */

/** Bytes of one value of each element type. */
export const ELEMENT_BYTES = Object.freeze({ bf16: 2, f16: 2, f32: 4, f8_e4m3: 1, f8_e5m2: 1, u8: 1 });

export type ElementType = keyof typeof ELEMENT_BYTES;

/**
 * k, v: per head and token. kv: both in one component, K in the first half of the channels and V in the second.
 * latent: MLA, one head. state: recurrent state, no token axis.
 */
export type ComponentName = "k" | "v" | "kv" | "latent" | "state";

export interface ComponentLayout {
  readonly name: ComponentName;
  readonly element: ElementType;
  /**
   * KV heads held here (`latent`, `state`: 1), and where this slice starts in the model's heads (tensor parallelism).
   */
  readonly heads: number;
  readonly firstHead: number;
  /** Values per head and token (`kv`: K and V together; `state`: values per block). */
  readonly channels: number;
  /** Byte offset of block 0 in the data area of the pool, one for each layer of the group. */
  readonly offsets: readonly number[];
  readonly blockStride: number;
  readonly tokenStride: number;
  readonly headStride: number;
  /**
   * Bytes from one channel to the next; the element's size unless the inside is transposed (vLLM's CPU backend stores
   * K so).
   */
  readonly channelStride: number;
}

export interface GroupLayout {
  /** Tokens of a block; 0 for a group of fixed-size state. */
  readonly blockTokens: number;
  /** Model layer numbers, in the order of `offsets`. */
  readonly layers: readonly number[];
  readonly components: readonly ComponentLayout[];
}

export interface Layout {
  /** Blocks in the pool; block ids are 0 .. blockCount-1, shared by all groups. */
  readonly blockCount: number;
  readonly groups: readonly GroupLayout[];
}
