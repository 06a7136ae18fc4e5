/**
 * One transfer that comes to this node: (Fetch,) Offer, Accept with a grant, chunks, Done; where the offer can be foretold, the grant goes with the Fetch.
 * Joins the Receiver with the link. The grant's number stays, its generation grows with every resume, so that nothing late can land. Its memory is
 * released once, when the link says that nothing writes it any more.
 */
import { assert } from "../check.ts";
import { codeOfNumber, type ErrorCode, KvferryError } from "../errors.ts";
import type { LinkEvent, PlacementId } from "../link/link.ts";
import { Receiver } from "../session/receiver.ts";
import { type Content, type LocalPlan, planContent } from "./content.ts";
import { cancelOf } from "./ended.ts";
import type { Capability } from "./greeting.ts";
import { encodeMessage, type Fetch, type Offer } from "./messages.ts";
import { checkOffer, earlyGrantOf, foretell, sameTerms, type Terms } from "./terms.ts";
import { failureOf, type Failure, outcomeOf, type Outcome, type PlacedTransfer, type Remote } from "./transfer.ts";

export interface IncomingOptions {
  readonly nowUs: number;
  readonly deadlineUs: number;
  readonly content: Content;
  /** What was asked for, or undefined for a push. */
  readonly fetch: Fetch | undefined;
  readonly grant: number;
  readonly onEvent: (event: IncomingEvent) => void;
  /** Every byte is placed and nothing writes any more; a push publishes here. Calls `then` when the peer may be told. */
  readonly onPlaced: (then: (failure?: KvferryError) => void) => void;
  readonly onEnd: (outcome: Outcome) => void;
}

export type IncomingEvent =
  | { readonly kind: "layer"; readonly layer: number }
  | { readonly kind: "stalled"; readonly silentUs: number }
  | { readonly kind: "moving" };

export class IncomingTransfer implements PlacedTransfer {
  readonly grant: number;
  readonly #remote: Remote;
  readonly #options: IncomingOptions;
  /** The sender's name for the transfer; 0 until its Offer came. */
  #offer: Offer | undefined;
  /** What plan and receiver were made for: the offer, or what was foretold of it. */
  #terms: Terms | undefined;
  #receiver: Receiver | undefined;
  #plan: LocalPlan | undefined;
  #placement: PlacementId | undefined;
  #revoking = false;
  #grantedUs = 0;
  /** Memory is to be granted again as soon as the old placement is revoked. */
  #replace = false;
  #generation = 0;
  /** The Fetch, over this connection; then so may be what follows from it. */
  #isSaid = false;
  /** Chunks came over a connection that is lost. */
  #hadChunks = false;
  /** Memory was granted over a connection that is lost. */
  #wasGranted = false;
  #resumed = 0;
  #failure: Failure | undefined;
  #tellPeer = false;
  /** Its sender's process is gone. */
  #orphaned = false;
  #placed = false;
  #ending = false;
  #ended = false;

  constructor(remote: Remote, options: IncomingOptions) {
    this.#remote = remote;
    this.#options = options;
    this.grant = options.grant;
    if (options.fetch !== undefined) this.#sayFetch(options.nowUs, options.fetch);
  }

