/** What a peer needs of its node. */
import type { ErrorCode, KvferryError } from "../errors.ts";
import type { Endpoint, Link, PlacementId } from "../link/link.ts";
import type { CongestionChoice } from "../policy/congestion.ts";
import type { Path, TenantShare } from "../policy/path.ts";
import type { Priority } from "../policy/priority.ts";
import type { Runtime } from "../runtime/runtime.ts";
import type { Caller } from "./caller.ts";
import type { Fetch, Hello, Lookup, LookupReply, ModelProfile, Offer } from "./messages.ts";
import type { Content } from "./content.ts";
import type { IncomingEvent } from "./incoming.ts";
import type { OutgoingEvent, OutgoingTransfer } from "./outgoing.ts";
import type { Outcome, PlacedTransfer } from "./transfer.ts";

export type { Caller } from "./caller.ts";

/** A fetch and an offer as the node has them said; the rest is the peer's. */
export type Ask = Omit<Fetch, "kind" | "id" | "grant">;
export type Proposal = Omit<Offer, "kind" | "id" | "generation">;

export interface PeerHost {
  readonly link: Link;
  readonly runtime: Runtime;
  readonly stallUs: number;
  readonly windowBytes: number;
  /** 0 = by the path. */
  readonly chunkBytes: number;
  /** Cap of what is sent to each peer; 0 = none. */
  readonly rateBytesPerSecond: number;
  readonly heartbeatMs: number;
  /** What all that is sent to the tenant's peers together may have. */
  readonly tenantShare: TenantShare;
  /** Of what this node offers. */
  readonly checksum: boolean;
  hello(peer: PeerPort, laneToken: Uint8Array): Hello;
  /** Of whom a peer dialled, before anything is said: what is asked right behind Hello may be answered before it is known whose that is. Throws tenant_denied. */
  meet(caller: Caller): void;
  /** Throws peer_not_allowed or tenant_denied. */
  admit(hello: Hello, caller: Caller, dialled: boolean): void;
  bind(placement: PlacementId, peer: PeerPort, transfer: PlacedTransfer): void;
  unbind(placement: PlacementId): void;
  touched(): void;
  /** Answers through peer.serve() or peer.refuseFetch(). */
  onFetch(peer: PeerPort, fetch: Fetch): void;
  /** A push: answers through peer.receive() or peer.refuseOffer(). */
  onOffer(peer: PeerPort, offer: Offer): void;
  onLookup(peer: PeerPort, lookup: Lookup): LookupReply;
  onDiscard(peer: PeerPort, handle: string): void;
  onPeer(peer: PeerPort, up: boolean, detail: string): void;
  onLaneLost(peer: PeerPort, lane: number, code: ErrorCode): void;
}

/** A peer as its node sees it when it answers. */
export interface PeerPort {
  readonly name: string;
  readonly address: Endpoint | undefined;
  readonly node: string;
  readonly caller: Caller;
  /** Tells apart this node's peers, to one that it may know by several addresses. */
  readonly conversation: number;
  /** What is known of the way to it. */
  readonly path: Path;
  heard(nowUs: number): void;
  /** What KV of the model may be sent to it coded with. */
  profilesOf(fingerprint: string): readonly ModelProfile[];
  serve(
    nowUs: number,
    deadlineUs: number,
    request: Proposal,
    content: Content,
    ready: "all" | readonly number[],
    priority: Priority,
    handlers: TransferHandlers<OutgoingEvent>,
  ): OutgoingTransfer | undefined;
  refuseFetch(fetch: Fetch, error: KvferryError): void;
  receive(
    nowUs: number,
    deadlineUs: number,
    offer: Offer,
    content: Content,
    grant: number,
    onPlaced: (then: (failure?: KvferryError) => void) => void,
    handlers: TransferHandlers<IncomingEvent>,
  ): void;
  refuseOffer(offer: Offer, error: KvferryError): void;
}

export interface PeerOptions {
  readonly host: PeerHost;
  readonly name: string;
  readonly address: Endpoint | undefined;
  readonly conversation: number;
  /** Whose certificate it must have, over TLS; without: its host's. */
  readonly identity?: string | undefined;
  /** Equal = fixed by the operator. */
  readonly lanes: { readonly least: number; readonly most: number };
  /** Both ends are on this host. */
  readonly local: boolean;
  readonly congestion: CongestionChoice;
}

export interface TransferHandlers<Event> {
  readonly onEvent: (event: Event) => void;
  readonly onEnd: (outcome: Outcome) => void;
}
