/**
 * One remote node: its connection, the transfers with it, look-ups. Lives as long as it is configured or has transfers, over any number of
 * connections; a remote that comes back as another process (`node` differs) has lost what it held.
 */
import { ERRORS, type ErrorCode, KvferryError } from "../errors.ts";
import type { LayoutCache } from "../kv/layout-cache.ts";
import { limits } from "../limits.ts";
import type { ConnectionId, Endpoint, Link, LinkEvent, PlacementId } from "../link/link.ts";
import type { CongestionChoice } from "../policy/congestion.ts";
import { Path } from "../policy/path.ts";
import type { Priority } from "../policy/priority.ts";
import type { WindowPolicy } from "../policy/window.ts";
import { Acquaintance } from "./acquaintance.ts";
import { Connection } from "./connection.ts";
import type { Lanes } from "./lanes.ts";
import type { Content } from "./content.ts";
import { cancelOf } from "./ended.ts";
import type { Capability } from "./greeting.ts";
import type { Ask, Caller, PeerHost, PeerOptions, PeerPort, Proposal, TransferHandlers } from "./host.ts";
import { type IncomingEvent, IncomingTransfer } from "./incoming.ts";
import { type Hint, PendingLookups } from "./lookups.ts";
import { Ongoing, refuseIncapable } from "./ongoing.ts";
import type { Fetch, Hello, Lookup, Message, ModelProfile, Offer } from "./messages.ts";
import { type OutgoingEvent, OutgoingTransfer } from "./outgoing.ts";
import type { PlacedTransfer, Remote } from "./transfer.ts";

export class Peer implements Remote, PeerPort {
  readonly name: string;
  readonly address: Endpoint | undefined;
  readonly conversation: number;
  /** Of its lanes, by name, and why. */
  readonly congestion: CongestionChoice;
  readonly #host: PeerHost;
  readonly #connection: Connection;
  readonly #ongoing = new Ongoing();
  readonly #lookups = new PendingLookups();
  readonly #known = new Acquaintance();
  /** What is known of the way to the remote, and decided about it. */
  readonly path: Path;
  #idleSinceUs: number;

  constructor(options: PeerOptions) {
    this.#idleSinceUs = options.host.runtime.nowUs();
    ({ name: this.name, address: this.address, conversation: this.conversation, congestion: this.congestion, host: this.#host } = options);
    const { windowBytes, chunkBytes, rateBytesPerSecond: peerCap, tenantShare: share } = options.host;
    this.path = new Path({ ...options.lanes, local: options.local, peerCap, share, windowBytes, chunkBytes });
    this.#connection = new Connection({
      link: options.host.link,
      runtime: options.host.runtime,
      address: options.address,
      identity: options.identity,
      path: this.path,
      congestionControl: options.congestion.name,
      heartbeatMs: options.host.heartbeatMs,
      owner: {
        hello: (token) => options.host.hello(this, token),
        onGreeted: (nowUs) => this.#handleGreeted(nowUs),
        meet: (caller) => options.host.meet(caller),
        admit: (hello, caller) => options.host.admit(hello, caller, options.address !== undefined),
        onUp: (nowUs, hello) => this.#handleUp(nowUs, hello),
        onDown: (nowUs, code, detail) => this.#handleDown(nowUs, code, detail),
        onMessage: (nowUs, message) => this.#handleMessage(nowUs, message),
        onLaneLost: (lane, code) => options.host.onLaneLost(this, lane, code),
      },
    });
  }

  get link(): Link {
    return this.#host.link;
  }
  get connection(): ConnectionId | undefined {
    return this.#connection.id;
  }
  get stallUs(): number {
    return this.#host.stallUs;
  }
  send(message: Message | Uint8Array, early = false): void {
    this.#connection.send(message, early);
  }
  bind(placement: PlacementId, transfer: PlacedTransfer): void {
    this.#host.bind(placement, this, transfer);
  }
  unbind(placement: PlacementId): void {
    this.#host.unbind(placement);
  }
  touch(transfer: PlacedTransfer): void {
    this.#ongoing.touch(transfer);
    this.#host.touched();
  }
  newWindow(): WindowPolicy {
    return this.path.newWindow();
  }

  get up(): boolean {
    return this.#connection.up;
  }
  get lanes(): Lanes {
    return this.#connection.lanes;
  }
  get linkId(): ConnectionId | undefined {
    return this.#connection.linkId;
  }
  get waitingMessages(): number {
    return this.#connection.waitingMessages;
  }
  get caller(): Caller {
    return this.#connection.caller;
  }
  get node(): string {
    return this.#known.node;
  }
  get advertised(): string {
    return this.#known.advertised;
  }
  get chunkBytesMax(): number {
    return this.#known.chunkBytesMax;
  }
  get layouts(): LayoutCache {
    return this.#known.layouts;
  }
  get checksum(): boolean {
    return this.#known.checksum ?? this.#host.checksum;
  }
  get greets(): boolean {
    return this.#connection.greets;
  }
  isCapable(capability: Capability): boolean {
    return this.#known.isCapable(capability);
  }
  layoutOf(fingerprint: string): Uint8Array | undefined {
    return this.#known.layoutOf(fingerprint);
  }
  profileOf(fingerprint: string): string | undefined {
    return this.#known.profileOf(fingerprint);
  }
  profilesOf(fingerprint: string): readonly ModelProfile[] {
    return this.#known.profilesOf(fingerprint);
  }
  get isSending(): boolean {
    return this.#ongoing.isSending;
  }
  /** Nothing is under way with it. */
  get unused(): boolean {
    return this.#ongoing.idle && this.#lookups.size === 0;
  }
  /** And it is away. */
  get idle(): boolean {
    return this.unused && this.#connection.linkId === undefined;
  }
  forgettable(nowUs: number): boolean {
    return this.idle && nowUs - this.#idleSinceUs > limits.deadlineRemoteMs * 1000;
  }

