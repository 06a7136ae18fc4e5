/**
 * The one import of the addon, and its types. Where it could not be built, or does not fit this version, `native` is undefined and
 * `nativeProblem` says why: whoever needs it says so, whoever does not goes on without.
 */
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import type { NativeCodec, NativeCodecClass, NativeCodecSpec, NativeCoders, NativeMerging } from "./native-codec.ts";
import type { NativeCuda, NativeDeviceCodecClass, NativeMergeTokens } from "./native-device.ts";

/** As native/napi/addon.cpp has it. */
const ABI = 8;

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
  readonly NativeCodec: NativeCodecClass;
  readonly codecMerging: NativeMerging;
  /** The entropy coders by themselves, for tests. */
  readonly codecCoders: NativeCoders;
  /** Opens the driver when it is first called. */
  cuda(): NativeCuda;
  readonly DeviceCodec: NativeDeviceCodecClass<NativeCodecSpec>;
  readonly mergeTokens: NativeMergeTokens;
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
