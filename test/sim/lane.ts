/**
 * One end of a virtual lane. Sending takes as long as the lane's rate says, and reads the memory at the last moment; an arriving chunk lies in memory
 * in part (as garbage, if faults say so) before it is verified and committed as a whole. Revoked memory is let go of a little later, not at once.
 */
import type { LaneInfo } from "../../transport/link/link.ts";
import { LEAST_SHARE, madeBy } from "./codecs.ts";
import { CODE, type Exchange, type Head, type Placement } from "./exchange.ts";
import type { Pipe, PipeEnd } from "./network.ts";
import { gather } from "./runs.ts";

const HEADER_BYTES = 48;
/** In 10,000: chunks that would not become less. */
const STORED_PARTS = 2_000;

interface Sending {
  readonly placement: Placement;
  readonly head: Head;
  /** It has given up its pin: what is left of the chunk goes out as zeros. */
  letGo: boolean;
}

interface Receiving {
  readonly placement: Placement;
  readonly head: Head;
}

interface Unanswered {
  placement: Placement | undefined;
  readonly head: Head;
  readonly submittedUs: number;
}

export class VirtualLane implements PipeEnd {
  readonly exchange: Exchange;
  readonly index: number;
  up = false;
  over = false;
  isResting = false;
  bytesSent = 0;
  bytesReceived = 0;
  /** Bytes a second; tuneLane may slow it. */
  rate: number;
  readonly #pipe: Pipe;
  readonly #side: 0 | 1;
  #sending: Sending | undefined;
  #receiving: Receiving | undefined;
  /** Of the chunk that is arriving and does not land. */
  #answer: { readonly ack: boolean; readonly code: number } | undefined;
  readonly #unanswered: Unanswered[] = [];

  constructor(exchange: Exchange, index: number, pipe: Pipe, side: 0 | 1, rate: number) {
    this.exchange = exchange;
    this.index = index;
    this.rate = rate;
    this.#pipe = pipe;
    this.#side = side;
    pipe.attach(side, this);
  }

  setUp(): void {
    if (this.over || this.up) return;
    this.up = true;
    this.exchange.link.emit({ kind: "laneUp", connection: this.exchange.id, lane: this.index });
    this.pump();
  }

  info(): LaneInfo {
    const { index: lane, bytesSent, bytesReceived, rate } = this;
    const unknown = { rttUs: 0, minRttUs: 0, retransmits: 0, lost: 0, congestionWindowBytes: 0, notSentBytes: 0, busyUs: 0 };
    const counted = { bytesDelivered: 0, bytesRetransmitted: 0 };
    const limited = { receiveWindowLimitedUs: 0, sendBufferLimitedUs: 0, congestionControl: "", unansweredBytes: 0, isReceiving: false };
    return { lane, bytesSent, bytesReceived, deliveryRateBytesPerSecond: rate, ...unknown, ...counted, ...limited };
  }

