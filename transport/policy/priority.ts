/** Classes of transfers: what may go before what. PURE. */

import type { Rank } from "../link/link.ts";

/** `urgent`: a decode waits for it. `background`: nobody does; it yields to everything, other people's traffic included. */
export const PRIORITIES = ["urgent", "normal", "background"] as const;
export type Priority = (typeof PRIORITIES)[number];

/** The class as native knows it: 0 goes first. */
export function rankOf(priority: Priority): Rank {
  return priority === "urgent" ? 0 : priority === "normal" ? 1 : 2;
}

export interface Urgency {
  readonly priority: Priority;
  readonly reason: string;
}

/** A transfer that will not make its deadline at an even share of the path, but would with all of it, goes first. */
export interface UrgencyInput {
  readonly priority: Priority;
  readonly leftBytes: number;
  readonly leftUs: number;
  readonly goodputBytesPerSecond: number;
  /** Transfers that share the path, this one included. */
  readonly sharing: number;
}

export function urgencyOf({ priority, leftBytes, leftUs, goodputBytesPerSecond, sharing }: UrgencyInput): Urgency {
  if (priority !== "normal") return { priority, reason: "as asked for" };
  if (goodputBytesPerSecond <= 0 || sharing <= 1) return { priority, reason: "as asked for" };
  const aloneUs = (leftBytes * 1_000_000) / goodputBytesPerSecond;
  if (aloneUs * sharing <= leftUs) return { priority, reason: "in time with an even share" };
  if (aloneUs > leftUs) return { priority, reason: "late even with the whole path" };
  return {
    priority: "urgent",
    reason: `${Math.round(aloneUs / 1000)} ms of the whole path left, and ${Math.round(leftUs / 1000)} ms until its deadline`,
  };
}
