/** All remotes: those of the configuration (dialled at the start, when they dial us, and when wanted) and those that dialled us. */
import { formatAddress, isLoopback, parseAddress } from "../config/address.ts";
import { KvferryError } from "../errors.ts";
import { limits } from "../limits.ts";
import { type Newcomer, sourceOf, whoGivesWay } from "../link/crowd.ts";
import type { ConnectionId, Endpoint, LinkEvent } from "../link/link.ts";
import { refusal } from "../peer/greeting.ts";
import { decodeMessage, encodeMessage, type Hello, type Message } from "../peer/messages.ts";
import type { PeerOptions, PeerPort } from "../peer/host.ts";
import { Peer } from "../peer/peer.ts";
import { chooseCongestion } from "../policy/congestion.ts";
import type { Caller } from "../peer/caller.ts";
import type { TenantShare } from "../policy/path.ts";
import type { NodeContext, NodeSettings, PeerDirectory } from "./context.ts";
import type { Reach } from "./reach.ts";
import type { Entrance, TenantDoor } from "./tenant.ts";

interface TenantedNode extends NodeContext {
  readonly door: TenantDoor;
  readonly reach: Reach | undefined;
}

/** A connection that was accepted and has not said Hello yet. */
interface Stranger extends Newcomer {
  readonly connection: ConnectionId;
  readonly caller: Caller;
  readonly endsUs: number;
}

export class PeerTable implements PeerDirectory, Entrance {
  readonly #node: TenantedNode;
  readonly #configured = new Map<string, NodeSettings["peers"][number]>();
  readonly #dialled = new Map<string, Peer>();
  /** By what the remote's Hello names its process and conversation: it may know us by several addresses, and not that they are one. */
  readonly #accepted = new Map<string, Peer>();
  #nextConversation = 1;
  readonly #strangers = new Map<ConnectionId, Stranger>();
  #byConnection = new Map<ConnectionId, Peer>();
  #hasBegun = false;
  /** What each peer's path was told last. */
  #share: TenantShare = { tenantCap: 0, tenantSharing: 1 };

  constructor(node: TenantedNode, settings: NodeSettings) {
    this.#node = node;
    for (const peer of settings.peers) this.#configured.set(peer.name, peer);
  }

