/**
 * What the native links have in common: JavaScript's side of the submission and completion arrays (transport/native.ts has their layout).
 * Arguments are checked here, events become objects here; bytes never pass.
 */
import { integer, expected } from "../check.ts";
import { type ErrorCode, codeOfNumber, ERRORS, KvferryError } from "../errors.ts";
import { limits } from "../limits.ts";
import { native, type NativeMover, type NativeMoverBounds, nativeProblem } from "../native.ts";
import { checkTls, expectedOf, type TlsOptions } from "../tls/options.ts";
import { readEvent } from "./native-events.ts";
import { packPlacement } from "./native-placement.ts";
import type {
  ChunkSend,
  ConnectionId,
  Endpoint,
  LaneInfo,
  LaneOptions,
  Link,
  LinkEvent,
  LinkKind,
  PlacementId,
  PlacementSpec,
  Rank,
} from "./link.ts";
import { type RefusalCounts, refusalCounts } from "./refusals.ts";

// An entry of either array is 64 bytes.
const DOUBLES = 8;
const WORDS = 16;
const TOKEN_BYTES = 16;

/** The limits that bind a link; tests shrink them. */
export type LinkLimits = Pick<
  { readonly [Name in keyof typeof limits]: number },
  | "connectionsMax"
  | "lanesMax"
  | "placementsMax"
  | "submissionsMax"
  | "completionsMax"
  | "sendQueueChunks"
  | "chunkBytesMax"
  | "controlMessageBytes"
  | "greetingMessageBytes"
  | "controlQueueBytes"
  | "preambleTimeoutMs"
  | "connectTimeoutMs"
  | "notSentLowBytes"
  | "greetingsMax"
  | "tlsRecordsPerKey"
>;

export interface NativeLinkOptions {
  /** Called, coalesced, when `poll()` has something. */
  readonly onWake: () => void;
  /** Threads that move bytes, from 1 to 64. */
  readonly ioThreads?: number;
  readonly limits?: Partial<LinkLimits>;
  /** Connections and lanes are made over TLS, both dialled and accepted; without it, over bare sockets. */
  readonly tls?: TlsOptions;
}

export abstract class NativeLink implements Link {
  abstract readonly kind: LinkKind;
  protected readonly mover: NativeMover;
  protected readonly limits: LinkLimits;
  protected closed = false;
  readonly #submittedIds: Float64Array;
  readonly #submittedNumbers: Uint32Array;
  readonly #eventNumbers: Uint32Array;
  readonly #eventDoubles: Float64Array;
  #eventNext = 0;
  #eventCount = 0;
  readonly #hasTls: boolean;

  constructor(kind: "tcp" | "fake", { onWake, ioThreads = 2, limits: changed = {}, tls }: NativeLinkOptions) {
    if (native === undefined) throw new KvferryError("unsupported", `link ${kind} needs the addon: ${nativeProblem}`);
    integer(ioThreads, "ioThreads", 1, 64);
    this.limits = { ...limits, ...changed };
    const { NativeMover } = native;
    this.mover = typed(() => new NativeMover(kind, boundsOf(this.limits), ioThreads, onWake));
    this.#submittedIds = new Float64Array(this.mover.submissions);
    this.#submittedNumbers = new Uint32Array(this.mover.submissions);
    this.#eventNumbers = new Uint32Array(this.mover.completions);
    this.#eventDoubles = new Float64Array(this.mover.completions);
    this.#hasTls = tls !== undefined;
    if (tls !== undefined) this.setTls(tls);
  }

  abstract listen(endpoint: Endpoint): Promise<Endpoint>;
  protected abstract begin(connection: ConnectionId, endpoint: Endpoint, timeoutMs: number, identity: string): void;

