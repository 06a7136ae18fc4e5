/**
 * One transfer that leaves this node: Offer, Accept, chunks, Done; over several connections if need be. A grant that came with the Fetch is as good as an
 * Accept, if it was made for this very offer. Joins the Sender (which decides) with the link (which moves). Its memory is released once, when the
 * link says that nothing reads it any more.
 */
import { assert } from "../check.ts";
import { codeOfNumber, type ErrorCode, KvferryError } from "../errors.ts";
import type { ChunkSend, LinkEvent, PlacementId } from "../link/link.ts";
import { limits } from "../limits.ts";
import { type Priority, rankOf, urgencyOf } from "../policy/priority.ts";
import { createRetry } from "../policy/retry.ts";
import { Sender } from "../session/sender.ts";
import { type Content, type LocalPlan, planContent } from "./content.ts";
import { cancelOf } from "./ended.ts";
import type { Capability } from "./greeting.ts";
import { type Accept, type EarlyGrant, encodeMessage, type Offer } from "./messages.ts";
import { chunkBytesOf, isFor } from "./terms.ts";
import { failureOf, type Failure, outcomeOf, type Outcome, type PlacedTransfer, type Remote } from "./transfer.ts";

export interface OutgoingOptions {
  readonly nowUs: number;
  readonly deadlineUs: number;
  readonly content: Content;
  readonly offer: Offer;
  /** What came over this connection with the fetch that the offer answers. */
  readonly early: EarlyGrant | undefined;
  /** Which layers (in the plan's order) are there; "all" or those that handleReady adds. */
  readonly ready: "all" | readonly number[];
  readonly priority: Priority;
  readonly onEvent: (event: OutgoingEvent) => void;
  readonly onEnd: (outcome: Outcome) => void;
}

export type OutgoingEvent = { readonly kind: "stalled"; readonly silentUs: number } | { readonly kind: "moving" };

export class OutgoingTransfer implements PlacedTransfer {
  readonly id: number;
  readonly fetch: number;
  readonly #remote: Remote;
  readonly #options: OutgoingOptions;
  readonly #ready: Set<number>;
  #offer: Offer;
  #sender: Sender | undefined;
  #plan: LocalPlan | undefined;
  #placement: PlacementId | undefined;
  #priority: Priority;
  #revoking = false;
  /** An Accept that waits for the old placement to be revoked. */
  #waiting: Accept | undefined;
  /** The receiver has answered the offer, and so knows it. */
  #isAccepted = false;
  #grant = 0;
  #generation = 0;
  #resumed = 0;
  #failure: Failure | undefined;
  #ending = false;
  #ended = false;
  #tellPeer = false;

