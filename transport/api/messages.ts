/**
 * The requests of the engine API, one entry each: the shape of its fields and the call that it makes. schemas/api.md says the same for
 * clients in other languages; a test compares the two.
 */
import { z } from "zod";
import { expected } from "../check.ts";
import type { BufferInfo, Ferry, Transfer } from "../ferry/ferry.ts";
import { limits } from "../limits.ts";
import type { Blocks } from "../memory/pool.ts";
import type { Message } from "./codec.ts";
import {
  blocks,
  deadlineMs,
  group,
  groupBlocks,
  handle,
  keys,
  layout,
  model,
  name,
  position,
  priority,
  safeInteger,
  text,
  tokens,
  u32,
  whole,
  words,
} from "./schemas.ts";

const PROCESS_ID_MAX = 0x7fff_ffff;

export const helloSchema = z.strictObject({
  version: u32,
  minVersion: u32.optional(),
  client: name,
  processId: whole(0, PROCESS_ID_MAX),
  resume: handleOrToken(),
  unanswered: z.array(u32).max(limits.apiPendingMax).optional(),
});

export type Hello = z.output<typeof helloSchema>;

/** What a request does once its fields are parsed. A Transfer as a result is announced by its number. */
export interface Operation {
  readonly schema: z.ZodType;
  readonly run: (ferry: Ferry, fields: never) => Promise<Message | Transfer | undefined>;
  /** Of what hands out something to keep: gives back what an answer that never arrived had given. */
  readonly undo?: (ferry: Ferry, result: never) => Promise<void>;
}

function operation<S extends z.ZodType>(schema: S, run: (ferry: Ferry, fields: z.output<S>) => Promise<Message | Transfer | undefined>) {
  return { schema, run };
}

function giving<S extends z.ZodType, Given extends Blocks | BufferInfo>(
  schema: S,
  run: (ferry: Ferry, fields: z.output<S>) => Promise<Given>,
  undo: (ferry: Ferry, given: Given) => Promise<void>,
) {
  const runs = async (ferry: Ferry, fields: z.output<S>): Promise<Message> => {
    const given: Blocks | BufferInfo = await run(ferry, fields);
    return { ...given };
  };
  return { schema, run: runs, undo };
}

const modelIdentity = z.strictObject({ model: name, revision: text, element: text, rope: text, profile: text, extra: text });
const keySeed = z.strictObject({ tenant: text.optional(), lora: text.optional(), multimodal: text.optional(), salt: text.optional() });
const namespace = z.string().max(limits.namespaceCharacters);
const identity = z.string().min(1).max(limits.identityCharacters);
const heads = z.strictObject({ first: whole(0, limits.headsMax - 1), count: whole(1, limits.headsMax) });
const source = z.union(
  [z.strictObject({ handle }), z.strictObject({ keys, group, tokens, position: position.optional() })],
  "{handle} or {keys, group, tokens}",
);
const groups = z.array(groupBlocks).min(1).max(limits.groupsMax);
const range = z.strictObject({ local: safeInteger, remote: safeInteger, bytes: safeInteger });
const ranges = z.strictObject({
  peer: name,
  remote: handle,
  local: handle,
  ranges: z.array(range).min(1).max(limits.rangesPerTransferMax),
  deadlineMs: deadlineMs.optional(),
  priority: priority.optional(),
});

