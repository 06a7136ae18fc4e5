/** The parts that control messages are made of, out of what protobuf makes of their bytes: every number and length bounded. All throw protocol_error. */
import { expected, integer } from "../check.ts";
import { limits } from "../limits.ts";
import { bytesOf, type Fields, list, number, text, textOf } from "./fields.ts";

/** What KV of a model may come coded with, and how many original bytes a second its side decodes; 0: not known. */
export interface ModelProfile {
  readonly id: string;
  readonly decodeBytesPerSecond: number;
}
export interface ModelEntry {
  readonly fingerprint: string;
  readonly layout: Uint8Array;
  readonly profiles: readonly ModelProfile[];
}
/** What chunks are coded with; `position`: of the content's first token in its sequence. */
export interface Coding {
  readonly profile: string;
  readonly position: number;
}
export interface ByteRange {
  readonly offset: number;
  readonly bytes: number;
}
export interface BufferRanges {
  readonly buffer: string;
  readonly ranges: readonly ByteRange[];
}
export interface GroupTokens {
  readonly group: number;
  readonly tokens: number;
}
/** An Accept that goes ahead of its Offer, good for an Offer of exactly these terms. */
export interface EarlyGrant {
  readonly grant: number;
  readonly generation: number;
  readonly layout: Uint8Array;
  readonly order: string;
  /** SHA-256 of the holder's layout; empty of ranges. */
  readonly held: Uint8Array;
  readonly groups: readonly GroupTokens[];
  readonly firstHead: number;
  readonly heads: number;
  readonly chunkBytes: number;
  readonly checksum: boolean;
  readonly coding: Coding | undefined;
}
export type WireSource =
  | { readonly kind: "handle"; readonly handle: string }
  | {
      readonly kind: "keys";
      readonly group: number;
      readonly keys: Uint8Array;
      readonly tokens: number;
      /** Of the first token in its sequence; undefined: not said. */
      readonly position: number | undefined;
    }
  | ({ readonly kind: "ranges" } & BufferRanges);

const PROFILE_ID = /^[0-9a-f]{32}$/;

export function sourceOf(f: Fields): WireSource {
  const given = ["handle", "keys", "ranges"].filter((name) => f[name] !== null && f[name] !== undefined);
  // The runtime keeps the last of a oneof; more than one set means that somebody builds messages by hand.
  if (given.length !== 1) throw expected("one source", "fetch.source", given.join(), "protocol_error");
  if (given[0] === "handle") return { kind: "handle", handle: text(f, "handle", limits.handleCharacters) };
  if (given[0] === "ranges") return { kind: "ranges", ...rangesOf(f["ranges"] as Fields) };
  const keys = f["keys"] as Fields;
  return {
    kind: "keys",
    group: number(keys, "group", 0, limits.groupsMax - 1),
    keys: keysOf(keys),
    tokens: number(keys, "tokens", 1),
    position: positionOf(keys),
  };
}

/** 0, or a peer that does not say: not known. */
function positionOf(keys: Fields): number | undefined {
  const oneMore = number(keys, "position", 0, limits.keyTokensMax);
  return oneMore === 0 ? undefined : oneMore - 1;
}

export function grantOf(f: Fields): EarlyGrant {
  return {
    grant: number(f, "grant", 1, limits.grantMax),
    generation: number(f, "generation", 1),
    layout: bytesOf(f, "layout", limits.layoutJsonBytes),
    order: text(f, "order", 16),
    held: bytesOf(f, "held", 32),
    groups: groupsOf(f),
    firstHead: number(f, "firstHead", 0, limits.headsMax),
    heads: number(f, "heads", 0, limits.headsMax),
    chunkBytes: number(f, "chunkBytes", limits.chunkBytesMin, limits.chunkBytesMax),
    checksum: f["checksum"] === true,
    coding: codingOf(f),
  };
}

export function codingOf(f: Fields): Coding | undefined {
  const coding = f["coding"] as Fields | null | undefined;
  if (coding === null || coding === undefined) return undefined;
  return { profile: profileOf(coding["profile"]), position: number(coding, "position", 0, limits.keyTokensMax) };
}

export function profilesOf(f: Fields): readonly string[] {
  return list(f, "profiles", limits.profilesMax).map(profileOf);
}

function profileOf(value: unknown): string {
  const id = textOf(value, "profile", limits.profileIdCharacters);
  if (!PROFILE_ID.test(id)) throw expected(`${limits.profileIdCharacters} hexadecimal digits`, "profile", id, "protocol_error");
  return id;
}

export function groupsOf(f: Fields): readonly GroupTokens[] {
  return list(f, "groups", limits.groupsMax).map((value) => ({
    group: number(value as Fields, "group", 0, limits.groupsMax - 1),
    tokens: number(value as Fields, "tokens", 1),
  }));
}

export function rangesOf(f: Fields): BufferRanges {
  return {
    buffer: text(f, "buffer", limits.handleCharacters),
    ranges: list(f, "ranges", limits.rangesPerTransferMax).map((value) => ({
      offset: number(value as Fields, "offset", 0, Number.MAX_SAFE_INTEGER),
      bytes: number(value as Fields, "bytes", 1, Number.MAX_SAFE_INTEGER),
    })),
  };
}

export function modelsOf(f: Fields): readonly ModelEntry[] {
  return list(f, "models", limits.modelsMax).map((value) => ({
    fingerprint: text(value as Fields, "fingerprint", 64),
    layout: bytesOf(value as Fields, "layout", limits.layoutJsonBytes),
    profiles: list(value as Fields, "profiles", limits.profilesMax).map((profile) => ({
      id: profileOf((profile as Fields)["id"]),
      decodeBytesPerSecond: number(profile as Fields, "decodeBytesPerSecond", 0, Number.MAX_SAFE_INTEGER),
    })),
  }));
}

export function lostOf(f: Fields): readonly number[] {
  return list(f, "lost", limits.lanesMax).map((lane) => integer(lane, "lost", 0, limits.lanesMax - 1, "protocol_error"));
}

export function keysOf(f: Fields): Uint8Array {
  const keys = bytesOf(f, "keys", limits.controlMessageBytes);
  if (keys.length % 32 !== 0) throw expected("32 bytes a key", "keys", `${keys.length} bytes`, "protocol_error");
  return keys;
}
