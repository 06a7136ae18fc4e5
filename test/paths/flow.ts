/** One TCP connection through the link: what it has under way, what comes back of it and when, and what its kernel counts. */
import type { LaneInfo } from "../../transport/link/link.ts";
import type { Control, Turn } from "./control.ts";
import { type HostSpec, SEGMENT } from "./spec.ts";

const TIMEOUT_LEAST_US = 200_000;
const TIMEOUT_MOST_US = 120_000_000;

export class Flow {
  readonly id: number;
  readonly control: Control;
  /** From when on it may send: its handshakes are over. */
  readonly openUs: number;
  /** Bytes a second that the socket is held to; 0 = none. */
  paceBytesPerSecond = 0;
  /** Gets no more to send, and ends when nothing is under way. */
  isClosing = false;
  /** What entered a link that was dead, which nothing will tell of. */
  #vanishedBytes = 0;
  #inflightBytes = 0;
  #repairBytes = 0;
  /** In the buffer of the socket, before the wire. */
  unsentBytes = 0;
  sentBytes = 0;
  deliveredBytes = 0;
  repeatedBytes = 0;
  #busyUs = 0;
  #receiverUs = 0;
  #bufferUs = 0;
  #rttUs: number;
  #minRttUs: number;
  #heardUs: number;
  #backoff = 0;
  readonly #host: HostSpec;
  /** What comes back, by step modulo their length. */
  readonly #acks: Float64Array;
  readonly #losses: Float64Array;
  /** In the queue of the bottleneck, by the step in which it entered. */
  readonly #queue: Float64Array;
  readonly #turn: Turn = { nowUs: 0, us: 0, ackedBytes: 0, lostBytes: 0, rttUs: 0, inflightBytes: 0, isFull: true };

  /** `rttUs` of its handshake; `steps`: the most until an acknowledgement, or the news of a loss, is here, and in the queue. */
  constructor(
    id: number,
    control: Control,
    host: HostSpec,
    openUs: number,
    rttUs: number,
    steps: { ack: number; loss: number; queue: number },
  ) {
    this.id = id;
    this.control = control;
    this.#host = host;
    this.openUs = openUs;
    this.#heardUs = openUs;
    this.#rttUs = rttUs;
    this.#minRttUs = rttUs;
    this.#acks = new Float64Array(steps.ack + 1);
    this.#losses = new Float64Array(steps.loss + 1);
    this.#queue = new Float64Array(steps.queue + 1);
  }

  get inflightBytes(): number {
    return this.#inflightBytes;
  }

  get isOver(): boolean {
    return this.isClosing && this.#inflightBytes + this.#repairBytes < 1;
  }

