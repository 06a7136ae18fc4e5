/**
 * One remote node: its connection, the transfers with it, look-ups. Lives as long as it is configured or has transfers, over any number of
 * connections; a remote that comes back as another process (`node` differs) has lost what it held.
 */
import { ERRORS, type ErrorCode, KvferryError } from "../errors.ts";
import { limits } from "../limits.ts";
import { LayoutCache } from "../kv/layout-cache.ts";
import type { ConnectionId, Endpoint, LaneInfo, Link, LinkEvent, PlacementId } from "../link/link.ts";
import { createEstimate, type Estimate } from "../policy/estimate.ts";
import { createWindow, type WindowPolicy } from "../policy/window.ts";
import { Connection } from "./connection.ts";
import type { Content } from "./content.ts";
import { cancelOf } from "./ended.ts";
import { isCapable } from "./greeting.ts";
import type { PeerHost, PeerOptions, PeerPort, TransferHandlers } from "./host.ts";
import { type IncomingEvent, IncomingTransfer } from "./incoming.ts";
import { PendingLookups } from "./lookups.ts";
import { Ongoing } from "./ongoing.ts";
import type { Fetch, Hello, Lookup, Message, Offer, Resume } from "./messages.ts";
import { type OutgoingEvent, OutgoingTransfer } from "./outgoing.ts";
import type { PlacedTransfer, Remote } from "./transfer.ts";

export class Peer implements Remote, PeerPort {
  readonly name: string;
  readonly address: Endpoint | undefined;
  readonly conversation: number;
  readonly layouts = new LayoutCache();
  readonly #host: PeerHost;
  readonly #connection: Connection;
  readonly #ongoing = new Ongoing();
  readonly #lookups = new PendingLookups();
  #models: ReadonlySet<string> = new Set();
  #node = "";
  /** What the remote said last; undefined until it was there. */
  #hello: Hello | undefined;
  readonly #estimate = createEstimate();
  #idleSinceUs: number;

