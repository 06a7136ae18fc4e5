/**
 * Which layouts are refused. Method: named cases; then layouts whose strides nest by construction, with one number
 * changed, against a brute force that writes an owner on every byte: what is accepted has no byte with two owners, and
 * none outside of its pool.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { KvferryError } from "../../transport/errors.ts";
import { denseGroup, latentGroup, stateGroup } from "../../transport/kv/build.ts";
import type { GroupLayout, Layout } from "../../transport/kv/layout.ts";
import { blockBytesOf, groupBlockBytes, isBlockContiguous } from "../../transport/kv/measure.ts";
import { parseLayout } from "../../transport/kv/parse.ts";
import { blockTokens, groupModel, holderOf, inside } from "./arbitrary.ts";
import { valueAddress, valuesOf } from "./copier.ts";

function refusal(value: unknown, poolBytes?: number): string {
  try {
    parseLayout(value, poolBytes);
  } catch (error) {
    assert.ok(error instanceof KvferryError, String(error));
    assert.equal(error.code, "invalid_argument");
    return error.message;
  }
  return "";
}

/**
 * "" or what is wrong, byte by byte. Within a group every byte has one owner; between groups a byte belongs to one
 * block.
 */
function bruteForce(layout: Layout, poolBytes: number): string {
  const blocks = new Map<number, number>();
  for (let group = 0; group < layout.groups.length; group++) {
    const taken = new Set<number>();
    for (let block = 0; block < layout.blockCount; block++) {
      for (const { value, bytes } of valuesOf(layout, group, block)) {
        const address = valueAddress(layout, value);
        for (let byte = address; byte < address + bytes; byte++) {
          if (byte >= poolBytes) return "outside";
          if (taken.has(byte)) return "twice in a group";
          taken.add(byte);
          if ((blocks.get(byte) ?? block) !== block) return "in two blocks";
          blocks.set(byte, block);
        }
      }
    }
  }
  return "";
}

const small = fc.record({
  groups: fc.array(
    fc.record({ model: groupModel, blockTokens, inside }).map((given) => ({ ...given, slice: { first: 0, count: given.model.heads } })),
    { minLength: 1, maxLength: 2 },
  ),
  blockCount: fc.integer({ min: 1, max: 4 }),
  /** Where the second group goes, instead of behind the first. */
  together: fc.boolean(),
  change: fc.record({
    group: fc.nat(1),
    component: fc.nat(1),
    field: fc.nat(5),
    to: fc.integer({ min: 0, max: 200 }),
    by: fc.integer({ min: -9, max: 9 }),
  }),
  changed: fc.boolean(),
});

const FIELDS = ["blockStride", "tokenStride", "headStride", "channelStride", "offsets", "heads"] as const;

test("what is accepted has no byte with two owners", () => {
  const seen = { accepted: 0, refused: 0 };
  fc.assert(
    fc.property(small, ({ groups, blockCount, together, change, changed }) => {
      const { layout, bytes } = holderOf(groups, blockCount);
      const value = structuredClone(layout) as unknown as { groups: { layers: number[]; components: Record<string, unknown>[] }[] };
      const last = value.groups.at(-1);
      if (together && value.groups.length === 2) {
        const base = Math.min(...(last?.components ?? []).map(({ offsets }) => Math.min(...(offsets as number[]))));
        for (const component of last?.components ?? [])
          component["offsets"] = (component["offsets"] as number[]).map((offset) => offset - base);
      }
      const component = value.groups[change.group % value.groups.length]?.components.at(change.component % 2);
      const field = FIELDS[change.field % FIELDS.length] as string;
      if (changed && component !== undefined) {
        const old = component[field];
        const moved = (number: number): number => Math.max(field === "heads" ? 1 : 0, change.to % 2 === 0 ? number + change.by : change.to);
        component[field] = Array.isArray(old) ? old.map((offset, at) => (at === 0 ? moved(offset) : offset)) : moved(old as number);
      }
      const message = refusal(value, bytes);
      const wrong = bruteForce(value as unknown as Layout, bytes);
      if (message === "") {
        seen.accepted++;
        assert.equal(wrong, "");
      } else {
        seen.refused++;
      }
      if (!changed && !together) assert.equal(message, "");
    }),
    { numRuns: 4_000 },
  );
  assert.ok(seen.accepted > 1_000 && seen.refused > 500, JSON.stringify(seen));
});

const dense = { layers: 4, kvHeads: 2, headDim: 8, blockTokens: 4, element: "bf16", blockCount: 6, order: "NHD", kv: "split" } as const;
const state = { layers: [1, 3], values: 100, element: "f32", blockCount: 6 } as const;

