/** What is going on, on one line of a terminal that the next one overwrites; nothing where there is no terminal. */
export interface Terminal {
  readonly isTTY?: boolean;
  write(text: string): unknown;
}

const ERASE = "\r\x1b[K";

export class Progress {
  readonly #terminal: Terminal;
  readonly #pauseMs: number;
  readonly #nowMs: () => number;
  #nextMs = Number.NEGATIVE_INFINITY;
  #shown = false;

  /** `pauseMs`: what comes sooner than that after the last line is left out. */
  constructor(pauseMs = 0, terminal: Terminal = process.stderr, nowMs: () => number = () => performance.now()) {
    this.#pauseMs = pauseMs;
    this.#terminal = terminal;
    this.#nowMs = nowMs;
  }

  /** The text is made only if it is shown. */
  show(text: () => string): void {
    if (this.#terminal.isTTY !== true) return;
    const nowMs = this.#nowMs();
    if (nowMs < this.#nextMs) return;
    this.#nextMs = nowMs + this.#pauseMs;
    this.#terminal.write(ERASE + text());
    this.#shown = true;
  }

  /** Before anything else is written. */
  clear(): void {
    if (this.#shown) this.#terminal.write(ERASE);
    this.#shown = false;
  }
}
