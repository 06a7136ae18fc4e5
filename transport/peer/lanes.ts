/** The lanes of one connection: opened by whoever dialled, and again when they die while the connection lives. */
import { codeOfNumber, type ErrorCode } from "../errors.ts";
import { limits } from "../limits.ts";
import type { ConnectionId, LaneOptions, Link } from "../link/link.ts";

export interface LanesOptions {
  readonly link: Link;
  readonly lane: LaneOptions;
  /** False: the remote opens them. */
  readonly initiates: boolean;
  /** A lane died while the connection lives. */
  readonly onLost: (lane: number, code: ErrorCode) => void;
}

export class Lanes {
  readonly #options: LanesOptions;
  #token: Uint8Array = new Uint8Array(0);
  readonly #up = new Set<number>();
  readonly #openAtUs = new Map<number, number>();
  /** Those that died, to be told of if the connection lives on. */
  #lost: { readonly lane: number; readonly code: ErrorCode; readonly afterUs: number }[] = [];

  constructor(options: LanesOptions) {
    this.#options = options;
  }

  get up(): number {
    return this.#up.size;
  }

  /** The listener takes them. */
  open(nowUs: number, id: ConnectionId, token: Uint8Array, count: number): void {
    this.#token = token;
    for (let lane = 0; lane < count; lane++) this.#openAtUs.set(lane, nowUs);
    this.#openDue(nowUs, id);
  }

  #openDue(nowUs: number, id: ConnectionId): void {
    for (const [lane, atUs] of this.#openAtUs) {
      if (nowUs < atUs) continue;
      this.#openAtUs.delete(lane);
      this.#options.link.openLane(id, lane, this.#token, this.#options.lane);
    }
  }

  handleUp(id: ConnectionId, lane: number): void {
    const { link, lane: options, initiates } = this.#options;
    this.#up.add(lane);
    // A lane that the remote opened carries what we send as well, at our own pace.
    if (!initiates) link.tuneLane(id, lane, options);
  }

  /** `lives`: the connection is up. One that ends takes its lanes along, and they are told first: that is no loss of a lane. */
  handleDown(nowUs: number, lane: number, code: number, lives: boolean): void {
    this.#up.delete(lane);
    if (!lives) return;
    const afterUs = nowUs + limits.redialMinMs * 1000;
    if (this.#options.initiates) this.#openAtUs.set(lane, afterUs);
    this.#lost.push({ lane, code: codeOfNumber(code), afterUs });
  }

  /** Of a connection that is up. */
  turn(nowUs: number, id: ConnectionId): void {
    while (this.#lost[0] !== undefined && nowUs >= this.#lost[0].afterUs) {
      const { lane, code } = this.#lost[0];
      this.#lost.shift();
      this.#options.onLost(lane, code);
    }
    this.#openDue(nowUs, id);
  }

  nextDeadlineUs(): number {
    let next = this.#lost[0]?.afterUs ?? Number.POSITIVE_INFINITY;
    for (const atUs of this.#openAtUs.values()) next = Math.min(next, atUs);
    return next;
  }

  /** The connection is ending: nothing is due any more. */
  handleEnding(): void {
    this.#openAtUs.clear();
    this.#lost = [];
  }

  handleGone(): void {
    this.handleEnding();
    this.#up.clear();
  }
}
