/**
 * The one import of the addon, and its types. Where it could not be built, or does not fit this version, `native` is undefined and
 * `nativeProblem` says why: whoever needs it says so, whoever does not goes on without.
 */
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";

/** As native/napi/addon.cpp has it. */
const ABI = 7;

export interface NativeRegion {
  readonly id: number;
  readonly bytes: number;
  readonly path: string;
  readonly hugePages: boolean;
  /** -1 = as the kernel likes. */
  readonly numaNode: number;
  /** Mapped regions only; stays mapped for as long as somebody holds it. */
  readonly memory?: ArrayBuffer;
  /** Idempotent. */
  close(): void;
}

/** As link.ts describes a plane. */
export interface NativePlane {
  readonly blockList: number;
  readonly offset: number;
  readonly blockStride: number;
  readonly tokens: number;
  readonly tokenStride: number;
  readonly heads: number;
  readonly headStride: number;
  readonly channels: number;
  readonly channelStride: number;
  readonly elementBytes: number;
  readonly firstToken: number;
}

/** Planes as they cross into native: 11 integers each, in the order above (native/napi/planes.h). */
export function planeNumbers(planes: readonly NativePlane[]): Float64Array {
  const numbers = new Float64Array(planes.length * 11);
  let at = 0;
  for (const plane of planes) {
    numbers[at++] = plane.blockList;
    numbers[at++] = plane.offset;
    numbers[at++] = plane.blockStride;
    numbers[at++] = plane.tokens;
    numbers[at++] = plane.tokenStride;
    numbers[at++] = plane.heads;
    numbers[at++] = plane.headStride;
    numbers[at++] = plane.channels;
    numbers[at++] = plane.channelStride;
    numbers[at++] = plane.elementBytes;
    numbers[at++] = plane.firstToken;
  }
  return numbers;
}

export interface NativeJobs {
  /** False: full. Planes as `planeNumbers` packs them. Throws on planes that leave the region. */
  checksum(id: number, region: number, planes: Float64Array, blocks: Uint32Array): boolean;
  copy(
    id: number,
    from: number,
    fromPlanes: Float64Array,
    fromBlocks: Uint32Array,
    to: number,
    toPlanes: Float64Array,
    toBlocks: Uint32Array,
  ): boolean;
  /** id, checksums, id, checksums ... */
  collect(): (number | Uint32Array)[];
  /** Waits for the jobs that run. Idempotent. */
  close(): void;
}

export interface NativeAddon {
  readonly abi: number;
  readonly crc32cName: string;
  /** What this CPU has, best first; "scalar" is always there. */
  readonly crc32cNames: readonly string[];
  /** `implementation`: one by its name, undefined if this CPU lacks it. */
  crc32c(bytes: Uint8Array, seed?: number): number;
  crc32c(bytes: Uint8Array, seed: number, implementation: string): number | undefined;
  /** What OpenSSL calls itself, or why TLS cannot be had. */
  readonly tls: { readonly version: string; readonly problem: string };
  crc32cCombine(head: number, tail: number, tailBytes: number): number;
  /** The runs of a span of a plane's stream, (offset, bytes) each; undefined if the plane or the span does not fit. For tests. */
  runs(regionBytes: number, plane: Float64Array, blocks: Uint32Array, start: number, bytes: number): Float64Array | undefined;
  /** hugePages: 0 off, 1 auto, 2 on. */
  makePoolRegion(path: string, bytes: number, hugePages: number, numaNode: number): Promise<NativeRegion>;
  /** A memfd that can be cut no more; its path goes through this process's /proc. */
  makeBufferRegion(bytes: number): Promise<NativeRegion>;
  attachRegion(path: string, bytes: number, readOnly: boolean): NativeRegion;
  attachBufferRegion(path: string, bytes: number): NativeRegion;
  borrowRegion(memory: Uint8Array): NativeRegion;
  /** Calls `onGone` once when the process has ended; the returned function stops watching. Throws if there is no such process. */
  watchProcess(processId: number, onGone: () => void): () => void;
  readonly NativeJobs: new (threads: number, queueJobs: number, onWake: () => void) => NativeJobs;
  readonly NativeMover: NativeMoverClass;
  /** Instruction sets that codecs may use here, best first; "scalar" is always there. All give the same bytes. */
  readonly codecIsas: readonly string[];
  /** As limits.ts has them. */
  readonly codecLimits: { readonly tokens: number; readonly width: number; readonly tileBytes: number };
  /** Throws TypeError, in words, on a spec that makes no sense or that this host lacks something for. */
  readonly NativeCodec: new (
    spec: NativeCodecSpec,
  ) => NativeCodec;
  /** The entropy coders by themselves, for tests. */
  readonly codecCoders: NativeCoders;
}