  adopt(nowUs: number, id: ConnectionId, hello: Hello, caller: Caller): void {
    this.#connection.adopt(nowUs, id, hello, caller);
  }

  /** The remote is back over another connection before the link noticed the end of this one. */
  replaceConnection(nowUs: number): void {
    this.#connection.abandon(nowUs);
  }

  /** The same process without memory of us: what it had going here is over. */
  startAnew(nowUs: number): void {
    this.cancelAll(nowUs, "peer_restarted", "the peer started anew", false);
    this.#ongoing.forgetIds();
  }

  /** Tries once to make a connection if there is none. */
  dial(nowUs: number): void {
    this.#connection.want(nowUs);
  }

  /** Asks the remote for content. */
  fetch(
    nowUs: number,
    deadlineUs: number,
    request: Ask,
    content: Content,
    grant: number,
    handlers: TransferHandlers<IncomingEvent>,
  ): IncomingTransfer {
    const fetch: Fetch = { kind: "fetch", id: this.#ongoing.newId(), ...request, grant: undefined };
    return this.#addIncoming(nowUs, deadlineUs, content, fetch, grant, handlers, (then) => then());
  }

  /** Pushes content, or answers a fetch of the remote with it. */
  serve(
    nowUs: number,
    deadlineUs: number,
    request: Proposal,
    content: Content,
    ready: "all" | readonly number[],
    priority: Priority,
    handlers: TransferHandlers<OutgoingEvent>,
  ): OutgoingTransfer | undefined {
    const early = this.#ongoing.preparing.get(request.fetch);
    // The asker has taken its question back while the answer was being prepared.
    if (request.fetch !== 0 && !this.#ongoing.preparing.delete(request.fetch)) return undefined;
    const offer: Offer = { kind: "offer", id: this.#ongoing.newId(), ...request, generation: 0 };
    const transfer: OutgoingTransfer = new OutgoingTransfer(this, {
      nowUs,
      deadlineUs,
      content,
      offer,
      early,
      ready,
      priority,
      onEvent: handlers.onEvent,
      onEnd: (outcome) => this.#ongoing.endOutgoing(transfer, outcome, handlers),
    });
    this.#ongoing.addOutgoing(nowUs, transfer);
    refuseIncapable(nowUs, transfer, this);
    this.touch(transfer);
    return transfer;
  }

  refuseFetch(fetch: Fetch, error: KvferryError): void {
    this.#ongoing.preparing.delete(fetch.id);
    this.send(cancelOf({ id: 0, fetch: fetch.id, grant: 0, fromReceiver: false }, error));
  }

  /** Takes a push. `onPlaced` makes it visible before the sender hears of it. */
  receive(
    nowUs: number,
    deadlineUs: number,
    offer: Offer,
    content: Content,
    grant: number,
    onPlaced: (then: (failure?: KvferryError) => void) => void,
    handlers: TransferHandlers<IncomingEvent>,
  ): void {
    const transfer = this.#addIncoming(nowUs, deadlineUs, content, undefined, grant, handlers, onPlaced);
    transfer.handleOffer(nowUs, offer);
  }

  refuseOffer(offer: Offer, error: KvferryError): void {
    this.send(cancelOf({ id: offer.id, fetch: 0, grant: 0, fromReceiver: true }, error));
  }

  lookup(nowUs: number, question: Omit<Lookup, "kind" | "id">, done: (matched: number, code: ErrorCode | "") => void): void {
    if (!this.#lookups.ask(nowUs, { kind: "lookup", id: this.#ongoing.newId(), ...question }, this, done)) return;
    this.#connection.want(nowUs);
    this.#host.touched();
  }

  /** What the remote may be glad to know, and can do without. */
  hint(nowUs: number, hint: Hint): void {
    if (!this.isCapable(hint.kind)) return;
    if (this.up) return this.send(hint);
    this.#lookups.keep(nowUs, hint);
    this.#connection.want(nowUs);
    this.#host.touched();
  }

  cancelAll(nowUs: number, code: ErrorCode, detail: string, tellPeer: boolean): void {
    for (const transfer of this.#ongoing.all()) transfer.cancel(nowUs, code, detail, tellPeer);
  }

  close(detail: string): void {
    this.#connection.drop("draining", detail);
  }

  /** Whether a connection of the link is one with this remote. */
  isOf(connection: ConnectionId): boolean {
    return this.#connection.isOf(connection);
  }

  handleLinkEvent(nowUs: number, event: LinkEvent & { readonly connection: ConnectionId }): void {
    this.#connection.handle(nowUs, event);
  }

  heard(nowUs: number): void {
    this.#connection.heard(nowUs);
  }

  #addIncoming(
    nowUs: number,
    deadlineUs: number,
    content: Content,
    fetch: Fetch | undefined,
    grant: number,
    handlers: TransferHandlers<IncomingEvent>,
    onPlaced: (then: (failure?: KvferryError) => void) => void,
  ): IncomingTransfer {
    const transfer: IncomingTransfer = new IncomingTransfer(this, {
      nowUs,
      deadlineUs,
      content,
      fetch,
      grant,
      onEvent: handlers.onEvent,
      onPlaced,
      onEnd: (outcome) => this.#ongoing.endIncoming(transfer, outcome, handlers),
    });
    this.#ongoing.addIncoming(nowUs, transfer);
    refuseIncapable(nowUs, transfer, this);
    this.#connection.want(nowUs);
    this.touch(transfer);
    return transfer;
  }

  /** Our Hello is said. Whoever listens there will act upon what is behind it when it has accepted that, and every version knows these. */
  #handleGreeted(nowUs: number): void {
    this.#ongoing.handleGreeted(nowUs);
    this.#lookups.handleGreeted(this);
  }

  #handleUp(nowUs: number, hello: Hello): void {
    const restarted = this.#known.meet(hello);
    this.#ongoing.handleUp(nowUs, restarted, this);
    this.#lookups.handleUp(this);
    this.#host.onPeer(this, true, "");
  }

  #handleDown(nowUs: number, code: ErrorCode, detail: string): void {
    this.#idleSinceUs = nowUs;
    this.#ongoing.handleDown(nowUs);
    this.#lookups.handleDown();
    if (!this.isCapable("resume")) this.cancelAll(nowUs, "connection_lost", "the peer's version cannot resume", false);
    // A refusal will not heal by dialling again.
    if (ERRORS[code].retry === "never") this.cancelAll(nowUs, code, detail, false);
    this.#host.onPeer(this, false, detail);
    this.#host.touched();
  }

  #handleMessage(nowUs: number, message: Message): void {
    switch (message.kind) {
      case "fetch":
        return this.#handleFetch(message);
      case "offer":
        this.#known.note(message);
        return this.#ongoing.handleOffer(nowUs, message, this) ? undefined : this.#host.onOffer(this, message);
      case "accept":
        return this.#ongoing.handleAccept(nowUs, message, this);
      case "resume":
        return this.#ongoing.handleResume(nowUs, message, this);
      case "done":
        return this.#ongoing.handleDone(nowUs, message);
      case "cancel":
        return this.#ongoing.handleCancel(nowUs, message);
      case "prewarm":
        return this.lanes.prewarm(nowUs, message);
      case "discard":
        return this.#host.onDiscard(this, message.handle);
      case "lookup":
        return this.send(this.#host.onLookup(this, message));
      case "lookupReply":
        return this.#lookups.handleReply(message);
      case "models":
        return this.#known.learn(message.models);
      default:
        return; // bye: a remote that drains refuses what is new by itself
    }
  }

  #handleFetch(fetch: Fetch): void {
    if (this.#ongoing.isAnswering(fetch)) return;
    if (this.#ongoing.preparing.size >= limits.transfersMax) return this.refuseFetch(fetch, new KvferryError("too_many_transfers"));
    this.#ongoing.preparing.set(fetch.id, fetch.grant);
    this.#host.onFetch(this, fetch);
  }

  turn(nowUs: number): void {
    this.#connection.turn(nowUs, !this.#ongoing.idle);
    if (this.up && !this.#ongoing.idle && nowUs >= this.path.nextReadingUs()) this.#observe(nowUs);
    if (this.#wanted()) this.#connection.want(nowUs);
    this.#ongoing.turn(nowUs, this.#dialsInVain ? this.#connection.lastFailure : undefined);
    this.#lookups.expire(nowUs, this.#connection.lastFailure?.code ?? "deadline_exceeded");
  }

  #observe(nowUs: number): void {
    const { goodputBytesPerSecond } = this.path.estimate(nowUs);
    this.#connection.lanes.observe(nowUs, this.#connection.isHeard(nowUs), {
      ...this.#ongoing.load(nowUs, goodputBytesPerSecond),
      ...this.#host.tenantShare,
    });
  }

  #wanted(): boolean {
    return this.#ongoing.size > 0 || this.#lookups.size > 0;
  }

  get #dialsInVain(): boolean {
    return !this.up && this.address !== undefined;
  }

  nextDeadlineUs(nowUs: number): number {
    return Math.min(
      this.#connection.nextDeadlineUs(nowUs, this.#wanted()),
      this.#ongoing.nextDeadlineUs(nowUs, this.#dialsInVain),
      this.#lookups.nextDeadlineUs(),
      this.up && !this.#ongoing.idle ? Math.max(this.path.nextReadingUs(), nowUs) : Number.POSITIVE_INFINITY,
    );
  }
}
