/**
 * Whether a transfer is compressed, and by which profile. PURE; every answer has its reason. Chunks pass encoder, wire and decoder like a pipeline, so that
 *
 *   coded    the slowest of encoder, wire (fewer bytes) and decoder, plus what the first chunk needs to get through the other two
 *   stored   the wire, with all bytes
 *
 * What is coded has to save a tenth: speeds are estimates, and processors have other work. A profile that was chosen stays until it saves nothing any more or
 * another one saves a tenth of *its* time, so that estimates that move a few per cent change nothing. A profile that loses something is worth no more and no
 * less than one that does not: who may lose something is decided by those who know the engine, and they leave the others out.
 *
 * What learns from outcomes can stand behind the same two types: `predictedUs` of what was chosen is what its outcome is compared with.
 */
import { assert } from "../check.ts";

/** A profile that both ends have. Speeds are of original bytes a second, of all threads that will do it; 0 = not known, and then it is not chosen. */
export interface CodecOption {
  /** Its id. */
  readonly profile: string;
  /** Original bytes of each coded byte. */
  readonly ratio: number;
  readonly encodeBytesPerSecond: number;
  /** The receiver's. */
  readonly decodeBytesPerSecond: number;
  /** Original bytes a second of all stages together, as it went over this path lately where the coders held it up; 0 or absent: not known. */
  readonly seenBytesPerSecond?: number;
  readonly lossless: boolean;
  /** What it costs once, however much there is to do. */
  readonly fillUs?: number;
}

/** Why a transfer is coded ("pays", "stays", "fixed") or not, in words for operators. */
export const CODEC_REASONS = {
  pays: "of all profiles it takes the least time, and a tenth less than without",
  stays: "it was chosen before, and still saves something",
  fixed: "the operator said so, or that nothing is to be coded",
  no_common_profile:
    "one end has no profile that the other knows for this model and layout; /status says what each has, and what does not fit",
  reader_refuses_lossy:
    "there are some, but all of them lose something, and the other end does not take that (codec.acceptLossy there, or a fetch that wants it exact)",
  refused: "the other end does not take, or has refused, what it said that it has: perhaps it was restarted",
  position_unknown: "what is left needs to know where in its sequence the content begins, and nobody said",
  codec_missing: "the link, or the addon of one end, cannot code",
  goodput_unknown: "too little was sent over the path yet",
  same_host: "both ends are on one host: there is no wire, and both coders would be its processors'",
  speed_unknown: "nobody has said yet how fast the coders of either end are",
  too_small: "it would pay for more of the same",
  wire_is_faster: "a coder is slower than the wire with all bytes, or as good as",
  explores:
    "it would pay by what was known of the wire, which was not seen for long, because coders are what is waited for: this one shows what it takes now",
} as const;
export type CodecReason = keyof typeof CODEC_REASONS;

export interface CodecInput {
  /** Of the transfer, original. */
  readonly bytes: number;
  /** Of the wire, in bytes as they travel; undefined or 0 = not known. */
  readonly goodputBytesPerSecond: number | undefined;
  /** Both ends on one host. */
  readonly isLocal?: boolean;
  readonly options: readonly CodecOption[];
  /** Of one chunk, original. */
  readonly chunkBytes: number;
  /** What the last transfer like this one had; undefined: it was stored, or there was none. */
  readonly previous?: string | undefined;
  /** Why there may be no option. */
  readonly missing?: "no_common_profile" | "reader_refuses_lossy" | "refused" | "position_unknown" | "codec_missing";
}

export interface CodecChoice {
  /** Undefined: stored. */
  readonly profile: string | undefined;
  readonly reason: CodecReason;
  /** By id, and under `STORED` without any; empty while the goodput, or every speed, is not known. */
  readonly predictedUs: ReadonlyMap<string, number>;
}

export const STORED = "stored";

/** What a change has to save, of the time that it would take without. */
const GAIN = 0.1;

export function chooseCodec(input: CodecInput): CodecChoice {
  const {
    bytes,
    goodputBytesPerSecond: goodput = 0,
    isLocal = false,
    options,
    chunkBytes,
    previous,
    missing = "no_common_profile",
  } = input;
  assert(bytes >= 0 && chunkBytes > 0, "a transfer and its chunks have sizes");
  if (options.length === 0) return { profile: undefined, reason: missing, predictedUs: new Map() };
  if (isLocal) return { profile: undefined, reason: "same_host", predictedUs: new Map() };
  if (goodput <= 0) return { profile: undefined, reason: "goodput_unknown", predictedUs: new Map() };
  if (options.every((option) => steadyRate(option, goodput) <= 0))
    return { profile: undefined, reason: "speed_unknown", predictedUs: new Map() };
  const storedUs = microseconds(bytes, goodput);
  const predictedUs = new Map([[STORED, storedUs]]);
  for (const option of options) predictedUs.set(option.profile, codedUs(option, bytes, goodput, chunkBytes));
  const usOf = ({ profile }: CodecOption): number => predictedUs.get(profile)!;
  const best = options.reduce((least, one) => (isBetter(one, least, usOf(one), usOf(least)) ? one : least));
  const before = options.find(({ profile }) => profile === previous);
  if (before !== undefined && usOf(before) < storedUs && usOf(best) > usOf(before) * (1 - GAIN))
    return { profile: before.profile, reason: "stays", predictedUs };
  if (usOf(best) < storedUs * (1 - GAIN)) return { profile: best.profile, reason: "pays", predictedUs };
  const wouldPay = options.some((option) => 1 / steadyRate(option, goodput) < (1 - GAIN) / goodput);
  return { profile: undefined, reason: wouldPay ? "too_small" : "wire_is_faster", predictedUs };
}

/** Of as fast ones that which loses nothing, then that of the fewest bytes. */
function isBetter(one: CodecOption, other: CodecOption, oneUs: number, otherUs: number): boolean {
  if (oneUs !== otherUs) return oneUs < otherUs;
  return one.lossless === other.lossless ? one.ratio > other.ratio : one.lossless;
}

function codedUs(option: CodecOption, bytes: number, goodput: number, chunkBytes: number): number {
  const { encodeBytesPerSecond, decodeBytesPerSecond, ratio, fillUs = 0 } = option;
  const slowest = steadyRate(option, goodput);
  if (slowest <= 0) return Number.POSITIVE_INFINITY;
  const chunk = Math.min(chunkBytes, bytes);
  const through = [encodeBytesPerSecond, goodput * ratio, decodeBytesPerSecond].reduce((sum, rate) => sum + microseconds(chunk, rate), 0);
  return microseconds(bytes, slowest) + through - microseconds(chunk, slowest) + fillUs;
}

/** Original bytes a second, once the pipeline is full. */
function steadyRate({ encodeBytesPerSecond, decodeBytesPerSecond, seenBytesPerSecond = 0, ratio }: CodecOption, goodput: number): number {
  const promised = Math.min(encodeBytesPerSecond, goodput * ratio, decodeBytesPerSecond);
  return seenBytesPerSecond > 0 ? Math.min(promised, seenBytesPerSecond) : promised;
}

function microseconds(bytes: number, bytesPerSecond: number): number {
  return (bytes * 1_000_000) / bytesPerSecond;
}
