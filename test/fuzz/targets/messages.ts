/** The protobuf control messages of peers: bytes that a stranger frames well. Fields of any number, type and length, at any depth. */
import assert from "node:assert/strict";
import { KvferryError } from "../../../transport/errors.ts";
import { limits } from "../../../transport/limits.ts";
import { decodeMessage, encodeMessage, type Message } from "../../../transport/peer/messages.ts";
import { cross, mutate } from "../mutate.ts";
import type { Random } from "../random.ts";
import { pureTarget, type Target } from "../target.ts";
import { ABSURD_NUMBERS, mutateValue } from "../values.ts";

const FINGERPRINT = "f0".repeat(32);
const KEYS = Uint8Array.from({ length: 96 }, (_, at) => at);
const PROFILE = "0f".repeat(16);
const MODEL = {
  fingerprint: FINGERPRINT,
  layout: new TextEncoder().encode('{"blockCount":1,"groups":[]}'),
  profiles: [{ id: PROFILE, decodeBytesPerSecond: 2 ** 33 }],
};
const CODING = { profile: PROFILE, position: 16 };
const GRANT = {
  ...{
    grant: 2 ** 52 + 3,
    generation: 1,
    layout: MODEL.layout,
    order: "canonical",
    held: new Uint8Array(32).fill(9),
    firstHead: 0,
    heads: 8,
  },
  ...{ groups: [{ group: 0, tokens: 2_048 }], chunkBytes: 1 << 20, checksum: true, coding: CODING },
};
const ASK = {
  ...{ fingerprint: FINGERPRINT, firstHead: 0, heads: 8, chunkBytes: 1 << 20, deadlineMs: 30_000 },
  ...{ trace: "t", readers: 1, tenant: "", priority: "urgent" as const },
};

const PEER_MESSAGES: readonly Message[] = [
  {
    ...{ kind: "hello", version: 1, minVersion: 1, node: "ab".repeat(16), name: "prefill-0", software: "kvferry", advertise: "[::1]:7411" },
    ...{ capabilities: ["resume", "keys"], chunkBytesMax: limits.chunkBytesMax, lanesMax: 8, laneToken: new Uint8Array(16).fill(3) },
    ...{ secret: "s".repeat(16), resumeNode: "", conversation: 1, tenant: "", models: [MODEL] },
  },
  { kind: "models", models: [MODEL, { fingerprint: "", layout: new Uint8Array(0), profiles: [] }] },
  { kind: "refuse", code: 31, detail: "no", version: 1, minVersion: 1, re: 7 },
  { kind: "lookup", id: 7, fingerprint: FINGERPRINT, group: 2, keys: KEYS, tenant: "" },
  { kind: "lookupReply", id: 7, code: 0, matched: 3 },
  {
    kind: "fetch",
    id: 1,
    ...ASK,
    source: { kind: "handle", handle: `0123abcd-${"0".repeat(32)}` },
    grant: GRANT,
    profiles: [PROFILE, "0".repeat(32)],
  },
  {
    kind: "fetch",
    id: 2,
    ...ASK,
    source: { kind: "keys", group: 1, keys: KEYS, tokens: 48, position: 32 },
    grant: undefined,
    profiles: [],
  },
  {
    ...{ kind: "fetch", id: 3, ...ASK, source: { kind: "ranges", buffer: "b", ranges: [{ offset: 2 ** 40, bytes: 5 }] } },
    grant: { ...GRANT, layout: new Uint8Array(0), held: new Uint8Array(0), groups: [], coding: undefined },
    profiles: [],
  },
  {
    ...{ kind: "offer", id: 9, fetch: 1, ...ASK, groups: [{ group: 0, tokens: 2_048 }], checksum: true, keys: KEYS, layout: MODEL.layout },
    ...{ ranges: { buffer: "b", ranges: [{ offset: 0, bytes: 4_096 }] }, generation: 1, coding: CODING },
  },
  { kind: "accept", id: 9, grant: 2 ** 52 + 1, generation: 2, committed: Uint8Array.of(5), layout: MODEL.layout, order: "flat" },
  { kind: "resume", id: 9, grant: 77, fromReceiver: true },
  { kind: "done", id: 9, grant: 77, fetch: 1 },
  { kind: "cancel", id: 9, fetch: 1, grant: 77, code: 8, detail: "by its caller", fromReceiver: true },
  { kind: "ping", id: 3 },
  { kind: "pong", id: 3 },
  { kind: "bye", reason: "draining" },
];

/** What no value of a message may pass, whatever its field. */
const NUMBER_MAX = Number.MAX_SAFE_INTEGER;
const LIST_MAX = Math.max(limits.rangesPerTransferMax, limits.modelsMax, limits.groupsMax);
const TEXT_MAX = 1_024;

