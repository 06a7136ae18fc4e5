/**
 * The profiles that a node may have KV coded with, and what each makes of the KV of a model: which calibration it takes, whether it fits the layout at all,
 * and the native codec of each tile. Both ends come to the same codecs for one id; a codec refuses what another one has made.
 */
import type { Calibration } from "../codec/calibration.ts";
import { has, losesNothing, needsCalibration } from "../codec/fit.ts";
import { profileId } from "../codec/identity.ts";
import type { Profile, Side } from "../codec/profile.ts";
import { mergingSpecOf } from "../codec/merge-spec.ts";
import { specOf } from "../codec/spec.ts";
import { unreachable } from "../check.ts";
import { asKvferryError, KvferryError } from "../errors.ts";
import type { ModelIdentity } from "../kv/identity.ts";
import type { Layout } from "../kv/layout.ts";
import { type CodedPlane, type Coding, sidesTogether } from "../kv/plan.ts";
import { halvesOf } from "../kv/planes.ts";
import type { PlacementCoding } from "../link/link.ts";
import type { NativeCodec, NativeCodecSpec, NativeMergingSpec } from "../native-codec.ts";
import { headsOf, type KvCodecs } from "../peer/content.ts";
import { type CodecCounts, type CodecSpeed, CodecSpeedEstimate, togetherOf } from "../policy/codec-speed.ts";
import { CodecCache } from "./codec-cache.ts";

export interface NamedProfile {
  /** As the operator calls it. */
  readonly name: string;
  readonly profile: Profile;
}

export interface ProfileOptions {
  /** Those that are liked best first. */
  readonly profiles: readonly NamedProfile[];
  readonly calibrations: readonly Calibration[];
  /** "auto": what pays; "none"; or the name of one, which what is sent goes by wherever the reader takes it. */
  readonly use: string;
  /** Of what comes to this node: also through profiles that lose something, whoever asks for it. */
  readonly acceptsLossy: boolean;
  /** Why nothing can be coded here, if that is so. */
  readonly missing?: "codec_missing";
  /** That code at once. */
  readonly threads: number;
  /** What a codec does before it has coded anything; absent: nobody knows, and only the operator can choose. */
  readonly measure?: (spec: Spec) => Promise<CodecSpeed>;
  /** Throws TypeError on a spec that this host cannot do. */
  readonly newCodec: (spec: Spec) => NativeCodec;
}

type Spec = NativeCodecSpec | NativeMergingSpec;

/** A profile with the calibration that it uses for one model. */
export interface ModelProfile extends NamedProfile {
  readonly id: string;
  readonly isLossless: boolean;
  /** What it does depends on where in the sequence a token stands. */
  readonly needsPosition: boolean;
  readonly calibration: Calibration | undefined;
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
  accepted({ codecs, profile }: Identified, heads: number, isExact: boolean): readonly string[] {
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
  /** Those that fit all that the layout holds. */
  readonly profiles: readonly ModelProfile[];
  readonly misfits: readonly Misfit[];
  readonly #model: string;
  readonly #layout: Layout;
  readonly #layers: number;
  readonly #heads: number;
  readonly #newCodec: ProfileOptions["newCodec"];
  readonly #threads: number;
  readonly #measure: ProfileOptions["measure"];
  readonly #codecs: CodecCache;
  readonly #speeds = new Map<string, CodecSpeedEstimate>();
  /** Whether so many heads fit, by profile and number. */
  readonly #fits = new Map<string, boolean>();

  constructor(
    { profiles, calibrations, newCodec, threads, measure }: ProfileOptions,
    { model }: Pick<ModelIdentity, "model">,
    layout: Layout,
  ) {
    this.#model = model;
    this.#layout = layout;
    this.#layers = Math.max(...layout.groups.flatMap(({ layers }) => layers)) + 1;
    this.#newCodec = newCodec;
    this.#threads = threads;
    this.#measure = measure;
    const { count } = headsOf(layout);
    this.#heads = count;
    this.#codecs = new CodecCache(count);
    const misfits: Misfit[] = [];
    this.profiles = profiles.flatMap((named) => {
      // Of several calibrations it is that of this model: what is another's does not fit.
      const found = needs(named.profile) ? calibrations : [undefined];
      const tried = found.map((calibration) => {
        const profile = modelProfile(named, calibration);
        return { profile, why: this.#misfitOf(profile, count) };
      });
      const fitting = tried.find(({ why }) => why === "");
      if (fitting !== undefined) return [fitting.profile];
      misfits.push({ name: named.name, why: tried.map(({ why }) => why).join("; ") });
      return [];
    });
    this.misfits = misfits;
  }

  get(id: string): ModelProfile | undefined {
    return this.profiles.find((profile) => profile.id === id);
  }

  /** Whether it can code a part of the heads. */
  fits(profile: ModelProfile, heads: number): boolean {
    const key = `${profile.id} ${heads}`;
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
      encodeBytesPerSecond: encodeBytesPerSecond * this.#threads,
      decodeBytesPerSecond: decodeBytesPerSecond * this.#threads,
    };
  }

  /** Of all that links coded with it here. */
  countsOf(id: string): CodecCounts {
    return this.#codecs.countsOf(id);
  }

  /**
   * Makes the codecs of all tiles, each in a turn of the event loop of its own (matrices are megabytes), so that no transfer makes them; then has each profile
   * tried, off this thread. Undefined: there is nothing to try.
   */
  measure(): Promise<void> | undefined {
    return this.#measure === undefined || this.profiles.length === 0 ? undefined : this.#measureAll(this.#measure);
  }

  async #measureAll(measure: NonNullable<ProfileOptions["measure"]>): Promise<void> {
    for (const profile of this.profiles) {
      // What cannot be made or tried stays unknown, and is not chosen by its speed.
      await this.#measureOne(profile, measure).catch(() => {});
    }
  }

