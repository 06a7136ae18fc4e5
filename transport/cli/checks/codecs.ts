/** Checks of codecs on CPUs: the instructions that they are coded with, and libraries that some of them need. What is missing concerns who wants it. */
import type { Config } from "../../config.ts";
import { readProfile } from "../../config/profile-files.ts";
import { needsZstd } from "../../codec/fit.ts";
import { KvferryError } from "../../errors.ts";
import type { NativeCoders } from "../../native-codec.ts";
import { type Check, ok, warn } from "./host.ts";

/** `coders`: the addon's, undefined without one; `lz4`: why lz4-napi does not load, or "". */
export function codecChecks({ codec, link }: Config, coders: NativeCoders | undefined, lz4: string): Check[] {
  const wanted = codec.profiles.length > 0;
  return [instructions(coders, wanted, link === "js"), zstd(coders, codec.profiles.filter(usesZstd)), yardstick(lz4)];
}

function instructions(coders: NativeCoders | undefined, wanted: boolean, isJs: boolean): Check {
  const id = "cpu_codecs";
  if (coders === undefined || isJs) {
    const found = `none: ${isJs ? "the JavaScript link has no codecs" : "the addon is not loaded"}, KV travels as it is`;
    const remedy = isJs ? "Leave link at auto, or take codec.profiles out." : "npm rebuild kvferry (in a checkout: npm run build:native).";
    return wanted ? warn(id, found, remedy) : ok(id, found);
  }
  const [best = "scalar", ...others] = coders.isas;
  if (best === "neon") return ok(id, "neon for matrix products, scalar code for the rest");
  if (best !== "scalar") return ok(id, `${best} (this CPU also has ${others.join(", ")})`);
  const found = "scalar code: this CPU has no AVX2 with FMA, F16C and BMI2";
  return wanted
    ? warn(id, found, "Codecs will take several times as long; codec.use: auto takes them only where that pays.")
    : ok(id, found);
}

/** @param profiles of the configuration that need it */
function zstd(coders: NativeCoders | undefined, profiles: readonly string[]): Check {
  const id = "zstd";
  if (coders === undefined) return ok(id, "not looked for: the addon is not loaded");
  const { version, problem } = coders.zstd();
  if (problem === "") return ok(id, `zstd ${version}`);
  const found = `none: ${problem}`;
  if (profiles.length === 0) return ok(id, `${found}; profiles with the codecs zstd and planes would not be offered`);
  return warn(id, `${found}; not offered: ${profiles.join(", ")}`, "Debian: apt-get install libzstd1.");
}

function yardstick(problem: string): Check {
  return ok("lz4", problem === "" ? "lz4-napi loads: a yardstick of kvferry codec" : `none, kvferry codec lacks a yardstick: ${problem}`);
}

/** Of a file that cannot be read nobody knows; `kvferry serve` says what is wrong with it. */
function usesZstd(name: string): boolean {
  try {
    return needsZstd(readProfile(name));
  } catch (error) {
    if (error instanceof KvferryError) return false;
    throw error;
  }
}
