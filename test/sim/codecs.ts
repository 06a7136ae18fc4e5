/**
 * Codecs of the simulation: a chunk takes half of its bytes on the way, now and then all of them, and what it holds stays what it is. As real ones do, a codec
 * refuses what another has made, or one that counts tokens otherwise.
 */
import { createHash } from "node:crypto";
import { parseProfile } from "../../transport/codec/parse.ts";
import { PRESETS } from "../../transport/codec/presets.ts";
import type { NamedProfile } from "../../transport/ferry/model-tiles.ts";
import { Profiles } from "../../transport/ferry/profiles.ts";
import type { PlacementSpec } from "../../transport/link/link.ts";
import type { NativeCodec, NativeCodecSpec, NativeMergingSpec } from "../../transport/native-codec.ts";
import type { Random } from "./random.ts";

/** No coded chunk has less than this share of its bytes. */
export const LEAST_SHARE = 0.5;

const bothSides = { quantizer: { kind: "none" }, codec: { kind: "exponent" } };
const KNOWN: Readonly<Record<string, NamedProfile["profile"]>> = {
  lossless: PRESETS.get("lossless")!.profile,
  joined: parseProfile({ layers: 2, exempt: 0, k: bothSides, v: bothSides }, "joined"),
};

const COUNTS = {
  ...{ encodeNs: 0, encodedChunks: 0, encodedBytes: 0, sentBytes: 0, decodeNs: 0, decodedChunks: 0, decodedBytes: 0, arrivedBytes: 0 },
  ...{ failedChunks: 0, stored: { incompressible: 0, not_finite: 0, out_of_range: 0 } },
};

class VirtualCodec implements Pick<NativeCodec, "id" | "counts"> {
  readonly id: string;
  readonly parts: number;

  constructor(spec: NativeCodecSpec | NativeMergingSpec) {
    this.id = createHash("sha256").update(JSON.stringify(spec)).digest("hex").slice(0, 16);
    this.parts = "merge" in spec ? 2 * spec.k.parts : spec.parts;
  }

  counts(): typeof COUNTS {
    return COUNTS;
  }
}

/** @param use the name of one of them, or "none" */
export function virtualProfiles(names: readonly string[], use: string): Profiles {
  return new Profiles({
    ...{ profiles: names.map((name) => ({ name, profile: KNOWN[name]! })), calibrations: [], use, acceptsLossy: false, threads: 1 },
    newCodec: (spec) => new VirtualCodec(spec) as unknown as NativeCodec,
  });
}

/** Which of them a node has, and what it sends by; most have none. */
export function drawProfiles(random: Random): { readonly names: readonly string[]; readonly use: string } | undefined {
  const names = random.pick([undefined, undefined, ["lossless"], ["joined", "lossless"], ["lossless", "joined"]]);
  return names === undefined ? undefined : { names, use: random.pick([...names, ...names, "none"]) };
}

export function codecOf({ chunks, coding }: PlacementSpec, chunk: number): VirtualCodec | undefined {
  return coding?.codecs[chunks[chunk]?.plane ?? 0] as unknown as VirtualCodec | undefined;
}

/** What a payload was made by; "": it is as it is. */
export function madeBy(spec: PlacementSpec, chunk: number): string {
  const codec = codecOf(spec, chunk);
  return codec === undefined ? "" : `${codec.id} ${spec.coding?.position}`;
}
