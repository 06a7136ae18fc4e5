/**
 * A link in steps of a fraction of its round trip: flows put bytes into one queue that drops what it has no room for, the link takes them out at its
 * rate and loses some, and a round trip later their senders hear of it. What entered in one step leaves together. Where the round trip is less than a step,
 * the queue is where the windows of all flows put it, at once.
 */
import assert from "node:assert/strict";
import type { Random } from "../sim/random.ts";
import { Bbr } from "./bbr.ts";
import { poisson, uniform } from "./chance.ts";
import { pieceBytes } from "./control.ts";
import { Cubic } from "./cubic.ts";
import { Flow } from "./flow.ts";
import { type ControlName, type HostSpec, type LinkSpec, OPEN_HOST, PACKET, SEGMENT } from "./spec.ts";

const STEP_LEAST_US = 1_000;
const STEPS_OF_ROUND = 8;
/** A pure acknowledgement has 52 bytes and stands for two packets. */
const ACK_PART = (2 * SEGMENT) / 52;
const QUEUE_STEPS_MOST = 2_000;
const FLOWS_MOST = 256;
const MEET_TURNS = 12;

export class Network {
  readonly spec: LinkSpec;
  readonly stepUs: number;
  /** Of a round trip without a queue; 0: the round trip is shorter than a step. */
  readonly slots: number;
  ours: Flow[] = [];
  readonly foreign: Flow[] = [];
  nowUs = 0;
  /** Payload bytes that wait. */
  queuedBytes = 0;
  #step = 0;
  readonly #random: Random;
  readonly #queueSteps: number;
  readonly #delays: Float64Array;
  /** In the queue: what entered in each step that is not through, by step modulo their length, and the first of them. */
  readonly #batches: Float64Array;
  #firstBatch = 1;
  #change = 0;
  #loops = 0;
  #bitsPerSecond: number;
  #upSinceUs = 0;
  #flows: Flow[] = [];
  /** By flow: bytes that it would send in this step; where steps are long, its window and the most it may send a second besides. */
  readonly #wants = new Float64Array(FLOWS_MOST);
  readonly #windows = new Float64Array(FLOWS_MOST);
  readonly #rates = new Float64Array(FLOWS_MOST);

