/**
 * Control messages between two sidecars: protobuf bytes in, frozen typed values out (every number and length bounded here, once), and back.
 * What they mean: schemas/peer.proto, schemas/wire.md.
 */
import { KvferryError } from "../errors.ts";
import { limits } from "../limits.ts";
import { PRIORITIES, type Priority, rankOf } from "../policy/priority.ts";
import { bytesOf, type Fields, list, number, text, textOf } from "./fields.ts";
import {
  type BufferRanges,
  type Coding,
  codingOf,
  type EarlyGrant,
  grantOf,
  type GroupTokens,
  groupsOf,
  keysOf,
  lostOf,
  type ModelEntry,
  modelsOf,
  profilesOf,
  rangesOf,
  sourceOf,
  type WireSource,
} from "./message-parts.ts";
import { kvferry } from "./wire/peer.js";

export type { BufferRanges, ByteRange, Coding, EarlyGrant, GroupTokens, ModelEntry, ModelProfile, WireSource } from "./message-parts.ts";

const { Envelope } = kvferry.peer.v1;

export interface Hello {
  readonly kind: "hello";
  readonly version: number;
  readonly minVersion: number;
  readonly node: string;
  readonly name: string;
  readonly software: string;
  readonly advertise: string;
  readonly capabilities: readonly string[];
  readonly chunkBytesMax: number;
  readonly lanesMax: number;
  readonly laneToken: Uint8Array;
  readonly secret: string;
  readonly resumeNode: string;
  readonly conversation: number;
  /** For which tenant it speaks, or "". */
  readonly tenant: string;
  readonly models: readonly ModelEntry[];
}
export interface Models {
  readonly kind: "models";
  readonly models: readonly ModelEntry[];
}
export interface Refuse {
  readonly kind: "refuse";
  readonly code: number;
  readonly detail: string;
  readonly version: number;
  readonly minVersion: number;
  readonly re: number;
}
export interface Lookup {
  readonly kind: "lookup";
  readonly id: number;
  readonly fingerprint: string;
  readonly group: number;
  readonly keys: Uint8Array;
  /** Whose content is meant; "": of the connection's own tenant. */
  readonly tenant: string;
}
export interface LookupReply {
  readonly kind: "lookupReply";
  readonly id: number;
  readonly code: number;
  readonly matched: number;
}
export interface Fetch {
  readonly kind: "fetch";
  readonly id: number;
  readonly fingerprint: string;
  readonly source: WireSource;
  readonly firstHead: number;
  readonly heads: number;
  readonly chunkBytes: number;
  readonly deadlineMs: number;
  readonly trace: string;
  readonly readers: number;
  readonly priority: Priority;
  readonly grant: EarlyGrant | undefined;
  /** Whose content is meant; "": of the connection's own tenant. */
  readonly tenant: string;
  /** That the content may come coded with. */
  readonly profiles: readonly string[];
}
export interface Offer {
  readonly kind: "offer";
  readonly id: number;
  readonly fetch: number;
  readonly fingerprint: string;
  readonly groups: readonly GroupTokens[];
  readonly firstHead: number;
  readonly heads: number;
  readonly chunkBytes: number;
  readonly checksum: boolean;
  readonly ranges: BufferRanges | undefined;
  readonly keys: Uint8Array;
  readonly deadlineMs: number;
  readonly trace: string;
  readonly layout: Uint8Array;
  /** Of the fetch's grant, which is taken; 0: an Accept is waited for. */
  readonly generation: number;
  /** undefined: chunks travel as they are. */
  readonly coding: Coding | undefined;
}
export interface Accept {
  readonly kind: "accept";
  readonly id: number;
  readonly grant: number;
  readonly generation: number;
  readonly committed: Uint8Array;
  readonly layout: Uint8Array;
  readonly order: string;
}
export interface Resume {
  readonly kind: "resume";
  readonly id: number;
  readonly grant: number;
  readonly fromReceiver: boolean;
}
/** `id`: of the sender's offer, or 0 if it has not come. `fetch`: of the receiver's fetch, or 0. */
export interface Done {
  readonly kind: "done";
  readonly id: number;
  readonly grant: number;
  readonly fetch: number;
}
/** `id`: of the sender's offer, or 0. `fetch`: of the receiver's fetch, or 0. One of them names the transfer. */
export interface Cancel {
  readonly kind: "cancel";
  readonly id: number;
  readonly fetch: number;
  readonly grant: number;
  readonly code: number;
  readonly detail: string;
  readonly fromReceiver: boolean;
}
export interface Ping {
  readonly kind: "ping";
  readonly id: number;
}
export interface Pong {
  readonly kind: "pong";
  readonly id: number;
}
export interface Bye {
  readonly kind: "bye";
  readonly reason: string;
}
export interface LanesWish {
  readonly kind: "lanes";
  readonly lanes: number;
  readonly lost: readonly number[];
}
export interface Prewarm {
  readonly kind: "prewarm";
  readonly bytes: number;
  readonly inMs: number;
}
export interface Discard {
  readonly kind: "discard";
  readonly handle: string;
}
export type Message =
  | Discard
  | LanesWish
  | Prewarm
  | Hello
  | Models
  | Refuse
  | Lookup
  | LookupReply
  | Fetch
  | Offer
  | Accept
  | Resume
  | Done
  | Cancel
  | Ping
  | Pong
  | Bye;

