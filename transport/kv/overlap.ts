/**
 * No byte belongs to two places. Within a group: not to two of (layer, component, block, token, head, channel).
 * Between groups: not to two blocks; one block's bytes may mean one thing in one group and another in the next,
 * because a block is in use by one group at a time.
 *
 * A component of a layer is a *lattice*: its origin, axes by falling stride, an element. Strides must nest: one step
 * of an axis is at least as long as all that lies inside. Every engine's layout does; what interleaves otherwise is
 * refused. Lattices that share their outermost stride are compared within one step of it, again and again inwards; so
 * the whole check is a few sorts and no pair is ever compared byte by byte. PURE.
 */
import { assert, expected } from "../check.ts";
import { KvferryError } from "../errors.ts";
import { ELEMENT_BYTES, type GroupLayout, type Layout } from "./layout.ts";

interface Axis {
  readonly name: string;
  readonly count: number;
  readonly stride: number;
}

interface Lattice {
  readonly component: string;
  readonly layer: number;
  readonly group: number;
  readonly start: number;
  /** Bytes from the first to behind the last. */
  readonly extent: number;
  /** By falling stride; none with a count of 1. */
  readonly axes: readonly Axis[];
  readonly elementBytes: number;
  /** Of one block. */
  readonly blockExtent: number;
  readonly blockStride: number;
}

/** Throws invalid_argument that names both sides of an overlap, or a component that leaves the pool. */
export function checkOverlap(layout: Layout, poolBytes: number): void {
  const groups = layout.groups.map((group, at) => latticesOf(group, at, layout.blockCount));
  for (const lattice of groups.flat()) {
    if (lattice.start + lattice.extent > poolBytes) {
      throw expected(`a component that ends within ${poolBytes} bytes`, labelOf(lattice), lattice.start + lattice.extent);
    }
  }
  for (const lattices of groups) checkDisjoint(lattices);
  if (groups.length < 2) return;
  for (const cluster of clustersOf(groups.flat())) {
    const mixed = cluster.some(({ group }) => group !== cluster[0]?.group);
    if (mixed && slotOf(cluster, layout.blockCount) === undefined) checkDisjoint(cluster);
  }
}

/** Bytes behind the last byte that any block of the layout has. */
export function endOf(layout: Layout): number {
  const lattices = layout.groups.flatMap((group, at) => latticesOf(group, at, layout.blockCount));
  return lattices.reduce((end, { start, extent }) => Math.max(end, start + extent), 0);
}

export interface Slot {
  /** Of block 0. */
  readonly start: number;
  /** From block to block; the extent where there is but one. */
  readonly stride: number;
  /** Bytes of the slot that are in use, gaps included. */
  readonly extent: number;
}

/** If everything of block b lies in [start + b * stride, start + (b + 1) * stride): that slot. */
export function blockSlotOf(layout: Layout): Slot | undefined {
  const lattices = layout.groups.flatMap((group, at) => latticesOf(group, at, layout.blockCount));
  return slotOf(lattices, layout.blockCount);
}

function latticesOf({ blockTokens, components }: GroupLayout, group: number, blockCount: number): Lattice[] {
  return components.flatMap((component, at) => {
    const label = `groups[${group}].components[${at}]`;
    const elementBytes = ELEMENT_BYTES[component.element];
    const { blockStride } = component;
    const inner = [
      { name: "tokenStride", count: Math.max(blockTokens, 1), stride: component.tokenStride },
      { name: "headStride", count: component.heads, stride: component.headStride },
      { name: "channelStride", count: component.channels, stride: component.channelStride },
    ];
    const axes = nested([...inner, { name: "blockStride", count: blockCount, stride: blockStride }], elementBytes, label);
    const blockExtent = extentOf(nested(inner, elementBytes, label), elementBytes);
    const shared = { component: label, group, extent: extentOf(axes, elementBytes), axes, elementBytes, blockExtent, blockStride };
    return component.offsets.map((start, layer) => ({ ...shared, start, layer }));
  });
}

function nested(all: readonly Axis[], elementBytes: number, label: string): Axis[] {
  const axes = all.filter(({ count }) => count > 1).sort((a, b) => b.stride - a.stride);
  let extent = elementBytes;
  for (const { name, count, stride } of axes.toReversed()) {
    if (stride < extent) throw expected(`at least ${extent} (the bytes within a step)`, `${label}.${name}`, stride);
    extent += (count - 1) * stride;
  }
  return axes;
}

function extentOf(axes: readonly Axis[], elementBytes: number): number {
  return axes.reduce((sum, { count, stride }) => sum + (count - 1) * stride, elementBytes);
}

/**
 * Throws unless no two of the lattices share a byte; what cannot be told apart by nested strides counts as shared.
 */
function checkDisjoint(lattices: readonly Lattice[]): void {
  for (const cluster of clustersOf(lattices)) {
    const [first] = cluster;
    if (first === undefined || cluster.length === 1) continue;
    const stride = first.axes[0]?.stride;
    if (stride === undefined || cluster.some(({ axes }) => axes[0]?.stride !== stride)) {
      // A lattice may stand here twice, as it leaves the window and as it comes in.
      const other = cluster.find(({ component, layer }) => component !== first.component || layer !== first.layer) ?? first;
      throw new KvferryError("invalid_argument", `${labelOf(first)} and ${labelOf(other)} overlap, or interleave without nesting`);
    }
    checkDisjoint(withinOneStep(cluster, first.start, stride));
  }
}

function labelOf({ component, layer }: Lattice): string {
  return `${component}.offsets[${layer}]`;
}

/** Every lattice as it repeats with each step of the outermost axis, seen in the window [start, start + stride). */
function withinOneStep(cluster: readonly Lattice[], start: number, stride: number): Lattice[] {
  return cluster.flatMap((lattice) => {
    const axes = lattice.axes.slice(1);
    const extent = extentOf(axes, lattice.elementBytes);
    const step = { ...lattice, axes, extent, start: (lattice.start - start) % stride };
    // What leaves the window at its end comes in at its beginning, one step later.
    return step.start + extent > stride ? [step, { ...step, start: step.start - stride }] : [step];
  });
}

/** Sets of lattices whose hulls overlap, directly or through others; each by rising start. */
function clustersOf(lattices: readonly Lattice[]): Lattice[][] {
  const clusters: Lattice[][] = [];
  let end = 0;
  for (const lattice of [...lattices].sort((a, b) => a.start - b.start || b.extent - a.extent)) {
    const cluster = clusters.at(-1);
    if (cluster === undefined || lattice.start >= end) {
      clusters.push([lattice]);
      end = lattice.start + lattice.extent;
    } else {
      cluster.push(lattice);
      end = Math.max(end, lattice.start + lattice.extent);
    }
  }
  return clusters;
}

function slotOf(lattices: readonly Lattice[], blockCount: number): Slot | undefined {
  const [first] = lattices;
  assert(first !== undefined, "there is a lattice to look at");
  let [start, end] = [first.start, 0];
  for (const lattice of lattices) {
    start = Math.min(start, lattice.start);
    end = Math.max(end, lattice.start + lattice.blockExtent);
  }
  const stride = blockCount === 1 ? end - start : first.blockStride;
  const apart = blockCount === 1 || lattices.every(({ blockStride }) => blockStride === stride);
  return apart && end - start <= stride ? { start, stride, extent: end - start } : undefined;
}