  constructor(spec: LinkSpec, random: Random) {
    this.spec = spec;
    this.#random = random;
    this.slots = Math.min(Math.floor(spec.rttUs / STEP_LEAST_US), STEPS_OF_ROUND);
    this.stepUs = this.slots > 0 ? spec.rttUs / this.slots : STEP_LEAST_US;
    this.#bitsPerSecond = spec.bitsPerSecond;
    this.#delays = new Float64Array(this.slots + 1);
    const slowest = spec.timeline.reduce(
      (least, { bitsPerSecond: bits }) => (bits > 0 ? Math.min(least, bits) : least),
      spec.bitsPerSecond,
    );
    const queueUs = (spec.queueBytes * 8_000_000) / slowest;
    this.#queueSteps = this.slots > 0 ? Math.min(Math.ceil(queueUs / this.stepUs) + 2, QUEUE_STEPS_MOST) : 0;
    this.#batches = new Float64Array(this.#queueSteps + 1);
    for (let flow = 0; flow < spec.foreignFlows; flow++) this.foreign.push(this.#newFlow(flow, spec.foreignControl, OPEN_HOST, 0));
    this.#flows = this.foreign;
  }

  /** Payload bytes a second that the link takes now; 0: it is dead. */
  get capacity(): number {
    return (Math.min(this.#bitsPerSecond, this.spec.reverseBitsPerSecond * ACK_PART) / 8) * (SEGMENT / PACKET);
  }

  get rttUs(): number {
    const { capacity } = this;
    return this.spec.rttUs + (capacity > 0 ? (this.queuedBytes * 1_000_000) / capacity : 0);
  }

  openOurs(lane: number, openUs: number): void {
    this.ours = [...this.ours, this.#newFlow(lane, this.spec.control, this.spec.host, openUs)];
    this.#flows = [...this.ours, ...this.foreign];
  }

  /** One step. `supplyBytes`: what our flows may send of new bytes, together. Returns how many they did. */
  step(supplyBytes: number): number {
    this.#play();
    this.nowUs += this.stepUs;
    this.#step += 1;
    this.#receive();
    const isFull = this.#want(supplyBytes);
    if (this.capacity <= 0) return this.#vanish(isFull);
    return this.slots > 0 ? this.#serve(isFull) : this.#settle(isFull);
  }

  #newFlow(id: number, name: ControlName, host: HostSpec, openUs: number): Flow {
    assert(this.#flows.length < FLOWS_MOST, "so many flows have room");
    const rttUs = this.rttUs;
    const control = name === "bbr" ? new Bbr(this.#random.below(7), rttUs, openUs) : new Cubic(rttUs);
    return new Flow(id, control, host, openUs, rttUs, { ack: this.slots, loss: this.slots + this.#queueSteps, queue: this.#queueSteps });
  }

  /** The link's own changes until now. */
  #play(): void {
    const { timeline, loopUs } = this.spec;
    if (loopUs > 0 && this.nowUs >= (this.#loops + 1) * loopUs) {
      this.#loops += 1;
      this.#change = 0;
    }
    const startUs = this.#loops * loopUs;
    for (; this.#change < timeline.length && startUs + timeline[this.#change]!.us <= this.nowUs; this.#change++) {
      const wasDead = this.#bitsPerSecond === 0;
      this.#bitsPerSecond = timeline[this.#change]!.bitsPerSecond;
      if (wasDead && this.#bitsPerSecond > 0) this.#upSinceUs = this.nowUs;
      if (!wasDead && this.#bitsPerSecond === 0) this.#empty();
    }
  }

  /** What waits for a link that has died is lost with it. */
  #empty(): void {
    for (; this.#firstBatch <= this.#step; this.#firstBatch++) {
      for (const flow of this.#flows) flow.vanish(flow.leave(this.#firstBatch, 1));
      this.#batches[this.#firstBatch % this.#batches.length] = 0;
    }
    this.queuedBytes = 0;
  }

  #receive(): void {
    const slot = this.#step % this.#delays.length;
    const rttUs = this.spec.rttUs + this.#delays[slot]! + (this.spec.jitterUs > 0 ? uniform(this.#random) * this.spec.jitterUs : 0);
    const isUp = this.capacity > 0 && this.nowUs >= this.#upSinceUs + rttUs;
    let isAnyOver = false;
    for (const flow of this.#flows) {
      flow.receive(this.nowUs, this.stepUs, this.#step, rttUs, isUp, this.slots === 0);
      isAnyOver ||= flow.isOver;
    }
    if (!isAnyOver) return;
    this.ours = this.ours.filter(({ isOver }) => !isOver);
    this.#flows = [...this.ours, ...this.foreign];
  }

  /** What each flow would send in this step; false: ours have not enough to send. */
  #want(supplyBytes: number): boolean {
    const { rttUs } = this;
    const rounds = this.slots > 0 ? 0 : this.stepUs / rttUs;
    let fresh = 0;
    for (let at = 0; at < this.#flows.length; at++) {
      const flow = this.#flows[at]!;
      const want = flow.allowance(this.nowUs, this.stepUs, rounds);
      const own = at < this.ours.length;
      this.#wants[at] = own && flow.isClosing ? Math.min(want, flow.repairBytes) : want;
      if (own) fresh += Math.max(this.#wants[at]! - flow.repairBytes, 0);
    }
    if (fresh <= supplyBytes) return true;
    const part = supplyBytes / fresh;
    for (let at = 0; at < this.ours.length; at++) {
      const { repairBytes } = this.ours[at]!;
      const want = this.#wants[at]!;
      this.#wants[at] = Math.min(want, repairBytes) + Math.max(want - repairBytes, 0) * part;
    }
    return false;
  }

  #vanish(isFull: boolean): number {
    let taken = 0;
    for (let at = 0; at < this.#flows.length; at++) {
      const flow = this.#flows[at]!;
      const bytes = this.#wants[at]!;
      flow.vanish(bytes);
      const fresh = flow.send(this.stepUs, bytes, isFull || at >= this.ours.length);
      if (at < this.ours.length) taken += fresh;
    }
    return taken;
  }

  /** Steps shorter than a round trip: what waits, what leaves, what has no room. */
  #serve(isFull: boolean): number {
    const { capacity, stepUs } = this;
    const udp = (payloadOf(this.spec.udpBitsPerSecond / 8) * stepUs) / 1_000_000;
    const served = (capacity * stepUs) / 1_000_000;
    let arrived = udp;
    for (let at = 0; at < this.#flows.length; at++) arrived += this.#wants[at]!;
    const waiting = this.queuedBytes + arrived;
    const dropped = Math.max(waiting - served - payloadOf(this.spec.queueBytes), 0);
    const dropPart = arrived > 0 ? Math.min(dropped / arrived, 1) : 0;
    const lossStep = this.#step + this.slots + Math.min(Math.round(((this.queuedBytes / capacity) * 1_000_000) / stepUs), this.#queueSteps);
    let taken = 0;
    for (let at = 0; at < this.#flows.length; at++) {
      const flow = this.#flows[at]!;
      const bytes = this.#wants[at]!;
      const fresh = flow.send(stepUs, bytes, isFull || at >= this.ours.length);
      if (at < this.ours.length) taken += fresh;
      if (dropPart > 0) flow.lose(lossStep, bytes * dropPart);
      flow.enter(this.#step, bytes * (1 - dropPart));
    }
    this.#batches[this.#step % this.#batches.length] = arrived * (1 - dropPart);
    const left = this.#leave(served);
    this.queuedBytes = Math.max(this.queuedBytes + arrived * (1 - dropPart) - left, 0);
    this.#delays[this.#step % this.#delays.length] = (this.queuedBytes * 1_000_000) / capacity;
    return taken;
  }

  /** Takes up to `served` bytes out of the queue, oldest first; returns how many there were. */
  #leave(served: number): number {
    let left = 0;
    while (this.#firstBatch <= this.#step && served - left > 1e-6) {
      const slot = this.#firstBatch % this.#batches.length;
      const batch = this.#batches[slot]!;
      // The oldest has no place in the ring any more: it goes whatever the rate.
      const isWhole = batch <= served - left || this.#step - this.#firstBatch >= this.#queueSteps;
      const part = isWhole ? 1 : (served - left) / batch;
      for (const flow of this.#flows) this.#arrive(flow, flow.leave(this.#firstBatch, part));
      left += batch * part;
      this.#batches[slot] = isWhole ? 0 : batch * (1 - part);
      if (!isWhole) break;
      this.#firstBatch += 1;
    }
    return left;
  }

  /** Steps longer than a round trip: the queue is where windows and paces of all flows meet the rate of the link. */
  #settle(isFull: boolean): number {
    const { capacity, stepUs } = this;
    const udp = payloadOf(this.spec.udpBitsPerSecond / 8);
    for (let at = 0; at < this.#flows.length; at++) {
      const flow = this.#flows[at]!;
      this.#windows[at] = flow.windowBytes;
      const isFree = at >= this.ours.length || (isFull && !flow.isClosing);
      this.#rates[at] = isFree ? flow.rateBound : (this.#wants[at]! * 1_000_000) / stepUs;
    }
    const before = this.queuedBytes;
    const most = payloadOf(this.spec.queueBytes);
    // The queue goes to where as much enters as leaves, as fast as bytes can enter and leave.
    const meeting = this.#meet(udp, most);
    const moved = before + ((this.#offered(this.rttUs) + udp - capacity) * stepUs) / 1_000_000;
    this.queuedBytes = moved > before ? Math.min(moved, meeting) : Math.max(moved, meeting);
    const tooMuch = meeting === most ? Math.max(moved - most, 0) : 0;
    const { rttUs } = this;
    const offered = Math.max(((this.#offered(rttUs) + udp) * stepUs) / 1_000_000, Number.EPSILON);
    const leavePart = Math.min((capacity * stepUs) / 1_000_000, before + offered) / offered;
    let taken = 0;
    for (let at = 0; at < this.#flows.length; at++) {
      const flow = this.#flows[at]!;
      const bytes = this.#wants[at]! > 0 ? (this.#rateOf(at, rttUs) * stepUs) / 1_000_000 : 0;
      const left = bytes * leavePart;
      // A sender that slows down for losses does so at the first, a round trip later, and not for each round of the step.
      const drops = (bytes / offered) * tooMuch;
      const dropped = flow.control.name === "cubic" ? Math.min(drops, SEGMENT) : drops;
      const fresh = flow.send(stepUs, left + dropped, isFull || at >= this.ours.length);
      if (at < this.ours.length) taken += fresh;
      flow.lose(this.#step + 1, dropped);
      this.#arrive(flow, left);
    }
    this.#delays[0] = rttUs - this.spec.rttUs;
    return taken;
  }

  /** Payload in the queue at which as much enters as leaves; all that it holds if more enters even then. */
  #meet(udp: number, most: number): number {
    const { capacity } = this;
    const isTooMuch = (bytes: number): boolean => this.#offered(this.spec.rttUs + (bytes * 1_000_000) / capacity) + udp > capacity;
    if (!isTooMuch(0)) return 0;
    if (isTooMuch(most)) return most;
    let low = 0;
    let high = most;
    for (let turn = 0; turn < MEET_TURNS; turn++) {
      const middle = (low + high) / 2;
      if (isTooMuch(middle)) low = middle;
      else high = middle;
    }
    return high;
  }

  /** Of one flow, and of all: bytes a second where a round trip takes so long. */
  #rateOf(at: number, rttUs: number): number {
    return Math.min(this.#rates[at]!, (this.#windows[at]! * 1_000_000) / rttUs);
  }

  #offered(rttUs: number): number {
    let sum = 0;
    for (let at = 0; at < this.#flows.length; at++) if (this.#wants[at]! > 0) sum += this.#rateOf(at, rttUs);
    return sum;
  }

  /** Through the bottleneck: what the link does not lose on its way comes to the receiver, and the sender hears of it a round trip later. */
  #arrive(flow: Flow, bytes: number): void {
    const lost = bytes > 0 ? Math.min(this.#lost(flow, bytes / SEGMENT) * SEGMENT, bytes) : 0;
    const step = this.#step + Math.max(this.slots, 1);
    flow.acknowledge(step, bytes - lost);
    if (lost > 0) flow.lose(step, lost);
  }

  /** Packets of a flow that the link loses of so many. */
  #lost(flow: Flow, packets: number): number {
    const { loss, burstBegins, burstEnds, rttUs } = this.spec;
    const single = poisson(this.#random, packets * loss);
    if (burstBegins === 0) return single;
    // Of a burst each flow loses what of its packets stand in a row; the rest is of others.
    const burst = 1 / burstEnds;
    const row = this.#flows.length === 1 ? burst : Math.min(pieceBytes((flow.windowBytes * 1_000_000) / rttUs) / SEGMENT, burst);
    return single + poisson(this.#random, (packets * burstBegins * burst) / row) * row;
  }
}

function payloadOf(bytes: number): number {
  return (bytes * SEGMENT) / PACKET;
}