test("groups may share blocks, but only slot by slot", () => {
  const own = denseGroup({ ...dense, form: "block-contiguous" });
  const slot = 4 * 2 * 2 * 4 * 8 * 2;
  const sharing = stateGroup({ ...state, form: "block-contiguous", blockStride: slot });
  const layout = parseLayout({ blockCount: 6, groups: [own, sharing] }, 6 * slot);
  assert.equal(blockBytesOf(layout), slot);
  assert.equal(isBlockContiguous(layout, slot), true);
  assert.equal(isBlockContiguous(layout, slot + 64), false);
  assert.deepEqual([groupBlockBytes(layout, 0), groupBlockBytes(layout, 1)], [slot, 800]);
  // Another distance between blocks: block 1 of one group is block 2 of the other.
  assert.match(refusal({ blockCount: 6, groups: [own, stateGroup({ ...state, form: "block-contiguous" })] }), /overlap/);
  // Reaching into the next block.
  assert.match(
    refusal({ blockCount: 6, groups: [own, stateGroup({ ...state, form: "block-contiguous", blockStride: slot, base: slot - 64 })] }),
    /overlap/,
  );
  // One plane of each group over the same memory, as engines with several kinds of layers do.
  const [first, second] = [
    denseGroup({ ...dense, layers: [0, 2], form: "layer-major" }),
    denseGroup({ ...dense, layers: [1, 3], form: "layer-major" }),
  ];
  const planes = parseLayout({ blockCount: 6, groups: [first, second] });
  assert.equal(isBlockContiguous(planes, blockBytesOf(planes)), false);
  assert.equal(blockBytesOf(planes), 2 * 2 * 2 * 4 * 8 * 2);
  // The same planes shifted by half a block.
  assert.match(
    refusal({ blockCount: 6, groups: [first, denseGroup({ ...dense, layers: [1, 3], form: "layer-major", base: 64 })] }),
    /overlap/,
  );
});

test("one byte too near, one byte outside", () => {
  const group = denseGroup({ ...dense, form: "layer-major" });
  const bytes = blockBytesOf({ blockCount: 6, groups: [group] }) * 6;
  const change = (name: "k" | "v", fields: object): { blockCount: number; groups: GroupLayout[] } => ({
    blockCount: 6,
    groups: [
      { ...group, components: group.components.map((component) => (component.name === name ? { ...component, ...fields } : component)) },
    ],
  });
  assert.equal(refusal({ blockCount: 6, groups: [group] }, bytes), "");
  assert.match(refusal({ blockCount: 6, groups: [group] }, bytes - 1), /within 6143 bytes for groups\[0\]\.components\[1\]\.offsets\[3\]/);
  assert.match(
    refusal(change("k", { blockStride: 127 })),
    /at least 128 \(the bytes within a step\) for groups\[0\]\.components\[0\]\.blockStride but received 127/,
  );
  assert.match(refusal(change("k", { headStride: 15 })), /headStride but received 15/);
  assert.match(refusal(change("v", { tokenStride: 0 })), /tokenStride but received 0/);
  assert.match(refusal(change("v", { channelStride: 1 })), /channelStride but received 1/);
  const offsets = group.components[1]?.offsets ?? [];
  assert.match(
    refusal(change("v", { offsets: offsets.map((offset) => offset - 1) })),
    /components\[0\]\.offsets\[0\] and groups\[0\]\.components\[1\]\.offsets\[0\] overlap/,
  );
  assert.match(refusal(change("v", { offsets: offsets.map(() => 3_000_000) })), /offsets\[0\] and .*offsets\[1\] overlap/);
});

test("a long component does not hide behind a short one", () => {
  const state = (offset: number, channels: number): object => ({
    name: "state",
    element: "u8",
    heads: 1,
    firstHead: 0,
    channels,
    offsets: [offset],
    blockStride: 1_000,
    tokenStride: 0,
    headStride: 0,
    channelStride: 100,
  });
  const layout = (...components: object[]): object => ({ blockCount: 2, groups: [{ blockTokens: 0, layers: [0], components }] });
  assert.equal(refusal(layout(state(0, 4), state(10, 2), state(220, 2))), "");
  assert.match(refusal(layout(state(0, 4), state(10, 2), state(200, 2))), /overlap/);
});

test("the greatest layout is checked at once", () => {
  // 4,096 planes that all interleave: heads before blocks before layers. A pair by pair comparison would need 8 million.
  const layers = Array.from({ length: 1024 }, (_, layer) => layer);
  const component = (name: string, shift: number): object => ({
    name,
    element: "f8_e4m3",
    heads: 8,
    firstHead: 0,
    channels: 4,
    offsets: layers.map((layer) => layer * 128 + shift),
    blockStride: 1024 * 128,
    headStride: 64 * 1024 * 128,
    tokenStride: 8,
    channelStride: 1,
  });
  const value = { blockCount: 64, groups: [{ blockTokens: 16, layers, components: [component("k", 0), component("v", 4)] }] };
  assert.equal(refusal(value), "");
  assert.equal(bruteForce({ ...parseLayout(value), blockCount: 2 }, 2 ** 30), "");
  assert.match(refusal({ ...value, blockCount: 65 }), /headStride|blockStride|overlap/);
});

test("latents of several kinds stand beside each other", () => {
  const latent = latentGroup({ layers: 2, channels: 576, blockTokens: 16, element: "bf16", blockCount: 4, form: "layer-major" });
  const [main] = latent.components;
  assert.ok(main !== undefined);
  const behind = main.offsets.map((offset) => offset + 4 * 2 * 576 * 16 * 2);
  const index = { ...main, element: "u8" as const, channels: 132, tokenStride: 132, channelStride: 1, offsets: behind };
  assert.match(refusal({ blockCount: 4, groups: [{ ...latent, components: [main, index] }] }), /^$/);
});