  async #measureOne(profile: ModelProfile, measure: NonNullable<ProfileOptions["measure"]>): Promise<void> {
    for (const tile of this.#tiles(profile, this.#heads)) {
      await nextTurn();
      this.#codecOf(profile, tile);
    }
    const k = await measure(this.#firstSpec(profile, "k"));
    const isTogether = profile.profile.merge !== undefined;
    const speed = isTogether ? k : togetherOf(k, await measure(this.#firstSpec(profile, "v")));
    this.#speeds.set(profile.id, new CodecSpeedEstimate(speed));
  }

  #estimateOf(id: string): CodecSpeedEstimate {
    const found = this.#speeds.get(id) ?? new CodecSpeedEstimate();
    this.#speeds.set(id, found);
    return found;
  }

  isLossy(id: string): boolean {
    return this.get(id)?.isLossless === false;
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
    if (found === undefined) throw new KvferryError("profile_refused", `${id} is no profile of this side for ${this.#model}`);
    return found;
  }

  /** Tries the first tile of each half of each group; "" if all can be coded. */
  #misfitOf(profile: ModelProfile, heads: number): string {
    try {
      for (const tile of this.#firstTiles(profile, heads)) this.#codecOf(profile, tile);
      return "";
    } catch (error) {
      return error instanceof TypeError ? error.message : asKvferryError(error).detail;
    }
  }

  /** Of each group with tokens, as a plan would have them. */
  #tiles({ profile }: ModelProfile, heads: number, most = Number.POSITIVE_INFINITY): CodedPlane[] {
    return this.#layout.groups.flatMap((group) => {
      if (group.blockTokens === 0) return [];
      const ascending = [...group.layers].sort((a, b) => a - b);
      const starts = ascending.flatMap((_, at) => (at % profile.layers === 0 && at < most * profile.layers ? [at] : []));
      return starts.flatMap((start) => {
        const halves = halvesOf(group).map(
          ({ name: component, element, firstHead, channels, heads: held }): CodedPlane => ({
            ...{ component, element, layers: ascending.slice(start, start + profile.layers), firstHead, channels },
            heads: component === "latent" ? held : heads,
          }),
        );
        const [k, v] = (["k", "v"] as const).map((name) => halves.find(({ component }) => component === name));
        const together = profile.merge === undefined ? undefined : sidesTogether(k, v);
        return together === undefined ? halves : [together, ...halves.filter((half) => half !== k && half !== v)];
      });
    });
  }

  /** Of each half of each group with tokens. */
  #firstTiles(profile: ModelProfile, heads: number): CodedPlane[] {
    return this.#tiles(profile, heads, 1);
  }

  #firstSpec(profile: ModelProfile, side: Side): Spec {
    const tiles = this.#firstTiles(profile, this.#heads);
    return this.#specOf(profile, tiles.find(({ component }) => component === side) ?? tiles[0]!);
  }

  /** Throws profile_refused. */
  #codecOf(known: ModelProfile, about: CodedPlane): NativeCodec {
    const { element, heads, channels, layers } = about;
    const key = [about.component, layers.join(), element, channels].join(" ");
    try {
      return this.#codecs.get(known.id, heads, key, () => this.#newCodec(this.#specOf(known, about)));
    } catch (error) {
      const why = error instanceof TypeError ? error.message : asKvferryError(error).detail;
      throw new KvferryError("profile_refused", `${known.name}: ${why}`, { cause: error });
    }
  }

  #specOf({ profile, calibration, isLossless: lossless }: ModelProfile, about: CodedPlane): Spec {
    const { component, element, heads, channels, layers } = about;
    const [firstLayer = 0] = layers;
    if (element !== "bf16" && element !== "f16" && element !== "f32") throw new TypeError(`there are no codes of ${element}`);
    const { merge } = profile;
    const isApart = component !== "k" && component !== "v" && component !== "kv";
    if (isApart && !lossless) throw new TypeError(`a profile that loses something is for K and V, not for ${component}`);
    const isTile = firstLayer % profile.layers === 0 && layers.every((layer, at) => layer === firstLayer + at);
    if (isByLayer(profile) && !isTile) throw new TypeError(`layers ${layers.join(", ")} are no tile of ${profile.layers}`);
    if (merge !== undefined && component !== "kv") throw new TypeError("tokens are merged where K and V have one shape");
    const side: Side = component === "v" ? "v" : "k";
    const model = { model: this.#model, element, layers: this.#layers, heads, channels, rope: undefined };
    const tile = { side, firstLayer, layers: layers.length };
    return merge === undefined ? specOf(profile, tile, model, calibration) : mergingSpecOf({ ...profile, merge }, tile, model, calibration);
  }
}

function modelProfile({ name, profile }: NamedProfile, calibration: Calibration | undefined): ModelProfile {
  const needsPosition = [profile.k, profile.v].some((pipeline) => has(pipeline, "unrotate"));
  return {
    ...{ name, profile, calibration, needsPosition },
    id: profileId(profile, calibration?.hash),
    isLossless: losesNothing(profile),
  };
}

export function needs({ k, v }: Profile): boolean {
  return needsCalibration(k) || needsCalibration(v);
}

/** Whether it does not do the same with all layers. */
function isByLayer(profile: Profile): boolean {
  const hasLevels = [profile.k, profile.v].some(({ quantizer }) => "levels" in quantizer && typeof quantizer.levels !== "number");
  return hasLevels || needs(profile) || (profile.merge?.skip.length ?? 0) > 0;
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
