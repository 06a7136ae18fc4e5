/**
 * The transfers with one remote: those that have not ended, in both directions, by what names them, and which of them have something to do; and how the last
 * ones ended, for whom that did not reach.
 */
import { assert } from "../check.ts";
import { codeOfNumber, KvferryError } from "../errors.ts";
import { limits } from "../limits.ts";
import type { PathLoad } from "../policy/path.ts";
import { cancelOf, EndedTransfers } from "./ended.ts";
import type { IncomingTransfer } from "./incoming.ts";
import type { OutgoingTransfer } from "./outgoing.ts";
import type { Accept, Cancel, Done, EarlyGrant, Fetch, Offer, Resume } from "./messages.ts";
import type { Outcome, PlacedTransfer, Remote } from "./transfer.ts";

/** Where an urgent transfer was others will be: for so long the path is kept ready for them. */
const URGENT_US = 5_000_000;
const NOBODY = new KvferryError("cancelled", "nobody waits for this fetch any more");

/** Who waits for the end. */
interface Ending {
  readonly onEnd: (outcome: Outcome) => void;
}

export class Ongoing {
  /** By this node's id of the offer. */
  readonly outgoing = new Map<number, OutgoingTransfer>();
  /** By grant. */
  readonly incoming = new Map<number, IncomingTransfer>();
  /** Fetches of the remote that the node is preparing an answer to, with the grant that came in each over this connection. */
  readonly preparing = new Map<number, EarlyGrant | undefined>();
  readonly received = new EndedTransfers("receiver");
  /** By this node's id of the fetch. */
  readonly fetched = new EndedTransfers("receiver");
  readonly sent = new EndedTransfers("sender");
  readonly #started = new Map<PlacedTransfer, number>();
  /** Until when an urgent transfer counts that was under way. */
  #urgentUntilUs = 0;
  readonly #dirty = new Set<PlacedTransfer>();
  #nextId = 1;

  get size(): number {
    return this.#started.size;
  }

  get idle(): boolean {
    return this.#started.size === 0 && this.preparing.size === 0;
  }

  /** For what is said first by this node: an offer, a fetch, a look-up. */
  newId(): number {
    const id = this.#nextId;
    this.#nextId = id === 0xffffffff ? 1 : id + 1;
    return id;
  }

  /** The remote's ids mean something else from now on. */
  forgetIds(): void {
    this.received.clear();
    this.fetched.clear();
    this.sent.clear();
    this.preparing.clear();
  }

  /**
   * The same question again after a lost connection: the offer is said again by its transfer, which takes no other grant than those that are answers
   * to it; or it is still being prepared, and may take the newest.
   */
  isAnswering({ id, grant }: Fetch): boolean {
    if (this.preparing.has(id)) {
      this.preparing.set(id, grant);
      return true;
    }
    for (const transfer of this.outgoing.values()) if (transfer.fetch === id) return true;
    return false;
  }

  /** False: it is a push that was not heard of before. */
  handleOffer(nowUs: number, offer: Offer, remote: Pick<Remote, "send">): boolean {
    const mine = [...this.incoming.values()].find(({ id, fetch }) => (offer.fetch === 0 ? id === offer.id : fetch === offer.fetch));
    if (mine !== undefined) mine.handleOffer(nowUs, offer);
    // Its chunks were faster: the Done of the Fetch has gone ahead over this connection.
    else if (offer.generation !== 0 && this.fetched.isDone(offer.fetch)) return true;
    else if (this.fetched.has(offer.fetch)) remote.send(this.fetched.answer(offer.fetch, offer.id));
    else if (offer.fetch !== 0) remote.send(cancelOf({ id: offer.id, fetch: 0, grant: 0, fromReceiver: true }, NOBODY));
    else if (this.received.has(offer.id)) remote.send(this.received.answer(offer.id));
    else return false;
    return true;
  }

