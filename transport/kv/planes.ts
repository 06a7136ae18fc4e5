/**
 * From a layout to planes: what a link and a checksum walk. A *half* is a component with `kv` taken apart into k and
 * v; a *shape* is one half of one layer as the runs in which it lies in memory. PURE.
 */
import { assert } from "../check.ts";
import type { Plane } from "../link/link.ts";
import { type ComponentLayout, ELEMENT_BYTES, type ElementType, type GroupLayout, type Layout } from "./layout.ts";

export type HalfName = "k" | "v" | "latent" | "state";

/** As ComponentLayout; `ordinal` tells apart several latents or states of one group. */
export interface Half extends Omit<ComponentLayout, "name"> {
  readonly name: HalfName;
  readonly ordinal: number;
}

interface Axis {
  readonly name: "token" | "head" | "channel";
  readonly count: number;
  readonly stride: number;
}

/**
 * Outer axes with their strides over runs of `runBytes`; `order` names every axis, so that equal runs with another
 * inside do not look alike.
 */
export interface Shape {
  readonly offset: number;
  readonly blockStride: number;
  readonly axes: readonly Axis[];
  readonly runBytes: number;
  readonly order: string;
}

const HALF_ORDER: readonly HalfName[] = ["k", "v", "latent", "state"];

/** The halves of a group in an order that both ends of a transfer share, whatever the order of the components. */
export function halvesOf(group: GroupLayout): Half[] {
  const halves: Half[] = [];
  const counts = new Map<HalfName, number>();
  const add = (name: HalfName, component: Omit<ComponentLayout, "name">): void => {
    const ordinal = counts.get(name) ?? 0;
    counts.set(name, ordinal + 1);
    halves.push({ ...component, name, ordinal });
  };
  for (const { name, ...component } of group.components) {
    if (name !== "kv") {
      add(name, component);
      continue;
    }
    const channels = component.channels / 2;
    const shift = channels * component.channelStride;
    add("k", { ...component, channels });
    add("v", { ...component, channels, offsets: component.offsets.map((offset) => offset + shift) });
  }
  return halves.sort((a, b) => HALF_ORDER.indexOf(a.name) - HALF_ORDER.indexOf(b.name) || a.ordinal - b.ordinal);
}

/** One half of one layer (`index` in its offsets) as it lies; blockTokens 0 for state. Layers of a half differ in the offset only. */
export function shapeOf(half: Half, index: number, blockTokens: number): Shape {
  const axes: Axis[] = [
    { name: "token" as const, count: Math.max(blockTokens, 1), stride: half.tokenStride },
    { name: "head" as const, count: half.heads, stride: half.headStride },
    { name: "channel" as const, count: half.channels, stride: half.channelStride },
  ]
    .filter(({ count }) => count > 1)
    .sort((a, b) => b.stride - a.stride);
  const order = axes.map(({ name, count }) => `${name}:${count}`).join(" ");
  const offset = offsetOf(half, index);
  return absorb({ offset, blockStride: half.blockStride, axes, runBytes: ELEMENT_BYTES[half.element], order });
}

/** The shape of another layer of the same half. */
export function shapeAt(shape: Shape, half: Half, index: number): Shape {
  return { ...shape, offset: offsetOf(half, index) };
}

/** Neighbours along the innermost axis that touch are one run. */
function absorb(shape: Shape): Shape {
  const axes = [...shape.axes];
  let runBytes = shape.runBytes;
  for (let inner = axes.at(-1); inner !== undefined && inner.stride === runBytes; inner = axes.at(-1)) {
    runBytes *= inner.count;
    axes.pop();
  }
  return { ...shape, axes, runBytes };
}

/** True if every run of `second` lies directly behind one of `first`. */
export function touches(first: Shape, second: Shape): boolean {
  return (
    second.offset === first.offset + first.runBytes &&
    second.blockStride === first.blockStride &&
    second.axes.length === first.axes.length &&
    second.axes.every(({ count, stride }, at) => count === first.axes[at]?.count && stride === first.axes[at]?.stride)
  );
}

/** Two shapes that touch, as one. */
export function join(first: Shape, second: Shape): Shape {
  assert(touches(first, second), "only shapes that touch are joined");
  return absorb({ ...first, runBytes: first.runBytes + second.runBytes, order: `${first.order} + ${second.order}` });
}

/** The plane whose stream is the shape's bytes in the order of addresses of its axes. */
export function planeOf(shape: Shape, blockList: number): Plane {
  const one = { count: 1, stride: 0 };
  const [channel, head, token] = [shape.axes.at(-1) ?? one, shape.axes.at(-2) ?? one, shape.axes.at(-3) ?? one];
  assert(shape.axes.length <= 3, "a shape has at most three axes");
  return {
    blockList,
    offset: shape.offset,
    blockStride: shape.blockStride,
    tokens: token.count,
    tokenStride: token.stride,
    heads: head.count,
    headStride: head.stride,
    channels: channel.count,
    channelStride: channel.stride,
    elementBytes: shape.runBytes,
    firstToken: 0,
  };
}

/**
 * Token by token, head by head, channel by channel, for `heads` heads from `firstHead` on (in the model's numbering).
 */
export function canonicalPlane(half: Half, index: number, blockTokens: number, firstHead: number, heads: number, blockList: number): Plane {
  // State has no tokens and no heads to cut by: its stream is its channels, in one run if they lie so.
  if (blockTokens === 0) return planeOf(shapeOf(half, index, 0), blockList);
  return {
    blockList,
    offset: offsetOf(half, index) + (firstHead - half.firstHead) * half.headStride,
    blockStride: half.blockStride,
    tokens: blockTokens,
    tokenStride: half.tokenStride,
    heads,
    headStride: half.headStride,
    channels: half.channels,
    channelStride: half.channelStride,
    elementBytes: ELEMENT_BYTES[half.element],
    firstToken: 0,
  };
}

/**
 * Every byte that a block of this group holds, layer by layer, in as few planes as its runs allow; blockList is 0.
 * Seals are computed over them, so their order is part of what a seal means.
 */
export function flatPlanes(layout: Layout, group: number): Plane[] {
  const found = layout.groups[group];
  assert(found !== undefined, "the group exists in the layout");
  const halves = halvesOf(found);
  return found.layers.flatMap((_, index) => {
    const joined: Shape[] = [];
    for (const half of halves) {
      const shape = shapeOf(half, index, found.blockTokens);
      const last = joined.at(-1);
      if (last !== undefined && touches(last, shape)) joined[joined.length - 1] = join(last, shape);
      else joined.push(shape);
    }
    return joined.map((shape) => planeOf(shape, 0));
  });
}

/** Bytes that one token of a half takes in canonical order. */
export function tokenBytesOf(heads: number, channels: number, element: ElementType): number {
  return heads * channels * ELEMENT_BYTES[element];
}

function offsetOf(half: Half, index: number): number {
  const offset = half.offsets[index];
  assert(offset !== undefined, "a component has an offset for every layer of its group");
  return offset;
}
