/**
 * Control messages: every kind survives encoding and decoding; nothing that a stranger can send gives anything but a KvferryError.
 * Method: one full example of each kind, then random bytes and random damage to valid messages (fast-check).
 */
import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { KvferryError } from "../../transport/errors.ts";
import { limits } from "../../transport/limits.ts";
import { readGolden } from "../golden/golden.ts";
import { decodeMessage, type EarlyGrant, encodeMessage, type Fetch, type Message } from "../../transport/peer/messages.ts";

const bytes = (count: number, from = 0): Uint8Array => Uint8Array.from({ length: count }, (_, i) => (i + from) & 255);

const grant: EarlyGrant = {
  grant: 2 ** 53 - 1,
  generation: 1,
  layout: bytes(9),
  order: "canonical",
  held: bytes(32),
  groups: [{ group: 0, tokens: 2048 }],
  firstHead: 0,
  heads: 8,
  chunkBytes: 1 << 20,
  checksum: true,
  coding: { profile: "0f".repeat(16), position: 7 },
};

/** `position`: of the first key, undefined where nobody said. */
function keysFetch(id: number, position: number | undefined): Message {
  return {
    kind: "fetch",
    id,
    fingerprint: "",
    source: { kind: "keys", group: 1, keys: bytes(64), tokens: 32, position },
    firstHead: 4,
    heads: 4,
    chunkBytes: 4096,
    deadlineMs: 1,
    trace: "",
    readers: 1,
    tenant: "",
    priority: "normal" as const,
    grant: undefined,
    profiles: [],
  };
}

const examples: readonly Message[] = [
  {
    kind: "hello",
    version: 1,
    minVersion: 1,
    node: "ab".repeat(16),
    name: "prefill-0",
    software: "kvferry",
    advertise: "[::1]:7411",
    capabilities: ["resume", "keys"],
    chunkBytesMax: limits.chunkBytesMax,
    lanesMax: 8,
    laneToken: bytes(16),
    secret: "s".repeat(16),
    resumeNode: "",
    conversation: 1,
    tenant: "blue",
    models: [{ fingerprint: "f".repeat(64), layout: bytes(100), profiles: [{ id: "0f".repeat(16), decodeBytesPerSecond: 2 ** 33 }] }],
  },
  { kind: "models", models: [] },
  { kind: "refuse", code: 31, detail: "no", version: 1, minVersion: 1, re: 0 },
  { kind: "lookup", id: 7, fingerprint: "f".repeat(64), group: 2, keys: bytes(96), tenant: "blue" },
  { kind: "lookupReply", id: 7, code: 0, matched: 3 },
  { kind: "discard", handle: `01234567-${"a".repeat(32)}` },
  {
    kind: "fetch",
    id: 1,
    fingerprint: "f".repeat(64),
    source: { kind: "handle", handle: "0123abcd-" + "0".repeat(32) },
    firstHead: 0,
    heads: 8,
    chunkBytes: 1 << 20,
    deadlineMs: 30_000,
    trace: "t",
    readers: 3,
    tenant: "blue",
    priority: "normal" as const,
    grant,
    profiles: ["0f".repeat(16), "10".repeat(16)],
  },
  keysFetch(2, 0),
  keysFetch(4, undefined),
  {
    kind: "fetch",
    id: 3,
    fingerprint: "",
    source: { kind: "ranges", buffer: "b", ranges: [{ offset: 2 ** 40, bytes: 5 }] },
    firstHead: 0,
    heads: 0,
    chunkBytes: 4096,
    deadlineMs: 1,
    trace: "",
    readers: 1,
    tenant: "",
    priority: "normal" as const,
    grant: { ...grant, layout: bytes(0), held: bytes(0), groups: [], coding: undefined },
    profiles: [],
  },
  {
    kind: "offer",
    id: 9,
    fetch: 1,
    fingerprint: "f".repeat(64),
    groups: [{ group: 0, tokens: 2048 }],
    firstHead: 0,
    heads: 8,
    chunkBytes: 1 << 20,
    checksum: true,
    ranges: undefined,
    keys: bytes(32),
    deadlineMs: 100,
    trace: "",
    layout: bytes(10),
    generation: 2,
    coding: { profile: "0f".repeat(16), position: 0 },
  },
  { kind: "accept", id: 9, grant: 2 ** 53 - 1, generation: 2, committed: bytes(3), layout: bytes(9), order: "flat" },
  { kind: "resume", id: 9, grant: 2 ** 53 - 1, fromReceiver: false },
  { kind: "resume", id: 1, grant: 1, fromReceiver: true },
  { kind: "done", id: 9, grant: 12, fetch: 0 },
  { kind: "done", id: 0, grant: 12, fetch: 1 },
  { kind: "cancel", id: 9, fetch: 0, grant: 12, code: 8, detail: "by its caller", fromReceiver: true },
  { kind: "ping", id: 4 },
  { kind: "pong", id: 4 },
  { kind: "bye", reason: "draining" },
];

/** Buffers and Uint8Arrays of the same bytes are the same to a reader. */
const plain = (value: unknown): unknown =>
  JSON.parse(
    JSON.stringify(value, (_, inner) => (inner instanceof Uint8Array ? [...inner] : inner?.type === "Buffer" ? inner.data : inner)),
  );

test("every kind of message comes back as it was sent", () => {
  for (const message of examples) assert.deepEqual(plain(decodeMessage(encodeMessage(message))), plain(message), message.kind);
});

