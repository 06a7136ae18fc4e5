/**
 * The usual layouts. Method: addresses of single values, counted by hand from the words that describe each form; and
 * every builder's output is a layout that the parser takes back unchanged.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { KvferryError } from "../../transport/errors.ts";
import { denseLayout, latentLayout, layoutOf, opaqueLayout, stateGroup, vllmCpuLayout } from "../../transport/kv/build.ts";
import type { Layout } from "../../transport/kv/layout.ts";
import { blockBytesOf, groupBlockBytes, isBlockContiguous } from "../../transport/kv/measure.ts";
import { parseLayout } from "../../transport/kv/parse.ts";
import { valueAddress } from "./copier.ts";

const base = { layers: 2, kvHeads: 4, headDim: 8, blockTokens: 16, element: "bf16", blockCount: 10 } as const;
const at = { group: 0, layer: 1, block: 3, token: 5, head: 2, channel: 7 };

function addresses(layout: Layout): number[] {
  assert.deepEqual(parseLayout(JSON.parse(JSON.stringify(layout)), blockBytesOf(layout) * layout.blockCount), layout);
  return ["k", "v"].map((half) => valueAddress(layout, { ...at, half }));
}

test("dense layouts, as [axes] from the outside in", () => {
  const table: [Layout, (half: number) => number][] = [
    // [layer][half][block][token][head][channel]
    [
      denseLayout({ ...base, order: "NHD", form: "layer-major", kv: "split" }),
      (half) => (((((1 * 2 + half) * 10 + 3) * 16 + 5) * 4 + 2) * 8 + 7) * 2,
    ],
    // [layer][half][block][head][token][channel]
    [
      denseLayout({ ...base, order: "HND", form: "layer-major", kv: "split" }),
      (half) => (((((1 * 2 + half) * 10 + 3) * 4 + 2) * 16 + 5) * 8 + 7) * 2,
    ],
    // [block][layer][half][token][head][channel]
    [
      denseLayout({ ...base, order: "NHD", form: "block-contiguous", kv: "split" }),
      (half) => (((((3 * 2 + 1) * 2 + half) * 16 + 5) * 4 + 2) * 8 + 7) * 2,
    ],
    // [layer][block][head][token][half][channel]
    [
      denseLayout({ ...base, order: "HND", form: "layer-major", kv: "joined" }),
      (half) => (((((1 * 10 + 3) * 4 + 2) * 16 + 5) * 2 + half) * 8 + 7) * 2,
    ],
    // [block][layer][token][head][half][channel]
    [
      denseLayout({ ...base, order: "NHD", form: "block-contiguous", kv: "joined" }),
      (half) => (((((3 * 2 + 1) * 16 + 5) * 4 + 2) * 2 + half) * 8 + 7) * 2,
    ],
  ];
  for (const [layout, expected] of table) {
    assert.deepEqual(addresses(layout), [expected(0), expected(1)]);
    assert.equal(blockBytesOf(layout), 2 * 2 * 16 * 4 * 8 * 2);
    assert.equal(groupBlockBytes(layout, 0), blockBytesOf(layout));
  }
});

test("vLLM on CPU: [layer][block][head][K: channel][token], then [V: token][channel]", () => {
  const layout = vllmCpuLayout(base);
  const head = ((1 * 10 + 3) * 4 + 2) * 2 * 16 * 8;
  assert.deepEqual(addresses(layout), [(head + 7 * 16 + 5) * 2, (head + 16 * 8 + 5 * 8 + 7) * 2]);
  assert.equal(isBlockContiguous(layout, blockBytesOf(layout)), false);
});

test("a slice of heads keeps the model's numbering", () => {
  const layout = denseLayout({ ...base, firstHead: 2, order: "NHD", form: "layer-major", kv: "split" });
  assert.deepEqual(
    layout.groups[0]?.components.map(({ firstHead, heads }) => [firstHead, heads]),
    [
      [2, 2],
      [2, 2],
    ],
  );
  assert.throws(() => denseLayout({ ...base, firstHead: 3, heads: 2, order: "NHD", form: "layer-major", kv: "split" }), KvferryError);
  assert.throws(() => denseLayout({ ...base, layers: 0, order: "NHD", form: "layer-major", kv: "split" }), KvferryError);
});

test("latents, state and bytes", () => {
  const latent = latentLayout({ layers: 3, channels: 576, blockTokens: 64, element: "bf16", blockCount: 5, form: "block-contiguous" });
  assert.equal(valueAddress(latent, { ...at, half: "latent", layer: 2, head: 0 }), ((3 * 3 + 2) * 64 + 5) * 1152 + 14);
  const state = layoutOf(5, [stateGroup({ layers: [4, 9], values: 1_000, element: "f32", blockCount: 5, form: "layer-major" })]);
  assert.equal(valueAddress(state, { ...at, half: "state", layer: 9, head: 0 }), (1 * 5 + 3) * 4_000 + 28);
  const opaque = opaqueLayout(4_096, 7);
  assert.equal(blockBytesOf(opaque), 4_096);
  assert.equal(isBlockContiguous(opaque, 4_096), true);
  assert.equal(blockBytesOf(opaqueLayout(2 ** 30, 1)), 2 ** 30);
  assert.throws(() => opaqueLayout(2 ** 30 + 1, 1), KvferryError);
});
