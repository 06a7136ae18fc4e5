/** Cubic as Linux has it, in steps instead of packets: slow start that ends with a queue (HyStart's delay), then RFC 9438's curve, Reno's where that is more. */
import { type Control, type Turn } from "./control.ts";
import { INITIAL_WINDOW, SEGMENT } from "./spec.ts";

const SCALE = 0.4;
const BETA = 0.7;
/** Reno's increase with cubic's decrease: segments for each window. */
const RENO_GROWTH = (3 * (1 - BETA)) / (1 + BETA);
const LEAST_SEGMENTS = 2;
const HYSTART_SEGMENTS = 16;
const HYSTART_LEAST_US = 4_000;
const HYSTART_MOST_US = 16_000;

export class Cubic implements Control {
  readonly name = "cubic";
  readonly paceBytesPerSecond = 0;
  readonly isPausing = false;
  /** Segments; the fraction is on its way to the next one. */
  #window = INITIAL_WINDOW / SEGMENT;
  #threshold = Number.POSITIVE_INFINITY;
  #lastMost = 0;
  #epochUs = -1;
  #originWindow = 0;
  #riseSeconds = 0;
  #renoWindow = 0;
  #minRttUs: number;
  #roundEndUs = 0;
  #recoversUntilUs = 0;

  /** `rttUs`: of the handshake. */
  constructor(rttUs: number) {
    this.#minRttUs = rttUs;
  }

  get windowBytes(): number {
    return Math.floor(this.#window) * SEGMENT;
  }

  handleTurn(turn: Turn): void {
    const { nowUs, rttUs, lostBytes, ackedBytes } = turn;
    if (ackedBytes > 0 && rttUs < this.#minRttUs) this.#minRttUs = rttUs;
    if (lostBytes > 0 && nowUs >= this.#recoversUntilUs) this.#reduce(turn);
    else if (ackedBytes > 0 && turn.isFull && nowUs >= this.#recoversUntilUs) this.#grow(turn);
  }

  /** Once, not for each attempt to repeat what was lost. */
  handleTimeout(): void {
    if (this.#window > 1) this.#lower();
    this.#window = 1;
  }

  /** Once a round trip; a step that is several of them holds several chances. */
  #reduce({ nowUs, us, rttUs, lostBytes }: Turn): void {
    const times = Math.max(1, Math.min(Math.round(lostBytes / SEGMENT), Math.round(us / rttUs)));
    for (let time = 0; time < times; time++) this.#lower();
    this.#recoversUntilUs = nowUs + rttUs;
  }

  #lower(): void {
    this.#lastMost = this.#window < this.#lastMost ? (this.#window * (1 + BETA)) / 2 : this.#window;
    this.#window = Math.max(Math.floor(Math.floor(this.#window) * BETA), LEAST_SEGMENTS);
    this.#threshold = this.#window;
    this.#epochUs = -1;
  }

  #grow(turn: Turn): void {
    let acked = turn.ackedBytes / SEGMENT;
    if (this.#window < this.#threshold) {
      this.#lookWhetherQueued(turn);
      const before = this.#window;
      // A step may be many round trips; the window doubles once.
      this.#window = Math.min(this.#window + Math.min(acked, before), this.#threshold);
      acked -= this.#window - before;
    }
    if (acked > 0) this.#climb(turn, acked);
  }

  /** As the first packets of a round find it. */
  #lookWhetherQueued({ nowUs, rttUs }: Turn): void {
    if (nowUs < this.#roundEndUs) return;
    this.#roundEndUs = nowUs + rttUs;
    const bound = Math.min(Math.max(this.#minRttUs / 8, HYSTART_LEAST_US), HYSTART_MOST_US);
    if (this.#window >= HYSTART_SEGMENTS && rttUs > this.#minRttUs + bound) this.#threshold = this.#window;
  }

  #climb({ nowUs }: Turn, acked: number): void {
    if (this.#epochUs < 0) {
      this.#epochUs = nowUs;
      this.#renoWindow = this.#window;
      this.#originWindow = Math.max(this.#window, this.#lastMost);
      this.#riseSeconds = Math.cbrt((this.#originWindow - this.#window) / SCALE);
    }
    const seconds = (nowUs - this.#epochUs + this.#minRttUs) / 1_000_000 - this.#riseSeconds;
    const target = this.#originWindow + SCALE * seconds ** 3;
    this.#renoWindow += (RENO_GROWTH * acked) / this.#window;
    const share = Math.min((target - this.#window) / this.#window, 0.5);
    if (share > 0) this.#window += share * acked;
    if (this.#renoWindow > this.#window) this.#window = this.#renoWindow;
  }
}
