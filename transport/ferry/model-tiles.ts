/** Profiles as one model has them: with which calibration, the tiles that KV is coded in, and what a codec does with each. */
import { has, losesNothing, needsCalibration } from "../codec/fit.ts";
import { profileId } from "../codec/identity.ts";
import type { Calibration, Klt, KltWish } from "../codec/calibration.ts";
import type { Profile, Side } from "../codec/profile.ts";
import { mergingSpecOf } from "../codec/merge-spec.ts";
import { specOf } from "../codec/spec.ts";
import type { NodeCalibration } from "../config/profile-files.ts";
import type { Layout } from "../kv/layout.ts";
import { type CodedPlane, sidesTogether } from "../kv/plan.ts";
import { halvesOf } from "../kv/planes.ts";
import type { NativeCodecSpec, NativeMergingSpec } from "../native-codec.ts";
import { type HeadRange, headsOf } from "../peer/content.ts";

export type CodecSpec = NativeCodecSpec | NativeMergingSpec;

export interface NamedProfile {
  /** As the operator calls it. */
  readonly name: string;
  readonly profile: Profile;
}

/** A profile with the calibration that it uses for one model. */
export interface ModelProfile extends NamedProfile {
  readonly id: string;
  readonly isLossless: boolean;
  /** What it does depends on where in the sequence a token stands. */
  readonly needsPosition: boolean;
  readonly calibration: NodeCalibration | undefined;
  /** Its matrices lie in a file, and are read before it is to be had. */
  readonly isRead: boolean;
}

export function modelProfile({ name, profile }: NamedProfile, calibration: NodeCalibration | undefined): ModelProfile {
  const pipelines = [profile.k, profile.v];
  return {
    ...{ name, profile, calibration },
    id: profileId(profile, calibration?.hash),
    isLossless: losesNothing(profile),
    needsPosition: pipelines.some((pipeline) => has(pipeline, "unrotate")),
    isRead: calibration?.kltLater !== undefined && pipelines.some((pipeline) => has(pipeline, "klt")),
  };
}

export function needs({ k, v }: Profile): boolean {
  return needsCalibration(k) || needsCalibration(v);
}

export class ModelTiles {
  readonly model: string;
  /** Of a layer of this side. */
  readonly heads: HeadRange;
  readonly #layout: Layout;
  readonly #layers: number;

  constructor(model: string, layout: Layout) {
    this.model = model;
    this.heads = headsOf(layout);
    this.#layout = layout;
    this.#layers = Math.max(...layout.groups.flatMap(({ layers }) => layers)) + 1;
  }

  /** Of each group with tokens, as a plan would have them. @param most so many of each half of a group */
  of({ profile }: ModelProfile, { first, count }: HeadRange, most = Number.POSITIVE_INFINITY): CodedPlane[] {
    return this.#layout.groups.flatMap((group) => {
      if (group.blockTokens === 0) return [];
      const ascending = [...group.layers].sort((a, b) => a - b);
      const starts = ascending.flatMap((_, at) => (at % profile.layers === 0 && at < most * profile.layers ? [at] : []));
      return starts.flatMap((start) => {
        const halves = halvesOf(group).map(
          ({ name: component, element, firstHead, channels, heads: held }): CodedPlane => ({
            ...{ component, element, layers: ascending.slice(start, start + profile.layers), channels },
            ...(component === "latent" ? { firstHead, heads: held } : { firstHead: first, heads: count }),
          }),
        );
        const [k, v] = (["k", "v"] as const).map((name) => halves.find(({ component }) => component === name));
        const together = profile.merge === undefined ? undefined : sidesTogether(k, v);
        return together === undefined ? halves : [together, ...halves.filter((half) => half !== k && half !== v)];
      });
    });
  }

  /** Throws TypeError or KvferryError, in words, on a tile that the profile does not fit. */
  specOf(known: ModelProfile, about: CodedPlane): CodecSpec {
    return this.#specOf(known, about, known.calibration);
  }

  /** Throws as `specOf`, but for what a file's matrices would show. Gives which of them the tile needs. */
  check(known: ModelProfile, about: CodedPlane): readonly KltWish[] {
    const { calibration } = known;
    const wishes: KltWish[] = [];
    const kltOf = (...asked: KltWish): Klt => {
      wishes.push(asked);
      return { matrices: new Float32Array(0), sigma: new Float32Array(calibration!.kltPlace(...asked).sigma.count) };
    };
    this.#specOf(known, about, calibration && { ...calibration, kltOf });
    return wishes;
  }

  /** Rejects with what `specOf` throws; what lies in a file is read while other things go on. */
  async specLater(known: ModelProfile, about: CodedPlane): Promise<CodecSpec> {
    const { calibration } = known;
    const wishes = this.check(known, about);
    if (wishes.length === 0 || calibration?.kltLater === undefined) return this.specOf(known, about);
    const read = new Map<Side, Klt>();
    for (const wish of wishes) read.set(wish[0], await calibration.kltLater(...wish));
    return this.#specOf(known, about, { ...calibration, kltOf: (side) => read.get(side)! });
  }

  #specOf({ profile, isLossless: lossless }: ModelProfile, about: CodedPlane, calibration: Calibration | undefined): CodecSpec {
    const { component, element, firstHead, heads, channels, layers } = about;
    const [firstLayer = 0] = layers;
    if (element !== "bf16" && element !== "f16" && element !== "f32") throw new TypeError(`there are no codes of ${element}`);
    const isApart = component !== "k" && component !== "v" && component !== "kv";
    if (isApart && !lossless) throw new TypeError(`a profile that loses something is for K and V, not for ${component}`);
    const isOneBehindTheOther = layers.every((layer, at) => layer === firstLayer + at);
    if (isByLayer(profile) && !isOneBehindTheOther) throw new TypeError(`layers ${layers.join(", ")} do not follow each other`);
    const model = { model: this.model, element, layers: this.#layers, heads, firstHead, channels, rope: undefined };
    const { merge } = profile;
    if (merge !== undefined && component !== "kv") throw new TypeError("tokens are merged where K and V have one shape");
    const tile = { side: sideOf(about), firstLayer, layers: layers.length };
    return merge === undefined ? specOf(profile, tile, model, calibration) : mergingSpecOf({ ...profile, merge }, tile, model, calibration);
  }
}

export function sideOf({ component }: Pick<CodedPlane, "component">): Side {
  return component === "v" ? "v" : "k";
}

/** Whether it does not do the same with all layers. */
function isByLayer(profile: Profile): boolean {
  const hasLevels = [profile.k, profile.v].some(({ quantizer }) => "levels" in quantizer && typeof quantizer.levels !== "number");
  return hasLevels || needs(profile) || (profile.merge?.skip.length ?? 0) > 0;
}
