/**
 * All decisions about one path, in one place: what is read of it goes in, what to do with it comes out, each with its reason. PURE. The peer (and the
 * bench, and the simulated links of test/paths) reads the lanes when `nextReadingUs` says so and does what `decision` says.
 *
 *   TCP_INFO of the lanes ─┐                        ┌─ lanes (by marginal goodput)
 *   acknowledged chunks ───┼─> estimate of the path ─┼─ pace (caps, and what yields)
 *   what waits to be sent ─┘                        ├─ window (goodput x round trip)
 *                                                   └─ chunk size (what may be waited for)
 */
import type { LaneInfo } from "../link/link.ts";
import { chooseChunkSize, type ChunkSize } from "./chunk-size.ts";
import { CoderRate } from "./coder-rate.ts";
import { type LaneCount, LaneCountPolicy, type LaneCountOptions } from "./lane-count.ts";
import { type Pace, PacePolicy } from "./pace.ts";
import { type PathEstimate, PathEstimator } from "./path-estimate.ts";
import type { Priority } from "./priority.ts";
import { ReceiveEstimate } from "./receive-estimate.ts";
import { createWindow, type WindowPath, type WindowPolicy } from "./window.ts";

/** Bytes a second of all that is sent to a tenant's peers together, 0 = no cap; and how many of them have something under way. */
export interface TenantShare {
  readonly tenantCap: number;
  readonly tenantSharing: number;
}

export interface PathOptions extends LaneCountOptions {
  /** Bytes a second to this peer; 0 = none. */
  readonly peerCap: number;
  /** Of the tenant at the start; `handleShare` says another. */
  readonly share?: TenantShare;
  /** What a transfer's window may grow to. */
  readonly windowBytes: number;
  /** Chunks of this size whatever the path; 0 = by the path. */
  readonly chunkBytes: number;
}

/** What the one who owns the path knows at the time of a reading. */
export interface PathLoad extends TenantShare {
  /** Bytes that wait for a lane or for the window; but those that will be coded, which may wait for their coder. */
  readonly backlogBytes: number;
  /** Of coded transfers, what may go and has no answer yet, as it will travel; absent: none. */
  readonly codedWireBytes?: number;
  /** Lanes that take chunks. */
  readonly lanesActive: number;
  /** Of what is under way; "urgent" for a while longer, because where one such transfer was there will be others. */
  readonly mostUrgent: Priority;
}

export interface PathDecision {
  readonly lanes: LaneCount;
  readonly pace: Pace;
}

export class Path {
  readonly #options: PathOptions;
  readonly #estimator = new PathEstimator();
  readonly #receiving = new ReceiveEstimate();
  readonly #coder = new CoderRate();
  readonly #laneCount: LaneCountPolicy;
  readonly #pace = new PacePolicy();
  #windowPath: WindowPath;

  constructor(options: PathOptions) {
    this.#options = options;
    this.#laneCount = new LaneCountPolicy(options);
    const { lanes } = this.#laneCount.answer;
    this.#windowPath = { goodputBytesPerSecond: 0, rttUs: 0, lanes };
    this.#pace.handleCaps({ ...(options.share ?? ALONE), peerCap: options.peerCap });
  }

