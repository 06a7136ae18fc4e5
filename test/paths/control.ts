/** What a sender learns in one step of the model, and what a congestion control answers: how much may be under way, and how fast it goes out. */
import { SEGMENT } from "./spec.ts";

/** One object for each flow, written anew each step. */
export interface Turn {
  nowUs: number;
  /** Length of the step. */
  us: number;
  ackedBytes: number;
  lostBytes: number;
  rttUs: number;
  inflightBytes: number;
  /** The window or the pace stood in the way of more, not the sender's supply. */
  isFull: boolean;
}

export interface Control {
  readonly name: string;
  readonly windowBytes: number;
  /** 0 = as fast as acknowledgements come. */
  readonly paceBytesPerSecond: number;
  /** It keeps from sending, by its own clock. */
  readonly isPausing: boolean;
  handleTurn(turn: Turn): void;
  /** Nothing came back for a retransmission timeout: `lostBytes` that were under way count as lost. */
  handleTimeout(lostBytes: number): void;
}

export const MINIMAL_WINDOW = 4 * SEGMENT;

/** Linux sends in pieces of about a millisecond of the rate, 64 KiB at most. */
export function pieceBytes(bytesPerSecond: number): number {
  return Math.min(Math.max(bytesPerSecond / 1024, 2 * SEGMENT), 65_536);
}