  handleResume(nowUs: number, { id, grant, fromReceiver }: Resume, remote: Pick<Remote, "send">): void {
    if (fromReceiver) {
      // One that goes on has its own say over this connection.
      if (!this.outgoing.has(id)) remote.send(this.sent.answer(id));
      return;
    }
    const transfer = this.incoming.get(grant);
    if (transfer !== undefined && transfer.id === id) transfer.handleResume(nowUs);
    else remote.send(this.received.answer(id));
  }

  /** Of a transfer that has ended here meanwhile: the other side would wait for chunks until its deadline. */
  handleAccept(nowUs: number, accept: Accept, remote: Pick<Remote, "send">): void {
    const transfer = this.outgoing.get(accept.id);
    if (transfer === undefined) remote.send(this.sent.answer(accept.id));
    else transfer.handleAccept(nowUs, accept);
  }

  /** The last chunk may be there before the offer, which has no name for the receiver then but its own. */
  handleDone(nowUs: number, { id, fetch, grant }: Done): void {
    if (id !== 0) return this.outgoing.get(id)?.handleDone(nowUs);
    for (const transfer of this.outgoing.values())
      if (fetch !== 0 && transfer.fetch === fetch && transfer.grant === grant) transfer.handleDone(nowUs);
  }

  handleGreeted(nowUs: number): void {
    for (const transfer of this.incoming.values()) transfer.handleGreeted(nowUs);
  }

  /** `restarted`: another process listens there now. */
  handleUp(nowUs: number, restarted: boolean, remote: Pick<Remote, "isCapable">): void {
    if (restarted) this.forgetIds();
    for (const transfer of this.all()) {
      // What the former process has not heard of yet is said to the new one instead.
      if (restarted && transfer.met) transfer.handleRestarted(nowUs);
      else if (!refuseIncapable(nowUs, transfer, remote)) transfer.handleUp(nowUs);
    }
  }

  /** The connection is away, and what was granted over it has ended. */
  handleDown(nowUs: number): void {
    for (const id of this.preparing.keys()) this.preparing.set(id, undefined);
    for (const transfer of this.all()) transfer.handleDown(nowUs);
  }

  handleCancel(nowUs: number, { id, fetch, code, detail, fromReceiver }: Cancel): void {
    const reason = codeOfNumber(code);
    if (fromReceiver && id === 0) this.preparing.delete(fetch);
    const mine: Iterable<IncomingTransfer | OutgoingTransfer> = fromReceiver ? this.outgoing.values() : this.incoming.values();
    for (const transfer of mine) {
      // An id alone may be that of another transfer, if this process has started since.
      const named = id !== 0 ? transfer.id === id && (fetch === 0 || transfer.fetch === fetch) : fetch !== 0 && transfer.fetch === fetch;
      if (named) transfer.cancel(nowUs, reason, detail, false);
    }
  }

  all(): (OutgoingTransfer | IncomingTransfer)[] {
    return [...this.outgoing.values(), ...this.incoming.values()];
  }

  addOutgoing(nowUs: number, transfer: OutgoingTransfer): void {
    this.outgoing.set(transfer.id, transfer);
    this.#started.set(transfer, nowUs);
    this.#noteUrgent(nowUs, transfer);
  }

  addIncoming(nowUs: number, transfer: IncomingTransfer): void {
    assert(!this.incoming.has(transfer.grant), "grants are unique");
    this.incoming.set(transfer.grant, transfer);
    this.#started.set(transfer, nowUs);
  }

  endOutgoing(transfer: OutgoingTransfer, outcome: Outcome, { onEnd }: Ending): void {
    const { ok, code } = outcome;
    this.outgoing.delete(transfer.id);
    this.#forget(transfer);
    this.sent.add(transfer.id, { ok, code, grant: transfer.grant });
    onEnd(outcome);
  }

