/**
 * What travels over the bench's control connection, parsed once at either edge: unknown in, typed value out, every number and length bounded.
 * Whoever reaches the port of a bench server may say anything.
 */
import { z } from "zod";
import { expected } from "../transport/check.ts";
import { KvferryError } from "../transport/errors.ts";
import { limits } from "../transport/limits.ts";
import { MODELS, type ModelName } from "./models.ts";
import { PLACES_MAX, SLOTS_MAX } from "./workload.ts";

export const CONTROL_VERSION = 2;
export const POOL_BYTES_MIN = 4_096;
export const POOL_BYTES_MAX = 64 * 2 ** 30;
/** A SHA-256 in base64. */
const DIGEST_CHARACTERS = 44;
const PEM_CHARACTERS_MAX = 65_536;

const u32 = whole(0, 2 ** 32 - 1);
/** The probe's slot beside the requests'. */
const slots = z
  .array(whole(0, SLOTS_MAX))
  .max(SLOTS_MAX + 1)
  .refine((all) => new Set(all).size === all.length, "Expected each slot once")
  .readonly();
const order = z.strictObject({ order: z.enum(["nhd", "hnd"]), blockTokens: whole(1, limits.blockTokensMax) });
const slice = z.strictObject({
  model: z.enum(Object.keys(MODELS) as [ModelName, ...ModelName[]]),
  tokens: whole(1, limits.keyTokensMax),
  tensorParallel: whole(1, limits.headsMax),
  blockTokens: whole(1, limits.blockTokensMax),
});
const poolBytes = whole(POOL_BYTES_MIN, POOL_BYTES_MAX);
const workload = z.strictObject({
  blockBytes: whole(1, POOL_BYTES_MAX),
  batch: whole(1, PLACES_MAX),
  chunkBytes: whole(1, limits.chunkBytesMax),
  poolBytes,
  seed: u32,
  layouts: z.strictObject({ slice, local: order, remote: order }).optional(),
  probeBytes: whole(1, POOL_BYTES_MAX).optional(),
});

/** What the client wants of the way that this end sends on, too. */
const way = z.strictObject({
  lanes: whole(0, limits.lanesMax),
  isLocal: z.boolean(),
  rateBytesPerSecond: whole(0, Number.MAX_SAFE_INTEGER),
  congestionControl: z.string().regex(/^[\w-]{0,15}$/),
  socketBufferBytes: whole(0, 2 ** 31 - 1),
  dscp: whole(0, 63),
});

const pem = z.string().max(PEM_CHARACTERS_MAX);
/** What the link is to be made with: see TlsWish. */
const tls = z.union([z.literal("off"), z.literal("own"), z.strictObject({ certificate: pem, key: pem, authorities: pem })]).default("off");

const calls = {
  open: z.strictObject({
    call: z.literal("open"),
    version: u32,
    link: z.enum(["auto", "tcp", "js", "fake"]),
    ioThreads: whole(0, 64),
    poolBytes,
    token: z.string().regex(/^[0-9a-f]{32}$/),
    dataPort: whole(0, 65_535),
    way,
    tls,
  }),
  prepare: z.strictObject({ call: z.literal("prepare"), workload, write: z.boolean(), read: z.boolean(), checksum: z.boolean() }),
  admit: z.strictObject({ call: z.literal("admit") }),
  fill: z.strictObject({ call: z.literal("fill"), seed: u32, slots }),
  poison: z.strictObject({ call: z.literal("poison"), slots }),
  check: z.strictObject({
    call: z.literal("check"),
    seed: u32,
    slots,
    digests: z
      .array(z.array(z.string().max(DIGEST_CHARACTERS)).max(limits.chunksPerTransferMax).readonly())
      .max(SLOTS_MAX + 1)
      .readonly(),
  }),
  use: z.strictObject({ call: z.literal("use") }),
  endCase: z.strictObject({ call: z.literal("endCase") }),
  end: z.strictObject({ call: z.literal("end") }),
};

/** What the client asks for, in this order: open, admit, then for each case prepare, fill or poison, check, endCase; use at any time. */
export type Call = { readonly [Name in keyof typeof calls]: Readonly<z.output<(typeof calls)[Name]>> }[keyof typeof calls];
export type CallNamed<Name extends keyof typeof calls> = Extract<Call, { readonly call: Name }>;

/** Throws protocol_error for what no version asks, and version_unsupported before anything else of an `open` is looked at. */
export function parseCall(value: unknown): Call {
  const { call, version } = value as { readonly call?: unknown; readonly version?: unknown };
  if (typeof call !== "string" || !Object.hasOwn(calls, call)) {
    throw expected("a call that this version knows", "call", call, "protocol_error");
  }
  if (call === "open" && version !== CONTROL_VERSION) {
    const theirs = typeof version === "number" ? String(version) : "of no number";
    throw new KvferryError("version_unsupported", `bench control ${theirs}, this server speaks ${CONTROL_VERSION}`);
  }
  return parsed<Call>(calls[call as keyof typeof calls], value, call);
}

const seconds = z.number().min(0);

export const replies = {
  open: reply(z.object({ link: z.string(), dataPort: whole(1, 65_535), version: z.string(), systemInfo: z.string() })),
  check: reply(z.object({ verifiedBytes: count(), wrong: count() })),
  use: reply(
    z.object({
      cpuUserSeconds: seconds,
      cpuSystemSeconds: seconds,
      // JSON has no NaN, which stands for "the host does not say".
      mainThreadSeconds: z.union([seconds, z.null().transform(() => Number.NaN)]),
      residentBytes: count(),
      retries: count(),
      retransmits: count().nullable(),
    }),
  ),
  nothing: (_result: unknown): void => {},
};

export type OpenReply = ReturnType<(typeof replies)["open"]>;
export type CheckReply = ReturnType<(typeof replies)["check"]>;
export type UseReply = ReturnType<(typeof replies)["use"]>;

/** Turns the result of a call into its type. Throws protocol_error. */
function reply<S extends z.ZodType>(schema: S): (result: unknown) => Readonly<z.output<S>> {
  return (result) => parsed<z.output<S>>(schema, result, "the bench server's answer");
}

function parsed<T>(schema: z.ZodType, value: unknown, name: string): T {
  const outcome = schema.safeParse(value);
  if (outcome.success) return Object.freeze(outcome.data) as T;
  const [issue] = outcome.error.issues;
  const where = [name, ...(issue?.path ?? []).map(String)].join(".").slice(0, 80);
  throw new KvferryError("protocol_error", `${where}: ${issue?.message.slice(0, 200)}`);
}

function count() {
  return whole(0, Number.MAX_SAFE_INTEGER);
}

function whole(low: number, high: number) {
  return z.custom<number>(
    (value) => typeof value === "number" && Number.isSafeInteger(value) && value >= low && value <= high,
    `Expected an integer from ${low} to ${high}`,
  );
}
