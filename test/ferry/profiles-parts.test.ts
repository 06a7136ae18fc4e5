/**
 * Calibrated profiles between engines that hold different parts of a model: a calibration is of all of it, and serves ranks that have some of the heads, and
 * stages that have some of the layers.
 * Method: two nodes over the real link. What a part gets is compared, value by value, with what a node that holds everything gets through the same profile.
 */
import assert from "node:assert/strict";
import test, { type TestContext } from "node:test";
import { denseLayout } from "../../transport/kv/build.ts";
import { calibrationOf, plainSource, ROPE } from "../codec/made.ts";
import { openTestNode } from "./node.ts";
import { BLOCK_BYTES, BLOCK_TOKENS, bytesOf, IDENTITY, skip } from "./pair.ts";
import { profilesOf, stageWith } from "./profiled.ts";
import { COUNT, TOKENS } from "./stage.ts";

const MODEL = { layers: 4, heads: 2, channels: 64 };
const calibration = {
  ...calibrationOf({ sources: [plainSource({ ...MODEL, tokens: 64 }, ROPE(64))], klt: [0, 1, 5] }),
  model: IDENTITY.model,
};

interface Part {
  readonly what: string;
  readonly layers: readonly number[];
  readonly heads: { readonly first: number; readonly count: number };
}

const LAYERS = [0, 1, 2, 3];
const SECOND: Part = { what: "the second head", layers: LAYERS, heads: { first: 1, count: 1 } };
const RANKS: readonly Part[] = [SECOND, { what: "the first head", layers: LAYERS, heads: { first: 0, count: 1 } }];
const STAGES: readonly Part[] = [
  { what: "the last layers", layers: [2, 3], heads: { first: 0, count: 2 } },
  { what: "a head of the layers between", layers: [1, 2], heads: { first: 1, count: 1 } },
];

const having = (name: string) => ({ names: [name], acceptsLossy: true, calibrations: [calibration] });

for (const name of ["cpu-near", "cpu-fast"]) {
  test(`${name}: a part of the model gets what a node gets that holds all of it`, { skip }, async (t) => {
    const { a, b, source, target, modelA, peer, fetch } = await stageWith(t, having(name), having(name));
    const groups = [{ group: 0, blocks: source, tokens: TOKENS }];
    const offer = () => a.ferry.offer({ model: modelA, groups, position: 0 });
    const whole = await (await fetch(await offer())).done;
    assert.ok(whole.lossy && whole.wireBytes < whole.bytes / 2);
    const compare = async (part: Part, from: string, handle: string): Promise<void> => {
      const { node, model, blocks } = await openPart(t, name, part);
      const into = [{ group: 0, blocks, tokens: TOKENS }];
      const report = await (await node.ferry.fetch({ peer: from, model, source: { handle }, into })).done;
      assert.ok(report.lossy && report.wireBytes < report.bytes / 2, `${part.what}: ${JSON.stringify(report)}`);
      eachRow(part, COUNT, (block, whole, own) => {
        const [theirs, ours] = [bytesOf(b, target.ids[block]!).subarray(...whole), bytesOf(node, blocks.ids[block]!).subarray(...own)];
        assert.equal(Buffer.compare(theirs, ours), 0, `${part.what}: block ${block}, byte ${own[0]}`);
      });
    };
    for (const part of RANKS) await compare(part, peer, await offer());
    for (const part of STAGES) {
      const { node, model, blocks } = await openPart(t, name, part);
      eachRow(part, COUNT, (block, whole, own) =>
        bytesOf(node, blocks.ids[block]!).set(bytesOf(a, source.ids[block]!).subarray(...whole), own[0]),
      );
      const handle = await node.ferry.offer({ model, groups: [{ group: 0, blocks, tokens: TOKENS }], position: 0 });
      await compare(part, `127.0.0.1:${node.address.port}`, handle);
    }
  });
}

test("where a KLT joins all heads of a layer, KV of a part of them travels as it is", { skip }, async (t) => {
  const { a, source, modelA, peer, reasons } = await stageWith(t, having("gpu-near"), undefined);
  const handle = await a.ferry.offer({ model: modelA, groups: [{ group: 0, blocks: source, tokens: TOKENS }], position: 0 });
  const { node, model, blocks } = await openPart(t, "gpu-near", SECOND);
  const report = await (await node.ferry.fetch({ peer, model, source: { handle }, into: [{ group: 0, blocks, tokens: TOKENS }] })).done;
  assert.deepEqual([report.profile, report.wireBytes], ["", report.bytes]);
  assert.deepEqual(reasons, ["stored: no_common_profile"]);
  assert.match(node.node.models.get(model).codecs.misfits[0]?.why ?? "", /joins all 2 heads of a layer, and 1 are here/);
});

/** A node that holds this part alone. */
async function openPart(t: TestContext, name: string, { layers, heads }: Part) {
  const node = await openTestNode({ name: "part", blockBytes: BLOCK_BYTES, more: () => ({ profiles: profilesOf(having(name)) }) });
  t.after(() => node.close());
  const shape = { layers, kvHeads: MODEL.heads, firstHead: heads.first, heads: heads.count, headDim: MODEL.channels };
  const placing = { blockTokens: BLOCK_TOKENS, blockCount: node.pool.blockCount, blockStride: BLOCK_BYTES };
  const common = { element: "bf16", order: "NHD", form: "block-contiguous", kv: "split" } as const;
  const { model } = await node.ferry.registerModel(IDENTITY, denseLayout({ ...shape, ...placing, ...common }));
  return { node, model, blocks: await node.ferry.alloc(COUNT) };
}

/**
 * Each row of a head: where it lies in a block of everything, and in one of the part, from byte to byte. A block is [layer][k, v][token][head][channel].
 */
function eachRow(
  { layers, heads }: Part,
  blocks: number,
  visit: (block: number, whole: [from: number, to: number], own: [from: number, to: number]) => void,
): void {
  const headBytes = 2 * MODEL.channels;
  const bytesAt = (row: number): [number, number] => [row * headBytes, (row + 1) * headBytes];
  for (let block = 0; block < blocks; block++) {
    for (const [index, layer] of layers.entries()) {
      for (let row = 0; row < 2 * BLOCK_TOKENS; row++) {
        for (let head = 0; head < heads.count; head++) {
          const whole = (layer * 2 * BLOCK_TOKENS + row) * MODEL.heads + heads.first + head;
          visit(block, bytesAt(whole), bytesAt((index * 2 * BLOCK_TOKENS + row) * heads.count + head));
        }
      }
    }
  }
}
