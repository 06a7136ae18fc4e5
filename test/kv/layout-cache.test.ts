/** The cache of a remote's layouts. Method: what it gives is what parsing gives; identity of objects tells a hit from a miss. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { denseLayout } from "../../transport/kv/build.ts";
import { LayoutCache } from "../../transport/kv/layout-cache.ts";
import { parseLayoutJson, serializeLayout } from "../../transport/kv/parse.ts";

function bytesOf(blockCount: number): Uint8Array {
  const model = { layers: 4, kvHeads: 2, headDim: 64, element: "bf16" } as const;
  return serializeLayout(denseLayout({ ...model, blockCount, blockTokens: 16, form: "layer-major", order: "NHD", kv: "split" }));
}

test("equal bytes give the same layout, other bytes another", () => {
  const cache = new LayoutCache();
  const [one, other] = [bytesOf(8), bytesOf(9)];
  const first = cache.parse(one);
  assert.deepEqual(first, parseLayoutJson(one));
  assert.equal(cache.parse(one.slice()), first);
  assert.equal(cache.parse(other).blockCount, 9);
});

test("the layout that was used longest ago goes first", () => {
  const cache = new LayoutCache();
  const kept = cache.parse(bytesOf(1));
  for (let blockCount = 2; blockCount <= 40; blockCount++) {
    cache.parse(bytesOf(blockCount));
    assert.equal(cache.parse(bytesOf(1)), kept);
  }
  const again = cache.parse(bytesOf(39));
  assert.equal(cache.parse(bytesOf(39)), again);
  const gone = cache.parse(bytesOf(20));
  assert.notEqual(gone, kept);
  assert.equal(gone.blockCount, 20);
});

test("what is wrong is refused each time and never kept", () => {
  const cache = new LayoutCache();
  const bytes = new TextEncoder().encode('{"blockCount":0,"groups":[]}');
  assert.throws(() => cache.parse(bytes), { code: "invalid_argument" });
  assert.throws(() => cache.parse(bytes), { code: "invalid_argument" });
});