  /**
   * A configured name; the address of a configured peer, or any on the allow-list; the name of a peer that dialled us and said where it is reached, if that
   * is on the allow-list. Throws peer_not_allowed.
   */
  get(name: string): Peer {
    const known = this.#dialled.get(name);
    if (known !== undefined) return known;
    const address = this.#configured.get(name)?.address ?? addressIn(this.#advertisedBy(name) ?? name);
    const configured = this.#configured.has(name) ? name : this.#configuredAt(address);
    if (configured === undefined) this.#makeRoomFor(name, address);
    // Who is configured is one peer, whichever way it is named, and is shown its own secret.
    else if (configured !== name) return this.get(configured);
    const conversation = this.#nextConversation++;
    const identity = this.#configured.get(name)?.identity;
    const peer = new Peer({ ...this.#pathTo(address), name, address, conversation, identity });
    this.#dialled.set(name, peer);
    return peer;
  }

  at(name: string): { readonly peer: Peer; readonly tenant: string } {
    const [tenant, rest] = name.split("@", 2) as [string, string?];
    return rest === undefined ? { peer: this.get(name), tenant: "" } : { peer: this.get(rest), tenant };
  }

  /** Of the tenant's cap. */
  get share(): TenantShare {
    return this.#share;
  }

  #pathTo({ host }: Endpoint): Pick<PeerOptions, "host" | "local" | "lanes" | "congestion"> {
    const { lanes, congestion } = this.#node.settings;
    const local = isLoopback(host);
    return { host: this.#node, local, lanes, congestion: chooseCongestion(congestion.configured, congestion.allowed, local) };
  }

  /** Of those that are known by address alone; whoever is configured stays. Throws full. */
  #leaveOne(): void {
    for (const [name, peer] of this.#dialled) {
      if (this.#configured.has(name) || !peer.unused) continue;
      peer.close("its place is needed for another peer");
      this.#dialled.delete(name);
      return;
    }
    throw new KvferryError("full", `${limits.peersMax} peers have transfers`);
  }

  #advertisedBy(name: string): string | undefined {
    for (const peer of this.#accepted.values()) if (peer.name === name && peer.up && peer.advertised !== "") return peer.advertised;
    return undefined;
  }

  /** Throws peer_not_allowed, full. */
  #makeRoomFor(name: string, address: Endpoint): void {
    if (!this.#node.mayDial(address)) throw new KvferryError("peer_not_allowed", `${name.slice(0, 64)} is not on the allow-list`);
    if (this.#dialled.size - this.#configured.size >= limits.peersMax) this.#leaveOne();
  }

  #configuredAt({ host, port }: Endpoint): string | undefined {
    for (const [name, { address }] of this.#configured) if (address.host === host && address.port === port) return name;
    return undefined;
  }

  secretFor(peer: Pick<PeerPort, "name">): string {
    return this.#configured.get(peer.name)?.secret || this.#node.settings.secret;
  }

  all(): Peer[] {
    return [...this.#dialled.values(), ...this.#accepted.values()];
  }

  tell(message: Message): void {
    for (const peer of this.all()) peer.send(message);
  }

  handleAccepted(nowUs: number, connection: ConnectionId, caller: Caller): void {
    // Whether it is somebody who is known, or for whom there is room, shows in its Hello.
    const source = sourceOf(caller.remote.host);
    if (this.#strangers.size >= limits.greetingsMax) this.#dismiss(whoGivesWay(this.#strangers.values(), source));
    this.#strangers.set(connection, { connection, caller, source, progress: 0, endsUs: nowUs + limits.helloTimeoutMs * 1000 });
  }

  #dismiss(stranger: Stranger | undefined): void {
    if (stranger === undefined) return;
    this.#strangers.delete(stranger.connection);
    this.#node.link.disconnect(stranger.connection);
  }

  handleConnectionEvent(nowUs: number, event: LinkEvent & { readonly connection: ConnectionId }): void {
    const stranger = this.#strangers.get(event.connection);
    if (stranger !== undefined) {
      if (event.kind === "disconnected") this.#strangers.delete(event.connection);
      else if (event.kind === "message") this.#meet(nowUs, event.connection, stranger, event.bytes);
      return;
    }
    const peer = this.#byConnection.get(event.connection) ?? this.#dialling(event.connection);
    peer?.handleLinkEvent(nowUs, event);
    if (event.kind === "disconnected") this.#byConnection.delete(event.connection);
  }

  /** A dialled peer's connection gets its number when it is dialled; look it up once. */
  #dialling(connection: ConnectionId): Peer | undefined {
    for (const peer of this.#dialled.values()) {
      if (!peer.isOf(connection)) continue;
      this.#byConnection.set(connection, peer);
      return peer;
    }
    return undefined;
  }

  #meet(nowUs: number, connection: ConnectionId, { caller }: Stranger, bytes: Uint8Array): void {
    this.#strangers.delete(connection);
    try {
      const hello = decodeMessage(bytes);
      if (hello.kind !== "hello") throw new KvferryError("protocol_error", `${hello.kind} before Hello`);
      if (hello.node === this.#node.nodeId) {
        this.#node.reach?.handleSelf();
        return this.#turnAway(connection, new KvferryError("peer_not_allowed", "that is this node itself"));
      }
      this.#node.door.entranceFor(connection, hello, caller).welcome(nowUs, connection, hello, caller);
    } catch (error) {
      if (!(error instanceof KvferryError)) throw error;
      this.#node.observer.denied?.("hello", formatAddress(caller.remote), error);
      this.#turnAway(connection, error);
    }
  }

  #turnAway(connection: ConnectionId, error: KvferryError): void {
    this.#node.link.send(connection, encodeMessage(refusal(error)));
    this.#node.link.disconnect(connection);
  }

  /** Somebody who dialled this process and belongs here. Throws full. */
  welcome(nowUs: number, connection: ConnectionId, hello: Hello, caller: Caller): void {
    const peer = this.#acceptedPeer(nowUs, hello, caller);
    this.#byConnection.set(connection, peer);
    peer.adopt(nowUs, connection, hello, caller);
    if (peer.up && this.#configured.has(hello.name)) this.get(hello.name).dial(nowUs);
  }

  /** A process that was here before goes on with its transfers; a connection of it that still looks alive is replaced. */
  #acceptedPeer(nowUs: number, hello: Hello, { remote, identity }: Caller): Peer {
    // Over TLS it is who it was by its certificate as well: what a process calls itself is known to all its peers.
    const who = `${hello.node} ${hello.conversation} ${identity}`;
    const former = this.#accepted.get(who);
    if (former !== undefined) {
      if (hello.resumeNode !== this.#node.nodeId) former.startAnew(nowUs);
      const stale = former.linkId;
      if (stale !== undefined) {
        this.#byConnection.delete(stale);
        former.replaceConnection(nowUs);
        this.#node.link.disconnect(stale);
      }
      return former;
    }
    this.#makeRoom();
    const peer = new Peer({
      ...this.#pathTo(remote),
      name: hello.name || hello.node.slice(0, 8),
      address: undefined,
      conversation: 0,
    });
    this.#accepted.set(who, peer);
    return peer;
  }

  /** Whoever was here before gives way to whoever is here now: else a few that come under ever new names would keep everybody out. */
  #makeRoom(): void {
    if (this.#accepted.size < limits.peersMax) return;
    for (const [who, peer] of this.#accepted) if (peer.idle) return void this.#accepted.delete(who);
    throw new KvferryError("full", `${limits.peersMax} peers`);
  }

  turn(nowUs: number): void {
    if (!this.#hasBegun) this.#begin(nowUs);
    this.#shareOut();
    for (const stranger of this.#strangers.values()) if (nowUs >= stranger.endsUs) this.#dismiss(stranger);
    for (const [name, peer] of this.#dialled) {
      peer.turn(nowUs);
      if (!this.#configured.has(name) && peer.forgettable(nowUs)) this.#dialled.delete(name);
    }
    for (const [who, peer] of this.#accepted) {
      peer.turn(nowUs);
      if (peer.forgettable(nowUs)) this.#accepted.delete(who);
    }
  }

  /** Before anything more is sent: what all have together stays under the tenant's cap. */
  #shareOut(): void {
    const tenantCap = this.#node.door.rateBytesPerSecond;
    if (tenantCap === 0 && this.#share.tenantCap === 0) return;
    const peers = this.all();
    const tenantSharing = Math.max(peers.filter(({ isSending }) => isSending).length, 1);
    if (tenantCap === this.#share.tenantCap && tenantSharing === this.#share.tenantSharing) return;
    this.#share = { tenantCap, tenantSharing };
    for (const { lanes } of peers) lanes.handleShare(this.#share);
  }

  /** So that the first transfer with a peer does not wait for connections. One that is not there yet dials us when it is. */
  #begin(nowUs: number): void {
    this.#hasBegun = true;
    for (const name of this.#configured.keys()) this.get(name).dial(nowUs);
  }

  nextDeadlineUs(nowUs: number): number {
    let next = Number.POSITIVE_INFINITY;
    for (const { endsUs } of this.#strangers.values()) next = Math.min(next, endsUs);
    for (const peer of this.#dialled.values()) next = Math.min(next, peer.nextDeadlineUs(nowUs));
    for (const peer of this.#accepted.values()) next = Math.min(next, peer.nextDeadlineUs(nowUs));
    return next;
  }
}

/** Throws peer_not_allowed. */
function addressIn(name: string): Endpoint {
  const address = parseAddress(name);
  if (address !== undefined && address.port !== 0) return address;
  throw new KvferryError("peer_not_allowed", `${name.slice(0, 64)} is no configured peer and no host:port`);
}