  get ended(): boolean {
    return this.#ended;
  }
  get deadlineUs(): number {
    return this.#options.deadlineUs;
  }
  /** The sender's name for it, 0 if it has none or none any more. */
  get id(): number {
    return this.#orphaned ? 0 : (this.#offer?.id ?? 0);
  }
  get fetch(): number {
    return this.#options.fetch?.id ?? 0;
  }
  /** The sender has answered: the transfer is bound to that process and ends with it. */
  get met(): boolean {
    return this.#offer !== undefined || this.#hadChunks || (this.#revoking && this.startedMoving);
  }
  get needs(): Capability | "" {
    const { fetch } = this.#options;
    // Whoever knows of tenants knows of keys and ranges.
    if (fetch !== undefined && fetch.tenant !== "") return "tenants";
    const kind = fetch?.source.kind;
    return kind === "keys" || kind === "ranges" ? kind : "";
  }
  get startedMoving(): boolean {
    return (this.#receiver?.committedBytes ?? 0) > 0;
  }

  /** Before the remote's Hello only what every version knows. */
  #sayFetch(nowUs: number, fetch: Fetch): void {
    const isEarly = this.needs === "";
    this.#isSaid = this.#remote.up || (isEarly && this.#remote.greets);
    if (!this.#isSaid || !this.#sayFetchWithGrant(nowUs, fetch, isEarly)) this.#remote.send(fetch, isEarly);
  }

  /**
   * False: the offer cannot be foretold, or there is no memory to be had for it now; then it is waited for. Chunks of a holder whose offer was lost
   * are as good as the offer: that is said again, and is accepted with the chunks that are there.
   */
  #sayFetchWithGrant(nowUs: number, fetch: Fetch, isEarly: boolean): boolean {
    const { content } = this.#options;
    if (!this.#remote.isCapable("early") || this.#placement !== undefined || this.startedMoving || this.#failure !== undefined)
      return false;
    try {
      const terms = foretell(content, fetch, this.#remote);
      if (terms === undefined) return false;
      const plan = this.#prepare(nowUs, terms);
      if (plan.chunks.length === 0) {
        // Of nothing it would be all here at once, and nobody have said whether it is there.
        this.#terms = this.#plan = this.#receiver = undefined;
        return false;
      }
      const of = { grant: this.grant, generation: this.#generation + 1, order: plan.order };
      const message = encodeMessage({ ...fetch, grant: earlyGrantOf(content, terms, of) });
      if (!this.#place(nowUs)) return false;
      this.#remote.send(message, isEarly);
      return true;
    } catch (error) {
      // Whatever it is that cannot be: the holder's word on it counts, not what it said when it was last there.
      if (error instanceof KvferryError) return false;
      throw error;
    }
  }

  /** The sender's offer: the answer to our Fetch, a push, or the same again after a lost connection. */
  handleOffer(nowUs: number, offer: Offer): void {
    if (this.#ending || this.#failure !== undefined) return;
    if (this.#offer !== undefined) {
      this.handleResume(nowUs);
      return;
    }
    this.#offer = offer;
    if (this.#placed) return;
    this.#try(nowUs, () => {
      checkOffer(this.#options.content, offer, this.#options.fetch);
      const isForetold = this.#placement !== undefined && !this.#revoking && this.#terms !== undefined && sameTerms(this.#terms, offer);
      if (offer.generation === 0) {
        // The grant of the Fetch was not taken, nor will be: it is good for the same offer, and nobody else has it.
        if (isForetold) this.#sayAccept(offer);
        else this.#regrant(nowUs, offer);
      } else if (!isForetold || offer.generation !== this.#generation) {
        throw new KvferryError("protocol_error", "the offer takes a grant that it was not given");
      }
    });
  }

  /** Plan and receiver; those that are there stay if the terms do. */
  #prepare(nowUs: number, terms: Terms): LocalPlan {
    const { content } = this.#options;
    if (this.#plan !== undefined && this.#terms !== undefined && sameTerms(this.#terms, terms)) return this.#plan;
    if (this.startedMoving) throw new KvferryError("protocol_error", "the offer is not the one that chunks have come of");
    const plan = planContent("receiver", content, {
      layout: content.kind === "kv" ? this.#remote.layouts.parse(terms.layout) : undefined,
      firstHead: terms.firstHead,
      heads: terms.heads,
      chunkBytes: terms.chunkBytes,
      coding: terms.coding,
    });
    this.#terms = terms;
    this.#plan = plan;
    this.#receiver = new Receiver({
      nowUs,
      deadlineUs: this.#options.deadlineUs,
      stallUs: this.#remote.stallUs,
      chunkBytes: plan.chunkBytes,
      chunkLayer: plan.chunkLayer,
      layers: plan.layers.length,
    });
    return plan;
  }

  /** Places the memory in a new generation. False: the connection is away. Throws full, connection_lost. */
  #place(nowUs: number): boolean {
    const connection = this.#remote.connection;
    const [plan, receiver, terms] = [this.#plan, this.#receiver, this.#terms];
    if (connection === undefined || plan === undefined || receiver === undefined || terms === undefined) return false;
    const placement = this.#remote.link.place({
      direction: "in",
      connection,
      grant: this.grant,
      generation: this.#generation + 1,
      region: this.#options.content.region,
      planes: plan.planes,
      blockLists: plan.blockLists,
      chunks: plan.chunks,
      committed: receiver.committedChunks(),
      checksum: terms.checksum,
      ...(plan.coding === undefined ? {} : { coding: plan.coding }),
    });
    if (placement === "full") throw new KvferryError("full", "the link's placement table");
    this.#placement = placement;
    this.#grantedUs = nowUs;
    this.#generation += 1;
    this.#remote.bind(placement, this);
    if (this.#generation > 1) receiver.handleResumed(nowUs);
    if (this.#wasGranted && this.met) this.#resumed += 1;
    this.#wasGranted = false;
    this.#remote.touch(this);
    return true;
  }

  /** Grants the memory in a new generation, once nothing can land in the old one any more. */
  #regrant(nowUs: number, offer: Offer): void {
    if (this.#placement !== undefined) {
      this.#replace = true;
      this.#revoke();
      return;
    }
    this.#prepare(nowUs, offer);
    if (this.#place(nowUs)) this.#sayAccept(offer);
  }

  #sayAccept(offer: Offer): void {
    const { content } = this.#options;
    this.#remote.send({
      kind: "accept",
      id: offer.id,
      grant: this.grant,
      generation: this.#generation,
      committed: this.#receiver?.committed() ?? new Uint8Array(0),
      layout: content.kind === "kv" ? content.layoutBytes : new Uint8Array(0),
      order: this.#plan?.order ?? "",
    });
  }

