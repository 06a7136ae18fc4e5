/** Profiles as one model has them: with which calibration, the tiles that KV is coded in, and what a codec does with each. */
import { has, isLossless, needsCalibration } from "../codec/fit.ts";
import { profileId } from "../codec/identity.ts";
import type { Calibration, Klt, KltWish } from "../codec/calibration.ts";
import type { Profile, Side } from "../codec/profile.ts";
import { specOf } from "../codec/spec.ts";
import type { NodeCalibration } from "../config/profile-files.ts";
import type { Layout } from "../kv/layout.ts";
import type { CodedPlane } from "../kv/plan.ts";
import { halvesOf } from "../kv/planes.ts";
import type { NativeCodecSpec } from "../native-codec.ts";
import { type HeadRange, headsOf } from "../peer/content.ts";

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
    isLossless: pipelines.every(isLossless),
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
      return starts.flatMap((start) =>
        halvesOf(group).map(({ name: component, element, firstHead, channels, heads: held }) => ({
          ...{ component, element, layers: ascending.slice(start, start + profile.layers), channels },
          ...(component === "latent" ? { firstHead, heads: held } : { firstHead: first, heads: count }),
        })),
      );
    });
  }

  /** Throws TypeError or KvferryError, in words, on a tile that the profile does not fit. */
  specOf(known: ModelProfile, about: CodedPlane): NativeCodecSpec {
    return this.#specOf(known, about, known.calibration);
  }

  /** Throws as `specOf`, but for what a file's matrices would show. Gives which of them the tile needs. */
  check(known: ModelProfile, about: CodedPlane): KltWish | undefined {
    const { calibration } = known;
    let wish: KltWish | undefined;
    const kltOf = (...asked: KltWish): Klt => {
      wish = asked;
      return { matrices: new Float32Array(0), sigma: new Float32Array(calibration!.kltPlace(...asked).sigma.count) };
    };
    this.#specOf(known, about, calibration && { ...calibration, kltOf });
    return wish;
  }

  /** Rejects with what `specOf` throws; what lies in a file is read while other things go on. */
  async specLater(known: ModelProfile, about: CodedPlane): Promise<NativeCodecSpec> {
    const { calibration } = known;
    const wish = this.check(known, about);
    if (wish === undefined || calibration?.kltLater === undefined) return this.specOf(known, about);
    const klt = await calibration.kltLater(...wish);
    return this.#specOf(known, about, { ...calibration, kltOf: () => klt });
  }

  #specOf({ profile, isLossless: lossless }: ModelProfile, about: CodedPlane, calibration: Calibration | undefined): NativeCodecSpec {
    const { component, element, firstHead, heads, channels, layers } = about;
    const [firstLayer = 0] = layers;
    if (element !== "bf16" && element !== "f16" && element !== "f32") throw new TypeError(`there are no codes of ${element}`);
    const isApart = component !== "k" && component !== "v";
    if (isApart && !lossless) throw new TypeError(`a profile that loses something is for K and V, not for ${component}`);
    const isOneBehindTheOther = layers.every((layer, at) => layer === firstLayer + at);
    if (isByLayer(profile) && !isOneBehindTheOther) throw new TypeError(`layers ${layers.join(", ")} do not follow each other`);
    const model = { model: this.model, element, layers: this.#layers, heads, firstHead, channels, rope: undefined };
    return specOf(profile, { side: sideOf(about), firstLayer, layers: layers.length }, model, calibration);
  }
}

export function sideOf({ component }: Pick<CodedPlane, "component">): Side {
  return component === "v" ? "v" : "k";
}

/** Whether it does not do the same with all layers. */
function isByLayer(profile: Profile): boolean {
  return [profile.k, profile.v].some(({ quantizer }) => "levels" in quantizer && typeof quantizer.levels !== "number") || needs(profile);
}
