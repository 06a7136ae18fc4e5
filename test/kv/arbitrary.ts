/**
 * Models and layouts of them for property tests. A layout is made by putting the axes (layer, K or V, block, token,
 * head, channel) in any order, with any gaps: so NHD, HND, transposed, joined, layer-major, block-contiguous and all
 * of vLLM's named orders come up, and much that nobody has built yet.
 */
import * as fc from "fast-check";
import type { ComponentLayout, ElementType, GroupLayout, Layout } from "../../transport/kv/layout.ts";
import { BYTES } from "./copier.ts";

export interface GroupModel {
  readonly kind: "dense" | "latent" | "state";
  readonly layers: readonly number[];
  /** Of the model; 1 unless dense. */
  readonly heads: number;
  readonly channels: number;
  readonly element: ElementType;
}

export interface Slice {
  readonly first: number;
  readonly count: number;
}

const element = fc.constantFrom<ElementType>("bf16", "f16", "f32", "f8_e4m3", "f8_e5m2", "u8");
const layers = fc.uniqueArray(fc.nat(40), { minLength: 1, maxLength: 3 });

export const denseModel: fc.Arbitrary<GroupModel> = fc.record({
  kind: fc.constant("dense" as const),
  layers,
  heads: fc.integer({ min: 1, max: 4 }),
  channels: fc.integer({ min: 1, max: 5 }),
  element,
});

export const groupModel: fc.Arbitrary<GroupModel> = fc.oneof(
  { weight: 3, arbitrary: denseModel },
  fc.record({
    kind: fc.constantFrom("latent" as const, "state" as const),
    layers,
    heads: fc.constant(1),
    channels: fc.integer({ min: 1, max: 9 }),
    element,
  }),
);

/** A slice of the heads that contains `wanted`. */
export function sliceAround(heads: number, wanted: Slice): fc.Arbitrary<Slice> {
  return fc
    .tuple(fc.integer({ min: 0, max: wanted.first }), fc.integer({ min: wanted.first + wanted.count, max: heads }))
    .map(([first, end]) => ({ first, count: end - first }));
}

export const blockTokens: fc.Arbitrary<number> = fc.constantFrom(1, 2, 3, 4, 8, 16);

type AxisName = "layer" | "half" | "block" | "token" | "head" | "channel";
const AXES: readonly AxisName[] = ["layer", "half", "block", "token", "head", "channel"];

/** The common ones come up often, so that flat transfers do. */
const order: fc.Arbitrary<readonly AxisName[]> = fc.oneof(
  fc.constant(AXES),
  fc.constant<readonly AxisName[]>(["block", "layer", "half", "token", "head", "channel"]),
  fc.constant<readonly AxisName[]>(["layer", "block", "head", "token", "half", "channel"]),
  fc.constant<readonly AxisName[]>(["layer", "block", "head", "half", "channel", "token"]),
  fc.shuffledSubarray([...AXES], { minLength: AXES.length }),
);

const gap = fc.oneof({ weight: 3, arbitrary: fc.constant(0) }, fc.nat(9));

export interface Inside {
  readonly order: readonly AxisName[];
  readonly gaps: readonly number[];
  readonly joined: boolean;
  /** Layers and components in the reverse order. */
  readonly reversed: boolean;
}

export const inside: fc.Arbitrary<Inside> = fc.record({
  order,
  gaps: fc.array(gap, { minLength: AXES.length, maxLength: AXES.length }),
  joined: fc.boolean(),
  reversed: fc.boolean(),
});

export interface Placed {
  readonly group: GroupLayout;
  readonly end: number;
}

/** A group from `base` on, with its axes in the given order and gaps. */
export function placeGroup(model: GroupModel, slice: Slice, tokens: number, blockCount: number, how: Inside, base: number): Placed {
  const state = model.kind === "state";
  const halves = model.kind === "dense" ? 2 : 1;
  const blockTokensHere = state ? 0 : tokens;
  const counts = {
    layer: model.layers.length,
    half: halves,
    block: blockCount,
    token: state ? 1 : tokens,
    head: slice.count,
    channel: model.channels,
  };
  const strides = { layer: 0, half: 0, block: 0, token: 0, head: 0, channel: 0 };
  let extent = BYTES[model.element];
  for (const [at, axis] of how.order.toReversed().entries()) {
    strides[axis] = extent + (counts[axis] > 1 ? (how.gaps[at] as number) : 0);
    extent = (counts[axis] - 1) * strides[axis] + extent;
  }
  const layerNumbers = how.reversed ? model.layers.toReversed() : model.layers;
  const component = (name: ComponentLayout["name"], channels: number, shift: number): ComponentLayout => ({
    name,
    element: model.element,
    heads: slice.count,
    firstHead: slice.first,
    channels,
    offsets: layerNumbers.map((_, layer) => base + layer * strides.layer + shift),
    blockStride: strides.block,
    tokenStride: strides.token,
    headStride: strides.head,
    channelStride: strides.channel,
  });
  const joinable = how.joined && halves === 2 && strides.half === model.channels * strides.channel;
  const components =
    model.kind !== "dense"
      ? [component(model.kind, model.channels, 0)]
      : joinable
        ? [component("kv", 2 * model.channels, 0)]
        : [component("k", model.channels, 0), component("v", model.channels, strides.half)];
  if (how.reversed) components.reverse();
  return { group: { blockTokens: blockTokensHere, layers: layerNumbers, components }, end: base + extent };
}

export interface Holder {
  readonly layout: Layout;
  readonly bytes: number;
}

export interface HolderPlan {
  readonly model: GroupModel;
  readonly slice: Slice;
  readonly blockTokens: number;
  readonly inside: Inside;
}

/** Groups behind one another in one pool. */
export function holderOf(groups: readonly HolderPlan[], blockCount: number): Holder {
  let end = 0;
  const placed = groups.map((group) => {
    const { group: layout, end: next } = placeGroup(group.model, group.slice, group.blockTokens, blockCount, group.inside, end);
    end = next;
    return layout;
  });
  return { layout: { blockCount, groups: placed }, bytes: end };
}