  constructor(options: PeerOptions) {
    this.#idleSinceUs = options.host.runtime.nowUs();
    ({ name: this.name, address: this.address, conversation: this.conversation } = options);
    this.#host = options.host;
    this.#connection = new Connection({
      link: options.host.link,
      runtime: options.host.runtime,
      address: options.address,
      identity: options.identity,
      lanes: options.lanes,
      lane: options.lane,
      heartbeatMs: options.host.heartbeatMs,
      owner: {
        hello: (token) => options.host.hello(this, token),
        admit: (hello, remote) => options.host.admit(hello, remote, options.address !== undefined),
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
  send(message: Message): void {
    this.#connection.send(message);
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
    return createWindow({ bytes: this.#host.windowBytes });
  }
  acked(nowUs: number, bytes: number, durationUs: number): void {
    this.#estimate.handleSample(nowUs, bytes, durationUs);
  }

  get up(): boolean {
    return this.#connection.up;
  }
  get lanes(): number {
    return this.#connection.lanesUp;
  }
  get linkId(): ConnectionId | undefined {
    return this.#connection.linkId;
  }
  /** What the kernel knows of each lane, now. */
  laneInfo(): readonly LaneInfo[] {
    const id = this.#connection.linkId;
    return id === undefined ? [] : this.link.laneInfo(id);
  }
  get waitingMessages(): number {
    return this.#connection.waitingMessages;
  }
  /** The process that was last seen there. */
  get node(): string {
    return this.#node;
  }
  /** HOST:PORT where the remote says that it is reached, or "". */
  get advertised(): string {
    return this.#hello?.advertise ?? "";
  }
  get chunkBytesMax(): number {
    return this.#hello?.chunkBytesMax ?? limits.chunkBytesMax;
  }
  /** Goodput towards the remote. */
  estimate(nowUs: number): Estimate {
    return this.#estimate.estimate(nowUs);
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

  adopt(nowUs: number, id: ConnectionId, hello: Hello, remote: Endpoint): void {
    this.#connection.adopt(nowUs, id, hello, remote);
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
    request: Omit<Fetch, "kind" | "id">,
    content: Content,
    grant: number,
    handlers: TransferHandlers<IncomingEvent>,
  ): IncomingTransfer {
    const fetch: Fetch = { kind: "fetch", id: this.#ongoing.newId(), ...request };
    return this.#addIncoming(nowUs, deadlineUs, content, fetch, grant, handlers, (then) => then());
  }

  /** Pushes content, or answers a fetch of the remote with it. */
  serve(
    nowUs: number,
    deadlineUs: number,
    request: Omit<Offer, "kind" | "id">,
    content: Content,
    ready: "all" | readonly number[],
    handlers: TransferHandlers<OutgoingEvent>,
  ): OutgoingTransfer | undefined {
    // The asker has taken its question back while the answer was being prepared.
    if (request.fetch !== 0 && !this.#ongoing.preparing.delete(request.fetch)) return undefined;
    const offer: Offer = { kind: "offer", id: this.#ongoing.newId(), ...request };
    const transfer: OutgoingTransfer = new OutgoingTransfer(this, {
      nowUs,
      deadlineUs,
      content,
      offer,
      ready,
      onEvent: handlers.onEvent,
      onEnd: (outcome) => {
        this.#ongoing.removeOutgoing(offer.id, transfer);
        this.#ongoing.sent.add(offer.id, { ok: outcome.ok, code: outcome.code, grant: transfer.grant });
        handlers.onEnd(outcome);
      },
    });
    this.#ongoing.addOutgoing(nowUs, offer.id, transfer);
    this.#refuseIncapable(nowUs, transfer);
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

  lookup(nowUs: number, fingerprint: string, group: number, keys: Uint8Array, done: (matched: number, code: ErrorCode | "") => void): void {
    if (this.up && !this.#models.has(fingerprint)) return done(0, "");
    if (this.#lookups.isFull) return done(0, "full");
    const message: Lookup = { kind: "lookup", id: this.#ongoing.newId(), fingerprint, group, keys };
    this.send(message);
    this.#lookups.add(nowUs, message, done);
    this.#connection.want(nowUs);
    this.#host.touched();
  }

  /** Nobody will fetch that offer of the remote. A hint: without it, the offer ends by its own deadline. */
  discard(nowUs: number, handle: string): void {
    if (!isCapable(this.#hello, "discard")) return;
    const discard = { kind: "discard", handle } as const;
    if (this.up) return this.send(discard);
    this.#lookups.keep(nowUs, discard);
    this.#connection.want(nowUs);
    this.#host.touched();
  }

  cancelAll(nowUs: number, code: ErrorCode, detail: string, tellPeer: boolean): void {
    for (const transfer of this.#ongoing.all()) transfer.cancel(nowUs, code, detail, tellPeer);
  }

  close(detail: string): void {
    this.#connection.drop("draining", detail);
  }

  handleLinkEvent(nowUs: number, event: LinkEvent): void {
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
      onEnd: (outcome) => {
        this.#ongoing.removeIncoming(grant, transfer);
        if (transfer.id !== 0) this.#ongoing.received.add(transfer.id, { ok: outcome.ok, code: outcome.code, grant });
        handlers.onEnd(outcome);
      },
    });
    this.#ongoing.addIncoming(nowUs, grant, transfer);
    this.#refuseIncapable(nowUs, transfer);
    this.#connection.want(nowUs);
    this.touch(transfer);
    return transfer;
  }

  #handleUp(nowUs: number, hello: Hello): void {
    const restarted = this.#node !== "" && this.#node !== hello.node;
    if (restarted) this.#ongoing.forgetIds();
    this.#node = hello.node;
    this.#hello = hello;
    this.#models = new Set(hello.models.map((model) => model.fingerprint));
    for (const transfer of this.#ongoing.all()) {
      // What the former process has not heard of yet is said to the new one instead.
      if (restarted && transfer.met) transfer.handleRestarted(nowUs);
      else if (!this.#refuseIncapable(nowUs, transfer)) transfer.handleUp(nowUs);
    }
    for (const message of this.#lookups.takeMessages(isCapable(hello, "discard"))) this.send(message);
    this.#host.onPeer(this, true, "");
  }

  #handleDown(nowUs: number, code: ErrorCode, detail: string): void {
    this.#idleSinceUs = nowUs;
    for (const transfer of this.#ongoing.all()) transfer.handleDown(nowUs);
    if (!isCapable(this.#hello, "resume")) this.cancelAll(nowUs, "connection_lost", "the peer's version cannot resume", false);
    // A refusal will not heal by dialling again.
    if (ERRORS[code].retry === "never") this.cancelAll(nowUs, code, detail, false);
    this.#host.onPeer(this, false, detail);
    this.#host.touched();
  }

  #refuseIncapable(nowUs: number, transfer: PlacedTransfer): boolean {
    const { needs } = transfer;
    if (needs === "" || isCapable(this.#hello, needs)) return false;
    transfer.cancel(nowUs, "unsupported", `the peer's version has no ${needs}`, false);
    return true;
  }

  #handleMessage(nowUs: number, message: Message): void {
    switch (message.kind) {
      case "fetch":
        return this.#handleFetch(message);
      case "offer":
        return this.#handleOffer(nowUs, message);
      case "accept":
        return this.#ongoing.handleAccept(nowUs, message, this);
      case "resume":
        return this.#handleResume(nowUs, message);
      case "done":
        return this.#ongoing.outgoing.get(message.id)?.handleDone(nowUs);
      case "cancel":
        return this.#ongoing.handleCancel(nowUs, message);
      case "discard":
        return this.#host.onDiscard(message.handle);
      case "lookup":
        return this.send(this.#host.onLookup(message));
      case "lookupReply":
        return this.#lookups.handleReply(message);
      case "models":
        return void (this.#models = new Set(message.models.map((model) => model.fingerprint)));
      default:
        return; // bye: a remote that drains refuses what is new by itself
    }
  }

  #handleFetch(fetch: Fetch): void {
    // The same question again after a lost connection: the offer is said again by its transfer, or still being prepared.
    if (this.#ongoing.preparing.has(fetch.id)) return;
    for (const transfer of this.#ongoing.outgoing.values()) if (transfer.fetch === fetch.id) return;
    if (this.#ongoing.preparing.size >= limits.transfersMax) return this.refuseFetch(fetch, new KvferryError("too_many_transfers"));
    this.#ongoing.preparing.add(fetch.id);
    this.#host.onFetch(this, fetch);
  }

  #handleOffer(nowUs: number, offer: Offer): void {
    if (offer.fetch !== 0) {
      for (const transfer of this.#ongoing.incoming.values()) if (transfer.fetch === offer.fetch) return transfer.handleOffer(nowUs, offer);
      return this.refuseOffer(offer, new KvferryError("cancelled", "nobody waits for this fetch any more"));
    }
    for (const transfer of this.#ongoing.incoming.values()) if (transfer.id === offer.id) return transfer.handleResume(nowUs);
    if (this.#ongoing.received.has(offer.id)) return this.send(this.#ongoing.received.answer(offer.id));
    this.#host.onOffer(this, offer);
  }

  #handleResume(nowUs: number, { id, grant, fromReceiver }: Resume): void {
    if (fromReceiver) {
      // One that goes on has its own say over this connection.
      if (!this.#ongoing.outgoing.has(id)) this.send(this.#ongoing.sent.answer(id));
      return;
    }
    const transfer = this.#ongoing.incoming.get(grant);
    if (transfer !== undefined && transfer.id === id) return transfer.handleResume(nowUs);
    this.send(this.#ongoing.received.answer(id));
  }

  turn(nowUs: number): void {
    this.#connection.turn(nowUs);
    if (this.#wanted()) this.#connection.want(nowUs);
    this.#ongoing.turn(nowUs, this.#dialsInVain ? this.#connection.lastFailure : undefined);
    this.#lookups.expire(nowUs, this.#connection.lastFailure?.code ?? "deadline_exceeded");
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
    );
  }
}
