/**
 * The profiles that a node may have KV coded with, and what each makes of the KV of a model: which calibration it takes, whether it fits the layout at all,
 * and the native codec of each tile. Both ends come to the same codecs for one id; a codec refuses what another one has made.
 */
import { unreachable } from "../check.ts";
import type { NodeCalibration } from "../config/profile-files.ts";
import { asKvferryError, KvferryError } from "../errors.ts";
import type { ModelIdentity } from "../kv/identity.ts";
import type { Layout } from "../kv/layout.ts";
import type { CodedPlane, Coding } from "../kv/plan.ts";
import type { PlacementCoding } from "../link/link.ts";
import type { NativeCodec } from "../native-codec.ts";
import type { HeadRange, KvCodecs } from "../peer/content.ts";
import { type CodecCounts, type CodecSpeed, CodecSpeedEstimate, togetherOf } from "../policy/codec-speed.ts";
import { CodecCache } from "./codec-cache.ts";
import { type CodecSpec, type ModelProfile, modelProfile, ModelTiles, type NamedProfile, needs, sideOf } from "./model-tiles.ts";

export interface ProfileOptions {
  /** Those that are liked best first. */
  readonly profiles: readonly NamedProfile[];
  readonly calibrations: readonly NodeCalibration[];
  /** "auto": what pays; "none"; or the name of one, which what is sent goes by wherever the reader takes it. */
  readonly use: string;
  /** Of what comes to this node: also through profiles that lose something, whoever asks for it. */
  readonly acceptsLossy: boolean;
  /** Why nothing can be coded here, if that is so. */
  readonly missing?: "codec_missing";
  /** That code at once. */
  readonly threads: number;
  /** What a codec does before it has coded anything; absent: nobody knows, and only the operator can choose. */
  readonly measure?: (codec: NativeCodec, spec: CodecSpec) => Promise<CodecSpeed>;
  /** Throws TypeError on a spec that this host cannot do. */
  readonly newCodec: (spec: CodecSpec) => NativeCodec;
  /** The same for one with matrices of a file; rejects with what that throws. */
  readonly newCodecLater?: (spec: CodecSpec) => Promise<NativeCodec>;
}

/** Why a profile is not to be had for a model. */
export interface Misfit {
  readonly name: string;
  readonly why: string;
}

/** A model with the profile that its identity names; "" = exact. */
interface Identified {
  readonly codecs: ModelCodecs;
  readonly profile: string;
}

export class Profiles {
  readonly #options: ProfileOptions;

  constructor(options: ProfileOptions) {
    this.#options = options;
  }

  get acceptsLossy(): boolean {
    return this.#options.acceptsLossy;
  }
  get use(): string {
    return this.#options.use;
  }
  /** Nobody asked for any. */
  get isNone(): boolean {
    return this === NO_PROFILES;
  }
  get missing(): "codec_missing" | undefined {
    return this.#options.missing;
  }

  /** Ids of what may come to this node for who asked for so many heads. `isExact`: through nothing that loses more than the model's identity says. */
  accepted({ codecs, profile }: Identified, heads: HeadRange, isExact: boolean): readonly string[] {
    const acceptsLossy = this.acceptsLossy && !isExact;
    const isTaken = (one: ModelProfile): boolean => (acceptsLossy || one.isLossless || one.id === profile) && codecs.fits(one, heads);
    return codecs.profiles.filter(isTaken).map(({ id }) => id);
  }

  /** Ids of what may be pushed: it is published there under the model's identity. */
  pushed({ codecs, profile }: Identified): readonly string[] {
    return codecs.profiles.filter((one) => one.isLossless || one.id === profile).map(({ id }) => id);
  }

