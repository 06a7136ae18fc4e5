/**
 * How fast this node's coders are with one profile, and what becomes of its KV: from what was measured at the start, and from every chunk that links have
 * coded since. PURE. What is newer counts more: processors get other work, and prompts differ.
 */
import { assert } from "../check.ts";
import type { NativeCodecCounts } from "../native-codec.ts";

/** Of one thread, original bytes a second; 0 = not known. */
export interface CodecSpeed {
  readonly encodeBytesPerSecond: number;
  readonly decodeBytesPerSecond: number;
  /** Original bytes of each byte that travels, chunks that are stored among them. */
  readonly ratio: number;
}

/** Counts of several codecs, added up. */
export type CodecCounts = Omit<NativeCodecCounts, "failedChunks">;

export const UNKNOWN_SPEED: CodecSpeed = Object.freeze({ encodeBytesPerSecond: 0, decodeBytesPerSecond: 0, ratio: 1 });

/** After so many bytes what was known before counts for half. */
const HALF_BYTES = 32 * 1024 * 1024;
/** Less than this is not looked at yet: a chunk or two say little. */
const LEAST_BYTES = 1024 * 1024;

export class CodecSpeedEstimate {
  #speed: CodecSpeed;
  /** As far as they were looked at. */
  #sent = { bytes: 0, wireBytes: 0, ns: 0 };
  #received = { bytes: 0, ns: 0 };

  constructor(start: CodecSpeed = UNKNOWN_SPEED) {
    this.#speed = start;
  }

  get speed(): CodecSpeed {
    return this.#speed;
  }

  /** @param counts since the codecs were made, never less than the last time */
  handleCounts(counts: Pick<CodecCounts, "encodeNs" | "encodedBytes" | "sentBytes" | "decodeNs" | "decodedBytes">): CodecSpeed {
    const { encodedBytes, sentBytes, encodeNs, decodedBytes, decodeNs } = counts;
    const sent = { bytes: encodedBytes - this.#sent.bytes, wireBytes: sentBytes - this.#sent.wireBytes, ns: encodeNs - this.#sent.ns };
    const received = { bytes: decodedBytes - this.#received.bytes, ns: decodeNs - this.#received.ns };
    assert(sent.bytes >= 0 && received.bytes >= 0, "counts only grow");
    let { encodeBytesPerSecond, decodeBytesPerSecond, ratio } = this.#speed;
    if (sent.bytes >= LEAST_BYTES && sent.ns > 0 && sent.wireBytes > 0) {
      encodeBytesPerSecond = blend(encodeBytesPerSecond, (sent.bytes * 1e9) / sent.ns, sent.bytes);
      ratio = this.#sent.bytes === 0 ? sent.bytes / sent.wireBytes : blend(ratio, sent.bytes / sent.wireBytes, sent.bytes);
      this.#sent = { bytes: encodedBytes, wireBytes: sentBytes, ns: encodeNs };
    }
    if (received.bytes >= LEAST_BYTES && received.ns > 0) {
      decodeBytesPerSecond = blend(decodeBytesPerSecond, (received.bytes * 1e9) / received.ns, received.bytes);
      this.#received = { bytes: decodedBytes, ns: decodeNs };
    }
    this.#speed = { encodeBytesPerSecond, decodeBytesPerSecond, ratio };
    return this.#speed;
  }
}

/** Of several codecs of one profile: those of K and of V, and of each layer. */
export function sumOfCounts(all: Iterable<CodecCounts>): CodecCounts {
  const sum = {
    encodeNs: 0,
    encodedChunks: 0,
    encodedBytes: 0,
    sentBytes: 0,
    decodeNs: 0,
    decodedChunks: 0,
    decodedBytes: 0,
    arrivedBytes: 0,
  };
  const stored = { incompressible: 0, not_finite: 0, out_of_range: 0 };
  for (const counts of all) {
    for (const name of Object.keys(sum) as (keyof typeof sum)[]) sum[name] += counts[name];
    for (const reason of Object.keys(stored) as (keyof typeof stored)[]) stored[reason] += counts.stored[reason];
  }
  return { ...sum, stored };
}

/** Both halves of a KV cache have as many bytes: their times add up. */
export function togetherOf(one: CodecSpeed, other: CodecSpeed): CodecSpeed {
  const mean = (a: number, b: number): number => (a > 0 && b > 0 ? 2 / (1 / a + 1 / b) : 0);
  return {
    encodeBytesPerSecond: mean(one.encodeBytesPerSecond, other.encodeBytesPerSecond),
    decodeBytesPerSecond: mean(one.decodeBytesPerSecond, other.decodeBytesPerSecond),
    ratio: mean(one.ratio, other.ratio),
  };
}

/** Speeds and ratios by their inverses, which are what adds up. */
function blend(before: number, now: number, bytes: number): number {
  if (before <= 0) return now;
  const weight = bytes / (bytes + HALF_BYTES);
  return 1 / ((1 - weight) / before + weight / now);
}
