/** Messages of the engine API as well-behaved clients and servers say them: one of each kind, to begin with. */
import type { Message } from "../../../transport/api/codec.ts";
import { denseLayout } from "../../../transport/kv/build.ts";
import { BUFFER_PATH, INCARNATION } from "../node.ts";

export const BLOCK_BYTES = 4_096;
/** Of the pool of node.ts. */
export const BLOCK_COUNT = 12;

const KEYS = Uint8Array.from({ length: 64 }, (_, at) => at + 1);
const blocks = (...ids: number[]): object => ({ ids: Uint32Array.from(ids), generations: new Uint32Array(ids.length).fill(1) });
const IDENTITY = { model: "m", revision: "r", element: "bf16", rope: "", profile: "", extra: "" };
const LAYOUT = denseLayout({
  ...{ layers: 2, kvHeads: 2, headDim: 16, blockTokens: 16, element: "bf16", blockCount: BLOCK_COUNT },
  ...{ order: "NHD", form: "block-contiguous", kv: "split" },
});
/** The handle that the node of node.ts gives at its draw of so many random bytes: the first is its own name, each session's comes next. */
export const handleOf = (draw: number): string => `${INCARNATION}-${draw.toString(16).padStart(32, "0")}`;

const ranges = (buffer: string): object => ({
  ...{ peer: "b", remote: handleOf(9), local: buffer, ranges: [{ local: 0, remote: 4_096, bytes: 512 }], deadlineMs: 1_000 },
});

export const HELLO: Message = { id: 1, op: "hello", version: 1, minVersion: 1, client: "fuzz", processId: 0 };

/** One of each, about this offer and this buffer. */
export const requestsOf = (offer: string, buffer: string): readonly Message[] => [
  HELLO,
  { id: 2, op: "pool" },
  { id: 3, op: "registerModel", identity: IDENTITY, layout: LAYOUT, namespace: "n" },
  { id: 4, op: "alloc", count: 2 },
  { id: 5, op: "keys", model: 1, group: 0, tokens: Uint32Array.from({ length: 32 }, (_, at) => at), seed: { tenant: "t" } },
  { id: 6, op: "free", blocks: blocks(0) },
  { id: 7, op: "publish", model: 1, group: 0, blocks: blocks(0, 1), keys: KEYS, tokens: 16 },
  { id: 8, op: "lookup", model: 1, group: 0, keys: KEYS, peers: ["b"] },
  { id: 9, op: "lease", model: 1, group: 0, keys: KEYS, prefix: true },
  { id: 10, op: "release", blocks: blocks(0, 1) },
  { id: 11, op: "offer", model: 1, groups: [{ group: 0, blocks: blocks(0, 1), tokens: 20 }], ready: false, deadlineMs: 1_000, trace: "t" },
  { id: 12, op: "ready", handle: offer, layer: 0 },
  { id: 13, op: "withdraw", handle: offer },
  { id: 14, op: "prewarm", peer: "127.0.0.1:1", bytes: 1e9, inMs: 300, direction: "in" },
  { id: 13, op: "discard", peer: "127.0.0.1:1", handle: offer },
  {
    ...{ id: 14, op: "fetch", peer: "b", model: 1, source: { handle: offer }, into: [{ group: 0, blocks: blocks(0, 1), tokens: 20 }] },
    ...{ heads: { first: 0, count: 2 } },
  },
  {
    ...{ id: 15, op: "fetch", peer: "b", model: 1, source: { keys: KEYS, group: 0, tokens: 32 } },
    into: [{ group: 0, blocks: blocks(2, 3), tokens: 32 }],
  },
  { id: 16, op: "push", peer: "b", model: 1, group: 0, blocks: blocks(0, 1), tokens: 32, keys: KEYS },
  { id: 17, op: "registerBuffer", path: BUFFER_PATH, bytes: 4_096, namespace: "n" },
  { id: 18, op: "unregisterBuffer", handle: buffer },
  { id: 19, op: "read", ...ranges(buffer) },
  { id: 20, op: "write", ...ranges(buffer) },
  { id: 21, op: "stats" },
  { id: 22, op: "cancel", transfer: 1 },
  { id: 23, op: "close" },
];

export const REQUESTS = requestsOf(handleOf(3), handleOf(4));

const POOL = { path: "/dev/shm/p", bytes: 1 << 20, dataOffset: 86_016, blockBytes: BLOCK_BYTES, blockCount: BLOCK_COUNT };
const REPORT = {
  transfer: 1,
  bytes: 2 ** 40,
  wireBytes: 2 ** 33,
  seconds: 0.5,
  chunks: 7,
  retries: 0,
  link: "tcp",
  order: "flat",
  resumed: 0,
  profile: "0f".repeat(16),
  lossy: true,
};
const POOL_STATS = {
  ...{ blockCount: 8, free: 1, held: 2, published: 3, leased: 1, quarantined: 0, pinned: 1, evictions: 4, evictedIdleUs: 5 },
};
const PEER = { name: "b", up: true, lanes: 4, link: "tcp", goodputBytesPerSecond: 1e9, confidence: 0.5 };

export const REPLIES: readonly Message[] = [
  { id: 1, ok: { version: 1, incarnation: "0".repeat(32), resume: "r", resumed: false, limits: { batchMax: 65_536 } } },
  { id: 2, ok: { ...POOL, incarnation: "0".repeat(32) } },
  { id: 3, ok: { model: 1, fingerprint: "f".repeat(64) } },
  { id: 4, ok: blocks(0, 1) },
  { id: 5, ok: { keys: KEYS } },
  { id: 8, ok: { places: [{ peer: "", matched: 2, code: "" }] } },
  { id: 11, ok: { handle: handleOf(3) } },
  { id: 14, ok: { transfer: 1 } },
  { id: 17, ok: { handle: handleOf(4), bytes: 4_096 } },
  { id: 21, ok: { pool: POOL_STATS, peers: [PEER], transfers: 1, bytesSent: 2 ** 40, bytesReceived: 0 } },
  { id: 22, ok: {} },
  { id: 23, error: { code: "block_state", detail: "block 1 is free" } },
  { event: "layer", transfer: 1, layer: 3 },
  { event: "stalled", transfer: 1, silentMs: 2_000.5 },
  { event: "moving", transfer: 1 },
  { event: "done", transfer: 1, report: REPORT },
  { event: "failed", transfer: 1, code: "cancelled", detail: "" },
  { event: "offerEnded", handle: handleOf(3), ok: true, code: "" },
  { event: "published", model: 1, group: 0, keys: KEYS, from: "b" },
  { event: "evicted", keys: KEYS },
  { event: "peer", peer: "b", up: false, detail: "gone" },
  { event: "lost", detail: "" },
];
