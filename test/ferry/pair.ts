/** Two nodes in this process that know the same model, and what is done to their blocks. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import type { TestContext } from "node:test";
import { denseLayout } from "../../transport/kv/build.ts";
import type { Blocks } from "../../transport/memory/pool.ts";
import { native, nativeProblem } from "../../transport/native.ts";
import { openTestNode, type TestNode, type TestNodeOptions } from "./node.ts";

export const skip = native === undefined ? `no addon: ${nativeProblem}` : false;
export const IDENTITY = { model: "tiny", revision: "1", element: "bf16", rope: "none", profile: "", extra: "" };
export const BLOCK_TOKENS = 16;
export const BLOCK_BYTES = 32_768;
/** 4 layers x (K, V) x 16 tokens x 2 heads x 64 channels of 2 bytes: 32 KiB a block. */
export const layoutOf = (blockCount: number) =>
  denseLayout({
    layers: 4,
    kvHeads: 2,
    headDim: 64,
    blockTokens: BLOCK_TOKENS,
    element: "bf16",
    order: "NHD",
    form: "block-contiguous",
    kv: "split",
    blockCount,
  });

export interface Pair {
  readonly a: TestNode;
  readonly b: TestNode;
  /** The name by which b asks a. */
  readonly peer: string;
  readonly modelA: number;
  readonly modelB: number;
}

export async function pair(t: TestContext, extra: Partial<TestNodeOptions> = {}): Promise<Pair> {
  const a = await openTestNode({ name: "a", blockBytes: BLOCK_BYTES, ...extra });
  const b = await openTestNode({ name: "b", blockBytes: BLOCK_BYTES, ...extra });
  t.after(async () => {
    await b.close();
    await a.close();
  });
  const modelA = (await a.ferry.registerModel(IDENTITY, layoutOf(a.pool.blockCount))).model;
  const modelB = (await b.ferry.registerModel(IDENTITY, layoutOf(b.pool.blockCount))).model;
  return { a, b, peer: `127.0.0.1:${a.address.port}`, modelA, modelB };
}

export function bytesOf(node: TestNode, block: number): Uint8Array {
  const from = node.pool.dataOffset + block * BLOCK_BYTES;
  return node.pool.region.view.subarray(from, from + BLOCK_BYTES);
}

export function fill(node: TestNode, blocks: Blocks): void {
  for (const id of blocks.ids) bytesOf(node, id).set(randomBytes(BLOCK_BYTES));
}

export function assertSame(a: TestNode, from: Blocks, b: TestNode, to: Blocks): void {
  for (let i = 0; i < from.ids.length; i++) {
    assert.equal(Buffer.compare(bytesOf(a, from.ids[i] ?? 0), bytesOf(b, to.ids[i] ?? 0)), 0, `block ${i}`);
  }
}

/** The other side hears of the end a little later. */
export async function until(holds: () => boolean): Promise<void> {
  for (let round = 0; round < 500; round++) {
    if (holds()) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  assert.fail(`never held: ${holds}`);
}
