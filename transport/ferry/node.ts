/**
 * One kvferry node: its pool, models, offers, buffers and peers under one loop. Synchronous and event-driven: the link, the clock, randomness, memory
 * jobs and the process watch are handed in, so that the simulator runs this very code.
 */
import { formatAddress } from "../config/address.ts";
import { asKvferryError, type ErrorCode, ERRORS, KvferryError } from "../errors.ts";
import { limits } from "../limits.ts";
import type { Endpoint, Link, LinkEvent, PlacementId } from "../link/link.ts";
import type { Jobs } from "../memory/jobs.ts";
import type { HolderId, Pool } from "../memory/pool.ts";
import type { Region } from "../memory/region.ts";
import { type Caller, callerOf } from "../peer/caller.ts";
import { CAPABILITIES, SOFTWARE } from "../peer/greeting.ts";
import type { PeerPort } from "../peer/host.ts";
import { encodeMessage, type Fetch, type Hello, type Lookup, type LookupReply, type ModelEntry, type Offer } from "../peer/messages.ts";
import type { PlacedTransfer } from "../peer/transfer.ts";
import type { TenantShare } from "../policy/path.ts";
import type { Runtime } from "../runtime/runtime.ts";
import { Access } from "./access.ts";
import { Admissions } from "./admissions.ts";
import { BufferTable } from "./buffers.ts";
import type { CodingChoice, NodeObserver, NodeSettings } from "./context.ts";
import { Denials } from "./denials.ts";
import type { FerryEvent } from "./ferry.ts";
import type { FerryHost, FerrySession, SessionOptions } from "./host.ts";
import { Landing } from "./landing.ts";
import { ModelTable } from "./models.ts";
import { BlockNamespaces } from "./namespaces.ts";
import { OfferTable } from "./offers.ts";
import { BlockOrigins } from "./origins.ts";
import { PeerTable } from "./peers.ts";
import { NO_PROFILES, type Profiles } from "./profiles.ts";
import { Reach } from "./reach.ts";
import { Serving } from "./serving.ts";
import { Session } from "./session.ts";
import { TenantDoor, type TenantHost, type TenantNode } from "./tenant.ts";

export type { NodeObserver, NodeSettings } from "./context.ts";

export interface NodeOptions {
  readonly settings: NodeSettings;
  readonly runtime: Runtime;
  readonly link: Link;
  readonly pool: Pool;
  readonly jobs: Jobs;
  /** Makes a registered buffer's memory reachable by the link. */
  readonly bufferRegion: (memory: Uint8Array | { readonly path: string; readonly bytes: number }) => Region;
  readonly observer: NodeObserver;
  /** What KV may be coded with; absent: it travels as it is. */
  readonly profiles?: Profiles;
  /** Where others are told to reach it, to be tried at the start; `identity`: of its own certificate, over TLS. */
  readonly reach?: { readonly address: Endpoint; readonly identity: string | undefined };
  /** One of several in this process, each a tenant's. */
  readonly tenant?: TenantHost;
}

export class FerryNode implements FerryHost, TenantNode {
  readonly settings: NodeSettings;
  readonly runtime: Runtime;
  readonly link: Link;
  readonly pool: Pool;
  readonly jobs: Jobs;
  readonly observer: NodeObserver;
  readonly bufferRegion: NodeOptions["bufferRegion"];
  readonly profiles: Profiles;
  readonly models: ModelTable;
  readonly origins = new BlockOrigins();
  readonly choices = new WeakMap<PeerPort, CodingChoice>();
  readonly offers: OfferTable;
  readonly buffers: BufferTable;
  readonly admissions: Admissions;
  readonly peers: PeerTable;
  /** Names this process to its peers: new at each start. */
  readonly nodeId: string;
  /** The node's own in the pool: blocks that a push fills, leases of blocks that are being served. */
  readonly holder: HolderId;
  readonly namespaces = new BlockNamespaces();
  readonly denials: Denials;
  readonly door: TenantDoor;
  readonly serving: Serving;
  readonly reach: Reach | undefined;
  readonly #access: Access;
  readonly #landing: Landing;
  readonly #placements = new Map<PlacementId, { readonly peer: PeerPort; readonly transfer: PlacedTransfer }>();
  readonly #sessions = new Map<string, Session>();
  #nextHolder: HolderId;
  #inTurn = false;
  #closed = false;
  bytesSent = 0;
  bytesReceived = 0;

