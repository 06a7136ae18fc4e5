/**
 * The codecs that a model's profiles have made: those of all its heads stay, and those of a part as long as it is among the last ones that somebody asked for, since
 * it is a peer that names parts. What dropped ones have counted stays in the sums.
 */
import { limits } from "../limits.ts";
import type { NativeCodec } from "../native-codec.ts";
import type { HeadRange } from "../peer/content.ts";
import { type CodecCounts, sumOfCounts } from "../policy/codec-speed.ts";

/** By profile, then by what they are of. */
type Codecs = Map<string, Map<string, NativeCodec>>;

export class CodecCache {
  readonly #whole: Codecs = new Map();
  readonly #wholeHeads: string;
  /** By heads, those that were not asked for the longest first. */
  readonly #parts = new Map<string, Codecs>();
  readonly #dropped = new Map<string, CodecCounts>();

  /** @param whole heads of a layer of this side */
  constructor(whole: HeadRange) {
    this.#wholeHeads = nameOf(whole);
  }

  /** The same one for the same names; what `make` throws is the caller's. */
  get(profile: string, heads: HeadRange, about: string, make: () => NativeCodec): NativeCodec {
    const codecs = this.#of(heads);
    const ofProfile = codecs.get(profile) ?? new Map<string, NativeCodec>();
    let codec = ofProfile.get(about);
    if (codec === undefined) {
      codec = make();
      codecs.set(profile, ofProfile.set(about, codec));
    }
    return codec;
  }

  /** Of all that were made with it. */
  countsOf(profile: string): CodecCounts {
    const dropped = this.#dropped.get(profile);
    const live = [this.#whole, ...this.#parts.values()].flatMap((codecs) => countsIn(codecs, profile));
    return sumOfCounts(dropped === undefined ? live : [dropped, ...live]);
  }

  #of(heads: HeadRange): Codecs {
    const name = nameOf(heads);
    if (name === this.#wholeHeads) return this.#whole;
    const codecs: Codecs = this.#parts.get(name) ?? new Map();
    this.#parts.delete(name);
    this.#parts.set(name, codecs);
    if (this.#parts.size > limits.codecPartsMax) this.#dropOldest();
    return codecs;
  }

  #dropOldest(): void {
    for (const [name, codecs] of this.#parts) {
      this.#parts.delete(name);
      for (const profile of codecs.keys()) {
        const before = this.#dropped.get(profile);
        const counts = countsIn(codecs, profile);
        this.#dropped.set(profile, sumOfCounts(before === undefined ? counts : [before, ...counts]));
      }
      return;
    }
  }
}

function nameOf({ first, count }: HeadRange): string {
  return `${first} ${count}`;
}

function countsIn(codecs: Codecs, profile: string): CodecCounts[] {
  return [...(codecs.get(profile)?.values() ?? [])].map((codec) => codec.counts());
}
