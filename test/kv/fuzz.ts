/**
 * What must hold for any bytes that claim to be a layout: they are refused by name, or they are a layout that can be
 * written, read again and planned with. For the fuzzer and for the tests here: a finding is a throw.
 */
import assert from "node:assert/strict";
import { KvferryError } from "../../transport/errors.ts";
import { denseLayout, layoutOf, opaqueLayout, stateGroup, vllmCpuLayout } from "../../transport/kv/build.ts";
import type { Layout } from "../../transport/kv/layout.ts";
import { parseLayoutJson, serializeLayout } from "../../transport/kv/parse.ts";
import { planTransfer } from "../../transport/kv/plan.ts";

const dense = {
  layers: 2,
  kvHeads: 2,
  headDim: 4,
  blockTokens: 2,
  element: "bf16",
  blockCount: 3,
  order: "NHD",
  form: "layer-major",
  kv: "split",
} as const;

/** Bytes to begin with: small layouts of every kind. */
export const LAYOUT_SEEDS: readonly Uint8Array[] = [
  denseLayout(dense),
  denseLayout({ ...dense, order: "HND", form: "block-contiguous", kv: "joined" }),
  vllmCpuLayout(dense),
  opaqueLayout(64, 2),
  layoutOf(2, [
    stateGroup({ layers: [1], values: 8, element: "f32", blockCount: 2, form: "block-contiguous" }),
    stateGroup({ layers: [0], values: 4, element: "f32", blockCount: 2, form: "block-contiguous", blockStride: 32 }),
  ]),
].map(serializeLayout);

/** True if the bytes were taken for a layout. */
export function fuzzLayout(bytes: Uint8Array): boolean {
  let layout: Layout;
  try {
    layout = parseLayoutJson(bytes);
  } catch (error) {
    assert.ok(error instanceof KvferryError && error.code === "invalid_argument", String(error));
    return false;
  }
  const written = serializeLayout(layout);
  assert.deepEqual(parseLayoutJson(written), layout);
  const groups = layout.groups.map((_, group) => ({ group, tokens: 1 }));
  try {
    const plan = planTransfer(layout, layout, { fingerprint: "", groups, firstHead: 0, heads: 0 }, 1 << 20);
    assert.equal(plan.order, "flat");
    assert.equal(
      plan.bytes,
      plan.chunks.reduce((sum, chunk) => sum + chunk.bytes, 0),
    );
  } catch (error) {
    // A block of a gibibyte in every layer is a layout, but no transfer.
    assert.ok(error instanceof KvferryError && error.code === "invalid_argument", String(error));
  }
  return true;
}