  endIncoming(transfer: IncomingTransfer, outcome: Outcome, { onEnd }: Ending): void {
    const { grant, id, fetch } = transfer;
    const { ok, code } = outcome;
    this.incoming.delete(grant);
    this.#forget(transfer);
    if (id !== 0) this.received.add(id, { ok, code, grant });
    if (fetch !== 0) this.fetched.add(fetch, { ok, code, grant });
    onEnd(outcome);
  }

  /** Chunks of it are on their way, or may be. */
  get isSending(): boolean {
    for (const { isMoving } of this.outgoing.values()) if (isMoving) return true;
    return false;
  }

  /** What waits to be sent; each transfer is looked at anew against its deadline. */
  load(nowUs: number, goodputBytesPerSecond: number): Pick<PathLoad, "backlogBytes" | "codedWireBytes" | "mostUrgent"> {
    let [backlogBytes, codedWireBytes] = [0, 0];
    const moving = [...this.outgoing.values()].filter(({ isMoving }) => isMoving);
    for (const transfer of moving) {
      if (transfer.isCoded) codedWireBytes += transfer.openWireBytes;
      else backlogBytes += transfer.waitingBytes;
      this.#noteUrgent(nowUs, transfer);
      transfer.reconsider(nowUs, goodputBytesPerSecond, moving.length);
    }
    if (nowUs < this.#urgentUntilUs) return { backlogBytes, codedWireBytes, mostUrgent: "urgent" };
    const isBackground = moving.length > 0 && moving.every(({ priority }) => priority === "background");
    return { backlogBytes, codedWireBytes, mostUrgent: isBackground ? "background" : "normal" };
  }

  #noteUrgent(nowUs: number, { priority }: OutgoingTransfer): void {
    if (priority === "urgent") this.#urgentUntilUs = nowUs + URGENT_US;
  }

  /** It has something to pump, or a new deadline. */
  touch(transfer: PlacedTransfer): void {
    this.#dirty.add(transfer);
  }

  /** Pumps what has something to do. `failure`: why the remote cannot be reached, if somebody dials it in vain. */
  turn(nowUs: number, failure: KvferryError | undefined): void {
    if (failure !== undefined) this.#failUnreachable(nowUs, failure);
    for (const transfer of this.#started.keys()) if (nowUs >= transfer.nextDeadlineUs()) this.#dirty.add(transfer);
    for (const transfer of this.#dirty) {
      this.#dirty.delete(transfer);
      transfer.pump(nowUs);
    }
  }

  /** Who never reached the remote need not wait for a long deadline, and hears why it did not: its engine can recompute meanwhile. */
  #failUnreachable(nowUs: number, { code, detail }: KvferryError): void {
    for (const [transfer, startedUs] of this.#started) {
      if (!transfer.startedMoving && nowUs >= unreachableUs(transfer, startedUs)) transfer.cancel(nowUs, code, detail, false);
    }
  }

  /** @param dialled the remote is away, and this node is the one that dials */
  nextDeadlineUs(nowUs: number, dialled: boolean): number {
    let next = Number.POSITIVE_INFINITY;
    for (const [transfer, startedUs] of this.#started) {
      next = Math.min(next, transfer.nextDeadlineUs());
      const failsUs = unreachableUs(transfer, startedUs);
      if (dialled && failsUs > nowUs) next = Math.min(next, failsUs);
    }
    return next;
  }

  #forget(transfer: PlacedTransfer): void {
    this.#started.delete(transfer);
    this.#dirty.delete(transfer);
  }
}

/** True: it needs what the remote cannot do, and has ended. */
export function refuseIncapable(nowUs: number, transfer: PlacedTransfer, remote: Pick<Remote, "isCapable">): boolean {
  const { needs } = transfer;
  if (needs === "" || remote.isCapable(needs)) return false;
  transfer.cancel(nowUs, "unsupported", `the peer's version has no ${needs}`, false);
  return true;
}

function unreachableUs({ deadlineUs }: PlacedTransfer, startedUs: number): number {
  return Math.min(startedUs + limits.connectTimeoutMs * 1000, deadlineUs);
}
