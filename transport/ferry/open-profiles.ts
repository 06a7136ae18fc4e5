/** The profiles of a configuration, read and checked once; what this host cannot do is said and left out. */
import { nvcompOf } from "../codec/fit.ts";
import type { Config } from "../config.ts";
import { loadCalibration, readProfile } from "../config/profile-files.ts";
import { asKvferryError, KvferryError } from "../errors.ts";
import type { LinkKind } from "../link/link.ts";
import { nvcompRefusal } from "../native-device.ts";
import { native, nativeProblem } from "../native.ts";
import { measureCodec, type NewCodec } from "./codec-start.ts";
import type { NodeObserver } from "./context.ts";
import { type NamedProfile, needs, NO_PROFILES, Profiles } from "./profiles.ts";

/** Throws invalid_config. */
export function openProfiles(
  { codec, ioThreads: threads }: Pick<Config, "codec" | "ioThreads">,
  link: LinkKind,
  observer: NodeObserver,
): Profiles {
  if (codec.profiles.length === 0) return NO_PROFILES;
  const profiles = codec.profiles.map((name): NamedProfile => ({ name, profile: read("codec.profiles", () => readProfile(name)) }));
  for (const { name, profile } of profiles) {
    const why = forFilesAlone(profile);
    if (why !== undefined) throw new KvferryError("invalid_config", `codec.profiles: ${name} ${why}: kvferry codec`);
  }
  const calibrations = codec.calibration.map((path) => read("codec.calibration", () => loadCalibration(path)));
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
    const why = problem || (usesZstd(profile) ? zstd : "") || problemOfNvcomp(profile);
    if (why !== "") observer.profileMissing?.(name, "", why);
    return why === "";
  });
  const { use, acceptLossy: acceptsLossy } = codec;
  const newCodec: NewCodec = (spec) => new native!.NativeCodec(spec);
  return new Profiles({
    ...{ profiles: usable, calibrations, use, acceptsLossy, threads, newCodec },
    measure: (spec) => measureCodec(newCodec, spec),
    ...(usable.length === 0 ? { missing: "codec_missing" } : {}),
  });
}

/** Why no transfer can use it. */
function forFilesAlone({ merge, k, v }: NamedProfile["profile"]): string | undefined {
  if (merge !== undefined) return "merges tokens, which is done to files";
  return k.codec.kind === "lz4" || v.codec.kind === "lz4" ? "uses lz4, which is a yardstick for files" : undefined;
}

/** Why no transfer is coded with it, if it asks for nvCOMP. */
function problemOfNvcomp(profile: NamedProfile["profile"]): string {
  const kind = nvcompOf(profile);
  if (kind === undefined) return "";
  if (kind === "nvcomp-bitcomp") return "a harmed stream of nvcomp-bitcomp overwrites anything, so that no peer's is decoded";
  return nvcompRefusal(kind, native?.cuda(), "transfers");
}

function usesZstd({ k, v }: NamedProfile["profile"]): boolean {
  return [k, v].some(({ codec }) => codec.kind === "zstd" || codec.kind === "planes");
}

function read<T>(field: string, from: () => T): T {
  try {
    return from();
  } catch (error) {
    throw new KvferryError("invalid_config", `${field}: ${asKvferryError(error).detail}`, { cause: error });
  }
}
