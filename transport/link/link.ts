/**
 * A link moves chunks between two peers and tells what became of them. It takes no decision: which chunk, when, over how many lanes
 * and how often is told to it. "Full" is a return value, never a growing queue.
 *
 * Every call returns at once; what happens later comes out of `poll()`. `onWake` is called (coalesced) when `poll()` has something.
 * Every chunk that `submit` took gets exactly one `acked` or `failed`, sent or not, before the `revoked` of its placement and before the
 * `disconnected` of its connection. Calls that name what is gone (a race with the peer) do nothing; `place` then throws connection_lost.
 * Implemented by `tcp.ts` (native), `fake.ts` (native, in-process), `js.ts` (node:net) and the simulator's virtual link.
 */
import type { Region } from "../memory/region.ts";
import type { NativeCodec } from "../native-codec.ts";
import type { TlsOptions, TlsPeer } from "../tls/options.ts";
import type { RefusalCounts, RefusalReason } from "./refusals.ts";

export type LinkKind = "tcp" | "js" | "fake" | "shm" | "rdma";

/** A control connection to one peer, and the group of lanes that share its token. Unique in a link's life, never reused. */
export type ConnectionId = number;
/** Names a placement inside this link. Unique in a link's life, never reused. */
export type PlacementId = number;

export interface Endpoint {
  readonly host: string;
  readonly port: number;
}

/**
 * A plane: one component of one layer (or, in flat order, all of one layer that lies together), as strides in bytes over a region.
 * The plane's *stream* is for block: for token: for head: for channel (elementBytes each). Flat planes have one token, one head and
 * one channel of `elementBytes` = bytes per block. `firstToken` skips tokens of the first block (of a flat plane: 0).
 */
