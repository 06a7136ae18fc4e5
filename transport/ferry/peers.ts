/** All remotes: those of the configuration (dialled at the start, when they dial us, and when wanted) and those that dialled us. */
import { formatAddress, isLoopback, parseAddress } from "../config/address.ts";
import { KvferryError } from "../errors.ts";
import { limits } from "../limits.ts";
import { type Caller, sourceOf, whoGivesWay } from "../link/crowd.ts";
import type { ConnectionId, Endpoint, LinkEvent } from "../link/link.ts";
import { refusal } from "../peer/greeting.ts";
import { decodeMessage, encodeMessage, type Hello, type Message } from "../peer/messages.ts";
import type { PeerOptions, PeerPort } from "../peer/host.ts";
import { Peer } from "../peer/peer.ts";
import { chooseCongestion } from "../policy/congestion.ts";
import type { NodeContext, NodeSettings, PeerDirectory } from "./context.ts";

/** A connection that was accepted and has not said Hello yet. */
interface Stranger extends Caller {
  readonly connection: ConnectionId;
  readonly remote: Endpoint;
  readonly endsUs: number;
}

export class PeerTable implements PeerDirectory {
  readonly #node: NodeContext;
  readonly #configured = new Map<string, NodeSettings["peers"][number]>();
  readonly #dialled = new Map<string, Peer>();
  /** By what the remote's Hello names its process and conversation: it may know us by several addresses, and not that they are one. */
  readonly #accepted = new Map<string, Peer>();
  #nextConversation = 1;
  readonly #strangers = new Map<ConnectionId, Stranger>();
  #byConnection = new Map<ConnectionId, Peer>();
  #hasBegun = false;

  constructor(node: NodeContext, settings: NodeSettings) {
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

  secretFor(peer: PeerPort): string {
    return this.#configured.get(peer.name)?.secret || this.#node.settings.secret;
  }

  all(): Peer[] {
    return [...this.#dialled.values(), ...this.#accepted.values()];
  }

  tell(message: Message): void {
    for (const peer of this.all()) peer.send(message);
  }

  handleAccepted(nowUs: number, connection: ConnectionId, remote: Endpoint): void {
    // Whether it is somebody who is known, or for whom there is room, shows in its Hello.
    const source = sourceOf(remote.host);
    if (this.#strangers.size >= limits.greetingsMax) this.#dismiss(whoGivesWay(this.#strangers.values(), source));
    this.#strangers.set(connection, { connection, remote, source, progress: 0, endsUs: nowUs + limits.helloTimeoutMs * 1000 });
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

  #meet(nowUs: number, connection: ConnectionId, { remote }: Stranger, bytes: Uint8Array): void {
    this.#strangers.delete(connection);
    let hello: Hello;
    let peer: Peer;
    try {
      const message = decodeMessage(bytes);
      if (message.kind !== "hello") throw new KvferryError("protocol_error", `${message.kind} before Hello`);
      hello = message;
      peer = this.#acceptedPeer(nowUs, hello, remote);
    } catch (error) {
      if (!(error instanceof KvferryError)) throw error;
      this.#node.observer.denied?.("hello", formatAddress(remote), error);
      this.#node.link.send(connection, encodeMessage(refusal(error)));
      this.#node.link.disconnect(connection);
      return;
    }
    this.#byConnection.set(connection, peer);
    peer.adopt(nowUs, connection, hello, remote);
    if (peer.up && this.#configured.has(hello.name)) this.get(hello.name).dial(nowUs);
  }

  /** A process that was here before goes on with its transfers; a connection of it that still looks alive is replaced. */
  #acceptedPeer(nowUs: number, hello: Hello, remote: Endpoint): Peer {
    const who = `${hello.node} ${hello.conversation}`;
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
