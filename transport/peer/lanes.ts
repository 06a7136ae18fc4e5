/**
 * The lanes of one connection: opened by whoever dialled, beside the control connection, so that they are there when the first chunk is; and again when
 * they die while the connection lives.
 */
import { codeOfNumber, type ErrorCode, KvferryError } from "../errors.ts";
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
  /** So many, once the listener has said Hello. */
  #count: number | undefined;
  /** Asked for before that, and not up yet. */
  readonly #early = new Set<number>();
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

  /** Beside the connection that is being dialled, with a token that its listener will hear of in our Hello. */
  openEarly(id: ConnectionId, token: Uint8Array, count: number): void {
    this.#token = token;
    for (let lane = 0; lane < count; lane++) if (this.#ask(id, lane)) this.#early.add(lane);
  }

  /** False: the link has no room for more. */
  #ask(id: ConnectionId, lane: number): boolean {
    try {
      this.#options.link.openLane(id, lane, this.#token, this.#options.lane);
      return true;
    } catch (error) {
      if (error instanceof KvferryError && error.code === "full") return false;
      throw error;
    }
  }

  /** The listener has said Hello: it takes so many, with this token. One of the former version knows nothing of ours, and has closed what came with it. */
  open(nowUs: number, id: ConnectionId, token: Uint8Array, count: number): void {
    const isOurs = Buffer.compare(token, this.#token) === 0;
    this.#token = token;
    this.#count = count;
    for (let lane = 0; lane < count; lane++) if (!this.#early.has(lane) && !this.#up.has(lane)) this.#openAtUs.set(lane, nowUs);
    for (const lane of [...this.#early, ...this.#up]) if (!isOurs || lane >= count) this.#options.link.closeLane(id, lane);
    this.#openDue(nowUs, id);
  }

  #openDue(nowUs: number, id: ConnectionId): void {
    for (const [lane, atUs] of this.#openAtUs) {
      if (nowUs < atUs) continue;
      if (this.#ask(id, lane)) this.#openAtUs.delete(lane);
      else this.#openAtUs.set(lane, nowUs + limits.redialMinMs * 1000);
    }
  }

  handleUp(lane: number): void {
    this.#early.delete(lane);
    this.#up.add(lane);
  }

  /** `lives`: the connection is up. One that ends takes its lanes along, and they are told first: that is no loss of a lane. */
  handleDown(nowUs: number, lane: number, code: number, lives: boolean): void {
    const wasEarly = this.#early.delete(lane);
    this.#up.delete(lane);
    if (!lives || (this.#count !== undefined && lane >= this.#count)) return;
    const afterUs = wasEarly ? nowUs : nowUs + limits.redialMinMs * 1000;
    if (this.#options.initiates) this.#openAtUs.set(lane, afterUs);
    // What never was up is no loss.
    if (!wasEarly) this.#lost.push({ lane, code: codeOfNumber(code), afterUs });
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
    this.#count = undefined;
    this.#early.clear();
    this.#up.clear();
  }
}
