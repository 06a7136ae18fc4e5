/**
 * When a transfer fails whose caller named no deadline. PURE. On one host the other process is there or it is not, and recomputing is cheap; across
 * hosts a path may be away for a while. A deadline that knew the place alone would fail what is merely large, or one of many: so each byte adds its time.
 */
import { assert } from "../check.ts";

export interface DeadlineDefaults {
  /** For a peer on this host. */
  readonly localMs: number;
  readonly remoteMs: number;
}

export interface Deadline {
  readonly deadlineMs: number;
  readonly reason: string;
}

/** The slowest path that is still worth its while: 1 Gbit/s. */
const FLOOR_BYTES_PER_MS = 125_000;

/** @param bytes of the transfer and of all that is under way with it */
export function defaultDeadline({ localMs, remoteMs }: DeadlineDefaults, local: boolean, bytes: number): Deadline {
  assert(bytes >= 0, "a transfer has no negative size");
  const baseMs = local ? localMs : remoteMs;
  const bytesMs = Math.ceil(bytes / FLOOR_BYTES_PER_MS);
  return {
    deadlineMs: baseMs + bytesMs,
    reason: `${baseMs} ms for a peer ${local ? "here" : "elsewhere"}, ${bytesMs} ms for ${bytes} bytes`,
  };
}
