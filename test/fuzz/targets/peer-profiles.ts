/**
 * What the node of peer-session.ts may have KV coded with: one that joins layers and loses nothing, one that is calibrated, loses something and counts
 * positions, and one that merges tokens.
 */
import type { Calibration } from "../../../transport/codec/calibration.ts";
import { parseProfile } from "../../../transport/codec/parse.ts";
import { PRESETS } from "../../../transport/codec/presets.ts";
import { profileId } from "../../../transport/codec/identity.ts";
import { Profiles } from "../../../transport/ferry/profiles.ts";
import type { NativeCodec } from "../../../transport/native-codec.ts";
import { native } from "../../../transport/native.ts";
import { calibrationOf, plainSource, ROPE } from "../../codec/made.ts";
import { IDENTITY } from "./peer-examples.ts";

const SHAPE = { layers: 2, heads: 2, channels: 16, tokens: 64 };
const bothSides = { quantizer: { kind: "none" }, codec: { kind: "exponent" } };
const JOINED = { name: "joined", profile: parseProfile({ layers: 2, exempt: 0, k: bothSides, v: bothSides }, "joined") };
const FAST = { name: "cpu-fast", profile: PRESETS.get("cpu-fast")!.profile };
const MERGED = {
  name: "merged",
  profile: parseProfile({ exempt: 0, merge: { kind: "kvmerger", pivot: "key-norm" }, k: bothSides, v: bothSides }, "merged"),
};
const USES = ["joined", "cpu-fast", "auto", "merged"];

/** Made when it is first needed. */
let made: Calibration | undefined;

function calibration(): Calibration {
  made ??= { ...calibrationOf({ sources: [plainSource(SHAPE, ROPE(16))] }), model: IDENTITY.model };
  return made;
}

export function profileIds(): readonly string[] {
  return [profileId(JOINED.profile, undefined), profileId(FAST.profile, calibration().hash), profileId(MERGED.profile, undefined)];
}

/** Of the codecs that were made. */
export const lossyCodecs = new WeakSet<NativeCodec>();

/** What is sent goes by one or the other, whatever it pays, or by what is known of the path (nothing). */
export function profilesFor(input: Uint8Array): Profiles {
  return new Profiles({
    ...{ profiles: [JOINED, FAST, MERGED], calibrations: [calibration()], acceptsLossy: true, threads: 1 },
    use: USES[input.length % USES.length]!,
    newCodec: (spec) => {
      const codec = new native!.NativeCodec(spec);
      if ("merge" in spec || spec.quantizer.kind !== "none") lossyCodecs.add(codec);
      return codec;
    },
  });
}
