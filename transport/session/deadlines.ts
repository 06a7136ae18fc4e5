/**
 * The two clocks of a transfer: its deadline, which ends it, and its silence, which is only told. Silence counts while something is
 * expected to move; it is told once, and so is that things move again. PURE.
 */
export class Deadlines {
  readonly deadlineUs: number;
  readonly #stallUs: number;
  /** Since when nothing has moved; Infinity while nothing is expected to. */
  #quietSinceUs: number;
  #stalled = false;

  constructor(nowUs: number, deadlineUs: number, stallUs: number) {
    this.deadlineUs = deadlineUs;
    this.#stallUs = stallUs;
    this.#quietSinceUs = nowUs;
  }

  /** Something moved. True if that had been missed: say "moving". */
  handleProgress(nowUs: number): boolean {
    const wasStalled = this.#stalled;
    this.#stalled = false;
    this.#quietSinceUs = nowUs;
    return wasStalled;
  }

  /** From now on something is expected to move, or nothing is. */
  expect(nowUs: number, moving: boolean): void {
    if (!moving) this.#quietSinceUs = Number.POSITIVE_INFINITY;
    else if (this.#quietSinceUs === Number.POSITIVE_INFINITY) this.#quietSinceUs = nowUs;
  }

  /** A fresh start for whoever has not been called stalled yet: a new connection has its own time. */
  restart(nowUs: number): void {
    if (!this.#stalled && this.#quietSinceUs !== Number.POSITIVE_INFINITY) this.#quietSinceUs = nowUs;
  }

  /** How long it has been silent, if that is too long and was not told before; else 0. */
  pollSilence(nowUs: number): number {
    if (this.#stalled || nowUs - this.#quietSinceUs < this.#stallUs) return 0;
    this.#stalled = true;
    return nowUs - this.#quietSinceUs;
  }

  passed(nowUs: number): boolean {
    return nowUs >= this.deadlineUs;
  }

  nextUs(): number {
    return this.#stalled ? this.deadlineUs : Math.min(this.deadlineUs, this.#quietSinceUs + this.#stallUs);
  }
}