  get decision(): PathDecision {
    return { lanes: this.#laneCount.answer, pace: this.#pace.answer };
  }

  estimate(nowUs: number): PathEstimate {
    return this.#estimator.estimate(nowUs);
  }

  nextReadingUs(): number {
    return this.#estimator.nextReadingUs();
  }

  /** A new connection: perhaps over another path. */
  handleConnected(): void {
    this.#estimator.handleReconnected();
  }

  /** How long its handshake took to go there and back. */
  handleRoundTrip(rttUs: number): PathDecision {
    this.#laneCount.handleConnected(rttUs);
    return this.decision;
  }

  /** Others of the tenant send as well now, or no more. */
  handleShare(share: TenantShare): PathDecision {
    this.#pace.handleCaps({ ...share, peerCap: this.#options.peerCap });
    return this.decision;
  }

  /** @param bytes as they travelled; `coded`: the profile of its transfer, and what the chunk has in memory */
  handleAcked(nowUs: number, bytes: number, durationUs: number, coded?: { readonly profile: string; readonly bytes: number }): void {
    this.#estimator.handleAcked(nowUs, bytes, durationUs, coded !== undefined);
    this.#coder.handleAcked(coded?.bytes ?? bytes, coded?.profile ?? "");
  }

  /** What chooses a codec has to know: bytes a second of what is not coded, 0 = not known; and that there is no wire at all. */
  wire(nowUs: number): { readonly bytesPerSecond: number; readonly isLocal: boolean } {
    return { bytesPerSecond: this.#estimator.wireRate(nowUs), isLocal: this.#options.local };
  }

  /** Original bytes a second that went by a profile lately, where its coders held them up; 0 = not known. */
  codedRate(nowUs: number, profile: string): number {
    return this.#coder.rate(nowUs, profile);
  }

  /** Whether what would be coded goes as it is, because what the wire takes was not seen for long. @param costUs what that is predicted to take more */
  explores(nowUs: number, costUs: number): boolean {
    return this.#coder.explores(costUs, this.#estimator.wire(nowUs));
  }

  /** A chunk was placed here, of a transfer whose sender may send since `sinceUs`. */
  handleCommitted(nowUs: number, bytes: number, sinceUs: number): void {
    this.#receiving.handleCommitted(nowUs, bytes, sinceUs);
  }

  handleReading(nowUs: number, lanes: readonly LaneInfo[], load: PathLoad): PathDecision {
    this.#receiving.handleReading(lanes);
    this.#estimator.handleReading(nowUs, lanes, load.backlogBytes, load.lanesActive);
    const estimate = this.#estimator.estimate(nowUs);
    this.#coder.handleReading(nowUs, { ...load, lanes, limit: estimate.limit });
    const isBacklogged = load.backlogBytes > 0 || lanes.some(({ notSentBytes }) => notSentBytes > 0);
    const congestionControl = lanes[0]?.congestionControl ?? "";
    const { bytesPerSecond: paceBytesPerSecond } = this.#pace.handleReading(nowUs, { ...load, estimate, peerCap: this.#options.peerCap });
    const lanesUp = load.lanesActive;
    const { isShort } = this.#pace;
    this.#laneCount.handleReading(nowUs, { estimate, lanesUp, isBacklogged, congestionControl, paceBytesPerSecond, isShort });
    const { goodputBytesPerSecond, latestBytesPerSecond, rttUs } = estimate;
    // While lanes grow, what was last is more than what is certain, and a window must not hold them back.
    const most = Math.max(goodputBytesPerSecond, latestBytesPerSecond);
    this.#windowPath = { goodputBytesPerSecond: most, rttUs, lanes: Math.max(load.lanesActive, 1) };
    return this.decision;
  }

  /** What one of `lanes` lanes carries, bytes a second; 0 = not known. */
  laneRate(lanes: number): number {
    return this.#windowPath.goodputBytesPerSecond / lanes;
  }

  newWindow(): WindowPolicy {
    return createWindow({ bytes: this.#options.windowBytes, path: () => this.#windowPath });
  }

  /** For a transfer of `transferBytes` (0 = not known) that begins now; "in": it comes from the peer. */
  chunkSize(nowUs: number, direction: "in" | "out", priority: Priority, transferBytes: number, mostBytes: number): ChunkSize {
    const { chunkBytes, windowBytes } = this.#options;
    const most = Math.min(mostBytes, windowBytes);
    if (chunkBytes > 0) return { bytes: Math.min(chunkBytes, most), reason: "fixed by the configuration" };
    const { goodputBytesPerSecond: sending, rttUs } = this.#estimator.estimate(nowUs);
    const there = { goodputBytesPerSecond: sending, lanes: this.#laneCount.answer.lanes };
    const { goodputBytesPerSecond, lanes } = direction === "out" ? there : this.#receiving.estimate(nowUs);
    const { local } = this.#options;
    return chooseChunkSize({ goodputBytesPerSecond, lanes, rttUs, priority, transferBytes, mostBytes: most, local });
  }
}

const ALONE: TenantShare = { tenantCap: 0, tenantSharing: 1 };