/**
 * What a codec does to tiles: `parts` planes of some tokens at once, each a canonical stream. A row is one token of a tile: part by part, head by
 * head, channel by channel; "of the width" is one number for each column of a row. schemas/codec.md describes what comes out.
 */
export interface NativeCodecSpec {
  readonly element: "bf16" | "f16" | "f32";
  readonly parts: number;
  readonly heads: number;
  readonly channels: number;
  /** Tokens at positions below this travel as they are. */
  readonly exempt?: number;
  /** Blocks carry a checksum of what they decode to: encoding decodes as well. */
  readonly verify?: boolean;
  /** In this order forward. */
  readonly transform?: {
    /** At most channels / 2 frequencies: twice as many channels of each head were rotated. */
    readonly rope?: { readonly inverseFrequencies: Float32Array; readonly pairing: "half" | "adjacent" };
    /** Of the width. */
    readonly mean?: Float32Array;
    /** Of the width; forward multiplies. */
    readonly scale?: Float32Array;
    /** Of the width, 1 or -1: Hadamard over each head, whose channels are a power of two. */
    readonly signs?: Int8Array;
    /** width / block matrices of block x block; rows are components, orthonormal. */
    readonly klt?: { readonly block: number; readonly matrices: Float32Array };
  };
  readonly quantizer:
    | { readonly kind: "none" }
    /** Of the width. Never clips. */
    | { readonly kind: "step"; readonly steps: Float32Array }
    /** `levels` of parts x heads, 2..256. `group`: channels of a token ("token") or tokens of a channel ("channel") that share a range; "tensor" has none. */
    | {
        readonly kind: "group";
        readonly levels: Uint16Array;
        readonly axis: "token" | "channel" | "tensor";
        readonly group?: number;
        /** So many tokens before the sequence's end travel as they are. */
        readonly recent: number;
      }
    /** Saturates at the largest value. */
    | { readonly kind: "fp8"; readonly format: "e4m3" | "e5m2" }
    /** Every `anchor` tokens one at 8 bits, the others as differences from it. `levels` of parts, 3..256. */
    | { readonly kind: "cachegen"; readonly levels: Uint16Array; readonly anchor: number };
  readonly codec:
    | { readonly kind: "none" | "pack" | "rans" | "exponent" }
    /** Of the width: places in the list of Gaussian tables. */
    | { readonly kind: "rans-static"; readonly classes: Uint8Array }
    | { readonly kind: "planes" | "zstd"; readonly level?: number };
  /** One of codecIsas, for tests. */
  readonly isa?: string;
}

/** Why a tile travels as it is; "" if it does not. */
export type NativeStored = "" | "incompressible" | "not_finite" | "out_of_range";

export interface NativeEncoded {
  readonly bytes: number;
  readonly stored: NativeStored;
}

type SentCount = "encodeNs" | "encodedChunks" | "encodedBytes" | "sentBytes";
type ArrivedCount = "decodeNs" | "decodedChunks" | "decodedBytes" | "arrivedBytes" | "failedChunks";
/** Of chunks that links coded. Bytes are original, but those of `sentBytes` (with `stored` chunks) and `arrivedBytes` (of coded ones alone); all threads' time. */
export interface NativeCodecCounts extends Readonly<Record<SentCount | ArrivedCount, number>> {
  readonly stored: Readonly<Record<Exclude<NativeStored, "">, number>>;
}

/**
 * Arguments that do not fit throw TypeError. `position`: of the tile's first token. `end`: behind the last token of the sequence, for `recent`; without it
 * the tile is the sequence's last. `*Later` works on libuv's threads (UV_THREADPOOL_SIZE), and says how long it had a processor: until it settles the memory
 * belongs to it, and must be neither transferred nor written.
 */
