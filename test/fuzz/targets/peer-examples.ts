/** What remotes say to a node that node.ts holds: about handles, grants and transfers that are, or were, or will be. */
import { createHash } from "node:crypto";
import { ERRORS } from "../../../transport/errors.ts";
import { denseLayout } from "../../../transport/kv/build.ts";
import { fingerprint } from "../../../transport/kv/identity.ts";
import { serializeLayout } from "../../../transport/kv/parse.ts";
import { CAPABILITIES } from "../../../transport/peer/greeting.ts";
import type { Coding, EarlyGrant, Hello, Message } from "../../../transport/peer/messages.ts";
import type { Random } from "../random.ts";
import { BLOCK_COUNT, handleOf } from "./api-examples.ts";

const SHAPE = { layers: 2, kvHeads: 2, headDim: 16, blockTokens: 16, element: "bf16", blockCount: BLOCK_COUNT, kv: "split" } as const;
export const LAYOUT = denseLayout({ ...SHAPE, order: "NHD", form: "block-contiguous" });
const OTHERS = [
  denseLayout({ ...SHAPE, order: "HND", form: "layer-major" }),
  denseLayout({ ...SHAPE, blockTokens: 8, order: "NHD", form: "layer-major" }),
];
const LAYOUTS = [LAYOUT, ...OTHERS].map(serializeLayout);
/** Of the layout that the node has. */
const DIGEST = createHash("sha256").update(serializeLayout(LAYOUT)).digest();
export const IDENTITY = { model: "m", revision: "r", element: "bf16", rope: "", profile: "", extra: "" };
const FINGERPRINT = fingerprint(IDENTITY);
const PROFILE = "0f".repeat(16);
export const OFFER = handleOf(3);
export const BUFFER = handleOf(4);
/** What the node calls itself: its first draw. */
export const NODE = handleOf(1).slice(9);

export function keysOf(from: number, count: number): Uint8Array {
  return Uint8Array.from({ length: 32 * count }, (_, at) => from + Math.floor(at / 32));
}

export const helloOf = (name: string, resumeNode = ""): Hello => ({
  ...{ kind: "hello", version: 1, minVersion: 1, node: name.padEnd(32, "0"), name, software: "fuzz", advertise: "" },
  ...{
    capabilities: [],
    chunkBytesMax: 1 << 24,
    lanesMax: 4,
    laneToken: new Uint8Array(0),
    secret: "",
    resumeNode,
    conversation: 1,
    tenant: "",
    models: [],
  },
});
/** Of who can all that this version can, and has these profiles. */
export const ableHello = (name: string, ids: readonly string[]): Hello => ({
  ...helloOf(name),
  laneToken: new Uint8Array(16).fill(1),
  capabilities: [...CAPABILITIES],
  models: [{ fingerprint: FINGERPRINT, layout: LAYOUTS[0]!, profiles: ids.map((id) => ({ id, decodeBytesPerSecond: 1 })) }],
});

/** Of one of the first offers that the node makes; most are coded. */
export function acceptance(random: Random, coded = false): Message {
  return {
    ...{ kind: "accept", id: random.between(1, 2), grant: random.pick([5, 5, 6]), generation: random.pick([1, 1, 2, 3]) },
    ...{
      committed: new Uint8Array(random.below(2)),
      layout: random.pick(LAYOUTS),
      order: random.pick(["flat", "canonical", ...(coded ? ["canonical", "canonical"] : [])]),
    },
  };
}

/** Of one of the first offers: the profile is not to be had. */
export const refusal = (random: Random): Message => ({
  ...{ kind: "cancel", id: random.between(1, 3), fetch: 0, grant: 0, code: ERRORS.profile_refused.number, detail: "", fromReceiver: true },
});

/** To one of the first fetches that the node says. */
export function answer(random: Random, ids: readonly string[]): Message {
  return {
    ...{ kind: "offer", id: random.between(1, 3), fetch: random.between(1, 3), fingerprint: FINGERPRINT, firstHead: 0, heads: 2 },
    ...{ groups: [{ group: 0, tokens: 32 }], chunkBytes: 4_096, checksum: true, ranges: undefined, keys: new Uint8Array(0), trace: "" },
    ...{ deadlineMs: 2_000, layout: LAYOUTS[0]!, coding: coding(random, ids), generation: random.pick([0, 0, 0, 1]) },
  };
}