export interface Plane {
  /** Which of the placement's block lists the plane walks. */
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

/** A chunk: `bytes` of the stream of plane `plane` from `start`. */
export interface ChunkSpan {
  readonly plane: number;
  readonly start: number;
  readonly bytes: number;
}

/** Where the chunks of a transfer lie in local memory: written by the peer (`in`) or read to send (`out`). */
export interface PlacementSpec {
  readonly direction: "in" | "out";
  readonly connection: ConnectionId;
  /** The receiver's name for the transfer, 0 < grant < 2^53, and its generation; both travel in every chunk header. */
  readonly grant: number;
  readonly generation: number;
  readonly region: Region;
  readonly planes: readonly Plane[];
  /** Block ids in the order of the stream, one list for each group of the manifest. */
  readonly blockLists: readonly Uint32Array[];
  readonly chunks: readonly ChunkSpan[];
  /** `in`: chunks that a former generation committed already; they are acknowledged as duplicates. */
  readonly committed?: readonly number[];
  /** A chunk slot of a standing `in` placement may be written again with a higher sequence. */
  readonly standing?: boolean;
  /** Checksum the payload (both sides must agree). */
  readonly checksum: boolean;
  /** `out`: chunks of a lower rank go first; absent = 1. */
  readonly rank?: Rank;
  readonly coding?: PlacementCoding;
}

/** What makes chunks fewer bytes on the way. Both ends have the same; a chunk that does not become less travels as it is. Native links alone have it. */
export interface PlacementCoding {
  /**
   * One for each plane. A chunk that begins in the plane is the same tokens of as many planes, from that one on, as the codec has parts; whole tokens, at most
   * `limits.codedChunkBytesMax`.
   */
  readonly codecs: readonly (NativeCodec | undefined)[];
  /** Of the streams' first token in the sequence. */
  readonly position: number;
}

/** 0 is the most urgent. One that waits has a turn for every 32 MiB that passed it. */
export type Rank = 0 | 1 | 2;

export interface ChunkSend {
  readonly placement: PlacementId;
  readonly chunk: number;
  /** Attempt, from 1, growing. */
  readonly sequence: number;
}

/** Status of a chunk: 0 or a code of schemas/errors.json. */
export type LinkEvent =
  /** A peer dialled us: a control connection, preamble checked. `peer`: who it is, over TLS. */
  | { readonly kind: "accepted"; readonly connection: ConnectionId; readonly remote: Endpoint; readonly peer?: TlsPeer }
  /** Our dial succeeded. Over TLS the peer is who was expected; whether it takes our certificate shows later. */
  | { readonly kind: "connected"; readonly connection: ConnectionId; readonly remote: Endpoint; readonly peer?: TlsPeer }
  /**
   * The control connection ended or could not be made; its lanes are gone too, every sent chunk has had its event before this one.
   * Codes: closed (we asked), connection_lost, connect_failed, connect_timeout, protocol_error, tls_failed, certificate_rejected.
   */
  | { readonly kind: "disconnected"; readonly connection: ConnectionId; readonly code: number; readonly detail: string }
  | { readonly kind: "message"; readonly connection: ConnectionId; readonly bytes: Uint8Array }
  /** Listener: the token was right. Initiator: the listener confirmed it. Chunks go over the lane from here on. */
  | { readonly kind: "laneUp"; readonly connection: ConnectionId; readonly lane: number }
  /** Codes: closed (we asked), lane_lost, connect_failed, connect_timeout, protocol_error, tls_failed, certificate_rejected. */
  | { readonly kind: "laneDown"; readonly connection: ConnectionId; readonly lane: number; readonly code: number }
  /** `out`: the peer verified and placed it. `durationUs` from submit to acknowledgement; `bytes` of payload as it travelled. */
  | {
      readonly kind: "acked";
      readonly placement: PlacementId;
      readonly chunk: number;
      readonly sequence: number;
      readonly lane: number;
      readonly bytes: number;
      readonly durationUs: number;
    }
  /** `out`: refused by the peer, or its lane died (`lane_lost`), or the placement was revoked (`cancelled`). */
  | {
      readonly kind: "failed";
      readonly placement: PlacementId;
      readonly chunk: number;
      readonly sequence: number;
      readonly lane: number;
      readonly code: number;
    }
  /** `in`: verified and placed, for the first time (or again, if standing); `bytes` of payload as it travelled. */
  | {
      readonly kind: "committed";
      readonly placement: PlacementId;
      readonly chunk: number;
      readonly sequence: number;
      readonly lane: number;
      readonly bytes: number;
    }
  /** `in`: a chunk was thrown away: checksum_mismatch, codec_failed or cancelled. */
  | {
      readonly kind: "rejected";
      readonly placement: PlacementId;
      readonly chunk: number;
      readonly lane: number;
      readonly bytes: number;
      readonly code: number;
    }
  /** Nothing can read or write the placement's memory any more, and no event of it follows. */
  | { readonly kind: "revoked"; readonly placement: PlacementId }
  /** A stranger was turned away by a listener. Not all of them are told of: `refusals` counts them. */
  | { readonly kind: "refused"; readonly reason: RefusalReason; readonly remote: Endpoint; readonly detail: string };

/** One lane's TCP_INFO, sampled when asked. Rates in bytes/s, times in microseconds. */
export interface LaneInfo {
  readonly lane: number;
  readonly bytesSent: number;
  readonly bytesReceived: number;
  /** Payload of segments that the other end has, also behind a gap; and what was sent again. 0 where the kernel is not asked. */
  readonly bytesDelivered: number;
  readonly bytesRetransmitted: number;
  readonly deliveryRateBytesPerSecond: number;
  readonly rttUs: number;
  readonly minRttUs: number;
  readonly retransmits: number;
  readonly lost: number;
  readonly congestionWindowBytes: number;
  readonly notSentBytes: number;
  readonly busyUs: number;
  readonly receiveWindowLimitedUs: number;
  readonly sendBufferLimitedUs: number;
  readonly congestionControl: string;
  /** Of chunks that this lane has taken and that have no answer yet. */
  readonly unansweredBytes: number;
  /** In the middle of a chunk that lands here. */
  readonly isReceiving: boolean;
  /** Of a link that has addresses. */
  readonly local?: Endpoint;
  readonly remote?: Endpoint;
  /** Where the kernel can be asked (tcp). */
  readonly socket?: LaneSocket;
  /** Over TLS. */
  readonly tls?: TlsPeer;
}

export interface LaneSocket {
  /** The kernel's mean deviation of the round trip. */
  readonly rttVariationUs: number;
  readonly pathMtuBytes: number;
  readonly dscp: number;
  /** As the kernel counts: Linux doubles what was asked for. */
  readonly sendBufferBytes: number;
  readonly receiveBufferBytes: number;
}

export interface LaneOptions {
  /** SO_MAX_PACING_RATE for this lane, bytes/s; 0 = none. */
  readonly paceBytesPerSecond: number;
  /** TCP_NOTSENT_LOWAT, bytes. */
  readonly notSentLowBytes: number;
  /** Congestion control by name, or "" for the host's (between two ends of one host: one that does not pace). */
  readonly congestionControl: string;
  /** SO_SNDBUF and SO_RCVBUF, bytes; absent or 0 = as the kernel tunes them. Of tcp only, as is `dscp`; laneInfo tells what came of both. */
  readonly socketBufferBytes?: number;
  /** Differentiated services code point of what the lane sends, 0 to 63. */
  readonly dscp?: number;
}

export interface Link {
  readonly kind: LinkKind;
  /** Accepts control connections and lanes; throws KvferryError (address_unavailable) or returns the bound address (port 0 = any). */
  listen(endpoint: Endpoint): Promise<Endpoint>;
  /**
   * Begins a control connection: `connected` or `disconnected` follows within `timeoutMs`. `identity`: whose certificate the peer must have,
   * over TLS; without it, the host's that is dialled.
   */
  dial(endpoint: Endpoint, timeoutMs: number, identity?: string): ConnectionId;
  /**
   * Listener side: lanes that present this token (16 bytes) belong to the connection, also those that have presented it already and wait. What this
   * end sends over them goes by `options`, from the first byte; absent: as fast as it can.
   */
  admitLanes(connection: ConnectionId, token: Uint8Array, options?: LaneOptions): void;
  /** Initiator side: opens lane `lane` beside the control connection, which need not be there yet. `laneUp` or `laneDown` follows. */
  openLane(connection: ConnectionId, lane: number, token: Uint8Array, options: LaneOptions): void;
  /** Applies to a live lane, whoever opened it. */
  tuneLane(connection: ConnectionId, lane: number, options: LaneOptions): void;
  closeLane(connection: ConnectionId, lane: number): void;
  /** A resting lane takes none of the chunks that are submitted here; what it has taken, and all answers, go on. */
  restLane(connection: ConnectionId, lane: number, isResting: boolean): void;
  /**
   * Sends `bytes` of nothing (frames of type PAD), so that the congestion window is open when chunks come; what is left of them is forgotten then. Only to a
   * remote that knows the type. A link that cannot do it does nothing (js, fake).
   */
  padLane(connection: ConnectionId, lane: number, bytes: number): void;
  /** Queues one control message; false = full, or the connection is gone. */
  send(connection: ConnectionId, message: Uint8Array): boolean;
  /** Ends a control connection and its lanes; queued messages are flushed first, for at most a second. `disconnected` follows. */
  disconnect(connection: ConnectionId): void;

  /** Makes memory known to the link; "full" when the placement table is. Throws on planes that leave the region. */
  place(spec: PlacementSpec): PlacementId | "full";
  /** Takes memory back: `revoked` follows when nothing can touch it. Sent chunks without an answer get `failed` (cancelled) before. Idempotent. */
  revoke(placement: PlacementId): void;
  /** Of what is sent of an `out` placement from now on, what is queued included. */
  setRank(placement: PlacementId, rank: Rank): void;
  /** Queues chunks of `out` placements, in order; returns how many were taken. The rest is "full". */
  submit(batch: readonly ChunkSend[]): number;
  /** Hands over what happened, at most `max` events; returns how many. */
  poll(sink: (event: LinkEvent) => void, max: number): number;
  laneInfo(connection: ConnectionId): LaneInfo[];
  /** Another certificate, other authorities: for connections and lanes to come. Throws invalid_argument, also if the link was made without TLS. */
  setTls(options: TlsOptions): void;
  /** Strangers that listeners turned away so far. */
  refusals(): RefusalCounts;
  /** Closes everything. Idempotent; resolves when no thread of the link touches any region. */
  close(): Promise<void>;
}
