/**
 * What comes from a path, for those decisions that the receiving side takes (the size of the chunks that it asks for): its goodput from the chunks that were
 * placed, and the lanes that carried it. PURE. What the kernel counts at this end says how the *other* direction fares.
 */
import type { LaneInfo } from "../link/link.ts";
import { createEstimate, type EstimatePolicy } from "./estimate.ts";

export interface Receiving {
  /** Bytes a second; 0 = nothing known. */
  readonly goodputBytesPerSecond: number;
  readonly lanes: number;
}

/** A lane that brought less than this part of the busiest one's bytes brought answers, or the rest of something. */
const IDLE_PARTS = 16;
/** A reading in which less came says nothing of the lanes. */
const LEAST_BYTES = 256 * 1024;

export class ReceiveEstimate {
  readonly #chunks: EstimatePolicy = createEstimate();
  #before = new Map<number, number>();
  #lanes = 1;

  /** `sinceUs`: since when its sender may send. */
  handleCommitted(nowUs: number, bytes: number, sinceUs: number): void {
    this.#chunks.handleSample(nowUs, bytes, Math.max(nowUs - sinceUs, 0));
  }

  handleReading(infos: readonly LaneInfo[]): void {
    const brought = infos.map(({ lane, bytesReceived }) => bytesReceived - Math.min(this.#before.get(lane) ?? 0, bytesReceived));
    this.#before = new Map(infos.map(({ lane, bytesReceived }) => [lane, bytesReceived]));
    const most = Math.max(0, ...brought);
    if (most >= LEAST_BYTES) this.#lanes = brought.filter((bytes) => bytes * IDLE_PARTS >= most).length;
  }

  estimate(nowUs: number): Receiving {
    return { goodputBytesPerSecond: this.#chunks.estimate(nowUs).goodputBytesPerSecond, lanes: this.#lanes };
  }
}
