/**
 * BBR version 1 as Linux has it, in steps instead of packets: startup, drain, the cycle of eight phases, and 200 ms with almost nothing under way
 * where ten seconds have not shown a shorter round trip. Bandwidth is the most of the last ten rounds. Left out: the policer's long-term rate.
 */
import { type Control, MINIMAL_WINDOW, pieceBytes, type Turn } from "./control.ts";
import { INITIAL_WINDOW, SEGMENT } from "./spec.ts";

const HIGH_GAIN = 2.885;
const DRAIN_GAIN = 1 / HIGH_GAIN;
const WINDOW_GAIN = 2;
const CYCLE: readonly number[] = [1.25, 0.75, 1, 1, 1, 1, 1, 1];
const ROUNDS = 10;
const HISTORY = 128;
const FULL_GROWTH = 1.25;
const FULL_ROUNDS = 3;
/** Linux paces a hundredth below what it measured. */
const PACE_MARGIN = 0.99;
const RTT_WINDOW_US = 10_000_000;
const PROBE_US = 200_000;

type Mode = "startup" | "drain" | "cruise" | "probe round trip";

export class Bbr implements Control {
  readonly name = "bbr";
  windowBytes = INITIAL_WINDOW;
  paceBytesPerSecond = 0;
  #mode: Mode = "startup";
  #phase: number;
  #phaseUs = 0;
  readonly #rounds = new Float64Array(ROUNDS);
  #round = 0;
  #roundEndUs = 0;
  /** Acknowledged until each of the last turns. */
  readonly #acked = new Float64Array(HISTORY);
  #ackedBytes = 0;
  #turns = 0;
  #limitedRounds = 0;
  #bandwidth = 0;
  #fullBandwidth = 0;
  #fullRounds = 0;
  #minRttUs: number;
  #minRttAtUs: number;
  #probeEndUs = 0;
  #priorWindow = 0;
  /** A recovery from losses: for its first round as many packets go out as come back; it is over when the repeats are there as well. */
  #conserveUntilUs = 0;
  #recoverUntilUs = 0;
  #repairBytes = 0;

  /** `phase`: of the cycle that it begins with, 0 .. 6; `rttUs`: of the handshake, over at `nowUs`. */
  constructor(phase: number, rttUs: number, nowUs: number) {
    this.#minRttUs = rttUs;
    this.#minRttAtUs = nowUs;
    this.#phase = phase === 0 ? 0 : phase + 1;
  }

  get isPausing(): boolean {
    return this.#mode === "probe round trip";
  }

  handleTurn(turn: Turn): void {
    if (turn.ackedBytes > 0) this.#measureRoundTrip(turn);
    this.#measureBandwidth(turn);
    this.#move(turn);
    this.#setPace(turn.rttUs);
    this.#setWindow(turn);
  }

  handleTimeout(lostBytes: number): void {
    if (this.#repairBytes === 0) this.#priorWindow = this.windowBytes;
    this.#repairBytes = Math.max(lostBytes, SEGMENT);
    this.windowBytes = SEGMENT;
  }

  #measureRoundTrip({ nowUs, rttUs, inflightBytes }: Turn): void {
    const isExpired = nowUs > this.#minRttAtUs + RTT_WINDOW_US;
    if (rttUs <= this.#minRttUs || isExpired) {
      this.#minRttUs = rttUs;
      this.#minRttAtUs = nowUs;
    }
    if (isExpired && this.#mode !== "probe round trip" && inflightBytes > MINIMAL_WINDOW) {
      this.#priorWindow = Math.max(this.windowBytes, this.#priorWindow);
      this.#mode = "probe round trip";
      this.#probeEndUs = 0;
    }
  }