export interface NativeCodec {
  /** Of all that decides what a block means, 16 hexadecimal digits. A block of another is refused by it. */
  readonly id: string;
  counts(): NativeCodecCounts;
  /** No block of so many tokens is longer. */
  bound(tokens: number): number;
  /** `out` has bound(tokens) bytes. */
  encode(parts: readonly Uint8Array[], tokens: number, position: number, out: Uint8Array, end?: number): NativeEncoded;
  encodeLater(...tile: Parameters<NativeCodec["encode"]>): Promise<NativeEncoded & { readonly threadNs: number }>;
  /** Throws an Error with `code` "decode_failed" if this is no block of that tile; what `parts` hold then means nothing. */
  decode(block: Uint8Array, parts: readonly Uint8Array[], tokens: number, position: number): void;
  decodeLater(...tile: Parameters<NativeCodec["decode"]>): Promise<{ readonly threadNs: number }>;
}

/** `isa`: one of `isas`. A table is 256 frequencies that sum to 4096. Undefined: what is given does not decode, or cannot be encoded. */
export interface NativeCoders {
  /** What this CPU has, best first; "scalar" is always there. */
  readonly isas: readonly string[];
  /** `tableOf`: for each column, which of `tables` it uses. */
  encodeRans(symbols: Uint8Array, tables: Uint16Array, tableOf: Uint8Array, isa: string): Uint8Array | undefined;
  decodeRans(stream: Uint8Array, rows: number, tables: Uint16Array, tableOf: Uint8Array, isa: string): Uint8Array | undefined;
  fitTable(counts: Uint32Array): Uint16Array | undefined;
  writeTable(table: Uint16Array): Uint8Array | undefined;
  readTable(bytes: Uint8Array): { frequencies: Uint16Array; bytes: number } | undefined;
  gaussians(): { symbols: Uint32Array; frequencies: Uint16Array };
  encodeExponents(values: Uint8Array, columns: number, isa: string): Uint8Array | undefined;
  decodeExponents(block: Uint8Array, rows: number, columns: number, isa: string): Uint8Array | undefined;
  pack(levels: number, codes: Uint8Array, isa: string): Uint8Array | undefined;
  unpack(levels: number, bytes: Uint8Array, codes: number, isa: string): Uint8Array | undefined;
  splitPlanes(bytes: Uint8Array, elementBytes: number): Uint8Array | undefined;
  joinPlanes(bytes: Uint8Array, elementBytes: number): Uint8Array | undefined;
  /** `problem`: why the system's library cannot be had, "" if it is there. */
  zstd(): { readonly version: string; readonly problem: string };
  encodeZstd(bytes: Uint8Array, level: number): Uint8Array | undefined;
  decodeZstd(frame: Uint8Array, bytes: number): Uint8Array | undefined;
}

/** What a mover may hold; the names are native's, the numbers come from limits.ts. */
export interface NativeMoverBounds {
  readonly connections: number;
  readonly lanes: number;
  readonly placements: number;
  readonly submissions: number;
  readonly completions: number;
  readonly sendQueueChunks: number;
  readonly chunkBytes: number;
  readonly messageBytes: number;
  readonly greetingBytes: number;
  readonly queueBytes: number;
  readonly preambleTimeoutMs: number;
  readonly connectTimeoutMs: number;
  readonly notSentLowBytes: number;
  readonly greetings: number;
  readonly recordsPerKey: number;
}