  constructor(remote: Remote, options: OutgoingOptions) {
    this.#remote = remote;
    this.#options = options;
    this.id = options.offer.id;
    this.fetch = options.offer.fetch;
    this.#ready = new Set(options.ready === "all" ? [] : options.ready);
    this.#priority = options.priority;
    this.#offer = this.#cut(options.offer);
    if (options.early === undefined || !this.#sayOfferAndTake(options.nowUs, options.early)) remote.send(this.#offer);
  }

  /** To what the remote takes, which is known when it is up. */
  #cut(offer: Offer): Offer {
    return { ...offer, chunkBytes: chunkBytesOf(offer, this.#remote) };
  }

  /** False: the grant is of no use, and the receiver is to answer the offer. */
  #sayOfferAndTake(nowUs: number, early: EarlyGrant): boolean {
    if (!isFor(early, this.#offer)) return false;
    try {
      const message = encodeMessage({ ...this.#offer, generation: early.generation });
      this.#place(nowUs, { ...early, committed: new Uint8Array(0) });
      if (this.#placement !== undefined) this.#remote.send(message);
      return this.#placement !== undefined;
    } catch (error) {
      // What cannot be had now may be when the receiver has answered, or cannot be said then either.
      if (error instanceof KvferryError) return false;
      throw error;
    }
  }

  get ended(): boolean {
    return this.#ended;
  }
  get deadlineUs(): number {
    return this.#options.deadlineUs;
  }
  get needs(): Capability | "" {
    if (this.fetch !== 0) return "";
    return this.#options.content.kind === "ranges" ? "ranges" : "push";
  }
  get grant(): number {
    return this.#grant;
  }
  get startedMoving(): boolean {
    return this.#grant !== 0;
  }
  /** The receiver has asked or answered: the transfer is bound to that process and ends with it. */
  get met(): boolean {
    return this.fetch !== 0 || this.#grant !== 0;
  }

  get waitingBytes(): number {
    return this.#sender?.waitingBytes ?? 0;
  }
  /** What may go and is not answered, as it will travel; 0 while nothing shows how much that is. */
  get openWireBytes(): number {
    const sender = this.#sender;
    return sender === undefined || sender.ackedBytes === 0 ? 0 : (sender.waitingBytes + sender.inFlightBytes) * sender.wireShare;
  }
  get isCoded(): boolean {
    return this.#offer.coding !== undefined;
  }
  /** Something of it waits for a lane or for its answer. */
  get isMoving(): boolean {
    return this.waitingBytes > 0 || (this.#sender?.inFlightBytes ?? 0) > 0;
  }
  get priority(): Priority {
    return this.#priority;
  }

  /** It may become urgent as its deadline comes near, or be so no more. */
  reconsider(nowUs: number, goodputBytesPerSecond: number, sharing: number): void {
    if (this.#sender === undefined || this.#plan === undefined) return;
    const leftBytes = (this.#plan.bytes - this.#sender.ackedBytes) * this.#sender.wireShare;
    const leftUs = this.deadlineUs - nowUs;
    const { priority } = urgencyOf({ priority: this.#options.priority, leftBytes, leftUs, goodputBytesPerSecond, sharing });
    if (priority === this.#priority) return;
    this.#priority = priority;
    if (this.#placement !== undefined) this.#remote.link.setRank(this.#placement, rankOf(priority));
  }

  handleReady(nowUs: number, layer: number): void {
    this.#ready.add(layer);
    this.#sender?.handleReady(nowUs, layer);
    this.#remote.touch(this);
  }

  /** The receiver granted memory: for the first time, or again after a resume. */
  handleAccept(nowUs: number, accept: Accept): void {
    if (this.#ending || accept.generation <= this.#generation) return;
    if (this.#grant !== 0 && accept.grant !== this.#grant) {
      this.cancel(nowUs, "protocol_error", "Accept names another grant", true);
      return;
    }
    if (this.#placement !== undefined) {
      this.#waiting = accept;
      this.#revoke();
      return;
    }
    try {
      this.#place(nowUs, accept);
      this.#isAccepted ||= this.#placement !== undefined;
    } catch (error) {
      if (!(error instanceof KvferryError)) throw error;
      // The connection is going: it is granted again over the next one.
      if (error.code === "connection_lost") return;
      this.cancel(nowUs, error.code, error.detail, true);
    }
  }

  #place(nowUs: number, accept: Pick<Accept, "grant" | "generation" | "committed" | "layout" | "order">): void {
    const { content } = this.#options;
    const offer = this.#offer;
    const connection = this.#remote.connection;
    if (connection === undefined) return;
    this.#plan ??= planContent("sender", content, {
      layout: content.kind === "kv" ? this.#remote.layouts.parse(accept.layout) : undefined,
      firstHead: offer.firstHead,
      heads: offer.heads,
      chunkBytes: offer.chunkBytes,
      coding: offer.coding,
    });
    const plan = this.#plan;
    if (accept.order !== plan.order) throw new KvferryError("protocol_error", `order ${accept.order}, expected ${plan.order}`);
    if (accept.committed.length > Math.ceil(plan.chunks.length / 8)) throw new KvferryError("protocol_error", "bitmap too long");
    const placement = this.#remote.link.place({
      direction: "out",
      connection,
      grant: accept.grant,
      generation: accept.generation,
      region: content.region,
      planes: plan.planes,
      blockLists: plan.blockLists,
      chunks: plan.chunks,
      checksum: offer.checksum,
      rank: rankOf(this.#priority),
      ...(plan.coding === undefined ? {} : { coding: plan.coding }),
    });
    if (placement === "full") throw new KvferryError("full", "the link's placement table");
    this.#placement = placement;
    this.#remote.bind(placement, this);
    this.#grant = accept.grant;
    this.#generation = accept.generation;
    if (this.#sender === undefined) this.#start(nowUs, plan);
    else this.#resumed += 1;
    assert(this.#sender !== undefined, "a placed transfer has a sender");
    this.#sender.handleAccept(nowUs, accept.committed);
    this.#remote.touch(this);
  }

  #start(nowUs: number, plan: LocalPlan): void {
    this.#sender = new Sender({
      nowUs,
      deadlineUs: this.#options.deadlineUs,
      stallUs: this.#remote.stallUs,
      chunkBytes: plan.chunkBytes,
      chunkLayer: plan.chunkLayer,
      layers: plan.layers.length,
      window: this.#remote.newWindow(),
      retry: createRetry(),
    });
    if (this.#options.ready === "all") for (let layer = 0; layer < plan.layers.length; layer++) this.#sender.handleReady(nowUs, layer);
    else for (const layer of this.#ready) if (layer < plan.layers.length) this.#sender.handleReady(nowUs, layer);
  }

  handlePlacementEvent(nowUs: number, event: LinkEvent): void {
    if (event.kind === "acked") {
      const { coding } = this.#offer;
      const coded = coding && { profile: coding.profile, bytes: this.bytesOf(event.chunk) };
      this.#remote.path.handleAcked(nowUs, event.bytes, event.durationUs, coded);
      this.#sender?.handleAcked(nowUs, event.chunk, event.bytes);
    } else if (event.kind === "failed") this.#sender?.handleFailed(nowUs, event.chunk, event.sequence, codeOfNumber(event.code));
    else if (event.kind === "revoked") this.#handleRevoked(nowUs);
    this.#remote.touch(this);
  }

  #handleRevoked(nowUs: number): void {
    assert(this.#placement !== undefined, "a revoked placement was placed");
    this.#remote.unbind(this.#placement);
    this.#placement = undefined;
    this.#revoking = false;
    const waiting = this.#waiting;
    this.#waiting = undefined;
    if (this.#ending) this.#finish(nowUs);
    else if (waiting !== undefined) this.handleAccept(nowUs, waiting);
  }

  handleDone(nowUs: number): void {
    if (this.#sender === undefined || this.#ending) return;
    this.#sender.handleDone(nowUs);
    this.#remote.touch(this);
  }

  handleDown(nowUs: number): void {
    this.#waiting = undefined;
    this.#sender?.handleDisconnected(nowUs);
    this.#revoke();
    this.#remote.touch(this);
  }

  handleUp(_nowUs: number): void {
    if (this.#ending) {
      // It may have been lost with the connection.
      if (this.#tellPeer) this.#sayCancel();
    } else if (!this.#isAccepted) {
      // The plan follows the offer, once there is one.
      if (this.#plan === undefined) this.#offer = this.#cut(this.#options.offer);
      this.#remote.send(this.#offer);
    } else this.#remote.send({ kind: "resume", id: this.id, grant: this.#grant, fromReceiver: false });
  }

  handleRestarted(nowUs: number): void {
    this.cancel(nowUs, "peer_restarted", "the peer came back as another process", false);
  }

  cancel(nowUs: number, code: ErrorCode, detail: string, tellPeer: boolean): void {
    // Who said so itself, or is another process by now, is told nothing, also not what was lost on the way.
    this.#tellPeer &&= tellPeer;
    if (this.#ending) return;
    this.#failure ??= { code, detail };
    this.#tellPeer = tellPeer;
    if (this.#sender === undefined) this.#end(nowUs);
    else this.#sender.handleCancel(nowUs, code);
    this.#remote.touch(this);
  }

  pump(nowUs: number): void {
    if (this.#ending) return;
    const sender = this.#sender;
    if (sender === undefined) {
      if (nowUs >= this.#options.deadlineUs) this.cancel(nowUs, "deadline_exceeded", "the receiver granted no memory", true);
      return;
    }
    if (nowUs >= sender.nextDeadlineUs()) sender.handleTimeout(nowUs);
    if (this.#placement !== undefined && !this.#revoking) this.#send(nowUs, sender, this.#placement);
    for (let event = sender.pollEvent(); event !== undefined; event = sender.pollEvent()) {
      if (event.kind === "stalled" || event.kind === "moving") this.#options.onEvent(event);
      else {
        if (event.kind === "failed") {
          this.#tellPeer ||= this.#failure === undefined;
          this.#failure = failureOf(event.code, this.#failure, this.#options.content, this.#plan, (chunk) => sender.isPlaced(chunk));
        }
        this.#end(nowUs);
        return;
      }
    }
  }

  #send(nowUs: number, sender: Sender, placement: PlacementId): void {
    const due = sender.pollSend(nowUs, limits.submissionsMax);
    if (due.length === 0) return;
    const batch: ChunkSend[] = due.map(({ chunk, sequence }) => ({ placement, chunk, sequence }));
    const taken = this.#remote.link.submit(batch);
    if (taken < due.length) sender.handleFull(nowUs, due.slice(taken));
  }

  #end(nowUs: number): void {
    this.#ending = true;
    if (this.#tellPeer) this.#sayCancel();
    if (this.#placement === undefined) this.#finish(nowUs);
    else this.#revoke();
  }

  #sayCancel(): void {
    if (this.#failure === undefined) return;
    const { code, detail } = this.#failure;
    // Who has not answered may not have heard the offer, but knows what it asked.
    const id = this.#isAccepted || this.fetch === 0 ? this.id : 0;
    this.#remote.send(cancelOf({ id, fetch: this.fetch, grant: this.#grant, fromReceiver: false }, new KvferryError(code, detail)));
  }

  #revoke(): void {
    if (this.#placement === undefined || this.#revoking) return;
    this.#revoking = true;
    this.#remote.link.revoke(this.#placement);
  }

  #finish(nowUs: number): void {
    this.#ended = true;
    const { ackedBytes: bytes = 0, sentBytes: wireBytes = 0, retries = 0 } = this.#sender ?? {};
    const counts = { bytes, wireBytes, retries, resumed: this.#resumed };
    const times = { startedUs: this.#options.nowUs, endedUs: nowUs };
    this.#options.onEnd(outcomeOf(times, this.#failure, this.#options.content, this.#plan, this.#offer.coding, counts));
  }

  bytesOf(chunk: number): number {
    return this.#plan?.chunkBytes[chunk] ?? 0;
  }

  nextDeadlineUs(): number {
    if (this.#ending) return Number.POSITIVE_INFINITY;
    return this.#sender?.nextDeadlineUs() ?? this.#options.deadlineUs;
  }
}
