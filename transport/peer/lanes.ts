/**
 * The lanes of one connection: opened by the side that dialled, beside the control connection, so that they are there when the first chunk is, and on
 * either side rested, paced and read as the policy of the path says. A lane that is not needed rests at the sender, where its window is known, and stays
 * open: the other direction may need it, and so may the next transfer.
 */
import { codeOfNumber, type ErrorCode, KvferryError } from "../errors.ts";
import { limits } from "../limits.ts";
import type { ConnectionId, LaneInfo, LaneOptions, Link } from "../link/link.ts";
import { notSentLow } from "../policy/chunk-size.ts";
import { LaneHealth } from "../policy/lane-health.ts";
import type { Path, PathLoad, TenantShare } from "../policy/path.ts";
import { choosePadding } from "../policy/prewarm.ts";
import type { Prewarm } from "./messages.ts";

export interface LanesOptions {
  readonly link: Link;
  readonly path: Path;
  readonly isDialler: boolean;
  readonly congestionControl: string;
  /** What else their sockets are to have; absent = as the kernel has them. */
  readonly socket?: Pick<LaneOptions, "socketBufferBytes" | "dscp">;
  /** The remote knows padding for what it is. */
  readonly takesPadding: () => boolean;
  /** A lane died while the connection lives; whoever dialled opens it again. */
  readonly onLost: (lane: number, code: ErrorCode) => void;
  /** For the remote: who dialled is to open so many in all (0: no more); those were given up here. */
  readonly onWish: (lanes: number, lost: readonly number[]) => void;
}

/** A pace that differs less from what the lanes have is not worth a system call for each of them. */
const PACE_PARTS = 32;
/** KV that comes so much later than it was to comes after all. */
const PREWARM_LATE_US = 1_000_000;

export class Lanes {
  readonly #options: LanesOptions;
  #connection: ConnectionId | undefined;
  #token: Uint8Array = new Uint8Array(0);
  /** The connection is up: before, what happens to lanes is nobody's loss. */
  #isUp = false;
  /** The most that both ends take; before the listener has said Hello, that this one does. */
  #most = 1;
  /** What the remote's sender asked for. */
  #wished = 0;
  #told = 0;
  /** Asked for before the listener's Hello, and not up yet. */
  readonly #early = new Set<number>();
  readonly #up = new Set<number>();
  readonly #opening = new Set<number>();
  readonly #resting = new Set<number>();
  readonly #reopenAtUs = new Map<number, number>();
  /** Tries in a row that came to nothing. */
  readonly #failures = new Map<number, number>();
  /** Lanes that died, to be told of if the connection lives on. */
  #lost: { readonly lane: number; readonly code: ErrorCode; readonly afterUs: number }[] = [];
  readonly #health = new LaneHealth();
  /** Closed here because they were slow. */
  readonly #slow = new Set<number>();
  #tuned: LaneOptions;
  /** What is about to be sent, and until when that is believed. */
  #warm: { readonly bytes: number; readonly untilUs: number } | undefined;

  constructor(options: LanesOptions) {
    this.#options = options;
    this.#tuned = this.#tuning();
  }

  get up(): number {
    return this.#up.size;
  }
  /** Of those that are up, the ones that take chunks. */
  get active(): number {
    return this.#up.size - this.#resting.size;
  }

