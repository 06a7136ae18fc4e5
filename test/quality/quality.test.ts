/**
 * A small slice of `npm run quality`. Method: the harness's own checks on made-up tensors; then real KV of one text through the product's codec
 * and back into the model, calibrated on two others, held against what the same codec did on the whole set. Skipped, with the reason, where
 * PyTorch or the model is missing.
 */
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { after, test } from "node:test";
import type { NativeMergeRules } from "../../transport/native-codec.ts";
import { mergeHeads, skip as noAddon } from "../codec/merged.ts";
import { floatsOf } from "../codec/tiles.ts";
import type { Groups, TextFigures } from "./figures.ts";
import { findPlace, findPython, runPython, runScript } from "./place.ts";
import { calibrate, roundTrip } from "./product.ts";

const TIMEOUT_MS = 240_000;
const NEAR = 1e-5;
const python = findPython();
const noPython = python === undefined && "there is no PyTorch: npm run engines:install";
const place = findPlace();
const scratch = mkdtempSync(join(tmpdir(), "kvferry-quality-"));
after(() => rmSync(scratch, { recursive: true, force: true }));

test("the harness measures what it says", { skip: noPython, timeout: TIMEOUT_MS }, () => {
  const { status, stderr } = runPython(python!, ["-m", "unittest", "checks"]);
  assert.equal(status, 0, stderr);
});

test("the product merges tokens as the reference does", { skip: noPython || noAddon, timeout: TIMEOUT_MS }, () => {
  const { status, stdout, stderr } = runPython(python!, ["merge_example.py"]);
  assert.equal(status, 0, stderr);
  const example = JSON.parse(stdout) as MergeExample;
  const bytes = (list: readonly number[]) => new Uint8Array(Float32Array.from(list).buffer);
  const [keys, values, attention] = [bytes(example.keys), bytes(example.values), Float32Array.from(example.attention)];
  const tokens = attention.length;
  const shape = { element: "f32", heads: 1, tokens, channels: example.keys.length / tokens } as const;
  assert.ok(example.cases.length > 0);
  for (const { name, sets, mergedKeys, mergedValues, values: kind, sigma, membersMax: members, ...shares } of example.cases) {
    const rules = { ...shares, members, sigma: sigma ?? Number.POSITIVE_INFINITY, isSum: kind === "sum", byLayer: false };
    const [merged] = mergeHeads(rules, shape, [keys, values], attention)!;
    assert.deepEqual(merged!.sets, sets, name);
    for (const [ours, theirs] of [
      [floatsOf("f32", merged!.keys), mergedKeys],
      [floatsOf("f32", merged!.values), mergedValues],
    ] as const) {
      assert.equal(ours.length, theirs.length, name);
      ours.forEach((one, at) => assert.ok(Math.abs(one - theirs[at]!) <= NEAR, `${name}: ${one} for ${theirs[at]}`));
    }
  }
});

interface MergeExample {
  readonly keys: readonly number[];
  readonly values: readonly number[];
  readonly attention: readonly number[];
  readonly cases: readonly (Pick<NativeMergeRules, "budget" | "sinks" | "recent" | "heavy"> & {
    readonly name: string;
    readonly membersMax: number;
    readonly sigma: number | null;
    readonly values: "average" | "sum";
    readonly sets: readonly (readonly number[])[];
    readonly mergedKeys: readonly number[];
    readonly mergedValues: readonly number[];
  })[];
}

test("what a model says behind decoded KV", { skip: typeof place === "string" && place, timeout: TIMEOUT_MS }, (t) => {
  assert.ok(typeof place !== "string");
  const [text] = paths(["--set", "eval", "--rows", "8"]);
  const calibration = join(scratch, "calibration.safetensors");
  // No KLT: its matrices take longer than all the rest.
  calibrate(paths(["--set", "calibration", "--rows", "0,2", "--tokens", "512"]), calibration, ["--klt", "none"]);
  const ratios = new Map<string, number>();
  for (const profile of ["lossless", "cpu-near", "cpu-fast"]) {
    const [trip] = roundTrip([text!], profile, calibration, join(scratch, profile));
    ratios.set(profile, trip!.kvBytes / trip!.encodedBytes);
  }
  damage(text!, join(scratch, "damaged"));
  const candidates = ["lossless", "cpu-near", "cpu-fast", "damaged"].map((name) => `--candidate=${name}=${join(scratch, name)}`);
  const scores = runScript(place, "score.py", [...candidates, text!]) as { readonly name: string; readonly groups: Groups }[];
  const kl = new Map(scores.map(({ name, groups }) => [name, (groups["documents 8-15"] as TextFigures).kl.value]));
  t.diagnostic(JSON.stringify({ ratio: Object.fromEntries(ratios), kl: Object.fromEntries(kl) }));
  assert.equal(kl.get("lossless"), 0);
  // Of one text and a small calibration, so that the bars of figures.ts are not meant.
  for (const [profile, ratio, most] of [
    ["lossless", 1.4, 0],
    ["cpu-near", 2.8, 0.002],
    ["cpu-fast", 3.6, 0.01],
  ] as const) {
    assert.ok(ratios.get(profile)! >= ratio, `${profile}: ${ratios.get(profile)}`);
    assert.ok(kl.get(profile)! <= most, `${profile}: ${kl.get(profile)}`);
  }
  assert.ok(kl.get("cpu-near")! > 0 && kl.get("cpu-near")! < kl.get("cpu-fast")!);
  assert.ok(kl.get("damaged")! > 0.02, "a score that sees no damage sees nothing");
});

function paths(args: readonly string[]): string[] {
  assert.ok(typeof place !== "string");
  return runScript(place, "dump.py", args).map((line) => (line as { readonly path: string }).path);
}

/** The same file with another sign in a hundredth of the values. */
function damage(path: string, folder: string): void {
  mkdirSync(folder);
  const bytes = readFileSync(path);
  const head = 8 + Number(bytes.readBigUInt64LE(0));
  const { kv } = JSON.parse(bytes.subarray(8, head).toString()) as { readonly kv: { readonly data_offsets: readonly [number, number] } };
  const [begin, end] = kv.data_offsets;
  // The high byte of a bfloat16 has the sign.
  for (let at = head + begin + 1; at < head + end; at += 200) bytes[at]! ^= 0x80;
  writeFileSync(join(folder, basename(path)), bytes);
}