/** Bytes of one control message; shorter than limits.controlMessageBytes or an error. */
export function encodeMessage(message: Message): Uint8Array {
  const { kind, ...fields } = message;
  const body = kind === "fetch" ? wireFetch(message) : fields;
  const bytes = Envelope.encode({ [kind]: body } as kvferry.peer.v1.Envelope.$Properties).finish();
  if (bytes.length > limits.controlMessageBytes) {
    throw new KvferryError("message_too_large", `${kind} of ${bytes.length} bytes; at most ${limits.controlMessageBytes}`);
  }
  return bytes;
}

function wireFetch({ source, kind: _, priority, ...others }: Fetch): object {
  const rest = { ...others, priority: rankOf(priority) + 1 };
  if (source.kind === "handle") return { ...rest, handle: source.handle };
  if (source.kind === "keys") return { ...rest, keys: wireKeys(source) };
  return { ...rest, ranges: { buffer: source.buffer, ranges: source.ranges } };
}

function wireKeys({ group, keys, tokens, position }: WireSource & { readonly kind: "keys" }): object {
  return { group, keys, tokens, position: position === undefined ? 0 : position + 1 };
}

/** Throws KvferryError protocol_error for anything that schemas/peer.proto or limits.ts do not allow. */
export function decodeMessage(bytes: Uint8Array): Message {
  let envelope: kvferry.peer.v1.Envelope;
  try {
    envelope = Envelope.decode(bytes);
  } catch (cause) {
    throw new KvferryError("protocol_error", "control message does not parse", { cause });
  }
  const kind = envelope.kind;
  if (kind === undefined) throw new KvferryError("protocol_error", "control message of an unknown kind");
  const parse = parsers[kind];
  if (parse === undefined) throw new KvferryError("protocol_error", `control message ${kind} is not of this version`);
  return Object.freeze(parse((envelope[kind] ?? {}) as Fields));
}