export const operations = {
  info: operation(z.strictObject({}), async (ferry) => ({ ...(await ferry.info()) })),
  pool: operation(z.strictObject({}), async (ferry) => ({ ...(await ferry.pool()) })),
  registerModel: operation(z.strictObject({ identity: modelIdentity, layout, namespace: namespace.optional() }), async (ferry, fields) => ({
    ...(await ferry.registerModel(fields.identity, fields.layout, fields.namespace)),
  })),
  keys: operation(
    z.strictObject({ model, group, tokens: words(limits.keyTokensMax), seed: keySeed.optional() }),
    async (ferry, fields) => ({ keys: await ferry.keys(fields.model, fields.group, fields.tokens, present(fields.seed ?? {})) }),
  ),
  alloc: giving(
    z.strictObject({ count: whole(1, limits.apiBatchMax) }),
    (ferry, { count }) => ferry.alloc(count),
    (ferry, given) => ferry.free(given),
  ),
  free: operation(z.strictObject({ blocks }), async (ferry, fields) => done(await ferry.free(fields.blocks))),
  publish: operation(z.strictObject({ model, group, blocks, keys }), async (ferry, fields) =>
    done(await ferry.publish(fields.model, fields.group, fields.blocks, fields.keys)),
  ),
  lookup: operation(
    z.strictObject({ model, group, keys, peers: z.array(name).max(limits.peersMax).optional() }),
    async (ferry, fields) => ({ places: await ferry.lookup(fields.model, fields.group, fields.keys, fields.peers) }),
  ),
  lease: giving(
    z.strictObject({ model, group, keys, prefix: z.boolean().optional() }),
    (ferry, fields) => ferry.lease(fields.model, fields.group, fields.keys, fields.prefix),
    (ferry, given) => ferry.release(given),
  ),
  release: operation(z.strictObject({ blocks }), async (ferry, fields) => done(await ferry.release(fields.blocks))),
  offer: operation(
    z.strictObject({
      model,
      groups,
      handle: handle.optional(),
      peers: z.array(identity).min(1).max(limits.tenantEntriesMax).optional(),
      ready: z.boolean().optional(),
      position: position.optional(),
      deadlineMs: deadlineMs.optional(),
      trace: text.optional(),
    }),
    async (ferry, fields) => ({ handle: await ferry.offer(present(fields)) }),
  ),
  ready: operation(z.strictObject({ handle, layer: whole(0, limits.layersMax - 1) }), async (ferry, fields) =>
    done(await ferry.ready(fields.handle, fields.layer)),
  ),
  withdraw: operation(z.strictObject({ handle }), async (ferry, fields) => done(await ferry.withdraw(fields.handle))),
  prewarm: operation(
    z.strictObject({
      peer: name,
      bytes: whole(1, Number.MAX_SAFE_INTEGER),
      inMs: whole(0, limits.deadlineMaxMs),
      direction: z.enum(["in", "out"]),
    }),
    async (ferry, fields) => done(await ferry.prewarm(fields)),
  ),
  discard: operation(z.strictObject({ peer: name, handle }), async (ferry, fields) =>
    done(await ferry.discard(fields.peer, fields.handle)),
  ),
  fetch: operation(
    z.strictObject({
      peer: name,
      model,
      source,
      into: groups,
      deadlineMs: deadlineMs.optional(),
      heads: heads.optional(),
      readers: whole(1, limits.readersMax).optional(),
      layers: z.boolean().optional(),
      exact: z.boolean().optional(),
      priority: priority.optional(),
      trace: text.optional(),
    }),
    (ferry, fields) => ferry.fetch(present(fields)),
  ),
  push: operation(
    z.strictObject({
      peer: name,
      model,
      group,
      blocks,
      tokens,
      keys,
      position: position.optional(),
      deadlineMs: deadlineMs.optional(),
      priority: priority.optional(),
      trace: text.optional(),
    }),
    (ferry, fields) => ferry.push(present(fields)),
  ),
  registerBuffer: giving(
    z.strictObject({ path: text.min(1), bytes: safeInteger, namespace: namespace.optional() }),
    (ferry, { namespace: space, ...memory }) => ferry.registerBuffer(memory, space),
    (ferry, given) => ferry.unregisterBuffer(given.handle),
  ),
  unregisterBuffer: operation(z.strictObject({ handle }), async (ferry, fields) => done(await ferry.unregisterBuffer(fields.handle))),
  read: operation(ranges, (ferry, fields) => ferry.read(present(fields))),
  write: operation(ranges, (ferry, fields) => ferry.write(present(fields))),
  stats: operation(z.strictObject({}), async (ferry) => ({ ...(await ferry.stats()) })),
  close: operation(z.strictObject({}), async (ferry) => done(await ferry.close())),
} satisfies Record<string, Operation>;

/** Ends a transfer of this client; answered at once, the transfer's own end follows as an event. */
export const cancelSchema = z.strictObject({ transfer: safeInteger });

/** Fields of a request as its schema's frozen value. Throws message_malformed that names the field. */
export function parseFields<S extends z.ZodType>(schema: S, fields: Message): Readonly<z.output<S>> {
  const parsed = schema.safeParse(fields);
  if (parsed.success) return Object.freeze(parsed.data);
  throw malformed(parsed.error.issues[0]!, fields);
}

function malformed(issue: z.core.$ZodIssue, fields: Message): Error {
  const where = issue.path.map(String).join(".") || "the request";
  let received: unknown = fields;
  for (const step of issue.path) received = (received as Record<PropertyKey, unknown> | undefined)?.[step];
  if (issue.code === "unrecognized_keys")
    return expected("no such field", [...issue.path.map(String), issue.keys[0]].join("."), issue.keys[0], "message_malformed");
  return expected(wanted(issue), where, received, "message_malformed");
}

function wanted(issue: z.core.$ZodIssue): string {
  if (issue.code === "invalid_type") return `a value of type ${issue.expected}`;
  if (issue.code === "too_big") return `at most ${issue.maximum} items or characters`;
  if (issue.code === "too_small") return `at least ${issue.minimum} items or characters`;
  return issue.message;
}

/** Optional fields are absent or there, never undefined: that is what the Ferry interface asks. */
function present<Fields extends object>(fields: Fields): Present<Fields> {
  const there = Object.entries(fields).filter(([, value]) => value !== undefined);
  return Object.fromEntries(there) as Present<Fields>;
}

type Present<Fields> = { [Key in keyof Fields]: Exclude<Fields[Key], undefined> };

/** A call without a result still answers. */
function done(_nothing: void): undefined {
  return undefined;
}

function handleOrToken() {
  return z.string().min(1).max(256).optional();
}
