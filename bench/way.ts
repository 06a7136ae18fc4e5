/**
 * The way between both ends of a bench, as a Peer has it: one Path that decides and the peer's own Lanes that follow it, read as often as there. Either end has
 * one; whoever sends tells the other what it decided, so that the client shows it whichever way the bytes go.
 */
import { z } from "zod";
import { isLoopback } from "../transport/config/address.ts";
import { KvferryError } from "../transport/errors.ts";
import { limits } from "../transport/limits.ts";
import { allowedCongestion } from "../transport/link/congestion.ts";
import type { ConnectionId } from "../transport/link/link.ts";
import { Lanes, type LanesOptions } from "../transport/peer/lanes.ts";
import { chooseCongestion, type CongestionChoice } from "../transport/policy/congestion.ts";
import { Path } from "../transport/policy/path.ts";
import type { WindowPolicy } from "../transport/policy/window.ts";
import type { Endpoint } from "./endpoint.ts";
import type { BenchOptions } from "./options.ts";

/** What flags want of the way, at either end. */
export interface WayWish {
  /** 0 = by the path. */
  readonly lanes: number;
  readonly isLocal: boolean;
  /** Cap of each direction; 0 = none. */
  readonly rateBytesPerSecond: number;
  /** "" = as a Peer chooses. */
  readonly congestionControl: string;
  readonly socketBufferBytes: number;
  readonly dscp: number;
}

export function wishOf(options: BenchOptions): WayWish {
  const { lanes, host, link, rateBytesPerSecond, congestionControl, windowBytes, dscp } = options;
  const isLocal = link === "fake" || isLoopback(host);
  return { lanes, isLocal, rateBytesPerSecond: Math.ceil(rateBytesPerSecond), congestionControl, socketBufferBytes: windowBytes, dscp };
}

const REASON_CHARACTERS_MAX = 500;
const count = z.number().int().nonnegative();
const reason = z.string().max(REASON_CHARACTERS_MAX);

/** What was decided about the way by the one who sends on it, and why. */
const wayState = z.strictObject({
  lanesActive: count,
  windowBytes: count,
  /** 0 = no bound. */
  paceBytesPerSecond: count,
  goodputBytesPerSecond: z.number().nonnegative(),
  confidence: z.number().min(0).max(1),
  /** Of its lanes; "" = none. */
  congestionControl: z.string().max(REASON_CHARACTERS_MAX),
  /** Segments that TCP sent again, since the connection began; null where nobody counts them. */
  retransmits: count.nullable(),
  reasons: z.strictObject({ estimate: reason, lanes: reason, pace: reason, window: reason, congestion: reason }),
});
export type WayState = Readonly<z.output<typeof wayState>>;

/** What the server says over the link: what it decided, or what it wishes of whoever dialled. */
const lane = count.max(limits.lanesMax);
const word = z.union([z.strictObject({ state: wayState }), z.strictObject({ lanes: lane, lost: z.array(lane).max(limits.lanesMax) })]);
export type WayWord = z.output<typeof word>;

/** Throws protocol_error. */
export function parseWord(bytes: Uint8Array): WayWord {
  try {
    return word.parse(JSON.parse(Buffer.from(bytes).toString("utf8")));
  } catch (error) {
    throw new KvferryError("protocol_error", "the bench server says what no version says", { cause: error });
  }
}

export function wordBytes(said: WayWord): Uint8Array {
  return Buffer.from(JSON.stringify(said), "utf8");
}

/** How often it is looked whether something is due: a reading, a lane to be opened again. */
const TURN_MS = 25;
/** Whoever says nothing for so long is not to blame for a single lane. */
const HEARD_MS = 1_000;

export type WayHooks = Pick<LanesOptions, "isDialler" | "onLost" | "onWish"> & {
  /** Called after each reading. */
  readonly onRead?: () => void;
};

