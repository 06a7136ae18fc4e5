/** How much memory a layout takes. PURE. */
import { assert } from "../check.ts";
import { ELEMENT_BYTES, type Layout } from "./layout.ts";
import { blockSlotOf, endOf } from "./overlap.ts";

/**
 * Block size, in bytes, of the smallest pool that the layout fits: its blocks' distance, or the layout's share of a
 * pool where layers come first.
 */
export function blockBytesOf(layout: Layout): number {
  const slot = blockSlotOf(layout);
  const share = Math.ceil(endOf(layout) / layout.blockCount);
  return slot === undefined ? share : Math.max(share, slot.stride);
}

/**
 * True if block b lies within [b * blockBytes, (b + 1) * blockBytes), so that layouts of that kind can share a pool,
 * each with blocks of its own.
 */
export function isBlockContiguous(layout: Layout, blockBytes: number): boolean {
  const slot = blockSlotOf(layout);
  if (slot === undefined) return false;
  if (layout.blockCount === 1) return slot.start + slot.stride <= blockBytes;
  return slot.stride === blockBytes && slot.start + slot.extent <= blockBytes;
}

/** Bytes of KV or state in one block of a group, gaps not counted. */
export function groupBlockBytes(layout: Layout, group: number): number {
  const found = layout.groups[group];
  assert(found !== undefined, "the group exists in the layout");
  return found.components.reduce(
    (sum, { heads, channels, element, offsets }) =>
      sum + heads * channels * ELEMENT_BYTES[element] * Math.max(found.blockTokens, 1) * offsets.length,
    0,
  );
}