/** For what the node would offer, or nearly so. */
function earlyGrant(random: Random, layout: Uint8Array, ids: readonly string[]): EarlyGrant {
  return {
    ...{ grant: random.between(1, 12), generation: random.pick([1, 1, 2, 3]), layout, order: random.pick(["flat", "flat", "canonical"]) },
    ...{ held: DIGEST, groups: [{ group: 0, tokens: 32 }], firstHead: 0, heads: random.pick([2, 2, 1]), chunkBytes: 4_096, checksum: true },
    coding: coding(random, ids),
  };
}

/** What names a profile that is not there is refused, or foretells what is not offered. */
const coding = (random: Random, ids: readonly string[]): Coding | undefined =>
  random.pick([
    undefined,
    undefined,
    ...[PROFILE, ...ids].map((profile) => ({ profile, position: random.pick([0, 0, 16, random.below(3)]) })),
  ]);

/**
 * What a remote may say that is about something: numbers and handles that are, or were, or will be.
 * @param ids of the profiles that the node has
 */
export function saying(random: Random, ids: readonly string[] = []): Message {
  const id = random.between(1, 4);
  const layout = random.pick(LAYOUTS);
  const ask = {
    fingerprint: FINGERPRINT,
    firstHead: 0,
    heads: random.pick([0, 2, 1]),
    chunkBytes: 4_096,
    deadlineMs: random.pick([1, 2_000, 30_000]),
    trace: "",
    readers: 1,
    tenant: "",
    priority: "normal" as const,
    profiles: random.pick([[], [PROFILE], ...(ids.length === 0 ? [] : [ids, [PROFILE, ...ids], [random.pick(ids)]])]),
  };
  const keys = keysOf(random.pick([1, 1, 9]), random.pick([2, 1, 3]));
  const ranges = { buffer: BUFFER, ranges: [{ offset: random.pick([0, 4_096]), bytes: random.pick([512, 4_096]) }] };
  const push = {
    ...ask,
    fetch: 0,
    groups: [{ group: 0, tokens: random.pick([32, 32, 20, 16]) }],
    checksum: true,
    keys,
    layout,
    generation: 0,
    coding: coding(random, ids),
  };
  const grant = random.between(1, 12);
  const early = random.chance(1, 2) ? earlyGrant(random, layout, ids) : undefined;
  const ofRanges = early && { ...early, groups: [], heads: 0, layout: new Uint8Array(0), held: new Uint8Array(0) };
  return random.pick<Message>([
    { kind: "fetch", id, ...ask, source: { kind: "handle", handle: OFFER }, grant: early },
    {
      kind: "fetch",
      id,
      ...ask,
      source: { kind: "keys", group: 0, keys, tokens: 32, position: random.pick([undefined, 0, 16]) },
      grant: early,
    },
    { kind: "fetch", id, ...ask, fingerprint: "", source: { kind: "ranges", ...ranges }, grant: ofRanges },
    { kind: "offer", id, ...push, ranges: undefined },
    { kind: "offer", id, ...push, ranges: undefined, layout: serializeLayout(LAYOUT) },
    { kind: "offer", id, ...push, fingerprint: "", groups: [], keys: new Uint8Array(0), layout: new Uint8Array(0), ranges },
    acceptance(random),
    { kind: "resume", id, grant, fromReceiver: random.chance(1, 2) },
    { kind: "done", id: random.pick([0, id]), grant, fetch: random.pick([0, id]) },
    { kind: "cancel", id, fetch: random.pick([0, id]), grant, code: 8, detail: "", fromReceiver: random.chance(1, 2) },
    { kind: "lookup", id, fingerprint: FINGERPRINT, group: 0, keys, tenant: "" },
    { kind: "lookupReply", id, code: 0, matched: 2 },
    {
      kind: "models",
      models: [
        {
          fingerprint: FINGERPRINT,
          layout,
          profiles: random.pick([[], [PROFILE], ids]).map((one) => ({ id: one, decodeBytesPerSecond: 1 })),
        },
      ],
    },
    { kind: "refuse", code: 31, detail: "", version: 1, minVersion: 1, re: random.below(2) },
    { kind: "bye", reason: "" },
    { kind: "ping", id },
  ]);
}