  of(identity: ModelIdentity, layout: Layout): ModelCodecs {
    return new ModelCodecs(this.#options, identity, layout);
  }
}

/** Of a node that codes nothing. */
export const NO_PROFILES: Profiles = new Profiles({
  ...{ profiles: [], calibrations: [], use: "none", acceptsLossy: false, threads: 1 },
  newCodec: () => unreachable(undefined as never),
});

export class ModelCodecs implements KvCodecs {
  readonly #options: ProfileOptions;
  readonly #tiles: ModelTiles;
  readonly #codecs: CodecCache;
  readonly #speeds = new Map<string, CodecSpeedEstimate>();
  /** Whether these heads fit, by profile and heads. */
  readonly #fits = new Map<string, boolean>();
  /** Those that fit all that the layout holds, as far as that was known at first. */
  readonly #fitting: readonly ModelProfile[];
  /** Of them, ids of those that are to be had when their codecs are made. */
  readonly #awaited = new Set<string>();
  /** And of those that turned out not to be. */
  readonly #dropped = new Set<string>();
  readonly #misfits: Misfit[] = [];
  #isStopped = false;

  constructor(options: ProfileOptions, { model }: Pick<ModelIdentity, "model">, layout: Layout) {
    this.#options = options;
    this.#tiles = new ModelTiles(model, layout);
    this.#codecs = new CodecCache(this.#tiles.heads);
    this.#fitting = options.profiles.flatMap((named) => {
      // Of several calibrations it is that of this model: what is another's does not fit.
      const found = needs(named.profile) ? options.calibrations : [undefined];
      const tried = found.map((calibration) => {
        const profile = modelProfile(named, calibration);
        return { profile, why: this.#misfitOf(profile, this.#tiles.heads) };
      });
      const fitting = tried.find(({ why }) => why === "");
      if (fitting === undefined) this.#misfits.push({ name: named.name, why: tried.map(({ why }) => why).join("; ") });
      return fitting === undefined ? [] : [fitting.profile];
    });
    for (const { id, isRead } of this.#fitting) if (isRead) this.#awaited.add(id);
  }

  /** That KV may be coded with now. */
  get profiles(): readonly ModelProfile[] {
    return this.#fitting.filter(({ id }) => !this.#awaited.has(id) && !this.#dropped.has(id));
  }
  get misfits(): readonly Misfit[] {
    return this.#misfits;
  }
  /** Names of profiles whose matrices are being read. */
  get awaited(): readonly string[] {
    return this.#fitting.flatMap(({ id, name }) => (this.#awaited.has(id) ? [name] : []));
  }

  get(id: string): ModelProfile | undefined {
    return this.profiles.find((profile) => profile.id === id);
  }

  /** Whether it can code a part of the heads. */
  fits(profile: ModelProfile, heads: HeadRange): boolean {
    const key = `${profile.id} ${heads.first} ${heads.count}`;
    let fits = this.#fits.get(key);
    if (fits === undefined) {
      fits = this.#misfitOf(profile, heads) === "";
      this.#fits.set(key, fits);
    }
    return fits;
  }

  /** Of all threads, as far as it is known by now. */
  speedOf(id: string): CodecSpeed {
    const { ratio, encodeBytesPerSecond, decodeBytesPerSecond } = this.#estimateOf(id).handleCounts(this.countsOf(id));
    return {
      ratio,
      encodeBytesPerSecond: encodeBytesPerSecond * this.#options.threads,
      decodeBytesPerSecond: decodeBytesPerSecond * this.#options.threads,
    };
  }

  /** By the profiles' names, also of those that are to be had no more. */
  allCounts(): readonly (readonly [name: string, counts: CodecCounts])[] {
    return this.#fitting.map(({ id, name }) => [name, this.countsOf(id)] as const);
  }

  /** Of all that links coded with it here. */
  countsOf(id: string): CodecCounts {
    return this.#codecs.countsOf(id);
  }

  /**
   * Makes the codecs of all tiles, each in a turn of the event loop of its own (matrices are megabytes), so that no transfer makes them; then has each profile
   * tried, off this thread. What cannot be made or tried is a misfit from then on. Undefined: there is nothing to do.
   *
   * @param onChange a profile is there or known better, or is a misfit
   */
  prepare(onChange: (misfit?: Misfit) => void): Promise<void> | undefined {
    const wanted = this.#fitting.filter(({ isRead }) => isRead || this.#options.measure !== undefined);
    return wanted.length === 0 ? undefined : this.#prepareAll(wanted, onChange);
  }

  /** Nobody asks for it any more: what is not made yet is not made. */
  stop(): void {
    this.#isStopped = true;
  }

