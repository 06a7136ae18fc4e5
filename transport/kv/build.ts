/**
 * The usual forms of layouts, from a model's numbers. Groups are built alone, at a `base` and with a `blockStride` of
 * choice, so that several can share a pool; the *Layout functions give a whole, checked layout of one group. PURE.
 */
import { expected, integer } from "../check.ts";
import { limits } from "../limits.ts";
import { type ComponentLayout, ELEMENT_BYTES, type ElementType, type GroupLayout, type Layout } from "./layout.ts";
import { parseLayout } from "./parse.ts";

/** Token-major ("NHD": all heads of a token together) or head-major ("HND") inside a block. */
export type TokenOrder = "NHD" | "HND";
/** "block-contiguous": all layers of a block together. "layer-major": all blocks of a layer's component together. */
export type Form = "block-contiguous" | "layer-major";

export interface Placing {
  readonly blockCount: number;
  readonly form: Form;
  /** Where the group begins in the pool's data area, bytes; default 0. */
  readonly base?: number;
  /**
   * Bytes from block to block of a block-contiguous group that shares its blocks with others; default: just its own.
   */
  readonly blockStride?: number;
}

export interface DenseOptions extends Placing {
  readonly layers: number | readonly number[];
  /** KV heads of the model; `firstHead` and `heads` choose a slice of them. */
  readonly kvHeads: number;
  readonly firstHead?: number;
  readonly heads?: number;
  readonly headDim: number;
  readonly blockTokens: number;
  readonly element: ElementType;
  readonly order: TokenOrder;
  /** "joined": K and V of a token and head lie together. */
  readonly kv: "split" | "joined";
}

export interface LatentOptions extends Placing {
  readonly layers: number | readonly number[];
  /** Values of a token: MLA's compressed KV and its rotary part together. */
  readonly channels: number;
  readonly blockTokens: number;
  readonly element: ElementType;
}

export interface StateOptions extends Placing {
  readonly layers: number | readonly number[];
  /** Values of a layer's state. */
  readonly values: number;
  readonly element: ElementType;
}

export type VllmCpuOptions = Omit<DenseOptions, "form" | "order" | "kv" | "base" | "blockStride">;

/** Checked as parseLayout checks; throws invalid_argument. */
export function layoutOf(blockCount: number, groups: readonly GroupLayout[]): Layout {
  return parseLayout({ blockCount, groups });
}

export function denseLayout(options: DenseOptions): Layout {
  return layoutOf(options.blockCount, [denseGroup(options)]);
}

export function latentLayout(options: LatentOptions): Layout {
  return layoutOf(options.blockCount, [latentGroup(options)]);
}

/** Blocks whose inside only the engine knows: bytes. */
export function opaqueLayout(blockBytes: number, blockCount: number): Layout {
  return layoutOf(blockCount, [stateGroup({ layers: 1, values: blockBytes, element: "u8", blockCount, form: "block-contiguous" })]);
}

export function denseGroup(options: DenseOptions): GroupLayout {
  const { kvHeads, firstHead = 0, headDim, blockTokens, element, order } = options;
  const heads = options.heads ?? kvHeads - firstHead;
  if (firstHead + heads > kvHeads) throw expected(`a slice of ${kvHeads} heads`, "firstHead + heads", firstHead + heads);
  const joined = options.kv === "joined";
  const channels = joined ? 2 * headDim : headDim;
  const headBytes = channels * ELEMENT_BYTES[element];
  const inside = {
    element,
    heads,
    firstHead,
    channels,
    tokenStride: order === "NHD" ? heads * headBytes : headBytes,
    headStride: order === "NHD" ? headBytes : blockTokens * headBytes,
    channelStride: ELEMENT_BYTES[element],
  };
  const names = joined ? (["kv"] as const) : (["k", "v"] as const);
  return placed(
    options,
    options.layers,
    blockTokens,
    names.map((name) => ({ ...inside, name })),
  );
}

export function latentGroup(options: LatentOptions): GroupLayout {
  const { channels, blockTokens, element } = options;
  return placed(options, options.layers, blockTokens, [tokenless("latent", channels, element)]);
}

/** A group of fixed-size state, for instance of linear attention. */
export function stateGroup(options: StateOptions): GroupLayout {
  return placed(options, options.layers, 0, [tokenless("state", options.values, options.element)]);
}

/**
 * vLLM's CPU backend: layers of [blocks][heads][K: channels x tokens][V: tokens x channels], K transposed. For
 * `blockTokens` and numbers as its register_kv_caches gives them (vLLM 0.32, instruction set "vec").
 */
export function vllmCpuLayout(options: VllmCpuOptions): Layout {
  const { kvHeads, firstHead = 0, headDim, blockTokens, element, blockCount } = options;
  const heads = options.heads ?? kvHeads - firstHead;
  const layers = layerNumbers(options.layers);
  const elementBytes = ELEMENT_BYTES[element];
  const halfBytes = headDim * blockTokens * elementBytes;
  const blockStride = heads * 2 * halfBytes;
  const shared = { element, heads, firstHead, channels: headDim, blockStride, headStride: 2 * halfBytes };
  const offsets = layers.map((_, index) => index * blockCount * blockStride);
  const k: ComponentLayout = { ...shared, name: "k", offsets, tokenStride: elementBytes, channelStride: blockTokens * elementBytes };
  const v: ComponentLayout = {
    ...shared,
    name: "v",
    offsets: offsets.map((offset) => offset + halfBytes),
    tokenStride: headDim * elementBytes,
    channelStride: elementBytes,
  };
  return layoutOf(blockCount, [{ blockTokens, layers, components: [k, v] }]);
}

type Unplaced = Omit<ComponentLayout, "offsets" | "blockStride">;

function tokenless(name: "latent" | "state", channels: number, element: ElementType): Unplaced {
  const bytes = channels * ELEMENT_BYTES[element];
  const tokenStride = name === "latent" ? bytes : 0;
  return { name, element, heads: 1, firstHead: 0, channels, tokenStride, headStride: 0, channelStride: ELEMENT_BYTES[element] };
}

/** Packs components without a gap, in the given form. */
function placed(placing: Placing, layers: number | readonly number[], blockTokens: number, components: readonly Unplaced[]): GroupLayout {
  const numbers = layerNumbers(layers);
  const { base = 0, form, blockCount } = placing;
  const sizes = components.map(({ heads, channels, element }) => heads * channels * ELEMENT_BYTES[element] * Math.max(blockTokens, 1));
  const layerBytes = sizes.reduce((sum, size) => sum + size, 0);
  const blockStride = placing.blockStride ?? layerBytes * numbers.length;
  let before = 0;
  const places = components.map((component, at) => {
    const size = sizes[at] ?? 0;
    const from = before;
    before += size;
    const spread = form === "layer-major" ? blockCount : 1;
    const offsets = numbers.map((_, index) => base + (index * layerBytes + from) * spread);
    return { ...component, offsets, blockStride: form === "layer-major" ? size : blockStride };
  });
  return { blockTokens, layers: numbers, components: places };
}

function layerNumbers(layers: number | readonly number[]): readonly number[] {
  if (typeof layers !== "number") return layers;
  return Array.from({ length: integer(layers, "layers", 1, limits.layersMax) }, (_, layer) => layer);
}
