/**
 * One transfer that comes to this node: (Fetch,) Offer, Accept with a grant, chunks, Done. Joins the Receiver with the link. The grant's number stays, its
 * generation grows with every resume, so that nothing late can land. Its memory is released once, when the link says that nothing writes it any more.
 */
import { assert } from "../check.ts";
import { codeOfNumber, type ErrorCode, KvferryError } from "../errors.ts";
import type { LinkEvent, PlacementId } from "../link/link.ts";
import { Receiver } from "../session/receiver.ts";
import { type Content, headsOf, type KvContent, type LocalPlan, planContent } from "./content.ts";
import { cancelOf } from "./ended.ts";
import type { Capability } from "./greeting.ts";
import type { Fetch, Offer } from "./messages.ts";
import type { Outcome, PlacedTransfer, Remote } from "./transfer.ts";

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
  #receiver: Receiver | undefined;
  #plan: LocalPlan | undefined;
  #placement: PlacementId | undefined;
  #revoking = false;
  /** Memory is to be granted again as soon as the old placement is revoked. */
  #replace = false;
  #generation = 0;
  #failure: { readonly code: ErrorCode; readonly detail: string } | undefined;
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
    if (options.fetch !== undefined) remote.send(options.fetch);
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
    return this.#offer !== undefined;
  }
  get needs(): Capability | "" {
    const kind = this.#options.fetch?.source.kind;
    return kind === "keys" || kind === "ranges" ? kind : "";
  }
  get startedMoving(): boolean {
    return (this.#receiver?.committedBytes ?? 0) > 0;
  }

  /** The sender's offer: the answer to our Fetch, a push, or the same again after a lost connection. */
  handleOffer(nowUs: number, offer: Offer): void {
    if (this.#ending) return;
    if (this.#offer !== undefined) {
      this.handleResume(nowUs);
      return;
    }
    this.#offer = offer;
    try {
      this.#prepare(nowUs, offer);
      this.#grantMemory(nowUs);
    } catch (error) {
      if (!(error instanceof KvferryError)) throw error;
      // The connection is going: it is granted again over the next one.
      if (error.code === "connection_lost") return;
      this.cancel(nowUs, error.code, error.detail, true);
    }
  }

  #prepare(nowUs: number, offer: Offer): void {
    const { content, fetch } = this.#options;
    checkOffer(content, offer, fetch);
    this.#plan = planContent("receiver", content, {
      layout: content.kind === "kv" ? this.#remote.layouts.parse(offer.layout) : undefined,
      firstHead: offer.firstHead,
      heads: offer.heads,
      chunkBytes: offer.chunkBytes,
    });
    this.#receiver = new Receiver({
      nowUs,
      deadlineUs: this.#options.deadlineUs,
      stallUs: this.#remote.stallUs,
      chunkBytes: this.#plan.chunkBytes,
      chunkLayer: this.#plan.chunkLayer,
      layers: this.#plan.layers.length,
    });
  }

  /** Places the memory in a new generation and says so to the sender. */
  #grantMemory(nowUs: number): void {
    const connection = this.#remote.connection;
    const [plan, receiver, offer] = [this.#plan, this.#receiver, this.#offer];
    if (connection === undefined || plan === undefined || receiver === undefined || offer === undefined) return;
    const { content } = this.#options;
    const placement = this.#remote.link.place({
      direction: "in",
      connection,
      grant: this.grant,
      generation: this.#generation + 1,
      region: content.region,
      planes: plan.planes,
      blockLists: plan.blockLists,
      chunks: plan.chunks,
      committed: receiver.committedChunks(),
      checksum: offer.checksum,
    });
    if (placement === "full") throw new KvferryError("full", "the link's placement table");
    this.#placement = placement;
    this.#generation += 1;
    this.#remote.bind(placement, this);
    if (this.#generation > 1) receiver.handleResumed(nowUs);
    this.#remote.send({
      kind: "accept",
      id: offer.id,
      grant: this.grant,
      generation: this.#generation,
      committed: receiver.committed(),
      layout: content.kind === "kv" ? content.layoutBytes : new Uint8Array(0),
      order: plan.order,
    });
    this.#remote.touch(this);
  }

  /** The sender is there again and wants to go on. */
  handleResume(nowUs: number): void {
    if (this.#ending || this.#placed || this.#orphaned || this.#receiver === undefined) return;
    if (this.#placement !== undefined) {
      this.#replace = true;
      this.#revoke();
      return;
    }
    try {
      this.#grantMemory(nowUs);
    } catch (error) {
      if (!(error instanceof KvferryError)) throw error;
      // The connection is going: it is granted again over the next one.
      if (error.code === "connection_lost") return;
      this.cancel(nowUs, error.code, error.detail, true);
    }
  }

  handlePlacementEvent(nowUs: number, event: LinkEvent): void {
    if (event.kind === "committed") this.#receiver?.handleCommitted(nowUs, event.chunk);
    else if (event.kind === "rejected") this.#receiver?.handleRejected(nowUs, event.chunk, codeOfNumber(event.code));
    else if (event.kind === "revoked") this.#handleRevoked(nowUs);
    this.#remote.touch(this);
  }

  #handleRevoked(nowUs: number): void {
    assert(this.#placement !== undefined, "a revoked placement was placed");
    this.#remote.unbind(this.#placement);
    this.#placement = undefined;
    this.#revoking = false;
    const replace = this.#replace;
    this.#replace = false;
    if (this.#ending) this.#finish(nowUs);
    else if (this.#placed) this.#handlePlaced(nowUs);
    else if (replace) this.handleResume(nowUs);
  }

  handleDown(nowUs: number): void {
    if (this.#ending) return;
    this.#replace = false;
    this.#receiver?.handleDisconnected(nowUs);
    this.#revoke();
    this.#remote.touch(this);
  }

  handleUp(_nowUs: number): void {
    if (this.#ending) {
      // It may have been lost with the connection.
      if (this.#tellPeer) this.#sayCancel();
    } else if (this.#offer === undefined) {
      if (this.#options.fetch !== undefined) this.#remote.send(this.#options.fetch);
    } else if (!this.#placed) this.#remote.send({ kind: "resume", id: this.id, grant: this.grant, fromReceiver: true });
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
        this.#failure ??= { code: event.code, detail: "" };
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
        if (failure === undefined) this.#remote.send({ kind: "done", id: this.id, grant: this.grant });
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
    this.#remote.send(cancelOf({ id: this.id, fetch: this.fetch, grant: this.grant, fromReceiver: true }, new KvferryError(code, detail)));
  }

  #revoke(): void {
    if (this.#placement === undefined || this.#revoking) return;
    this.#revoking = true;
    this.#remote.link.revoke(this.#placement);
  }

  #finish(nowUs: number): void {
    this.#ended = true;
    this.#options.onEnd({
      ok: this.#failure === undefined,
      code: this.#failure?.code ?? "",
      detail: this.#failure?.detail ?? "",
      bytes: this.#receiver?.committedBytes ?? 0,
      wireBytes: this.#receiver?.receivedBytes ?? 0,
      chunks: this.#plan?.chunks.length ?? 0,
      retries: this.#receiver?.rejected ?? 0,
      resumed: Math.max(this.#generation - 1, 0),
      order: this.#plan?.order ?? "",
      startedUs: this.#options.nowUs,
      endedUs: nowUs,
    });
  }

  nextDeadlineUs(): number {
    if (this.#ending || this.#placed) return Number.POSITIVE_INFINITY;
    return this.#receiver?.nextDeadlineUs() ?? this.#options.deadlineUs;
  }
}

/** A part of the heads would leave the others' places as they were, and the blocks would look complete. */
function checkHeads({ layout, heads }: KvContent, offer: Offer): void {
  if (heads === undefined || headsOf(layout).count === 0) return;
  if (offer.firstHead === heads.first && offer.heads === heads.count) return;
  const offered = `${offer.heads} KV heads from ${offer.firstHead}`;
  throw new KvferryError("layout_unconvertible", `wanted ${heads.count} KV heads from ${heads.first}, the holder offers ${offered}`);
}

/** The offer must be of what was asked, into memory that is there. */
function checkOffer(content: Content, offer: Offer, fetch: Fetch | undefined): void {
  if (content.kind === "ranges") {
    const offered = offer.ranges?.ranges ?? [];
    const same = offered.length === content.ranges.length && offered.every((range, i) => range.bytes === content.ranges[i]?.bytes);
    if (!same) throw new KvferryError("protocol_error", "the offer's ranges are not those that were asked");
    return;
  }
  if (offer.ranges !== undefined) throw new KvferryError("protocol_error", "ranges offered for KV");
  if (offer.fingerprint !== content.fingerprint) {
    throw new KvferryError("fingerprint_mismatch", `offered ${offer.fingerprint.slice(0, 16)}, wanted ${content.fingerprint.slice(0, 16)}`);
  }
  if (fetch === undefined) return;
  checkHeads(content, offer);
  const same =
    offer.groups.length === content.groups.length &&
    offer.groups.every(({ group, tokens }, i) => group === content.groups[i]?.group && tokens === content.groups[i]?.tokens);
  if (!same)
    throw new KvferryError("invalid_argument", "the holder offers other groups or another number of tokens than there is room for");
}