  /** Beside the connection that is being dialled, with a token that its listener will hear of in our Hello. */
  openEarly(connection: ConnectionId, token: Uint8Array): void {
    this.#connection = connection;
    this.#token = token;
    this.#most = limits.lanesMax;
    this.#tuned = this.#tuning();
    for (let lane = 0; lane < this.#wanted; lane++) {
      if (this.#openLane(connection, lane)) this.#early.add(lane);
    }
  }

  /** Those that the remote opens carry what we send as well, at our own pace. Throws invalid_argument: the token is another connection's. */
  admit(connection: ConnectionId, token: Uint8Array): void {
    this.#tuned = this.#tuning();
    this.#options.link.admitLanes(connection, token, this.#tuned);
  }

  /**
   * The connection is up. `most`: what the remote takes. A listener of the former version knows nothing of our token, and has closed what came with it;
   * what did not come yet is opened again with its own.
   */
  begin(nowUs: number, connection: ConnectionId, token: Uint8Array, most: number): void {
    const isOurs = Buffer.compare(token, this.#token) === 0;
    this.#connection = connection;
    this.#token = token;
    this.#most = Math.max(Math.min(most, limits.lanesMax), 1);
    this.#isUp = true;
    this.#options.path.handleConnected();
    this.#tuned = this.#tuning();
    if (this.#options.isDialler) {
      for (const lane of [...this.#opening, ...this.#up]) if (!isOurs || lane >= this.#most) this.#options.link.closeLane(connection, lane);
    }
    this.#begun(nowUs);
    this.#open(nowUs);
  }

  /** The connection is gone, or going: nothing of it is due any more. */
  end(): void {
    this.#connection = undefined;
    this.#isUp = false;
    this.#early.clear();
    this.#wished = this.#told = 0;
    this.#up.clear();
    this.#opening.clear();
    this.#resting.clear();
    this.#reopenAtUs.clear();
    this.#failures.clear();
    this.#slow.clear();
    this.#lost = [];
  }

  handleUp(nowUs: number, lane: number): void {
    this.#early.delete(lane);
    this.#opening.delete(lane);
    this.#up.add(lane);
    if (!this.#isUp) return;
    if (this.#up.size === 1) this.#readRoundTrip();
    // One lane more has its part of the pace, at once: a cap is one from the first byte.
    if (this.#tuned.paceBytesPerSecond > 0) this.#retune();
    // What it is tuned to may have changed since its token was admitted.
    if (!this.#options.isDialler) this.#tune(lane);
    this.#pad(nowUs, [lane]);
  }

  /** What lanes that were there before the remote's Hello have waited for. */
  #begun(nowUs: number): void {
    if (this.#up.size === 0) return;
    this.#readRoundTrip();
    for (const lane of this.#up) this.#tune(lane);
    this.#pad(nowUs, [...this.#up]);
    this.#rest(this.read());
  }

  #readRoundTrip(): void {
    const [lane] = this.#up;
    this.#options.path.handleRoundTrip(this.read().find((info) => info.lane === lane)?.minRttUs ?? 0);
  }

  handleDown(nowUs: number, lane: number, code: number): void {
    const wasEarly = this.#early.delete(lane);
    this.#opening.delete(lane);
    const isUp = this.#up.delete(lane);
    this.#resting.delete(lane);
    // A connection that ends takes its lanes along, and they are told first: that is no loss of a lane, nor is one that the listener does not take.
    if (!this.#isUp) return;
    if (lane >= this.#most) return this.#rest([]);
    // What never was up is no loss either.
    if (wasEarly) return this.#open(nowUs);
    const failures = isUp ? 0 : (this.#failures.get(lane) ?? 0) + 1;
    this.#failures.set(lane, failures);
    const afterUs = nowUs + Math.min(limits.redialMinMs * 2 ** Math.min(failures, 10), limits.redialMaxMs) * 1000;
    if (this.#options.isDialler) this.#reopenAtUs.set(lane, afterUs);
    this.#lost.push({ lane, code: this.#slow.delete(lane) ? "peer_silent" : codeOfNumber(code), afterUs });
    this.#rest([]);
  }

  handleWish(nowUs: number, lanes: number, lost: readonly number[]): void {
    if (this.#connection === undefined) return;
    if (lanes > 0) this.#wished = lanes;
    for (const lane of lost) if (this.#up.has(lane)) this.#options.link.closeLane(this.#connection, lane);
    this.#open(nowUs);
  }

  /** KV is about to be sent: keeps the lanes busy until it comes, or for a second longer than it was to take. */
  prewarm(nowUs: number, { bytes, inMs }: Pick<Prewarm, "bytes" | "inMs">): void {
    this.#warm = { bytes, untilUs: nowUs + inMs * 1000 + PREWARM_LATE_US };
    this.#pad(nowUs, [...this.#up]);
  }

  #pad(nowUs: number, lanes: readonly number[]): void {
    const connection = this.#connection;
    if (this.#warm === undefined || connection === undefined || nowUs >= this.#warm.untilUs) return;
    if (!this.#options.takesPadding()) return;
    const { goodputBytesPerSecond, rttUs } = this.#options.path.estimate(nowUs);
    const windowBytes = this.read().reduce((sum, info) => sum + info.congestionWindowBytes, 0);
    const all = Math.max(this.#wanted, this.#up.size);
    const { bytesPerLane } = choosePadding({ bytes: this.#warm.bytes, goodputBytesPerSecond, rttUs, windowBytes, lanes: all });
    for (const lane of lanes) if (bytesPerLane > 0) this.#options.link.padLane(connection, lane, bytesPerLane);
  }

  /** What the kernel knows of each lane, now. */
  read(): readonly LaneInfo[] {
    return this.#connection === undefined ? [] : this.#options.link.laneInfo(this.#connection);
  }

  turn(nowUs: number): void {
    while (this.#lost[0] !== undefined && nowUs >= this.#lost[0].afterUs) {
      const { lane, code } = this.#lost[0];
      this.#lost.shift();
      this.#options.onLost(lane, code);
    }
    this.#open(nowUs);
  }

  /** Reads the lanes and does what follows from it. */
  observe(nowUs: number, isHeard: boolean, load: Omit<PathLoad, "lanesActive">): void {
    const infos = this.read();
    for (const { lane } of this.#health.handleReading(nowUs, infos, isHeard)) this.#closeSlow(lane);
    this.#options.path.handleReading(nowUs, infos, { ...load, lanesActive: this.active });
    this.#open(nowUs);
    this.#rest(infos);
    this.#retune();
    const { lanes } = this.#options.path.decision.lanes;
    if (this.#options.isDialler || lanes <= this.#up.size || lanes === this.#told) return;
    this.#told = lanes;
    this.#options.onWish(lanes, []);
  }

  /** Others of the tenant send as well now, or no more: at once, not with the next reading. */
  handleShare(share: TenantShare): void {
    this.#options.path.handleShare(share);
    this.#retune();
  }

  nextDeadlineUs(): number {
    let next = this.#lost[0]?.afterUs ?? Number.POSITIVE_INFINITY;
    // Those beyond what is wanted now are not opened, and nobody waits for them.
    for (const [lane, atUs] of this.#reopenAtUs) if (lane < this.#wanted) next = Math.min(next, atUs);
    return next;
  }

  /** What it has taken goes over the others. */
  #closeSlow(lane: number): void {
    if (this.#connection === undefined || !this.#up.has(lane)) return;
    this.#slow.add(lane);
    this.#options.link.closeLane(this.#connection, lane);
    this.#options.onWish(0, [lane]);
  }

  get #wanted(): number {
    return Math.min(Math.max(this.#options.path.decision.lanes.lanes, this.#wished), this.#most);
  }

  #open(nowUs: number): void {
    if (!this.#isUp || this.#connection === undefined || !this.#options.isDialler) return;
    for (let lane = 0; lane < this.#wanted; lane++) {
      if (this.#up.has(lane) || this.#opening.has(lane) || nowUs < (this.#reopenAtUs.get(lane) ?? 0)) continue;
      if (this.#openLane(this.#connection, lane)) this.#reopenAtUs.delete(lane);
      else this.#reopenAtUs.set(lane, nowUs + limits.redialMinMs * 1000);
    }
  }

  /** False: the link has no room for more just now. */
  #openLane(connection: ConnectionId, lane: number): boolean {
    try {
      this.#options.link.openLane(connection, lane, this.#token, this.#tuned);
    } catch (error) {
      if (error instanceof KvferryError && error.code === "full") return false;
      throw error;
    }
    this.#opening.add(lane);
    return true;
  }

  /** As many as the policy says take chunks: those that do already, then those with the largest windows. */
  #rest(infos: readonly LaneInfo[]): void {
    const connection = this.#connection;
    if (connection === undefined || this.#up.size === 0) return;
    const wanted = Math.min(this.#options.path.decision.lanes.lanes, this.#up.size);
    if (this.active === wanted) return;
    const window = new Map(infos.map(({ lane, congestionWindowBytes }) => [lane, congestionWindowBytes]));
    const order = [...this.#up].sort((a, b) => (window.get(b) ?? 0) - (window.get(a) ?? 0) || a - b);
    const among =
      this.active > wanted ? order.reverse().filter((lane) => !this.#resting.has(lane)) : order.filter((lane) => this.#resting.has(lane));
    for (const lane of among.slice(0, Math.abs(this.active - wanted))) {
      const isResting = !this.#resting.has(lane);
      if (isResting) this.#resting.add(lane);
      else this.#resting.delete(lane);
      this.#options.link.restLane(connection, lane, isResting);
    }
  }

  #tuning(): LaneOptions {
    const { path, congestionControl, socket } = this.#options;
    const { pace } = path.decision;
    // Before any is up, those that are about to be share the pace.
    const lanes = this.#up.size === 0 ? this.#wanted : Math.max(this.active, 1);
    const paceBytesPerSecond = pace.bytesPerSecond === 0 ? 0 : Math.max(Math.floor(pace.bytesPerSecond / lanes), 1);
    return { ...socket, congestionControl, paceBytesPerSecond, notSentLowBytes: notSentLow(path.laneRate(lanes)) };
  }

  #retune(): void {
    const next = this.#tuning();
    const [was, is] = [this.#tuned.paceBytesPerSecond, next.paceBytesPerSecond];
    const isPaced = was === is || (was > 0 && is > 0 && Math.abs(was - is) * PACE_PARTS <= was);
    if (isPaced && next.notSentLowBytes === this.#tuned.notSentLowBytes) return;
    this.#tuned = next;
    for (const lane of this.#up) this.#tune(lane);
  }

  #tune(lane: number): void {
    if (this.#connection !== undefined) this.#options.link.tuneLane(this.#connection, lane, this.#tuned);
  }
}