  dial(endpoint: Endpoint, timeoutMs: number, identity = expectedOf(endpoint.host)): ConnectionId {
    this.#open();
    integer(endpoint.port, "port", 0, 65_535);
    integer(timeoutMs, "timeoutMs", 1, 2 ** 31 - 1);
    const connection = this.mover.open();
    if (connection === 0) throw new KvferryError("full", `${this.limits.connectionsMax} connections`);
    this.begin(connection, endpoint, timeoutMs, identity);
    return connection;
  }

  admitLanes(connection: ConnectionId, token: Uint8Array, options?: LaneOptions): void {
    checkToken(token);
    if (options !== undefined) checkLaneOptions(options);
    const { paceBytesPerSecond = 0, notSentLowBytes = this.limits.notSentLowBytes, congestionControl = "" } = options ?? {};
    const { socketBufferBytes = 0, dscp = 0 } = options ?? {};
    typed(() => this.mover.admitLanes(connection, token, paceBytesPerSecond, notSentLowBytes, congestionControl, socketBufferBytes, dscp));
  }

  openLane(connection: ConnectionId, lane: number, token: Uint8Array, options: LaneOptions): void {
    integer(lane, "lane", 0, this.limits.lanesMax - 1);
    checkToken(token);
    checkLaneOptions(options);
    const { paceBytesPerSecond, notSentLowBytes, congestionControl, socketBufferBytes = 0, dscp = 0 } = options;
    typed(() =>
      this.mover.openLane(connection, lane, token, paceBytesPerSecond, notSentLowBytes, congestionControl, socketBufferBytes, dscp),
    );
  }

  tuneLane(connection: ConnectionId, lane: number, options: LaneOptions): void {
    integer(lane, "lane", 0, this.limits.lanesMax - 1);
    checkLaneOptions(options);
    const { paceBytesPerSecond, notSentLowBytes, congestionControl, socketBufferBytes = 0, dscp = 0 } = options;
    this.mover.tuneLane(connection, lane, paceBytesPerSecond, notSentLowBytes, congestionControl, socketBufferBytes, dscp);
  }

  closeLane(connection: ConnectionId, lane: number): void {
    integer(lane, "lane", 0, this.limits.lanesMax - 1);
    this.mover.closeLane(connection, lane);
  }

  restLane(connection: ConnectionId, lane: number, isResting: boolean): void {
    integer(lane, "lane", 0, this.limits.lanesMax - 1);
    this.mover.restLane(connection, lane, isResting ? 1 : 0);
  }

  padLane(connection: ConnectionId, lane: number, bytes: number): void {
    integer(lane, "lane", 0, this.limits.lanesMax - 1);
    this.mover.padLane(connection, lane, integer(bytes, "bytes", 0, Number.MAX_SAFE_INTEGER));
  }

  send(connection: ConnectionId, message: Uint8Array): boolean {
    if (message.length > this.limits.controlMessageBytes) throw new KvferryError("message_too_large", `${message.length} bytes`);
    if (message.length === 0) throw expected("at least one byte", "message", message);
    return this.mover.send(connection, message);
  }

  disconnect(connection: ConnectionId): void {
    this.mover.disconnect(connection);
  }

  place(spec: PlacementSpec): PlacementId | "full" {
    this.#open();
    const packed = packPlacement(spec);
    const placement = typed(() =>
      this.mover.place(
        spec.connection,
        packed.flags,
        spec.grant,
        spec.generation,
        spec.region.nativeId,
        packed.planes,
        spec.blockLists,
        packed.chunks,
        packed.committed,
        spec.coding?.codecs ?? [],
        spec.coding?.position ?? 0,
      ),
    );
    return placement === 0 ? "full" : placement;
  }

  revoke(placement: PlacementId): void {
    this.mover.revoke(placement);
  }

  setRank(placement: PlacementId, rank: Rank): void {
    this.mover.setRank(placement, integer(rank, "rank", 0, 2));
  }

