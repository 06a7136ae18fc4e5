/** Two nodes that have profiles, and blocks whose values coders can do something with. */
import type { TestContext } from "node:test";
import { PRESETS } from "../../transport/codec/presets.ts";
import type { Profile } from "../../transport/codec/profile.ts";
import type { NodeCalibration } from "../../transport/config/profile-files.ts";
import type { CodingChoice } from "../../transport/ferry/context.ts";
import { type ProfileOptions, Profiles } from "../../transport/ferry/profiles.ts";
import type { Blocks } from "../../transport/memory/pool.ts";
import type { NativeCodec, NativeCodecCounts } from "../../transport/native-codec.ts";
import { native } from "../../transport/native.ts";
import type { TestNode } from "./node.ts";
import { bytesOf } from "./pair.ts";
import { stage, type Stage } from "./stage.ts";

export interface Having extends Pick<ProfileOptions, "measure"> {
  /** Of presets, or of `own`. */
  readonly names: readonly string[];
  readonly own?: Readonly<Record<string, Profile>>;
  readonly use?: string;
  readonly acceptsLossy?: boolean;
  readonly calibrations?: readonly NodeCalibration[];
}

export function profilesOf({
  names,
  own = {},
  use = names[0] ?? "none",
  acceptsLossy = false,
  calibrations = [],
  measure,
}: Having): Profiles {
  const profiles = names.map((name) => ({ name, profile: own[name] ?? PRESETS.get(name)!.profile }));
  return new Profiles({
    ...{ profiles, calibrations, use, acceptsLossy, threads: 1, ...(measure === undefined ? {} : { measure }) },
    newCodec: (spec) => new native!.NativeCodec(spec),
    newCodecLater: (spec) => native!.NativeCodec.later(spec),
  });
}

const NOTHING = {
  ...{ encodeNs: 0, encodedChunks: 0, encodedBytes: 0, sentBytes: 0, decodeNs: 0, decodedChunks: 0, decodedBytes: 0, arrivedBytes: 0 },
  ...{ failedChunks: 0, stored: { incompressible: 0, not_finite: 0, out_of_range: 0 } },
};
/** A codec that does nothing but count. */
export const counting = (counts: Partial<NativeCodecCounts>): NativeCodec => ({ counts: () => ({ ...NOTHING, ...counts }) }) as NativeCodec;

/** A holds, B asks. */
export async function stageWith(
  t: TestContext,
  a: Having | undefined,
  b: Having | undefined,
): Promise<Stage & { readonly reasons: string[] }> {
  const reasons: string[] = [];
  const observer = { coding: (_: string, { profile, reason }: CodingChoice) => void reasons.push(`${profile || "stored"}: ${reason}`) };
  const more = (having: Having | undefined) => (having === undefined ? {} : { more: () => ({ profiles: profilesOf(having) }) });
  const made = await stage(t, { a: { observer, ...more(a) }, b: more(b) });
  for (const id of made.source.ids) fillValues(bytesOf(made.a, id), id);
  return { ...made, reasons };
}

/** bf16 of either sign and four exponents. */
export function fillValues(bytes: Uint8Array, seed: number): void {
  let state = seed + 1;
  const values = new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.length >> 1);
  for (let at = 0; at < values.length; at++) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    values[at] = ((state >>> 31) << 15) | ((124 + ((state >>> 29) & 3)) << 7) | ((state >>> 20) & 0x7f);
  }
}

export function floatsOf(node: TestNode, { ids }: Blocks): Float32Array {
  const words = [...ids].flatMap((id) => [...new Uint16Array(bytesOf(node, id).slice().buffer)]);
  return new Float32Array(Uint32Array.from(words, (word) => word << 16).buffer);
}

/** How many values differ, and by how much at most. */
export function errorOf(exact: Float32Array, got: Float32Array): { readonly differ: number; readonly worst: number } {
  let [differ, worst] = [0, 0];
  exact.forEach((value, at) => {
    const error = Math.abs(value - got[at]!);
    if (error > 0) differ += 1;
    worst = Math.max(worst, error);
  });
  return { differ, worst };
}
