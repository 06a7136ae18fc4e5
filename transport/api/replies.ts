/** What a server answers and tells, parsed once at the client's edge: a server of another version must not surprise the caller. */
import { z } from "zod";
import { ERRORS, type ErrorCode, KvferryError } from "../errors.ts";
import type { BufferInfo, FerryEvent, FerryStats, LookupPlace, ModelInfo, NodeInfo, PoolInfo } from "../ferry/ferry.ts";
import type { Blocks } from "../memory/pool.ts";
import { type Message, wordsOf } from "./codec.ts";

const count = z.int().min(0);
const amount = z.number().min(0);
const bytes = z.custom<Uint8Array>((value) => value instanceof Uint8Array, "binary").transform(plainBytes);

const report = z.object({
  transfer: count,
  bytes: count,
  wireBytes: count,
  seconds: amount,
  chunks: count,
  retries: count,
  link: z.string(),
  order: z.string(),
  resumed: count,
  // Of a sidecar that does not know of profiles.
  profile: z.string().default(""),
  lossy: z.boolean().default(false),
});

const event = z.discriminatedUnion("event", [
  z.object({ event: z.literal("layer"), transfer: count, layer: count }),
  z.object({ event: z.literal("stalled"), transfer: count, silentMs: amount }),
  z.object({ event: z.literal("moving"), transfer: count }),
  z.object({ event: z.literal("done"), transfer: count, report }),
  z.object({ event: z.literal("failed"), transfer: count, code: z.string(), detail: z.string() }),
  z.object({ event: z.literal("offerEnded"), handle: z.string(), ok: z.boolean(), code: z.string() }),
  z.object({ event: z.literal("published"), model: count, group: count, keys: bytes, from: z.string() }),
  z.object({ event: z.literal("evicted"), keys: bytes }),
  z.object({ event: z.literal("peer"), peer: z.string(), up: z.boolean(), detail: z.string() }),
  z.object({ event: z.literal("lost"), detail: z.string() }),
]);

const poolStats = z.object({
  blockCount: count,
  free: count,
  held: count,
  published: count,
  leased: count,
  quarantined: count,
  pinned: count,
  evictions: count,
  evictedIdleUs: amount,
});

const welcome = z.object({ version: count, incarnation: z.string(), resume: z.string(), resumed: z.boolean() });
export type Welcome = z.output<typeof welcome>;

export const replies = {
  hello: parser<Welcome>(welcome),
  info: parser<NodeInfo>(z.object({ name: z.string(), address: z.string(), link: z.string() })),
  pool: parser<PoolInfo>(
    z.object({ path: z.string(), bytes: count, dataOffset: count, blockBytes: count, blockCount: count, incarnation: z.string() }),
  ),
  model: parser<ModelInfo>(z.object({ model: count, fingerprint: z.string() })),
  keys: parser<{ keys: Uint8Array }>(z.object({ keys: bytes })),
  places: parser<{ places: LookupPlace[] }>(
    z.object({ places: z.array(z.object({ peer: z.string(), matched: count, code: z.string() })) }),
  ),
  handle: parser<{ handle: string }>(z.object({ handle: z.string() })),
  transfer: parser<{ transfer: number }>(z.object({ transfer: count })),
  buffer: parser<BufferInfo>(z.object({ handle: z.string(), bytes: count })),
  stats: parser<FerryStats>(
    z.object({
      pool: poolStats,
      peers: z.array(
        z.object({
          name: z.string(),
          address: z.string(),
          up: z.boolean(),
          lanes: count,
          link: z.string(),
          goodputBytesPerSecond: amount,
          confidence: amount,
        }),
      ),
      transfers: count,
      bytesSent: count,
      bytesReceived: count,
    }),
  ),
  blocks: blocksOf,
  nothing: (_result: Message): void => {},
};

/** Undefined for an event that this version does not know: newer servers may tell more. */
export function eventOf(message: Message): FerryEvent | undefined {
  const parsed = event.safeParse(message);
  if (!parsed.success) return undefined;
  const { event: kind, ...fields } = parsed.data;
  return Object.freeze({ kind, ...fields }) as FerryEvent;
}

export function errorOf(error: unknown): KvferryError {
  const { code, detail } = typeof error === "object" && error !== null ? (error as Message) : {};
  const words = typeof detail === "string" ? detail : "";
  if (typeof code === "string" && Object.hasOwn(ERRORS, code)) return new KvferryError(code as ErrorCode, words);
  return new KvferryError("internal", `the server says ${String(code)}: ${words}`);
}

/** By hand, because it is the answer of the hottest request. */
function blocksOf(result: Message): Blocks {
  const ids = result["ids"] instanceof Uint8Array ? wordsOf(result["ids"]) : undefined;
  const generations = result["generations"] instanceof Uint8Array ? wordsOf(result["generations"]) : undefined;
  if (ids === undefined || ids.length !== generations?.length) throw new KvferryError("protocol_error", "an answer without blocks");
  return { ids, generations };
}

function parser<Value>(schema: z.ZodType): (result: Message) => Value {
  return (result) => {
    const parsed = schema.safeParse(result);
    if (parsed.success) return Object.freeze(parsed.data) as Value;
    const issue = parsed.error.issues[0];
    throw new KvferryError("protocol_error", `an answer's field ${issue?.path.join(".")}: ${issue?.message}`);
  };
}

function plainBytes(value: Uint8Array): Uint8Array {
  return new Uint8Array(value.buffer, value.byteOffset, value.length);
}