  /**
   * What comes back in this step, and what the sender makes of it. `isUp`: what vanished in a dead link is noticed by what went after it.
   * `isShort`: all of a step comes back with the next, and the round trip is less than a step.
   */
  receive(nowUs: number, us: number, step: number, rttUs: number, isUp: boolean, isShort: boolean): void {
    const acked = take(this.#acks, step);
    let lost = take(this.#losses, step);
    const before = this.#inflightBytes;
    if (acked > 0) {
      if (isUp && this.#vanishedBytes > 0) {
        lost += this.#vanishedBytes;
        this.#vanishedBytes = 0;
      }
      this.#heardUs = nowUs;
      this.#backoff = 0;
      this.#rttUs = rttUs;
      this.#minRttUs = Math.min(this.#minRttUs, rttUs);
    }
    this.#inflightBytes = Math.max(this.#inflightBytes - acked - lost, 0);
    this.#repairBytes += lost;
    this.deliveredBytes += acked;
    const turn = this.#turn;
    turn.nowUs = nowUs;
    turn.us = us;
    turn.ackedBytes = acked;
    turn.lostBytes = lost;
    turn.rttUs = rttUs;
    turn.inflightBytes = isShort ? Math.min(before * (rttUs / us), before) : this.#inflightBytes;
    if (nowUs < this.openUs) return;
    this.control.handleTurn(turn);
    if (this.#inflightBytes > 0) this.#lookForTimeout(nowUs);
    else this.#heardUs = nowUs;
  }

  /** What may be under way. */
  get windowBytes(): number {
    return Math.min(this.control.windowBytes, this.#host.receiveWindowBytes, this.#host.sendBufferBytes);
  }

  /** How fast it goes out at most, by its own pace, the socket's, and the processor's: bytes a second. */
  get rateBound(): number {
    const own = this.control.paceBytesPerSecond;
    let most = own > 0 ? own : Number.POSITIVE_INFINITY;
    if (this.paceBytesPerSecond > 0) most = Math.min(most, this.paceBytesPerSecond);
    if (this.#host.laneBytesPerSecond > 0) most = Math.min(most, this.#host.laneBytesPerSecond);
    return most;
  }

  /** What would go out in a step of `us`, whatever there is to send. `rounds`: windows that fit a step; 0 = it is part of one. */
  allowance(nowUs: number, us: number, rounds: number): number {
    if (nowUs < this.openUs) return 0;
    const window = this.windowBytes * (rounds > 0 ? rounds : 1) - this.#inflightBytes;
    return Math.max(Math.min(window, (this.rateBound * us) / 1_000_000), 0);
  }

  /** So much goes out, repeats first; `isFull`: no lack of something to send. Returns how many of the bytes are new. */
  send(us: number, bytes: number, isFull: boolean): number {
    const repeated = Math.min(bytes, this.#repairBytes);
    this.#repairBytes -= repeated;
    this.repeatedBytes += repeated;
    this.sentBytes += bytes;
    this.#inflightBytes += bytes;
    this.#turn.isFull = isFull;
    if (this.#inflightBytes > 0 || bytes > 0) this.#busyUs += us;
    if (this.#turn.isFull) this.#countLimits(us);
    return bytes - repeated;
  }

  enter(step: number, bytes: number): void {
    this.#queue[step % this.#queue.length]! += bytes;
  }

  /** So much of what entered in `step` leaves the queue. */
  leave(step: number, part: number): number {
    const slot = step % this.#queue.length;
    const bytes = this.#queue[slot]! * part;
    this.#queue[slot]! -= bytes;
    return bytes;
  }

  /** What left the bottleneck is acknowledged in step `step`. */
  acknowledge(step: number, bytes: number): void {
    this.#acks[step % this.#acks.length]! += bytes;
  }

  /** What did not make it is noticed in step `step`. */
  lose(step: number, bytes: number): void {
    this.#losses[step % this.#losses.length]! += bytes;
  }

  vanish(bytes: number): void {
    this.#vanishedBytes += bytes;
  }

  get repairBytes(): number {
    return this.#repairBytes;
  }

  info(): LaneInfo {
    return {
      lane: this.id,
      bytesSent: this.sentBytes,
      bytesReceived: 0,
      bytesDelivered: this.deliveredBytes,
      bytesRetransmitted: this.repeatedBytes,
      deliveryRateBytesPerSecond: 0,
      rttUs: Math.round(this.#rttUs),
      minRttUs: Math.round(this.#minRttUs),
      retransmits: Math.round(this.repeatedBytes / SEGMENT),
      lost: 0,
      congestionWindowBytes: this.control.windowBytes,
      notSentBytes: Math.round(this.unsentBytes),
      busyUs: Math.round(this.#busyUs),
      receiveWindowLimitedUs: Math.round(this.#receiverUs),
      sendBufferLimitedUs: Math.round(this.#bufferUs),
      congestionControl: this.control.name,
      unansweredBytes: 0,
      isReceiving: false,
    };
  }

  #countLimits(us: number): void {
    const { receiveWindowBytes, sendBufferBytes } = this.#host;
    const least = Math.min(receiveWindowBytes, sendBufferBytes);
    if (this.#inflightBytes < least * 0.99 || this.control.windowBytes <= least) return;
    if (receiveWindowBytes <= sendBufferBytes) this.#receiverUs += us;
    else this.#bufferUs += us;
  }

  #lookForTimeout(nowUs: number): void {
    const timeoutUs = Math.min((this.#rttUs + TIMEOUT_LEAST_US) * (2 ** (this.#backoff + 1) - 1), TIMEOUT_MOST_US);
    if (nowUs - this.#heardUs < timeoutUs) return;
    this.#backoff += 1;
    const lost = this.#inflightBytes;
    this.#vanishedBytes = 0;
    this.#inflightBytes = 0;
    this.#repairBytes += lost;
    this.control.handleTimeout(lost);
  }
}

function take(ring: Float64Array, step: number): number {
  const slot = step % ring.length;
  const bytes = ring[slot]!;
  ring[slot] = 0;
  return bytes;
}
