/** The profiles of a configuration, read and checked once; what this host cannot do is said and left out. */
import { needsZstd, nvcompOf } from "../codec/fit.ts";
import { ATTENTION_IS_MISSING } from "../codec/merge-spec.ts";
import type { Config } from "../config.ts";
import { loadCalibrationLater, type NodeCalibration, readProfile } from "../config/profile-files.ts";
import { asKvferryError, KvferryError } from "../errors.ts";
import type { LinkKind } from "../link/link.ts";
import { nvcompRefusal } from "../native-device.ts";
import { native, nativeProblem } from "../native.ts";
import { measureCodec, type NewCodec } from "./codec-start.ts";
import type { NodeObserver } from "./context.ts";
import { type NamedProfile, needs } from "./model-tiles.ts";
import { NO_PROFILES, Profiles } from "./profiles.ts";

/** Rejects with invalid_config. */
export async function openProfiles(
  { codec, ioThreads: threads }: Pick<Config, "codec" | "ioThreads">,
  link: LinkKind,
  observer: NodeObserver,
): Promise<Profiles> {
  if (codec.profiles.length === 0) return NO_PROFILES;
  const profiles: NamedProfile[] = [];
  for (const name of codec.profiles) profiles.push({ name, profile: await read("codec.profiles", () => readProfile(name)) });
  for (const { name, profile } of profiles) {
    const why = forFilesAlone(profile);
    if (why !== undefined) throw new KvferryError("invalid_config", `codec.profiles: ${name} ${why}`);
  }
  const calibrations: NodeCalibration[] = [];
  for (const path of codec.calibration) calibrations.push(await read("codec.calibration", () => loadCalibrationLater(path)));
  const uncalibrated = profiles.find(({ profile }) => needs(profile));
  if (uncalibrated !== undefined && calibrations.length === 0) {
    throw new KvferryError(
      "invalid_config",
      `Expected a file for codec.calibration: the profile ${uncalibrated.name} uses what kvferry codec calibrate measures on a model`,
    );
  }
  const problem =
    link === "js" ? "the JavaScript link has no codecs" : native === undefined ? `codecs need the addon: ${nativeProblem}` : "";
  const zstd = native?.codecCoders.zstd().problem ?? "";
  const usable = profiles.filter(({ name, profile }) => {
    const why = problem || (needsZstd(profile) ? zstd : "") || problemOfNvcomp(profile);
    if (why !== "") observer.profileMissing?.(name, "", why);
    return why === "";
  });
  const { use, acceptLossy: acceptsLossy } = codec;
  const newCodecLater: NewCodec = (spec) => native!.NativeCodec.later(spec);
  return new Profiles({
    ...{ profiles: usable, calibrations, use, acceptsLossy, threads, newCodecLater },
    newCodec: (spec) => new native!.NativeCodec(spec),
    measure: (codec, spec) => measureCodec(newCodecLater, codec, spec),
    ...(usable.length === 0 ? { missing: "codec_missing" } : {}),
  });
}

/** Why no transfer can use it. */
function forFilesAlone({ merge, k, v }: NamedProfile["profile"]): string | undefined {
  if (merge?.pivot === "attention") return ATTENTION_IS_MISSING;
  return k.codec.kind === "lz4" || v.codec.kind === "lz4" ? "uses lz4, which is a yardstick for files: kvferry codec" : undefined;
}

/** Why no transfer is coded with it, if it asks for nvCOMP. */
function problemOfNvcomp(profile: NamedProfile["profile"]): string {
  const kind = nvcompOf(profile);
  if (kind === undefined) return "";
  if (kind === "nvcomp-bitcomp") return "a harmed stream of nvcomp-bitcomp overwrites anything, so that no peer's is decoded";
  return nvcompRefusal(kind, native?.cuda(), "transfers");
}

async function read<T>(field: string, from: () => T | Promise<T>): Promise<T> {
  try {
    return await from();
  } catch (error) {
    throw new KvferryError("invalid_config", `${field}: ${asKvferryError(error).detail}`, { cause: error });
  }
}