/** The native half of a link. Errors it throws carry `number`, of the list of errors. After `close` nothing does anything. */
export interface NativeMover {
  /** Entries of 64 bytes: f64 placement, u32 chunk, u32 sequence. */
  readonly submissions: ArrayBuffer;
  /** Entries of 64 bytes: u32 kind, lane, chunk, sequence, code, bytes, f64 subject, f64 durationUs. Valid until the next `drain`. */
  readonly completions: ArrayBuffer;
  /** PEM, and fingerprints or serial numbers as transport/tls/options.ts writes them. */
  setTls(certificate: Uint8Array, key: Uint8Array, authorities: Uint8Array, denied: readonly string[]): void;
  listen(host: string, port: number): { host: string; port: number };
  /** A connection that `dial` or `abandon` follows; 0 = too many. */
  open(): number;
  /** Numeric addresses, tried in order. */
  dial(connection: number, hosts: readonly string[], port: number, timeoutMs: number, identity: string): void;
  abandon(connection: number, code: number, detail: string): void;
  admitLanes(
    connection: number,
    token: Uint8Array,
    paceBytesPerSecond: number,
    notSentLowBytes: number,
    congestionControl: string,
    socketBufferBytes: number,
    dscp: number,
  ): void;
  openLane(
    connection: number,
    lane: number,
    token: Uint8Array,
    paceBytesPerSecond: number,
    notSentLowBytes: number,
    congestionControl: string,
    socketBufferBytes: number,
    dscp: number,
  ): void;
  tuneLane(
    connection: number,
    lane: number,
    paceBytesPerSecond: number,
    notSentLowBytes: number,
    congestionControl: string,
    socketBufferBytes: number,
    dscp: number,
  ): void;
  closeLane(connection: number, lane: number): void;
  /** `resting`: 1 or 0. */
  restLane(connection: number, lane: number, resting: number): void;
  padLane(connection: number, lane: number, bytes: number): void;
  send(connection: number, message: Uint8Array): boolean;
  disconnect(connection: number): void;
  /** `flags`: 1 incoming, 2 standing, 4 checksum, 8 x the rank of what is sent. `planes`: 11 numbers each; `chunks`: plane, start, bytes. 0 = the table is full. */
  place(
    connection: number,
    flags: number,
    grant: number,
    generation: number,
    region: number,
    planes: Float64Array,
    blockLists: readonly Uint32Array[],
    chunks: Float64Array,
    committed: Uint32Array,
    codecs: readonly (NativeCodec | undefined)[],
    position: number,
  ): number;
  revoke(placement: number): void;
  setRank(placement: number, rank: number): void;
  /** Takes the first entries of `submissions`; returns how many. */
  submit(count: number): number;
  /** Moves events into `completions`; returns how many. */
  drain(max: number): number;
  /** The message that the next event of kind `message` of this connection announced: a copy. */
  message(connection: number): Uint8Array;
  /** Why the connection ended. It is forgotten then. */
  detail(connection: number): string;
  remote(connection: number): { host: string; port: number };
  peer(connection: number): NativeTlsPeer | undefined;
  /** What the next event of kind `refused` announced; the reason is its place in REFUSAL_REASONS. */
  refused(): { reason: number; remote: { host: string; port: number }; detail: string };
  /** One count for each reason. */
  refusals(): number[];
  laneInfo(connection: number): NativeLaneInfo[];
  close(): void;
}

export interface NativeTlsPeer {
  identity: string;
  organization: string;
  protocol: string;
  cipher: string;
  resumed: boolean;
}

export interface NativeLaneInfo {
  lane: number;
  bytesSent: number;
  bytesReceived: number;
  bytesDelivered: number;
  bytesRetransmitted: number;
  deliveryRateBytesPerSecond: number;
  rttUs: number;
  minRttUs: number;
  retransmits: number;
  lost: number;
  congestionWindowBytes: number;
  notSentBytes: number;
  busyUs: number;
  receiveWindowLimitedUs: number;
  sendBufferLimitedUs: number;
  congestionControl: string;
  unansweredBytes: number;
  isReceiving: boolean;
  /** TCP only, as is `socket`. */
  local?: { host: string; port: number };
  remote?: { host: string; port: number };
  socket?: {
    rttVariationUs: number;
    pathMtuBytes: number;
    dscp: number;
    sendBufferBytes: number;
    receiveBufferBytes: number;
  };
  tls?: NativeTlsPeer;
}

export type NativeMoverClass = new (kind: "tcp" | "fake", bounds: NativeMoverBounds, ioThreads: number, onWake: () => void) => NativeMover;

interface Loaded {
  readonly addon: NativeAddon | undefined;
  readonly problem: string;
}

function load(): Loaded {
  const asked = process.env["KVFERRY_NATIVE"];
  if (asked === "off") return { addon: undefined, problem: "KVFERRY_NATIVE=off" };
  // From transport/ in a checkout, from dist/transport/ when compiled.
  const places = ["../native/out/kvferry.node", "../../native/out/kvferry.node"].map((place) =>
    fileURLToPath(new URL(place, import.meta.url)),
  );
  const path = asked === undefined || asked === "" ? places.find((place) => existsSync(place)) : resolve(asked);
  if (path === undefined)
    return { addon: undefined, problem: "not built: npm rebuild kvferry (in a checkout: npm run build:native) says what is missing" };
  try {
    const addon = createRequire(import.meta.url)(path) as NativeAddon;
    if (addon.abi === ABI) return { addon, problem: "" };
    return {
      addon: undefined,
      problem: `${path} is of another version (${addon.abi}, expected ${ABI}): npm rebuild kvferry (in a checkout: npm run build:native)`,
    };
  } catch (error) {
    return { addon: undefined, problem: `${path} does not load: ${(error as Error).message}` };
  }
}

const loaded = load();

export const native: NativeAddon | undefined = loaded.addon;
/** "" if the addon is there. */
export const nativeProblem: string = loaded.problem;