const parsers: Partial<Record<NonNullable<kvferry.peer.v1.Envelope["kind"]>, (fields: Fields) => Message>> = {
  hello: (f) => ({
    kind: "hello",
    version: number(f, "version", 1, 0xffff),
    minVersion: number(f, "minVersion", 1, 0xffff),
    node: text(f, "node", 64),
    name: text(f, "name", 256),
    software: text(f, "software", 256),
    advertise: text(f, "advertise", 300),
    capabilities: list(f, "capabilities", 64).map((value) => textOf(value, "capabilities", 64)),
    chunkBytesMax: number(f, "chunkBytesMax", limits.chunkBytesMin, 0xffffffff),
    lanesMax: number(f, "lanesMax", 0, 0xffff),
    laneToken: bytesOf(f, "laneToken", 16),
    secret: text(f, "secret", 256),
    resumeNode: text(f, "resumeNode", 64),
    conversation: number(f, "conversation"),
    tenant: text(f, "tenant", limits.tenantCharacters),
    models: modelsOf(f),
  }),
  models: (f) => ({ kind: "models", models: modelsOf(f) }),
  refuse: (f) => ({
    kind: "refuse",
    code: number(f, "code"),
    detail: text(f, "detail", limits.detailCharacters),
    version: number(f, "version"),
    minVersion: number(f, "minVersion"),
    re: number(f, "re"),
  }),
  lookup: (f) => ({
    kind: "lookup",
    id: number(f, "id", 1),
    fingerprint: text(f, "fingerprint", 64),
    group: number(f, "group", 0, limits.groupsMax - 1),
    keys: keysOf(f),
    tenant: text(f, "tenant", limits.tenantCharacters),
  }),
  lookupReply: (f) => ({ kind: "lookupReply", id: number(f, "id", 1), code: number(f, "code"), matched: number(f, "matched") }),
  fetch: (f) => ({
    kind: "fetch",
    id: number(f, "id", 1),
    fingerprint: text(f, "fingerprint", 64),
    source: sourceOf(f),
    firstHead: number(f, "firstHead", 0, limits.headsMax),
    heads: number(f, "heads", 0, limits.headsMax),
    chunkBytes: number(f, "chunkBytes", limits.chunkBytesMin, limits.chunkBytesMax),
    deadlineMs: number(f, "deadlineMs", 1, limits.deadlineMaxMs),
    trace: text(f, "trace", 256),
    // 0, or a peer that does not say: one.
    readers: Math.max(number(f, "readers", 0, limits.readersMax), 1),
    priority: PRIORITIES[number(f, "priority", 0, PRIORITIES.length) - 1] ?? "normal",
    grant: f["grant"] === null || f["grant"] === undefined ? undefined : grantOf(f["grant"] as Fields),
    tenant: text(f, "tenant", limits.tenantCharacters),
    profiles: profilesOf(f),
  }),
  lanes: (f) => ({ kind: "lanes", lanes: number(f, "lanes", 0, limits.lanesMax), lost: lostOf(f) }),
  prewarm: (f) => ({
    kind: "prewarm",
    bytes: number(f, "bytes", 1, Number.MAX_SAFE_INTEGER),
    inMs: number(f, "inMs", 0, limits.deadlineMaxMs),
  }),
  discard: (f) => ({ kind: "discard", handle: text(f, "handle", limits.handleCharacters) }),
  offer: (f) => ({
    kind: "offer",
    id: number(f, "id", 1),
    fetch: number(f, "fetch"),
    fingerprint: text(f, "fingerprint", 64),
    groups: groupsOf(f),
    firstHead: number(f, "firstHead", 0, limits.headsMax),
    heads: number(f, "heads", 0, limits.headsMax),
    chunkBytes: number(f, "chunkBytes", limits.chunkBytesMin, limits.chunkBytesMax),
    checksum: f["checksum"] === true,
    ranges: f["ranges"] === null || f["ranges"] === undefined ? undefined : rangesOf(f["ranges"] as Fields),
    keys: keysOf(f),
    deadlineMs: number(f, "deadlineMs", 1, limits.deadlineMaxMs),
    trace: text(f, "trace", 256),
    layout: bytesOf(f, "layout", limits.layoutJsonBytes),
    generation: number(f, "generation"),
    coding: codingOf(f),
  }),
  accept: (f) => ({
    kind: "accept",
    id: number(f, "id", 1),
    grant: number(f, "grant", 1, limits.grantMax),
    generation: number(f, "generation", 1),
    committed: bytesOf(f, "committed", Math.ceil(limits.chunksPerTransferMax / 8)),
    layout: bytesOf(f, "layout", limits.layoutJsonBytes),
    order: text(f, "order", 16),
  }),
  resume: (f) => ({
    kind: "resume",
    id: number(f, "id", 1),
    grant: number(f, "grant", 1, limits.grantMax),
    fromReceiver: f["fromReceiver"] === true,
  }),
  done: (f) => ({ kind: "done", id: number(f, "id"), grant: number(f, "grant", 1, limits.grantMax), fetch: number(f, "fetch") }),
  cancel: (f) => ({
    kind: "cancel",
    id: number(f, "id"),
    fetch: number(f, "fetch"),
    grant: number(f, "grant", 0, limits.grantMax),
    code: number(f, "code"),
    detail: text(f, "detail", limits.detailCharacters),
    fromReceiver: f["fromReceiver"] === true,
  }),
  ping: (f) => ({ kind: "ping", id: number(f, "id") }),
  pong: (f) => ({ kind: "pong", id: number(f, "id") }),
  bye: (f) => ({ kind: "bye", reason: text(f, "reason", 256) }),
};
