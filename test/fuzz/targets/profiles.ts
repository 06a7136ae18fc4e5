/** Profiles of strangers, and the heads of their safetensors files: read and written again the same, or invalid_argument. */
import assert from "node:assert/strict";
import { profileId } from "../../../transport/codec/identity.ts";
import { mergingSpecOf } from "../../../transport/codec/merge-spec.ts";
import { parseProfile, parseProfileJson, printProfile } from "../../../transport/codec/parse.ts";
import { PRESETS } from "../../../transport/codec/presets.ts";
import { headBytes, parseHead, writeHead } from "../../../transport/codec/safetensors.ts";
import { type ModelShape, specOf, tilesOf } from "../../../transport/codec/spec.ts";
import { calibrationOf, plainSource, ROPE } from "../../codec/made.ts";
import { mutate } from "../mutate.ts";
import { pureTarget, type Target } from "../target.ts";
import { mutateValue } from "../values.ts";

const encode = (value: unknown): Uint8Array => new TextEncoder().encode(JSON.stringify(value));
const mixhq = {
  quantizer: {
    kind: "mixhq",
    scores: "0".repeat(64),
    levels: [
      [4, 16],
      [16, 4],
    ],
  },
  codec: { kind: "pack" },
};
const seeds = [
  ...[...PRESETS.values()].map(({ profile }) => profile),
  { k: mixhq, v: mixhq, merge: { kind: "kvmerger" } },
  { layers: 2, k: {}, v: mixhq, merge: { kind: "kvmerger", pivot: "key-norm", skip: [1] } },
].map(encode);

const SHAPE = { layers: 2, heads: 2, channels: 4, tokens: 8 };
const rope = ROPE(SHAPE.channels);
const calibration = calibrationOf({ sources: [plainSource(SHAPE, rope)], klt: [0, 1, 2, 5] });
const model: ModelShape = { model: "made", element: "bf16", ...SHAPE, rope };

const profiles: Target = {
  ...pureTarget(
    "profile",
    "parseProfileJson: a profile that is printed, read and named again, and gives a spec for every tile of a model or says why not; or invalid_argument",
    () => seeds,
    (input) => {
      const profile = parseProfileJson(input);
      const text = printProfile(profile);
      assert.equal(printProfile(parseProfile(JSON.parse(text))), text, "what is printed is read again");
      assert.equal(profileId(profile).length, 32, "every profile has a name");
      const { merge } = profile;
      for (const tile of tilesOf(profile, SHAPE.layers)) {
        if (merge === undefined) specOf(profile, tile, model, calibration);
        else mergingSpecOf({ ...profile, merge }, tile, model, calibration);
      }
    },
  ),
  generate(random, pool) {
    const input = random.pick(pool);
    if (random.chance(1, 4)) return mutate(input, random);
    try {
      return encode(mutateValue(JSON.parse(Buffer.from(input).toString("utf8")), random, 2));
    } catch {
      return mutate(input, random);
    }
  },
};

const heads = pureTarget(
  "safetensors",
  "headBytes, parseHead: tensors inside the file, none on another; or invalid_argument",
  () => [
    writeHead(
      [
        { name: "kv", dtype: "BF16", shape: [1, 2, 1, 3, 4] },
        { name: "x", dtype: "F32", shape: [3] },
      ],
      { model: "m" },
    ),
  ],
  (input) => {
    // As long as the seed's file would be.
    const fileBytes = input.length + 60;
    const head = input.subarray(0, headBytes(input, fileBytes, "f"));
    const { tensors } = parseHead(head, fileBytes, "f");
    let end = head.length;
    for (const { offset, bytes } of [...tensors.values()].sort((one, other) => one.offset - other.offset || one.bytes - other.bytes)) {
      assert.ok(offset >= end && offset + bytes <= fileBytes, "a tensor has its place in the file");
      end = offset + bytes;
    }
  },
);

export const profileTargets: readonly Target[] = [profiles, heads];