  submit(batch: readonly ChunkSend[]): number {
    if (this.closed) return 0;
    const count = Math.min(batch.length, this.limits.submissionsMax);
    const ids = this.#submittedIds;
    const numbers = this.#submittedNumbers;
    for (let index = 0; index < count; index++) {
      const { placement, chunk, sequence } = batch[index] as ChunkSend;
      ids[index * DOUBLES] = placement;
      numbers[index * WORDS + 2] = chunk;
      numbers[index * WORDS + 3] = sequence;
    }
    try {
      return this.mover.submit(count);
    } catch (error) {
      throw typedError(error);
    }
  }

  poll(sink: (event: LinkEvent) => void, max: number): number {
    let handed = 0;
    while (handed < max && !this.closed) {
      if (this.#eventNext === this.#eventCount) {
        this.#eventNext = 0;
        this.#eventCount = this.mover.drain(max - handed);
        if (this.#eventCount === 0) break;
      }
      const event = readEvent(this.mover, this.#eventNumbers, this.#eventDoubles, this.#eventNext);
      // Counted before it is handed over: what the sink throws does not bring the event again.
      this.#eventNext += 1;
      handed += 1;
      sink(event);
    }
    return handed;
  }

  laneInfo(connection: ConnectionId): LaneInfo[] {
    return this.mover.laneInfo(connection);
  }

  setTls(options: TlsOptions): void {
    if (!this.#hasTls) throw new KvferryError("invalid_argument", "the link was made without TLS");
    const { denied } = checkTls(options, Date.now());
    typed(() => this.mover.setTls(options.certificate, options.key, options.authorities, denied));
  }

  refusals(): RefusalCounts {
    const counts = this.mover.refusals();
    return refusalCounts((_, index) => counts[index] ?? 0);
  }

  close(): Promise<void> {
    this.closed = true;
    this.mover.close();
    return Promise.resolve();
  }

  #open(): void {
    if (this.closed) throw new KvferryError("closed", "the link is closed");
  }
}

function boundsOf(limits: LinkLimits): NativeMoverBounds {
  return {
    connections: limits.connectionsMax,
    lanes: limits.lanesMax,
    placements: limits.placementsMax,
    submissions: limits.submissionsMax,
    completions: limits.completionsMax,
    sendQueueChunks: limits.sendQueueChunks,
    chunkBytes: limits.chunkBytesMax,
    messageBytes: limits.controlMessageBytes,
    greetingBytes: limits.greetingMessageBytes,
    queueBytes: limits.controlQueueBytes,
    preambleTimeoutMs: limits.preambleTimeoutMs,
    connectTimeoutMs: limits.connectTimeoutMs,
    notSentLowBytes: limits.notSentLowBytes,
    greetings: limits.greetingsMax,
    recordsPerKey: limits.tlsRecordsPerKey,
  };
}

function checkToken(token: Uint8Array): void {
  if (!(token instanceof Uint8Array) || token.length !== TOKEN_BYTES) throw expected(`${TOKEN_BYTES} bytes`, "token", token);
}

function checkLaneOptions(options: LaneOptions): void {
  integer(options.paceBytesPerSecond, "paceBytesPerSecond", 0, Number.MAX_SAFE_INTEGER);
  integer(options.notSentLowBytes, "notSentLowBytes", 0, 2 ** 31 - 1);
  integer(options.socketBufferBytes ?? 0, "socketBufferBytes", 0, 2 ** 30);
  integer(options.dscp ?? 0, "dscp", 0, 63);
  if (!/^[\w-]{0,15}$/.test(options.congestionControl)) {
    throw expected("the name of a congestion control", "congestionControl", options.congestionControl);
  }
}

/** Runs a native call and gives its error the library's type. */
export function typed<T>(call: () => T): T {
  try {
    return call();
  } catch (error) {
    throw typedError(error);
  }
}

export function typedError(error: unknown): unknown {
  const number = (error as { number?: unknown }).number;
  if (typeof number !== "number") return error;
  const code: ErrorCode = codeOfNumber(number);
  return new KvferryError(code, (error as Error).message, { cause: error });
}

/** For events of connections that never came to be. */
export const numberOf = (code: ErrorCode): number => ERRORS[code].number;
