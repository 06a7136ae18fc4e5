/** Whether and when a chunk that failed is sent again: as long as there is progress. PURE. */
import { integer } from "../check.ts";
import { ERRORS, type ErrorCode } from "../errors.ts";
import { limits } from "../limits.ts";

export interface RetryPolicy {
  /** Progress was made (a chunk was acknowledged for the first time). */
  handleProgress(nowUs: number): void;
  /** A chunk failed `attempt` times since there was progress: send again at `atUs`, or give up with this code. */
  decide(nowUs: number, attempt: number, code: ErrorCode): RetryDecision;
}

export interface RetryDecision {
  readonly again: boolean;
  readonly atUs: number;
  readonly code: ErrorCode;
  readonly reason: string;
}

export interface RetryOptions {
  /** Failures of one chunk without any progress after which the transfer ends. */
  readonly attempts?: number;
}

export function createRetry(options: RetryOptions = {}): RetryPolicy {
  return new ProgressRetry(integer(options.attempts ?? limits.attemptsWithoutProgress, "attempts", 1, 1_000));
}

/** What was in memory or on the wire was wrong, not the path: nothing is gained by waiting. */
const AT_ONCE: ReadonlySet<ErrorCode> = new Set<ErrorCode>(["checksum_mismatch"]);
/** The other side or the host is busy with the chunk's own kind. That passes, or the transfer's deadline does. */
const PATIENT: ReadonlySet<ErrorCode> = new Set<ErrorCode>(["full", "chunk_busy"]);
/** Retryable for a caller, but not within this transfer: what it was granted is gone. */
const ENDING: ReadonlySet<ErrorCode> = new Set<ErrorCode>(["peer_restarted", "draining", "deadline_exceeded"]);

class ProgressRetry implements RetryPolicy {
  readonly #attempts: number;
  #progressUs: number | undefined;

  constructor(attempts: number) {
    this.#attempts = attempts;
  }

  handleProgress(nowUs: number): void {
    this.#progressUs = nowUs;
  }

  decide(nowUs: number, attempt: number, code: ErrorCode): RetryDecision {
    if (ERRORS[code].retry === "never" || ENDING.has(code)) return { again: false, atUs: nowUs, code, reason: `${code} ends a transfer` };
    if (PATIENT.has(code)) {
      return { again: true, atUs: nowUs + pauseUs(attempt, limits.fullPauseMinUs, limits.fullPauseMaxUs), code, reason: `${code} passes` };
    }
    if (attempt >= this.#attempts) {
      const since = this.#progressUs === undefined ? "none ever" : `none for ${nowUs - this.#progressUs} us`;
      return { again: false, atUs: nowUs, code, reason: `${attempt} failures of one chunk without progress (${since})` };
    }
    const atUs = AT_ONCE.has(code) ? nowUs : nowUs + pauseUs(attempt, limits.retryPauseMinUs, limits.retryPauseMaxUs);
    return { again: true, atUs, code, reason: `failure ${attempt} of ${this.#attempts} without progress` };
  }
}

/** Doubles with each attempt, from `minUs` to `maxUs`. */
function pauseUs(attempt: number, minUs: number, maxUs: number): number {
  let pause = minUs;
  for (let doubled = 1; doubled < attempt && pause < maxUs; doubled++) pause *= 2;
  return Math.min(pause, maxUs);
}
