/**
 * The one interface to kvferry: `createFerry(config)` gives it in process, `connect(socket)` over a sidecar's socket, the API server serves it.
 * Promises reject with KvferryError. Batches are typed arrays; a batch happens whole or not at all.
 */
import type { KeySeed, ModelIdentity } from "../kv/identity.ts";
import type { Layout } from "../kv/layout.ts";
import type { Blocks, PoolStats } from "../memory/pool.ts";
import type { Region } from "../memory/region.ts";
import type { HeadRange } from "../peer/content.ts";
import type { Priority } from "../policy/priority.ts";

export type { KeySeed, ModelIdentity } from "../kv/identity.ts";
export type { Priority } from "../policy/priority.ts";

export interface PoolInfo {
  /** Path to map (mmap, MAP_SHARED), or "" where nothing can be attached. */
  readonly path: string;
  readonly bytes: number;
  readonly dataOffset: number;
  readonly blockBytes: number;
  readonly blockCount: number;
  readonly incarnation: string;
}

export interface NodeInfo {
  readonly name: string;
  /** HOST:PORT where peers reach the node: what an engine passes on beside a handle. "" where nobody can. */
  readonly address: string;
  readonly link: string;
}

export interface ModelInfo {
  /** Small number that names the model in later calls of this connection. */
  readonly model: number;
  readonly fingerprint: string;
}

export interface GroupBlocks {
  readonly group: number;
  readonly blocks: Blocks;
  /** Tokens in these blocks (state groups: number of blocks). */
  readonly tokens: number;
}

export type FetchSource =
  | { readonly handle: string }
  | {
      readonly keys: Uint8Array;
      readonly group: number;
      readonly tokens: number;
      /** Of the first of these tokens in its sequence. Not said: profiles that turn keys back do not serve. */
      readonly position?: number | undefined;
    };

export interface FetchRequest {
  /** Name from the configuration's peers, or host:port on the allow-list; TENANT@ and that, for what is another tenant's there. */
  readonly peer: string;
  readonly model: number;
  readonly source: FetchSource;
  /** Blocks that the caller holds; the last may stay partly filled. */
  readonly into: readonly GroupBlocks[];
  readonly deadlineMs?: number;
  /** KV heads wanted, in the model's numbering: a holder without some of them is refused. Default: all that both ends hold. */
  readonly heads?: HeadRange;
  /** Of an offer: how many fetches read it in all, such as one for each rank of an engine. It ends when all of them have. Default: 1. */
  readonly readers?: number;
  /** true: an event `layer` for each layer that is complete, before `done`. Each costs a message, so that only who uses layers early asks for it. */
  readonly layers?: boolean;
  /** true: through no profile that loses something, whatever the node's configuration takes. For who cannot tell such KV from what was computed later. */
  readonly exact?: boolean;
  /** What may go before what on the holder's lanes. Default: normal. */
  readonly priority?: Priority;
  readonly trace?: string;
}

export interface PushRequest {
  readonly peer: string;
  readonly model: number;
  readonly group: number;
  readonly blocks: Blocks;
  readonly tokens: number;
  /** Published there under these page keys: its whole blocks, a partly filled last block is not. */
  readonly keys: Uint8Array;
  /** Of the first of these tokens in its sequence; as of FetchSource. */
  readonly position?: number;
  readonly deadlineMs?: number;
  readonly priority?: Priority;
  readonly trace?: string;
}

export interface PrewarmRequest {
  readonly peer: string;
  /** About how much, and how soon. */
  readonly bytes: number;
  readonly inMs: number;
  /** "in": it will be fetched from the peer; "out": it will be sent there. */
  readonly direction: "in" | "out";
}

export interface OfferRequest {
  readonly model: number;
  readonly groups: readonly GroupBlocks[];
  /**
   * Chosen by the caller, so that it can be told to others before the offer is made: the first 8 digits of the incarnation, a dash, and 32 to
   * 55 hex digits that nobody can guess. Default: one is made.
   */
  readonly handle?: string;
  /** Identities (of certificates) of the peers that alone may fetch it. Default: whoever knows the handle. */
  readonly peers?: readonly string[];
  /** false: layers follow by ready(); true (default): all is there. */
  readonly ready?: boolean;
  /** Of the first token of every group in its sequence, 0 for a prompt from its beginning; as of FetchSource. Groups that begin apart have none. */
  readonly position?: number;
  readonly deadlineMs?: number;
  readonly trace?: string;
}

export interface TransferReport {
  readonly transfer: number;
  readonly bytes: number;
  /** Payload that crossed the link for it, repeats counted. */
  readonly wireBytes: number;
  readonly seconds: number;
  readonly chunks: number;
  readonly retries: number;
  readonly link: string;
  readonly order: string;
  readonly resumed: number;
  /** What it travelled coded with: an id, or "". */
  readonly profile: string;
  /** Whether that profile loses something: these blocks are not what the model computed. */
  readonly lossy: boolean;
}

export interface Transfer {
  readonly transfer: number;
  /** Rejects with KvferryError; whatever the code, the caller recomputes the blocks. */
  readonly done: Promise<TransferReport>;
  cancel(): void;
}

/** A buffer outside the pool: the caller's own memory. */
export interface BufferInfo {
  /** Unguessable; whoever is on the allow-list and knows it may read and write the buffer. */
  readonly handle: string;
  readonly bytes: number;
}