  /** The sender is there again and wants to go on. */
  handleResume(nowUs: number): void {
    const offer = this.#offer;
    if (offer === undefined || this.#ending || this.#failure !== undefined || this.#placed) return;
    this.#try(nowUs, () => this.#regrant(nowUs, offer));
  }

  /** What cannot be done ends the transfer. */
  #try(nowUs: number, step: () => void): void {
    try {
      step();
    } catch (error) {
      if (!(error instanceof KvferryError)) throw error;
      // The connection is going: it is granted again over the next one.
      if (error.code === "connection_lost") return;
      this.cancel(nowUs, error.code, error.detail, true);
    }
  }

  handlePlacementEvent(nowUs: number, event: LinkEvent): void {
    if (event.kind === "committed") {
      this.#receiver?.handleCommitted(nowUs, event.chunk, event.bytes);
      this.#remote.path.handleCommitted(nowUs, event.bytes, this.#grantedUs);
    }
    if (event.kind === "rejected") this.#receiver?.handleRejected(nowUs, event.chunk, codeOfNumber(event.code), event.bytes);
    else if (event.kind === "revoked") this.#handleRevoked(nowUs);
    this.#remote.touch(this);
  }

  #handleRevoked(nowUs: number): void {
    assert(this.#placement !== undefined, "a revoked placement was placed");
    this.#remote.unbind(this.#placement);
    this.#placement = undefined;
    this.#revoking = false;
    this.#hadChunks ||= this.startedMoving;
    const replace = this.#replace;
    this.#replace = false;
    if (this.#ending) this.#finish(nowUs);
    else if (this.#placed) this.#handlePlaced(nowUs);
    else if (replace) this.handleResume(nowUs);
  }

  handleDown(nowUs: number): void {
    if (this.#ending) return;
    this.#replace = false;
    this.#isSaid = false;
    this.#wasGranted ||= this.#placement !== undefined;
    this.#receiver?.handleDisconnected(nowUs);
    this.#revoke();
    this.#remote.touch(this);
  }

  /** The remote was greeted, and will say its Hello. */
  handleGreeted(nowUs: number): void {
    const { fetch } = this.#options;
    const isOver = this.#ending || this.#placed || this.#failure !== undefined;
    if (fetch !== undefined && !isOver && !this.met && this.needs === "") this.#sayFetch(nowUs, fetch);
  }

  handleUp(nowUs: number): void {
    if (this.#ending) {
      // It may have been lost with the connection.
      if (this.#tellPeer) this.#sayCancel();
    } else if (this.#placed) return;
    else if (this.#offer !== undefined) this.#remote.send({ kind: "resume", id: this.id, grant: this.grant, fromReceiver: true });
    else if (this.#options.fetch !== undefined && !this.#isSaid) this.#sayFetch(nowUs, this.#options.fetch);
  }

  handleRestarted(nowUs: number): void {
    this.#orphaned = true;
    this.cancel(nowUs, "peer_restarted", "the peer came back as another process", false);
  }

  cancel(nowUs: number, code: ErrorCode, detail: string, tellPeer: boolean): void {
    // Who said so itself, or is another process by now, is told nothing, also not what was lost on the way.
    this.#tellPeer &&= tellPeer;
    if (this.#ending || this.#placed) return;
    this.#failure ??= { code, detail };
    this.#tellPeer = tellPeer;
    if (this.#receiver === undefined) this.#end(nowUs);
    else this.#receiver.handleCancel(nowUs, code);
    this.#remote.touch(this);
  }

  pump(nowUs: number): void {
    if (this.#ending || this.#placed) return;
    const receiver = this.#receiver;
    if (receiver === undefined) {
      if (nowUs >= this.#options.deadlineUs) this.cancel(nowUs, "deadline_exceeded", "the holder made no offer", true);
      return;
    }
    if (nowUs >= receiver.nextDeadlineUs()) receiver.handleTimeout(nowUs);
    for (let event = receiver.pollEvent(); event !== undefined; event = receiver.pollEvent()) {
      if (event.kind === "done") {
        this.#placed = true;
        if (this.#placement === undefined) this.#handlePlaced(nowUs);
        else this.#revoke();
        return;
      }
      if (event.kind === "failed") {
        this.#tellPeer ||= this.#failure === undefined;
        if (this.#offer === undefined) this.#failure ??= { code: event.code, detail: "the holder made no offer" };
        else this.#failure = failureOf(event.code, this.#failure, this.#options.content, this.#plan, (chunk) => receiver.has(chunk));
        this.#end(nowUs);
        return;
      }
      this.#options.onEvent(event);
    }
  }

  /** All bytes are in place and the grant is over: nothing can be written any more. */
  #handlePlaced(nowUs: number): void {
    this.#options.onPlaced((failure) => {
      this.#ending = true;
      if (failure !== undefined) this.#failure = { code: failure.code, detail: failure.detail };
      if (!this.#orphaned) {
        if (failure === undefined) this.#remote.send({ kind: "done", id: this.id, grant: this.grant, fetch: this.fetch }, this.#isSaid);
        else this.#sayCancel();
      }
      this.#finish(nowUs);
    });
  }

  #end(nowUs: number): void {
    this.#ending = true;
    if (this.#tellPeer) this.#sayCancel();
    if (this.#placement === undefined) this.#finish(nowUs);
    else this.#revoke();
  }

  #sayCancel(): void {
    const { code, detail } = this.#failure ?? { code: "internal" as const, detail: "" };
    const cancel = cancelOf({ id: this.id, fetch: this.fetch, grant: this.grant, fromReceiver: true }, new KvferryError(code, detail));
    this.#remote.send(cancel, this.#isSaid);
  }

  #revoke(): void {
    if (this.#placement === undefined || this.#revoking) return;
    this.#revoking = true;
    this.#remote.link.revoke(this.#placement);
  }

  #finish(nowUs: number): void {
    this.#ended = true;
    const { committedBytes: bytes = 0, receivedBytes: wireBytes = 0, rejected: retries = 0 } = this.#receiver ?? {};
    const counts = { bytes, wireBytes, retries, resumed: this.#resumed };
    const times = { startedUs: this.#options.nowUs, endedUs: nowUs };
    this.#options.onEnd(outcomeOf(times, this.#failure, this.#options.content, this.#plan, this.#terms?.coding, counts));
  }

  bytesOf(chunk: number): number {
    return this.#plan?.chunkBytes[chunk] ?? 0;
  }

  nextDeadlineUs(): number {
    if (this.#ending || this.#placed) return Number.POSITIVE_INFINITY;
    return this.#receiver?.nextDeadlineUs() ?? this.#options.deadlineUs;
  }
}