  constructor(options: NodeOptions) {
    this.settings = options.settings;
    this.runtime = options.runtime;
    this.link = options.link;
    this.pool = options.pool;
    this.jobs = options.jobs;
    this.observer = options.observer;
    this.bufferRegion = options.bufferRegion;
    this.profiles = options.profiles ?? NO_PROFILES;
    this.models = new ModelTable(this.profiles);
    const random = (count: number): Uint8Array => this.runtime.random(count);
    this.nodeId = Buffer.from(random(16)).toString("hex");
    this.offers = new OfferTable(this.pool.incarnation, random);
    this.buffers = new BufferTable(this.pool.incarnation, random);
    this.admissions = new Admissions(options.settings.transfersMax);
    this.denials = new Denials((cause, remote, detail) => options.observer.refused?.(cause, remote, detail));
    this.door = new TenantDoor(this, options.tenant, this.denials);
    this.#access = new Access(options.settings);
    this.serving = new Serving(this);
    this.#landing = new Landing(this);
    this.peers = new PeerTable(this, options.settings);
    this.reach = options.reach === undefined ? undefined : this.#newReach(options.reach);
    this.holder = this.pool.nextHolder;
    this.#nextHolder = this.holder + 1;
    this.pool.addHolder(this.holder, 0);
  }