export interface RangeRequest {
  readonly peer: string;
  /** The other side's handle. */
  readonly remote: string;
  /** One of this side's. */
  readonly local: string;
  /** Pairs of ranges of equal length. */
  readonly ranges: readonly { readonly local: number; readonly remote: number; readonly bytes: number }[];
  readonly deadlineMs?: number;
  readonly priority?: Priority;
}

export type FerryEvent =
  | { readonly kind: "layer"; readonly transfer: number; readonly layer: number }
  | { readonly kind: "stalled"; readonly transfer: number; readonly silentMs: number }
  | { readonly kind: "moving"; readonly transfer: number }
  | { readonly kind: "done"; readonly transfer: number; readonly report: TransferReport }
  | { readonly kind: "failed"; readonly transfer: number; readonly code: string; readonly detail: string }
  /** An offer of this client was fetched whole (ok) or ended otherwise; its blocks are the caller's alone again. */
  | { readonly kind: "offerEnded"; readonly handle: string; readonly ok: boolean; readonly code: string }
  | { readonly kind: "published"; readonly model: number; readonly group: number; readonly keys: Uint8Array; readonly from: string }
  | { readonly kind: "evicted"; readonly keys: Uint8Array }
  | { readonly kind: "peer"; readonly peer: string; readonly up: boolean; readonly detail: string }
  | { readonly kind: "lost"; readonly detail: string };

export interface LookupPlace {
  /** "" = this node's own pool. */
  readonly peer: string;
  readonly matched: number;
  readonly code: string;
}

export interface FerryStats {
  readonly pool: PoolStats;
  readonly peers: readonly {
    readonly name: string;
    /** Where the peer says that it is reached; "" if it has not said so. */
    readonly address: string;
    readonly up: boolean;
    readonly lanes: number;
    readonly link: string;
    readonly goodputBytesPerSecond: number;
    readonly confidence: number;
  }[];
  readonly transfers: number;
  readonly bytesSent: number;
  readonly bytesReceived: number;
}

export interface Ferry {
  info(): Promise<NodeInfo>;
  pool(): Promise<PoolInfo>;
  /** `namespace`: of all that is published and offered under this registration; what of it other tenants may fetch goes by that. */
  registerModel(identity: ModelIdentity, layout: Layout, namespace?: string): Promise<ModelInfo>;
  /**
   * Keys of the whole pages of `tokens`, 32 bytes each, the same on every node whatever its block size: a page is 16 tokens where the
   * group's blocks are a multiple of that, else a block. Everywhere below `keys` are such page keys. Of a state group: one key, which stands
   * for exactly these tokens.
   */
  keys(model: number, group: number, tokens: Uint32Array, seed?: KeySeed): Promise<Uint8Array>;
  alloc(count: number): Promise<Blocks>;
  free(blocks: Blocks): Promise<void>;
  /** Seals held blocks, which must be full, and makes them findable; the caller's hold ends. */
  publish(model: number, group: number, blocks: Blocks, keys: Uint8Array): Promise<void>;
  /** Longest published prefix of `keys` (counted in keys), here ("") and at each named peer, asked in one batch. */
  lookup(model: number, group: number, keys: Uint8Array, peers?: readonly string[]): Promise<LookupPlace[]>;
  /** Read leases on local published blocks. `prefix`: as many from the first as there are. */
  lease(model: number, group: number, keys: Uint8Array, prefix?: boolean): Promise<Blocks>;
  release(blocks: Blocks): Promise<void>;
  /** Makes held or leased blocks fetchable by whoever knows the handle: once, or by as many readers as the fetches say there are. */
  offer(request: OfferRequest): Promise<string>;
  /** Layer (index in order of the offer's layers) is complete in every block of the offer. */
  ready(handle: string, layer: number): Promise<void>;
  withdraw(handle: string): Promise<void>;
  /** KV will come from a peer or go there: opens connections and their windows meanwhile. A hint: nothing waits for it, and nothing fails without it. */
  prewarm(request: PrewarmRequest): Promise<void>;
  /** Tells a peer that nobody will fetch this offer of it, so that its blocks need not wait for their deadline. A hint: nothing is answered. */
  discard(peer: string, handle: string): Promise<void>;
  fetch(request: FetchRequest): Promise<Transfer>;
  push(request: PushRequest): Promise<Transfer>;
  /** In process: any Uint8Array. Otherwise a memfd of another process, as client.createBuffer makes it. */
  registerBuffer(memory: Uint8Array | { readonly path: string; readonly bytes: number }, namespace?: string): Promise<BufferInfo>;
  unregisterBuffer(handle: string): Promise<void>;
  read(request: RangeRequest): Promise<Transfer>;
  write(request: RangeRequest): Promise<Transfer>;
  on(listener: (event: FerryEvent) => void): () => void;
  stats(): Promise<FerryStats>;
  close(): Promise<void>;
}

/** A registered buffer with its memory. */
export interface FerryBuffer extends BufferInfo {
  readonly region: Region;
  /** Takes it back from peers and lets go of the memory. */
  close(): Promise<void>;
}

/** What a program holds that uses kvferry, whether the node is in its own process or a sidecar: the verbs, and the memory they are about. */
export interface UserFerry extends Ferry {
  /** 32 hex digits: the pool's life that handles belong to. */
  readonly incarnation: string;
  /**
   * The pool's memory. Block b is at `dataOffset` + b x `blockBytes` (of `pool()`) unless the layout says otherwise. The region is the caller's to close; a second
   * call gives another one. Rejects with attach_unavailable.
   */
  attach(): Promise<Region>;
  /** New memory that is registered already, and goes with the buffer. */
  createBuffer(bytes: number, namespace?: string): Promise<FerryBuffer>;
}