  /** What was acknowledged in the last round trip, over its length; the most of it in each round counts. What the sender's supply bounded, upwards only. */
  #measureBandwidth({ nowUs, us, ackedBytes, rttUs, isFull }: Turn): void {
    const back = Math.min(Math.max(Math.round(rttUs / us), 1), HISTORY - 1);
    this.#ackedBytes += ackedBytes;
    this.#turns += 1;
    this.#acked[this.#turns % HISTORY] = this.#ackedBytes;
    const before = this.#acked[(this.#turns + HISTORY - back) % HISTORY]!;
    if (ackedBytes === 0) return;
    const sample = ((this.#ackedBytes - before) * 1_000_000) / (back * us);
    if (!isFull) this.#limitedRounds = 2;
    const isLimited = this.#limitedRounds > 0 || this.#mode === "probe round trip";
    if (!isLimited || sample >= this.#bandwidth) {
      const slot = this.#round % ROUNDS;
      this.#rounds[slot] = Math.max(this.#rounds[slot]!, sample);
      this.#bandwidth = mostOf(this.#rounds);
    }
    if (nowUs < this.#roundEndUs) return;
    if (this.#mode === "startup" && !isLimited) this.#lookWhetherFull();
    if (this.#limitedRounds > 0) this.#limitedRounds -= 1;
    else if (!isLimited) this.#rounds[++this.#round % ROUNDS] = sample;
    this.#roundEndUs = nowUs + rttUs;
  }

  #lookWhetherFull(): void {
    if (this.#bandwidth >= this.#fullBandwidth * FULL_GROWTH) {
      this.#fullBandwidth = this.#bandwidth;
      this.#fullRounds = 0;
      return;
    }
    this.#fullRounds += 1;
    if (this.#fullRounds >= FULL_ROUNDS) this.#mode = "drain";
  }

  get #isFilled(): boolean {
    return this.#fullRounds >= FULL_ROUNDS;
  }

  #move(turn: Turn): void {
    const { nowUs, inflightBytes, lostBytes } = turn;
    if (this.#mode === "drain" && inflightBytes <= this.#product(1)) this.#cruise(nowUs);
    if (this.#mode === "cruise") {
      const gain = CYCLE[this.#phase]!;
      const isLong = nowUs - this.#phaseUs >= this.#minRttUs;
      const isOver =
        gain > 1
          ? isLong && (lostBytes > 0 || inflightBytes >= this.#product(gain) * PACE_MARGIN)
          : isLong || (gain < 1 && inflightBytes <= this.#product(1));
      if (isOver) {
        this.#phase = (this.#phase + 1) % CYCLE.length;
        this.#phaseUs = nowUs;
      }
    }
    if (this.#mode === "probe round trip") this.#probe(turn);
  }

  #probe({ nowUs, inflightBytes, rttUs }: Turn): void {
    if (this.#probeEndUs === 0) {
      if (inflightBytes <= MINIMAL_WINDOW + 2 * SEGMENT) this.#probeEndUs = nowUs + Math.max(PROBE_US, rttUs);
    } else if (nowUs >= this.#probeEndUs) {
      this.#minRttAtUs = nowUs;
      this.windowBytes = Math.max(this.windowBytes, this.#priorWindow);
      this.#priorWindow = 0;
      if (this.#isFilled) this.#cruise(nowUs);
      else this.#mode = "startup";
    }
  }

  #cruise(nowUs: number): void {
    this.#mode = "cruise";
    this.#phaseUs = nowUs;
  }

  #product(gain: number): number {
    return (gain * this.#bandwidth * this.#minRttUs) / 1_000_000;
  }

  /** What goes out are whole packets: no less than one a round trip, however small a share others leave. */
  #setPace(rttUs: number): void {
    if (this.#bandwidth === 0) return;
    const pace = Math.max(this.#paceGain * this.#bandwidth * PACE_MARGIN, (SEGMENT * 1_000_000) / rttUs);
    if (this.#isFilled || pace > this.paceBytesPerSecond) this.paceBytesPerSecond = pace;
  }

  get #paceGain(): number {
    if (this.#mode === "startup") return HIGH_GAIN;
    if (this.#mode === "drain") return DRAIN_GAIN;
    return this.#mode === "cruise" ? CYCLE[this.#phase]! : 1;
  }

  #setWindow({ nowUs, us, inflightBytes, rttUs, ackedBytes: ackedInStep, lostBytes: lostInStep }: Turn): void {
    // A step may be many round trips: what one of them brought.
    const part = Math.min(rttUs / us, 1);
    const ackedBytes = ackedInStep * part;
    const lostBytes = lostInStep * part;
    const gain = this.#isFilled && this.#mode !== "drain" ? WINDOW_GAIN : HIGH_GAIN;
    const target = Math.max(this.#product(gain) + 3 * pieceBytes(this.paceBytesPerSecond), MINIMAL_WINDOW);
    if (this.#repairBytes > 0) {
      // After a timeout: slowly again until what was lost has come, then as before.
      this.windowBytes += ackedBytes;
      this.#repairBytes = Math.max(this.#repairBytes - ackedBytes, 0);
      if (this.#repairBytes === 0) this.windowBytes = Math.max(this.windowBytes, this.#priorWindow);
      return;
    }
    if (lostBytes > 0 && nowUs >= this.#recoverUntilUs) {
      this.#priorWindow = Math.max(this.windowBytes, this.#priorWindow);
      this.#conserveUntilUs = nowUs + rttUs;
      this.#recoverUntilUs = nowUs + 2 * rttUs;
      this.windowBytes = inflightBytes + ackedBytes;
    } else if (nowUs < this.#conserveUntilUs) {
      this.windowBytes = Math.max(this.windowBytes - lostBytes, inflightBytes + ackedBytes);
    } else {
      if (this.#priorWindow > 0 && nowUs >= this.#recoverUntilUs && this.#mode !== "probe round trip") {
        this.windowBytes = Math.max(this.windowBytes, this.#priorWindow);
        this.#priorWindow = 0;
      }
      if (this.#isFilled) this.windowBytes = Math.min(this.windowBytes + ackedBytes, target);
      else if (this.windowBytes < target || this.#bandwidth === 0) this.windowBytes += ackedBytes;
    }
    this.windowBytes = Math.max(this.windowBytes, MINIMAL_WINDOW);
    if (this.#mode === "probe round trip") this.windowBytes = Math.min(this.windowBytes, MINIMAL_WINDOW);
  }
}

function mostOf(rates: Float64Array): number {
  let most = 0;
  for (const rate of rates) if (rate > most) most = rate;
  return most;
}