  #newReach(to: NonNullable<NodeOptions["reach"]>): Reach {
    const { observer, link } = this;
    const reach = new Reach({
      ...to,
      link,
      // Whoever else answers there is handed no secret, and learns of no model.
      hello: () =>
        encodeMessage({ ...this.hello({ name: "", address: undefined, node: "", conversation: 0 }, this.runtime.random(16)), models: [] }),
      onKnown: (problem) => observer.reach?.(formatAddress(to.address), problem),
    });
    reach.begin(this.runtime.nowUs());
    return reach;
  }

  get incarnation(): string {
    return this.pool.incarnation;
  }
  get stallUs(): number {
    return this.settings.stallMs * 1000;
  }
  get heartbeatMs(): number {
    return this.settings.heartbeatMs;
  }
  get chunkBytes(): number {
    return this.settings.chunkBytes;
  }
  get rateBytesPerSecond(): number {
    return this.settings.rateBytesPerSecond;
  }
  get tenant(): string {
    return this.door.name;
  }
  get tenantShare(): TenantShare {
    return this.peers.share;
  }
  get checksum(): boolean {
    return this.settings.checksum;
  }
  get windowBytes(): number {
    return this.settings.windowBytes;
  }
  get transfers(): number {
    return this.admissions.size;
  }
  get clients(): number {
    return this.#sessions.size;
  }
  get draining(): boolean {
    return this.admissions.closed;
  }

  openSession(options: SessionOptions): FerrySession {
    if (this.#closed || this.draining) throw new KvferryError("draining");
    const former = options.resume === undefined ? undefined : this.#sessions.get(options.resume);
    if (former !== undefined && former.processId === options.processId && former.detached) return former.reattach();
    if (options.resume !== undefined) this.#endFormerHolder(options.resume, options.processId);
    return this.enroll(options.processId, (holder) => new Session(this, holder, options));
  }

  /** A session with a holder of its own in the pool. Throws too_many_clients. */
  enroll<S extends Session>(processId: number, make: (holder: HolderId) => S): S {
    if (this.#sessions.size >= limits.apiClientsMax) throw new KvferryError("too_many_clients");
    const holder = this.#nextHolder++;
    this.pool.addHolder(holder, processId);
    const session = make(holder);
    this.#sessions.set(session.resume, session);
    return session;
  }

  /** A process that held blocks under a former incarnation is back: what was quarantined for it is free. */
  #endFormerHolder(resume: string, processId: number): void {
    const [former, holder] = resume.split("-");
    if (former === undefined || former === this.incarnation.slice(0, 8) || !/^\d{1,15}$/.test(holder ?? "")) return;
    this.pool.endFormerHolder(Number(holder), processId);
  }

  forgetSession(resume: string): void {
    this.#sessions.delete(resume);
  }

  /** Published and evicted blocks concern everybody. */
  broadcast(event: FerryEvent): void {
    for (const session of this.#sessions.values()) session.emit(event);
  }

  newGrant(): number {
    const [high, low] = new Uint32Array(this.runtime.random(8).slice().buffer);
    return ((high ?? 0) & 0x1fffff) * 0x1_0000_0000 + (low ?? 0) || 1;
  }

  deadlineUs(nowUs: number, deadlineMs: number): number {
    return nowUs + Math.min(deadlineMs, limits.deadlineMaxMs) * 1000;
  }

  // What peers see of it.
  hello(peer: Pick<PeerPort, "name" | "address" | "node" | "conversation">, laneToken: Uint8Array): Hello {
    return {
      kind: "hello",
      version: limits.protocolVersion,
      minVersion: limits.protocolVersionMin,
      node: this.nodeId,
      name: this.settings.name,
      software: SOFTWARE,
      advertise: this.settings.advertise,
      capabilities: CAPABILITIES,
      chunkBytesMax: limits.chunkBytesMax,
      lanesMax: limits.lanesMax,
      laneToken,
      // The listener proves itself by its address alone: it must not hand the secret to whoever dials.
      secret: peer.address === undefined ? "" : this.peers.secretFor(peer),
      resumeNode: peer.node,
      conversation: peer.conversation,
      tenant: this.tenant,
      models: this.modelEntries(),
    };
  }

  modelEntries(): ModelEntry[] {
    return this.models.all().map(({ fingerprint, layoutBytes, codecs }) => {
      const profiles = codecs.profiles.map(({ id }) => ({ id, decodeBytesPerSecond: Math.round(codecs.speedOf(id).decodeBytesPerSecond) }));
      return { fingerprint, layout: layoutBytes, profiles };
    });
  }

  meet(caller: Caller): void {
    this.door.meet(caller);
  }

  admit(hello: Hello, caller: Caller, dialled: boolean): void {
    if (hello.node === this.nodeId) throw new KvferryError("peer_not_allowed", "that is this node itself");
    this.door.check(hello, caller);
    // Whom this node dials it trusts by its configuration; who dials it is checked.
    if (dialled) return;
    try {
      this.#access.check(hello, caller.remote);
    } catch (error) {
      this.denials.add("not_allowed", caller, asKvferryError(error).detail);
      this.observer.denied?.("hello", formatAddress(caller.remote), asKvferryError(error));
      throw error;
    }
  }

  bind(placement: PlacementId, peer: PeerPort, transfer: PlacedTransfer): void {
    this.#placements.set(placement, { peer, transfer });
  }

  unbind(placement: PlacementId): void {
    this.#placements.delete(placement);
  }

  touched(): void {
    if (!this.#inTurn) this.runtime.wakeSoon();
  }

  onFetch(peer: PeerPort, fetch: Fetch): void {
    try {
      const { node, sight } = this.door.holding(fetch.tenant, peer.caller);
      node.serving.fetch(peer, fetch, sight);
    } catch (error) {
      peer.refuseFetch(fetch, asKvferryError(error));
    }
  }

  onOffer(peer: PeerPort, offer: Offer): void {
    this.#landing.offer(peer, offer);
  }

  onLookup(peer: PeerPort, lookup: Lookup): LookupReply {
    try {
      const { node, sight } = this.door.holding(lookup.tenant, peer.caller);
      return node.serving.lookup(lookup, sight);
    } catch (error) {
      return { kind: "lookupReply", id: lookup.id, code: ERRORS[asKvferryError(error).code].number, matched: 0 };
    }
  }

  onDiscard({ caller }: PeerPort, handle: string): void {
    this.offers.discard(caller.identity, handle);
  }

  onPeer(peer: PeerPort, up: boolean, detail: string): void {
    this.observer.peer?.(peer.name, up, detail, this.tenant);
    this.broadcast({ kind: "peer", peer: peer.name, up, detail });
  }

  onLaneLost(peer: PeerPort, lane: number, code: ErrorCode): void {
    this.observer.laneLost?.(peer.name, lane, code);
  }

  /** One turn of the loop: what the link has to tell, then what follows from it, then the next deadline. */
  turn(nowUs: number): void {
    if (this.#closed) return;
    this.#inTurn = true;
    try {
      const more = this.link.poll((event) => this.#dispatch(nowUs, event), limits.eventsPerTurn) >= limits.eventsPerTurn;
      this.offers.expire(nowUs);
      this.peers.turn(nowUs);
      this.reach?.turn(nowUs);
      const deadlines = [
        this.peers.nextDeadlineUs(nowUs),
        this.offers.nextDeadlineUs(),
        this.reach?.nextDeadlineUs() ?? Number.POSITIVE_INFINITY,
      ];
      const next = more ? nowUs : Math.min(...deadlines);
      this.runtime.wakeAt(next);
    } finally {
      this.#inTurn = false;
    }
  }

  #dispatch(nowUs: number, event: LinkEvent): void {
    if ("placement" in event) {
      const bound = this.#placements.get(event.placement);
      if (bound === undefined) return;
      bound.peer.heard(nowUs);
      this.#observeChunk(event, bound.transfer);
      bound.transfer.handlePlacementEvent(nowUs, event);
    } else if (event.kind === "accepted") this.peers.handleAccepted(nowUs, event.connection, callerOf(event));
    else if (event.kind === "refused") this.observer.refused?.(event.reason, event.remote, event.detail);
    else if (this.reach?.isOf(event.connection) === true) this.reach.handle(event);
    else this.peers.handleConnectionEvent(nowUs, event);
  }

  #observeChunk(event: LinkEvent, transfer: PlacedTransfer): void {
    if (event.kind === "acked") this.observer.chunk?.("out", transfer.bytesOf(event.chunk), event.durationUs);
    else if (event.kind === "committed") {
      const bytes = transfer.bytesOf(event.chunk);
      this.bytesReceived += bytes;
      this.observer.chunk?.("in", bytes, 0);
    } else if (event.kind === "failed" || event.kind === "rejected") this.observer.chunkFailed?.(event.code);
  }

  /** Another policy is in force: who is not of this tenant any more goes. */
  handlePolicy(): void {
    for (const peer of this.peers.all()) if (peer.up && !this.door.knows(peer.caller)) peer.close("the policy has changed");
    this.touched();
  }

  /** Whether an address that no configured peer has may be dialled. */
  mayDial(address: Endpoint): boolean {
    return this.#access.allows(address);
  }

  /** No new work; resolves (through `done`) by itself when what runs has ended. */
  drain(reason: string): void {
    this.admissions.closed = true;
    this.peers.tell({ kind: "bye", reason });
    this.touched();
  }

  /** Ends everything at once; every promise that is open rejects with `closed`. The link is the caller's to close. */
  close(): void {
    if (this.#closed) return;
    this.admissions.closed = true;
    const nowUs = this.runtime.nowUs();
    for (const peer of this.peers.all()) {
      peer.cancelAll(nowUs, "closed", "this node is closing", true);
      peer.close("this node is closing");
    }
    this.turn(nowUs);
    this.#closed = true;
    for (const session of [...this.#sessions.values()]) session.shut(new KvferryError("closed"), session.processId !== 0);
    this.buffers.removeAll();
    this.models.close();
    this.runtime.wakeAt(Number.POSITIVE_INFINITY);
  }
}