  /** To the other end. */
  tell(bytes: number, handle: (other: VirtualLane) => void): void {
    const { link } = this.exchange;
    this.#pipe.send(this.#side, bytes, () => {
      const other = link.otherLane(this.#pipe, this.#side);
      if (other !== undefined && !other.over) handle(other);
    });
  }

  /** An arriving chunk needs room for the event that will tell of it; one that is half here has it, or needs none. */
  isReady(): boolean {
    const { arrivals, options } = this.exchange.link;
    return this.#receiving !== undefined || this.#answer !== undefined || arrivals < options.eventsMax;
  }

  handleBroken(): void {
    this.end(CODE.laneLost);
  }

  end(code: number): void {
    if (this.over) return;
    this.over = true;
    const { exchange } = this;
    exchange.lanes.delete(this.index);
    this.#pipe.close(this.#side);
    for (const { placement, head } of this.#unanswered.splice(0)) {
      if (placement !== undefined) exchange.fail(placement, head.chunk, head.sequence, this.index, CODE.laneLost);
    }
    if (this.#sending !== undefined && !this.#sending.letGo) exchange.unpin(this.#sending.placement);
    this.#sending = undefined;
    this.#letGoOfReceiving();
    exchange.link.emit({ kind: "laneDown", connection: exchange.id, lane: this.index, code });
  }

  pump(): void {
    const { exchange } = this;
    const { link } = exchange;
    if (!this.up || this.over || this.isResting || this.#sending !== undefined || this.#unanswered.length >= link.options.unansweredChunks)
      return;
    const next = exchange.takeQueued();
    if (next === undefined) return;
    const { grant, generation } = next.to.spec;
    const head: Head = { grant, generation, chunk: next.chunk, sequence: next.sequence, ...this.#encode(next.to, next.chunk) };
    next.to.pins += 1;
    this.#sending = { placement: next.to, head, letGo: false };
    this.#unanswered.push({ placement: next.to, head, submittedUs: next.submittedUs });
    link.watchQueue("chunks without an answer on a lane", this.#unanswered.length, link.options.unansweredChunks);
    this.tell(HEADER_BYTES, (other) => other.handleHead(head));
    const sendUs = 1 + Math.ceil((head.bytes * 1_000_000) / this.rate);
    link.world.after(sendUs, () => this.#finishSending());
    if (!link.draw(link.faults.breakLane)) return;
    const first = link.random.below(2) as 0 | 1;
    link.world.after(link.random.below(sendUs + 500), () => this.#pipe.break(first));
  }

  #encode({ spec }: Placement, chunk: number): Pick<Head, "bytes" | "coded"> {
    const bytes = spec.chunks[chunk]?.bytes ?? 0;
    const coded = madeBy(spec, chunk);
    const isStored = coded === "" || bytes < 2 || this.exchange.link.draw(STORED_PARTS);
    return isStored ? { bytes, coded: "" } : { bytes: Math.ceil(bytes * LEAST_SHARE), coded };
  }

  #finishSending(): void {
    const sending = this.#sending;
    if (this.over || sending === undefined) return;
    const { exchange } = this;
    const { link } = exchange;
    if (link.host.stoppedUntilUs > link.world.nowUs) return link.world.at(link.host.stoppedUntilUs, () => this.#finishSending());
    const { placement, head, letGo } = sending;
    const whole = !letGo && !placement.revoked;
    const payload = whole
      ? gather(placement.spec.region.view, placement.runs(head.chunk), placement.bytesOf(head.chunk))
      : new Uint8Array(0);
    const flipped = whole && link.draw(link.faults.flip);
    if (flipped) payload[link.random.below(payload.length)]! ^= 1 << link.random.below(8);
    this.tell(head.bytes, (other) => other.handleEnd(head, whole ? payload : undefined, flipped));
    this.bytesSent += head.bytes;
    this.#sending = undefined;
    if (!letGo) exchange.unpin(placement);
    this.pump();
  }

  handleHead(head: Head): void {
    const arrival = this.exchange.arrive(this, head);
    if (arrival === "violation") return this.end(CODE.protocolError);
    if ("ack" in arrival) {
      this.#answer = arrival;
      return;
    }
    this.#receiving = { placement: arrival, head };
    this.exchange.link.countArrival(1);
    if (this.exchange.link.draw(this.exchange.link.faults.shortWrite)) this.#scribble();
  }

  /** Some of it is there, not verified, not even right: what memory looks like when a lane dies in the middle. */
  #scribble(): void {
    if (this.#receiving === undefined) return;
    const { placement, head } = this.#receiving;
    const { link } = this.exchange;
    link.write(placement, head.chunk, link.random.bytes(link.random.between(0, placement.bytesOf(head.chunk))));
  }

  /** `payload` undefined: the sender gave the chunk up. */
  handleEnd(head: Head, payload: Uint8Array | undefined, flipped: boolean): void {
    const { exchange } = this;
    this.bytesReceived += head.bytes;
    const receiving = this.#receiving;
    this.#receiving = undefined;
    const refused = this.#answer;
    this.#answer = undefined;
    if (receiving === undefined) return this.#answerWith(head, refused ?? { ack: false, code: CODE.grantUnknown });
    const { placement } = receiving;
    if (placement.revoked) {
      exchange.link.countArrival(-1);
      exchange.leave(placement, head, false, this.index);
      return this.#answerWith(head, { ack: false, code: CODE.grantUnknown });
    }
    const isOurs = head.coded === "" || head.coded === madeBy(placement.spec, head.chunk);
    if (payload !== undefined && isOurs) exchange.link.write(placement, head.chunk, payload);
    const wrong = flipped && placement.spec.checksum;
    const code = payload === undefined ? CODE.cancelled : wrong ? CODE.checksumMismatch : isOurs ? 0 : CODE.codecFailed;
    const { chunk, bytes } = head;
    if (code !== 0) exchange.link.emit({ kind: "rejected", placement: placement.id, chunk, lane: this.index, bytes, code });
    exchange.leave(placement, head, code === 0, this.index);
    this.#answerWith(head, { ack: code === 0, code });
  }

  #answerWith(head: Head, answer: { readonly ack: boolean; readonly code: number }): void {
    const { link } = this.exchange;
    if (answer.code !== 0) link.options.watch.onCode(answer.code, answer.ack ? "ACK" : "NACK");
    this.tell(HEADER_BYTES, (other) => other.handleAnswer(head, answer.ack, answer.code));
  }

  handleAnswer({ grant, generation, chunk, sequence }: Head, ack: boolean, code: number): void {
    const { exchange } = this;
    const at = this.#unanswered.findIndex(
      ({ head }) => head.grant === grant && head.generation === generation && head.chunk === chunk && head.sequence === sequence,
    );
    const [entry] = at < 0 ? [] : this.#unanswered.splice(at, 1);
    if (entry === undefined) return this.end(CODE.protocolError);
    const { placement, submittedUs } = entry;
    if (placement !== undefined && !ack) exchange.fail(placement, chunk, sequence, this.index, code);
    else if (placement !== undefined) {
      exchange.answer(placement, chunk);
      const durationUs = exchange.link.world.nowUs - submittedUs;
      const { bytes } = entry.head;
      exchange.link.emit({ kind: "acked", placement: placement.id, chunk, sequence, lane: this.index, bytes, durationUs });
    }
    this.pump();
  }

  /** Chunks without an answer fail now; a chunk that is being moved is let go of when the lane gets to it. */
  handleRevoked(placement: Placement): void {
    const { exchange } = this;
    const { link } = exchange;
    for (const entry of this.#unanswered) {
      if (entry.placement !== placement) continue;
      entry.placement = undefined;
      exchange.fail(placement, entry.head.chunk, entry.head.sequence, this.index, CODE.cancelled);
    }
    const sending = this.#sending;
    if (sending?.placement === placement) {
      link.world.after(link.letGoUs(), () => {
        if (this.#sending !== sending || sending.letGo) return;
        sending.letGo = true;
        exchange.unpin(placement);
      });
    }
    const receiving = this.#receiving;
    if (receiving?.placement !== placement) return;
    link.world.after(link.letGoUs(), () => {
      if (this.#receiving !== receiving) return;
      // The last bytes that were on their way into it.
      this.#scribble();
      this.#answer = { ack: false, code: CODE.grantUnknown };
      this.#letGoOfReceiving();
    });
  }

  #letGoOfReceiving(): void {
    const receiving = this.#receiving;
    this.#receiving = undefined;
    if (receiving === undefined) return;
    this.exchange.link.countArrival(-1);
    this.exchange.leave(receiving.placement, receiving.head, false, this.index);
  }
}