function checkBounds(value: unknown): void {
  if (typeof value === "number")
    assert.ok(Number.isSafeInteger(value) && value >= 0 && value <= NUMBER_MAX && !Object.is(value, -0), `the number ${value}`);
  else if (typeof value === "string") assert.ok(value.length <= TEXT_MAX, `a text of ${value.length}`);
  else if (value instanceof Uint8Array) assert.ok(value.length <= limits.controlMessageBytes, "bytes are bounded");
  else if (Array.isArray(value)) {
    assert.ok(value.length <= LIST_MAX, `a list of ${value.length}`);
    for (const inner of value) checkBounds(inner);
  } else if (typeof value === "object" && value !== null) for (const inner of Object.values(value)) checkBounds(inner);
  else assert.ok(value === undefined || typeof value === "boolean", `a ${typeof value}`);
}

function check(input: Uint8Array): void {
  let message: Message;
  try {
    // Bytes come out in the kind of array that they came in.
    message = decodeMessage(Buffer.from(input));
  } catch (error) {
    assert.ok(error instanceof KvferryError && error.code === "protocol_error", String(error));
    return;
  }
  checkBounds(message);
  assert.ok(Object.isFrozen(message), "a message is frozen");
  assert.deepEqual(decodeMessage(Buffer.from(encodeMessage(message))), message);
}

const messages: Target = {
  ...pureTarget(
    "peer-messages",
    "decodeMessage: a frozen message with every number and length bounded, that encodes to one like it; or protocol_error",
    () => PEER_MESSAGES.map(encodeMessage),
    check,
  ),
  generate(random, pool) {
    if (random.chance(1, 2)) return absurd(random);
    if (random.chance(1, 3)) return mutate(random.pick(pool), random);
    if (random.chance(1, 6)) return cross(random.pick(pool), random.pick(pool), random);
    return envelope(random, pool);
  },
};

/** A message that is framed well and says something that nobody says. */
function absurd(random: Random): Uint8Array {
  for (;;) {
    try {
      return encodeMessage(mutateValue(random.pick(PEER_MESSAGES), random, 2) as Message);
    } catch {
      // Not everything has a form on the wire.
    }
  }
}

/** A message of one kind: a known body with more fields behind it, or fields only. Behind it, now and then, another kind. */
function envelope(random: Random, pool: readonly Uint8Array[]): Uint8Array {
  const known = random.chance(1, 2) ? random.pick(pool) : new Uint8Array(0);
  const kind = known.length > 0 ? (known[0] as number) >>> 3 : random.between(0, 16);
  const body = known.length > 0 && random.chance(9, 10) ? known.subarray(known[1] !== undefined && known[1] >= 0x80 ? 3 : 2) : known;
  const filled = Buffer.concat([body, ...fields(random, 0)]);
  return Buffer.concat([field(kind, filled), ...(random.chance(1, 10) ? fields(random, 0) : [])]);
}

function* fields(random: Random, depth: number): Generator<Uint8Array> {
  for (let left = random.between(0, 5); left > 0; left--) yield anyField(random, depth);
}

function anyField(random: Random, depth: number): Uint8Array {
  const number = random.chance(1, 20) ? random.below(2 ** 29) : random.between(0, 16);
  switch (random.below(8)) {
    case 0:
    case 1:
      return Buffer.concat([varint(number * 8), varint(anyNumber(random))]);
    case 2:
      return Buffer.concat([varint(number * 8 + random.pick([1, 5, 3, 4, 6, 7])), random.bytes(random.pick([0, 4, 8]))]);
    case 3:
    case 4:
      return field(number, Buffer.from(random.pick(["", "a", "\0", "x".repeat(300), "\u00e9\ud83d\ude00", FINGERPRINT])));
    case 5:
      return field(number, random.bytes(random.pick([0, 1, 16, 17, 31, 32, 33, 64, 2_000])));
    case 6:
      return Buffer.concat([varint(number * 8 + 2), varint(anyNumber(random)), random.bytes(random.below(8))]);
    default:
      return depth > 3 ? new Uint8Array(0) : field(number, Buffer.concat([...fields(random, depth + 1)]));
  }
}

function anyNumber(random: Random): number {
  return random.chance(1, 2) ? random.below(20) : Math.floor(Math.abs(random.pick(ABSURD_NUMBERS)));
}

function field(number: number, bytes: Uint8Array): Uint8Array {
  return Buffer.concat([varint(number * 8 + 2), varint(bytes.length), bytes]);
}

/** Also of numbers that 64 bits do not hold. */
function varint(value: number): Uint8Array {
  const bytes: number[] = [];
  let rest = BigInt(value);
  for (; rest > 127n && bytes.length < 11; rest >>= 7n) bytes.push(Number(rest & 127n) | 128);
  return Uint8Array.of(...bytes, Number(rest & 127n));
}

export const messageTargets: readonly Target[] = [messages];
