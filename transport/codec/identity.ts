/** Names of profiles and calibrations by what they say: two ends that name the same mean the same. PURE: hashing is a function of its input. */
import { createHash } from "node:crypto";
import { needsCalibration } from "./fit.ts";
import { printProfile } from "./parse.ts";
import type { Profile } from "./profile.ts";

/** Hex SHA-256 of a calibration's file. */
export function hashOf(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** 32 hex digits. @param calibration its hash; counts only where the profile uses one */
export function profileId(profile: Profile, calibration = ""): string {
  const isUsed = needsCalibration(profile.k) || needsCalibration(profile.v);
  const hash = createHash("sha256").update(`kvferry.profile/1\n${printProfile(profile)}\n${isUsed ? calibration : ""}`);
  return hash.digest("hex").slice(0, 32);
}