  async #prepareAll(wanted: readonly ModelProfile[], onChange: (misfit?: Misfit) => void): Promise<void> {
    // What needs no file is there sooner.
    for (const profile of [...wanted.filter(({ isRead }) => !isRead), ...wanted.filter(({ isRead }) => isRead)]) {
      let misfit: Misfit | undefined;
      try {
        await this.#prepareOne(profile);
      } catch (error) {
        // Whatever it is, somebody is to hear of it, and KV travels without.
        misfit = { name: profile.name, why: error instanceof KvferryError ? error.detail : (error as Error).message };
        this.#misfits.push(misfit);
        this.#dropped.add(profile.id);
      }
      if (this.#isStopped) return;
      this.#awaited.delete(profile.id);
      onChange(misfit);
    }
  }

  async #prepareOne(profile: ModelProfile): Promise<void> {
    const { measure, newCodec, newCodecLater = async (spec) => newCodec(spec) } = this.#options;
    const speeds = new Map<string, CodecSpeed>();
    for (const tile of this.#tiles.of(profile, this.#tiles.heads)) {
      await nextTurn();
      if (this.#isStopped) return;
      const spec = await this.#tiles.specLater(profile, tile);
      const codec = profile.isRead ? this.#keep(profile, tile, await newCodecLater(spec)) : this.#codecOf(profile, tile);
      const side = sideOf(tile);
      if (measure !== undefined && !speeds.has(side)) speeds.set(side, await measure(codec, spec));
    }
    const [k, v] = [speeds.get("k") ?? speeds.get("v"), speeds.get("v") ?? speeds.get("k")];
    if (k !== undefined && v !== undefined) this.#speeds.set(profile.id, new CodecSpeedEstimate(togetherOf(k, v)));
  }

  #estimateOf(id: string): CodecSpeedEstimate {
    const found = this.#speeds.get(id) ?? new CodecSpeedEstimate();
    this.#speeds.set(id, found);
    return found;
  }

  /** Also one that is to be had no more: something may be under way by it. */
  isLossy(id: string): boolean {
    return this.#fitting.some((profile) => profile.id === id && !profile.isLossless);
  }

  cutOf(id: string): Coding {
    const { layers, merge } = this.#known(id).profile;
    return { layers, joinsSides: merge !== undefined };
  }

  codecsOf(id: string, coded: readonly (CodedPlane | undefined)[]): PlacementCoding["codecs"] {
    const known = this.#known(id);
    return coded.map((about) => (about === undefined ? undefined : this.#codecOf(known, about)));
  }

  #known(id: string): ModelProfile {
    const found = this.get(id);
    if (found === undefined) throw new KvferryError("profile_refused", `${id} is no profile of this side for ${this.#tiles.model}`);
    return found;
  }

  /** Tries the first tile of each half of each group, as far as that needs no file; "" if all can be coded. */
  #misfitOf(profile: ModelProfile, heads: HeadRange): string {
    try {
      for (const tile of this.#tiles.of(profile, heads, 1)) {
        if (profile.isRead) this.#tiles.check(profile, tile);
        else this.#codecOf(profile, tile);
      }
      return "";
    } catch (error) {
      return reasonOf(error);
    }
  }

  #keep(known: ModelProfile, about: CodedPlane, codec: NativeCodec): NativeCodec {
    return this.#codecs.get(known.id, headsOf(about), nameOf(about), () => codec);
  }

  /** Throws profile_refused. */
  #codecOf(known: ModelProfile, about: CodedPlane): NativeCodec {
    try {
      return this.#codecs.get(known.id, headsOf(about), nameOf(about), () => this.#options.newCodec(this.#tiles.specOf(known, about)));
    } catch (error) {
      throw new KvferryError("profile_refused", `${known.name}: ${reasonOf(error)}`, { cause: error });
    }
  }
}

function headsOf({ firstHead, heads }: CodedPlane): HeadRange {
  return { first: firstHead, count: heads };
}

function nameOf({ component, layers, element, channels }: CodedPlane): string {
  return [component, layers.join(), element, channels].join(" ");
}

/** Of what `specOf` and `newCodec` throw. */
function reasonOf(error: unknown): string {
  return error instanceof TypeError ? error.message : asKvferryError(error).detail;
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
