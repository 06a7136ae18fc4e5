/**
 * The grammar of profiles. Method: 10,000 random profiles are printed, read and named; a table of hostile values and of parts that do not fit, each refused by a
 * message that names it; every combination of parts is told apart from the list of what a quantizer leaves behind; and the JSON schema beside the parser.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import * as fc from "fast-check";
import { COMPONENTS, STAGES } from "../../transport/codec/components.ts";
import { profileId } from "../../transport/codec/identity.ts";
import { parseProfile, parseProfileJson, printProfile } from "../../transport/codec/parse.ts";
import { PRESETS } from "../../transport/codec/presets.ts";
import { profileSchemaText } from "../../transport/codec/schema.ts";
import { KvferryError } from "../../transport/errors.ts";
import { limits } from "../../transport/limits.ts";
import { refused } from "../refusal.ts";
import { anyProfile, fittingProfile } from "./arbitrary.ts";

const BOUNDS = { layers: 3, heads: 2, tileLayersMax: 4 };
const STEP = { kind: "step", step: 0.5 };
const STATIC = { kind: "rans-static" };
const half = (...kinds: string[]): unknown => ({ transform: kinds.map((kind) => ({ kind })), quantizer: STEP, codec: STATIC });
const lossless = { quantizer: { kind: "none" }, codec: { kind: "exponent" } };
const encode = (text: string): Uint8Array => new TextEncoder().encode(text);

const refusal = (run: () => unknown): string => refused(run, "invalid_argument").detail;

test("10,000 profiles: what is printed is read again, and has the same name as itself and no other's", () => {
  const names = new Map<string, string>();
  fc.assert(
    fc.property(fittingProfile(BOUNDS), (drawn) => {
      const profile = parseProfile(drawn);
      const text = printProfile(profile);
      const again = parseProfileJson(encode(text));
      assert.deepEqual(again, profile);
      assert.equal(printProfile(again), text);
      const id = profileId(again);
      assert.match(id, /^[0-9a-f]{32}$/);
      assert.equal(names.get(id) ?? text, text);
      names.set(id, text);
    }),
    { numRuns: 10_000 },
  );
  assert.ok(names.size > 5_000, `${names.size} different ones`);
});

test("any components are a profile or refused in words", () => {
  fc.assert(
    fc.property(anyProfile(BOUNDS), (drawn) => {
      try {
        assert.ok(Object.isFrozen(parseProfile(drawn)));
      } catch (error) {
        assert.ok(error instanceof KvferryError && error.code === "invalid_argument", String(error));
        assert.match(error.detail, /^profile: ([kv]|merge): \w/);
      }
    }),
    { numRuns: 2_000 },
  );
});

test("arbitrary JSON never gives anything but a profile or invalid_argument", () => {
  fc.assert(fc.property(fc.jsonValue(), (value) => void refusal(() => parseProfile(value))));
});

test("what is left out is filled in, whatever order it is written in", () => {
  const short = parseProfile({ v: lossless, k: { codec: { kind: "pack" }, quantizer: { group: 32, kind: "group" } } });
  assert.deepEqual(short.k.quantizer, { kind: "group", levels: 16, axis: "token", group: 32, recent: 0 });
  const full = { ...short, k: { ...short.k, quantizer: { recent: 0, group: 32, axis: "token", levels: 16, kind: "group" } } };
  assert.equal(printProfile(parseProfile(full)), printProfile(short));
  assert.equal(short.exempt, 4);
});

test("the id is of what is said: the calibration counts where one is used", () => {
  const [near, exact] = [PRESETS.get("cpu-near")!.profile, PRESETS.get("lossless")!.profile];
  assert.notEqual(profileId(near, "a"), profileId(near, "b"));
  assert.equal(profileId(exact, "a"), profileId(exact));
  // Stable: what nodes have told each other must mean the same tomorrow.
  assert.equal(profileId(exact), "c292138f18f438ad7f032c457fadd691");
});

const REFUSED: readonly (readonly [what: string, profile: unknown, message: RegExp])[] = [
  ["no object", [], /an object for profile/],
  ["no V", { k: lossless }, /an object for profile\.v/],
  ["an unknown field", { k: lossless, v: lossless, mix: 1 }, /only version, exempt, layers, merge, k, v for profile but received "mix"/],
  ["a merge of another kind", { k: lossless, v: lossless, merge: { kind: "h2o" } }, /one of none, kvmerger for profile\.merge\.kind/],
  ["a share beyond all", { k: lossless, v: lossless, merge: { kind: "kvmerger", budget: 1.1 } }, /0 to 1 for profile\.merge\.budget/],
  [
    "layers out of order",
    { k: lossless, v: lossless, merge: { kind: "kvmerger", skip: [3, 1] } },
    /ascending order for profile\.merge\.skip/,
  ],
  [
    "merged keys to be unrotated",
    { merge: { kind: "kvmerger" }, k: half("unrotate"), v: lossless },
    /merge: what became one token has no position/,
  ],
  ["another version", { version: 2, k: lossless, v: lossless }, /profile\.version/],
  ["layers beyond the bound", { layers: 65, k: lossless, v: lossless }, /1 to 64 for profile\.layers/],
  ["an unknown quantizer", { k: { quantizer: { kind: "int3" } }, v: lossless }, /one of none, step, .* for profile\.k\.quantizer\.kind/],
  ["an unknown parameter", { k: { ...lossless, codec: { kind: "exponent", level: 1 } }, v: lossless }, /only kind for profile\.k\.codec/],
  ["a step of 0", { k: { quantizer: { kind: "step", step: 0 }, codec: STATIC }, v: lossless }, /profile\.k\.quantizer\.step/],
  ["NaN", { k: { quantizer: { kind: "step", step: NaN }, codec: STATIC }, v: lossless }, /a number from 0\.0001 to 100/],
  ["a level of 1", { k: { quantizer: { kind: "group", levels: [[2, 1]] }, codec: { kind: "pack" } }, v: lossless }, /levels\[0\]\[1\]/],
  ["holes", { k: { quantizer: { kind: "group", levels: Object.assign([], { length: 2 }) } }, v: lossless }, /levels\[0\]/],
  ["a transform twice", { k: half("mean", "mean"), v: lossless }, /in this order, each once/],
  ["transforms out of order", { k: half("mean", "unrotate"), v: lossless }, /in this order, each once/],
  ["unrotate for V", { k: lossless, v: half("unrotate") }, /v: unrotate is for K/],
  [
    "a transform that cannot be undone",
    { k: { ...lossless, transform: [{ kind: "mean" }] }, v: lossless },
    /no transform can come before it \(mean\)/,
  ],
  [
    "a codec of values for codes",
    { k: { ...(half() as object), codec: { kind: "exponent" } }, v: lossless },
    /exponent does not take what the quantizer step makes/,
  ],
  ["hadamard without scale", { k: half("unrotate", "mean", "hadamard"), v: lossless }, /need scale or affine in front of hadamard or klt/],
  ["klt behind affine", { k: half("unrotate", "mean", "scale", "affine", "klt"), v: lossless }, /without affine/],
  ["klt without mean", { k: half("unrotate", "scale", "klt"), v: lossless }, /behind unrotate, mean, scale, and mean is missing/],
  ["klt and hadamard", { k: half("unrotate", "mean", "scale", "hadamard", "klt"), v: lossless }, /without hadamard/],
  [
    "factors behind a klt of layers",
    { layers: 2, k: lossless, v: { ...(half("mean", "scale", "klt") as object), quantizer: { ...STEP, factors: [1, 2] } } },
    /factors by layer mean nothing/,
  ],
  [
    "cachegen by head",
    { k: { quantizer: { kind: "cachegen", levels: [[15]] }, codec: { kind: "rans" } }, v: lossless },
    /not for each head/,
  ],
];

for (const [what, profile, message] of REFUSED)
  test(`refused: ${what}`, () =>
    assert.match(
      refusal(() => parseProfile(profile)),
      message,
    ));

test("refused: what is no JSON, and what is too much", () => {
  assert.match(
    refusal(() => parseProfileJson(encode("{"))),
    /JSON in UTF-8/,
  );
  assert.match(
    refusal(() => parseProfileJson(Uint8Array.of(0xff))),
    /JSON in UTF-8/,
  );
  assert.match(
    refusal(() => parseProfileJson(new Uint8Array(limits.profileBytes + 1))),
    /at most/,
  );
});

test("every quantizer with every codec fits or is refused: what keeps values, what makes codes, what has calibrated steps", () => {
  const fits: string[] = [];
  for (const { kind: quantizer } of COMPONENTS.quantizer) {
    for (const { kind: codec } of COMPONENTS.codec) {
      try {
        const needs = quantizer === "mixhq" ? { scores: "0".repeat(64), levels: [[4]] } : {};
        parseProfile({ k: { quantizer: { kind: quantizer, ...needs }, codec: { kind: codec } }, v: lossless });
        fits.push(`${quantizer} ${codec}`);
      } catch (error) {
        assert.match((error as KvferryError).detail, /does not take what the quantizer/);
      }
    }
  }
  const nvcomp = ["none", "step", "group", "mixhq", "fp8"].flatMap((one) => [`${one} nvcomp-ans`, `${one} nvcomp-bitcomp`]);
  const keeps = ["none none", "none exponent", "none planes", "none zstd", "none lz4", ...nvcomp];
  const coded = ["group", "mixhq", "fp8", "cachegen"].flatMap((one) => ["none", "rans", "zstd", "lz4"].map((codec) => `${one} ${codec}`));
  const rest = ["step none", "step rans", "step rans-static", "step zstd", "step lz4", "group pack", "mixhq pack", "cachegen pack"];
  assert.deepEqual(fits.toSorted(), [...keeps, ...coded, ...rest].toSorted());
});

test("presets have names of their own, and no help is empty", () => {
  const ids = [...PRESETS.values()].map(({ profile }) => profileId(profile));
  assert.equal(new Set(ids).size, PRESETS.size);
  for (const name of ["lossless", "cpu-near", "cpu-fast", "gpu-near", "gpu-fast", "gpu-max", "kivi4", "fp8", "int8", "int4", "cachegen"]) {
    assert.ok(PRESETS.has(name), name);
  }
  for (const stage of STAGES) {
    for (const { help, parameters } of COMPONENTS[stage])
      for (const text of [help, ...Object.values(parameters).map((one) => one.help)]) assert.ok(text.length > 3);
  }
});

test("schemas/profile.schema.json is what the code says (kvferry codec list --schema prints it)", () => {
  assert.equal(readFileSync(join(import.meta.dirname, "..", "..", "schemas", "profile.schema.json"), "utf8"), profileSchemaText());
});
