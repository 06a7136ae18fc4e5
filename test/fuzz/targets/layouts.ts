/** Layouts of strangers, and the plans made of two of them: whatever is planned stays inside both regions and moves every byte once. */
import assert from "node:assert/strict";
import type { Layout } from "../../../transport/kv/layout.ts";
import { blockBytesOf } from "../../../transport/kv/measure.ts";
import { endOf } from "../../../transport/kv/overlap.ts";
import { parseLayout, parseLayoutJson } from "../../../transport/kv/parse.ts";
import { planTransfer, type TransferPlan } from "../../../transport/kv/plan.ts";
import { planeFits, streamBytes } from "../../../transport/kv/runs.ts";
import { limits } from "../../../transport/limits.ts";
import type { Plane } from "../../../transport/link/link.ts";
import { fuzzLayout, LAYOUT_SEEDS } from "../../kv/fuzz.ts";
import { mutate } from "../mutate.ts";
import type { Random } from "../random.ts";
import { pureTarget, type Target } from "../target.ts";
import { mutateValue } from "../values.ts";

const encode = (value: unknown): Uint8Array => new TextEncoder().encode(JSON.stringify(value));
const decode = (bytes: Uint8Array): unknown => JSON.parse(Buffer.from(bytes).toString("utf8"));

const layouts: Target = {
  ...pureTarget(
    "layout",
    "parseLayoutJson: a layout that is written, read again and planned with; or invalid_argument",
    () => LAYOUT_SEEDS,
    (input) => {
      if (fuzzLayout(input)) checkNumbers(parseLayoutJson(input));
    },
  ),
  generate: (random, pool) => (random.chance(1, 4) ? mutate(random.pick(pool), random) : encode(changed(random, pool))),
};

function checkNumbers(value: unknown): void {
  if (typeof value === "number")
    assert.ok(Number.isSafeInteger(value) && value >= 0 && value <= limits.poolBytesMax, `the number ${value}`);
  else if (typeof value === "object" && value !== null) for (const inner of Object.values(value)) checkNumbers(inner);
}

/** A layout with something changed; changes that only make it larger or move its parts are the ones that get through. */
function changed(random: Random, pool: readonly Uint8Array[]): unknown {
  const value = jsonOf(random.pick(pool)) ?? decode(random.pick(LAYOUT_SEEDS));
  return mutateValue(value, random, 2);
}

function jsonOf(bytes: Uint8Array): unknown {
  try {
    return decode(bytes);
  } catch {
    return undefined;
  }
}

/** Two layouts and what is to be moved between them. */
interface Case {
  readonly sender: unknown;
  readonly receiver: unknown;
  readonly manifest: {
    readonly fingerprint: string;
    readonly groups: { group: number; tokens: number }[];
    readonly firstHead: number;
    readonly heads: number;
  };
  readonly chunkBytes: number;
}

const manifest = { fingerprint: "", groups: [{ group: 0, tokens: 3 }], firstHead: 0, heads: 0 };
const CASES: readonly Case[] = LAYOUT_SEEDS.flatMap((sender) =>
  LAYOUT_SEEDS.map((receiver) => ({ sender: decode(sender), receiver: decode(receiver), manifest, chunkBytes: 4_096 })),
);

const plans: Target = {
  ...pureTarget(
    "layout-plan",
    "planTransfer of two parsed layouts: planes inside both regions, chunks that move every byte of equal streams once; or a code",
    () => CASES.map(encode),
    (input) => {
      const given = jsonOf(input);
      if (typeof given !== "object" || given === null) return;
      const { sender, receiver, manifest: moved, chunkBytes } = given as Case;
      if (!isManifest(moved) || (typeof chunkBytes === "number" && chunkBytes < 1_024)) return;
      checkPlan(parseLayout(sender), parseLayout(receiver), moved, chunkBytes);
    },
  ),
  generate(random, pool) {
    const given = (jsonOf(random.pick(pool)) ?? random.pick(CASES)) as Case;
    const side = random.pick(["sender", "receiver", "manifest", "both"]);
    // The same change on both sides is what can still be converted.
    if (side === "both") {
      const layout = mutateValue(given.sender, random, 2);
      return encode({ ...given, sender: layout, receiver: random.chance(1, 2) ? layout : mutateValue(layout, random, 1) });
    }
    return encode({ ...given, [side]: mutateValue(given[side as keyof Case], random, 2) });
  },
};

/** Numbers of a manifest are parsed before they come so far: messages.ts, and the API's schemas. */
function isManifest(value: unknown): value is Case["manifest"] {
  const { groups } = Object(value) as { groups?: unknown };
  return Array.isArray(groups) && groups.every((group) => typeof group === "object" && group !== null) && typeof value === "object";
}

function checkPlan(sender: Layout, receiver: Layout, moved: Case["manifest"], chunkBytes: number): void {
  const plan = planTransfer(sender, receiver, moved, chunkBytes);
  assert.equal(plan.senderPlanes.length, plan.receiverPlanes.length);
  checkSide(sender, plan.senderPlanes, plan.senderBlocks);
  checkSide(receiver, plan.receiverPlanes, plan.receiverBlocks);
  checkChunks(plan);
}

function checkSide(layout: Layout, planes: readonly Plane[], blocks: readonly number[]): void {
  const last = Uint32Array.of(layout.blockCount - 1);
  for (const plane of planes) {
    assert.ok(planeFits(plane, last, endOf(layout)), "a plane stays inside what the layout takes");
    assert.ok(plane.blockList < blocks.length, "a plane has its blocks");
  }
  for (const count of blocks) assert.ok(count >= 1 && count <= layout.blockCount, "no more blocks than there are");
  assert.ok(endOf(layout) <= limits.poolBytesMax && blockBytesOf(layout) >= 1, "a layout fits the largest pool");
}

/** Chunks of a plane follow one another without a gap, and end within both streams. */
function checkChunks(plan: TransferPlan): void {
  const ends = new Float64Array(plan.senderPlanes.length);
  let bytes = 0;
  for (const chunk of plan.chunks) {
    assert.equal(chunk.start, ends[chunk.plane]);
    assert.ok(chunk.bytes > 0 && chunk.bytes <= limits.chunkBytesMax, "a chunk is bounded");
    ends[chunk.plane] = chunk.start + chunk.bytes;
    bytes += chunk.bytes;
  }
  assert.equal(bytes, plan.bytes);
  assert.equal(plan.chunkLayer.length, plan.chunks.length);
  for (const [side, planes, blocks] of [
    ["sender", plan.senderPlanes, plan.senderBlocks],
    ["receiver", plan.receiverPlanes, plan.receiverBlocks],
  ] as const) {
    planes.forEach((plane, at) => {
      const stream = streamBytes(plane, blocks[plane.blockList] as number);
      assert.ok((ends[at] as number) > 0 && (ends[at] as number) <= stream, `${side}: chunks within the stream`);
    });
  }
}

export const layoutTargets: readonly Target[] = [layouts, plans];