test("the golden messages of a pull in one round trip mean what schemas/peer.proto says", () => {
  const text = (words: string): Uint8Array => new TextEncoder().encode(words);
  const [fingerprint, groups] = ["0123456789abcdef".repeat(4), [{ group: 1, tokens: 300 }]];
  const common = { fingerprint, firstHead: 4, heads: 4, chunkBytes: 65_536, deadlineMs: 30_000, trace: "t" };
  const terms = { groups, firstHead: 4, heads: 4, chunkBytes: 65_536, checksum: true };
  const plainly = { coding: undefined };
  const early = {
    grant: 2 ** 53 - 1,
    generation: 2,
    layout: text('{"blockCount":1}'),
    order: "canonical",
    held: bytes(32),
    ...terms,
    ...plainly,
  };
  const source = { kind: "handle", handle: `0123abcd-${"0".repeat(32)}` } as const;
  const offer = { ...common, ...terms, ranges: undefined, keys: bytes(0), layout: text('{"blockCount":2}') };
  const golden: Readonly<Record<string, Message>> = {
    "control-fetch-grant": {
      kind: "fetch",
      id: 7,
      ...common,
      source,
      readers: 1,
      tenant: "",
      priority: "normal",
      grant: early,
      profiles: [],
    },
    "control-offer-taken": { kind: "offer", id: 9, fetch: 7, ...offer, generation: 2, ...plainly },
    "control-done-fetch": { kind: "done", id: 0, grant: 2 ** 53 - 1, fetch: 7 },
  };
  for (const { name, means } of readGolden("control")) {
    const message = golden[name];
    if (message === undefined) continue;
    const encoded = Buffer.from(String(means?.["message"]), "hex");
    assert.deepEqual(plain(decodeMessage(encoded)), plain(message), name);
  }
  assert.equal(readGolden("control").filter(({ name }) => name in golden).length, Object.keys(golden).length);
});

test("a message longer than the limit is refused before it is sent", () => {
  const keys = new Uint8Array(limits.controlMessageBytes);
  assert.throws(() => encodeMessage({ kind: "lookup", id: 1, fingerprint: "", group: 0, keys, tenant: "" }), { code: "message_too_large" });
});

test("numbers and lengths that the limits do not allow are refused", () => {
  const ask = examples.find((message) => message.kind === "fetch") as Fetch;
  const hostile: readonly Message[] = [
    { kind: "accept", id: 9, grant: 0, generation: 1, committed: bytes(0), layout: bytes(0), order: "flat" },
    { kind: "accept", id: 9, grant: 2 ** 54, generation: 1, committed: bytes(0), layout: bytes(0), order: "flat" },
    { kind: "accept", id: 9, grant: 1, generation: 0, committed: bytes(0), layout: bytes(0), order: "flat" },
    { kind: "accept", id: 9, grant: 1, generation: 1, committed: bytes(0), layout: bytes(limits.layoutJsonBytes + 1), order: "flat" },
    { kind: "lookup", id: 1, fingerprint: "f".repeat(65), group: 0, keys: bytes(32), tenant: "" },
    { kind: "lookup", id: 1, fingerprint: "", group: limits.groupsMax, keys: bytes(32), tenant: "" },
    { kind: "lookup", id: 1, fingerprint: "", group: 0, keys: bytes(33), tenant: "" },
    { kind: "bye", reason: "x".repeat(257) },
    ...[{ grant: 0 }, { grant: 2 ** 54 }, { generation: 0 }, { held: bytes(33) }, { layout: bytes(limits.layoutJsonBytes + 1) }].map(
      (wrong) => ({ ...ask, grant: { ...grant, ...wrong } }),
    ),
    ...["", "0", "g".repeat(32), "0f".repeat(17)].map((profile) => ({ ...ask, profiles: [profile] })),
    ...[
      { profile: "", position: 0 },
      { profile: "0f".repeat(16), position: limits.keyTokensMax + 1 },
    ].map((coding) => ({ ...ask, grant: { ...grant, coding } })),
    { ...ask, profiles: Array.from({ length: limits.profilesMax + 1 }, () => "0f".repeat(16)) },
    { ...ask, source: { kind: "keys", group: 0, keys: bytes(32), tokens: 16, position: limits.keyTokensMax } },
  ];
  for (const message of hostile)
    assert.throws(() => decodeMessage(encodeMessage(message)), { code: "protocol_error" }, JSON.stringify(message));
});

test("an empty message and an unknown kind are refused", () => {
  assert.throws(() => decodeMessage(new Uint8Array(0)), { code: "protocol_error" });
  assert.throws(() => decodeMessage(Uint8Array.of(0xfa, 0x01, 0x00)), { code: "protocol_error" });
});

test("whatever bytes come, the answer is a message or a KvferryError", () => {
  const onlyTyped = (input: Uint8Array): void => {
    try {
      decodeMessage(input);
    } catch (error) {
      assert.ok(error instanceof KvferryError, String(error));
    }
  };
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), onlyTyped), { numRuns: 2_000 });
  const damaged = fc.tuple(
    fc.constantFrom(...examples),
    fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 4 }),
    fc.nat(),
  );
  const property = fc.property(damaged, ([message, edits, cut]) => {
    const valid = Uint8Array.from(encodeMessage(message));
    for (const [at, value] of edits) valid[at % valid.length] = value;
    onlyTyped(valid);
    onlyTyped(valid.subarray(0, cut % (valid.length + 1)));
  });
  fc.assert(property, { numRuns: 2_000 });
});