export class Way {
  readonly path: Path;
  readonly lanes: Lanes;
  readonly congestion: CongestionChoice;
  readonly #endpoint: Endpoint;
  readonly #hooks: WayHooks;
  readonly #window: WindowPolicy;
  #timer: NodeJS.Timeout | undefined;

  constructor(endpoint: Endpoint, wish: WayWish, hooks: WayHooks) {
    this.#endpoint = endpoint;
    this.#hooks = hooks;
    const { lanes, isLocal, rateBytesPerSecond, congestionControl, socketBufferBytes, dscp } = wish;
    // A link without TCP has no congestion control.
    this.congestion = endpoint.kind === "tcp" ? chooseCongestion(congestionControl, allowedCongestion(), isLocal) : NO_CONGESTION;
    this.path = new Path({
      ...(lanes === 0 ? { least: 1, most: limits.lanesMax } : { least: lanes, most: lanes }),
      local: isLocal,
      peerCap: rateBytesPerSecond,
      windowBytes: limits.windowBytesDefault,
      chunkBytes: 0,
    });
    this.#window = this.path.newWindow();
    this.lanes = new Lanes({
      link: endpoint.link,
      path: this.path,
      congestionControl: this.congestion.name,
      socket: { socketBufferBytes, dscp },
      takesPadding: () => false,
      ...hooks,
    });
  }

  /** The connection is there. Who dialled opens its lanes from here on; whoever listens lets them in. */
  begin(connection: ConnectionId, token: Uint8Array): void {
    if (!this.#hooks.isDialler) this.lanes.admit(connection, token);
    this.lanes.begin(nowUs(), connection, token, limits.lanesMax);
    this.#timer = setInterval(() => this.#turn(), TURN_MS);
  }

  /** What may be under way of what is sent. */
  readonly sending = {
    window: (): { readonly bytes: number; readonly chunks: number } => this.#window.window(),
    handleAcked: (bytes: number, durationUs: number): void => this.path.handleAcked(nowUs(), bytes, durationUs),
  };

  readonly receiving = {
    handleCommitted: (bytes: number, sinceMs: number): void => this.path.handleCommitted(nowUs(), bytes, sinceMs * 1000),
  };

  handleUp(lane: number): void {
    this.lanes.handleUp(nowUs(), lane);
  }

  handleDown(lane: number, code: number): void {
    this.lanes.handleDown(nowUs(), lane, code);
  }

  handleWish(lanes: number, lost: readonly number[]): void {
    this.lanes.handleWish(nowUs(), lanes, lost);
  }

  state(): WayState {
    const { lanes, pace } = this.path.decision;
    const { goodputBytesPerSecond, confidence, reason: estimate } = this.path.estimate(nowUs());
    const window = this.#window.window();
    return {
      lanesActive: this.lanes.active,
      windowBytes: window.bytes,
      paceBytesPerSecond: pace.bytesPerSecond,
      goodputBytesPerSecond,
      confidence,
      congestionControl: this.lanes.read()[0]?.congestionControl ?? "",
      retransmits: this.#endpoint.retransmits(),
      reasons: { estimate, lanes: lanes.reason, pace: pace.reason, window: window.reason, congestion: this.congestion.reason },
    };
  }

  close(): void {
    clearInterval(this.#timer);
    this.lanes.end();
  }

  #turn(): void {
    const us = nowUs();
    this.lanes.turn(us);
    if (us < this.path.nextReadingUs()) return;
    const isHeard = us - this.#endpoint.heardMs * 1000 < HEARD_MS * 1000;
    const backlogBytes = this.#endpoint.requesters.reduce((sum, { waitingBytes }) => sum + waitingBytes, 0);
    this.lanes.observe(us, isHeard, { backlogBytes, mostUrgent: "normal", tenantCap: 0, tenantSharing: 1 });
    this.#hooks.onRead?.();
  }
}

const NO_CONGESTION: CongestionChoice = Object.freeze({ name: "", reason: "this link has no congestion control" });

function nowUs(): number {
  return Math.round(performance.now() * 1000);
}
