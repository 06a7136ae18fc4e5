/**
 * Files of kvferry codec as strangers leave them. Method: the command as users run it, on small dumps; then bytes of what it wrote are changed one by one, or files
 * are named that are none, or that are read and written at once: each is refused in a line, and what was there is there still.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { limits } from "../../transport/limits.ts";
import { native } from "../../transport/native.ts";
import { madeDump } from "../codec/made.ts";
import { changed, tensorIn } from "./encoded.ts";
import { assertRefused, kvferry } from "./spawn.ts";

const folder = mkdtempSync(join(tmpdir(), "kvferry-codec-files-"));
after(() => rmSync(folder, { recursive: true }));
const at = (name: string): string => join(folder, name);
const skip = native === undefined && "the addon is not built";

const SHAPE = { layers: 2, heads: 2, channels: 16, tokens: 61 };
const METADATA = { model: "made", rope_theta: "10000", rope_pairing: "half" };
const PACKED = { quantizer: { kind: "group", levels: 256 }, codec: { kind: "pack" } };
const MERGE = { kind: "kvmerger", budget: 0.5, members: 100, pivot: "key-norm" };

function writeDump(name: string, seed: number): string {
  writeFileSync(at(name), madeDump(seed, SHAPE, METADATA));
  return at(name);
}

function writeJson(name: string, value: unknown): string {
  writeFileSync(at(name), JSON.stringify(value));
  return at(name);
}

async function done(...args: string[]): Promise<string> {
  const ran = await kvferry(["codec", ...args]);
  assert.equal(ran.code, 0, ran.stderr);
  return ran.stdout;
}

const refused = (message: RegExp, ...args: string[]): Promise<void> => assertRefused(message, ["codec", ...args]);

test("an encoded file of which anything was changed is refused, by the name of the tensor", { skip }, async () => {
  const dump = writeDump("whole.safetensors", 1);
  const profile = writeJson("merge.json", { merge: MERGE, k: PACKED, v: PACKED });
  await done("encode", dump, "-o", at("whole.kvz"), "--profile", profile, "--verify-decoded");
  await done("encode", dump, "-o", at("plain.kvz"), "--profile", writeJson("pack.json", { k: PACKED, v: PACKED }), "--verify-decoded");
  const whole = readFileSync(at("whole.kvz"));
  const map = tensorIn(whole, "merge_map");
  // Two halves of one byte that are other marks: what they say is another map, and a valid one.
  const swapped = [...map].findIndex((byte, index) => index > 0 && byte >> 4 !== (byte & 0xf));
  const changes: readonly (readonly [from: string, tensor: string, change: (tensor: Buffer) => void])[] = [
    ["whole.kvz", "merge_map", (tensor) => void tensor.writeUInt8((tensor[swapped]! >> 4) | ((tensor[swapped]! & 0xf) << 4), swapped)],
    ["whole.kvz", "token_ids", (tensor) => void tensor.writeUInt8(tensor[5]! ^ 1, 5)],
    ["whole.kvz", "block_bytes", (tensor) => void tensor.writeUInt32LE(tensor.readUInt32LE() + 1)],
    // Blocks of one length change places: K of one layer is another's.
    [
      "plain.kvz",
      "blocks",
      (tensor) => {
        const half = Buffer.from(tensor.subarray(0, tensor.length / 2));
        tensor.copyWithin(0, tensor.length / 2);
        tensor.set(half, tensor.length / 2);
      },
    ],
  ];
  for (const [from, tensor, change] of changes) {
    const harmed = changed(at(from), at("harmed.kvz"), false, (bytes) => change(tensorIn(bytes, tensor)));
    await refused(new RegExp(`${tensor} of .*harmed\\.kvz is not what was encoded`), "decode", harmed, "-o", at("x"));
  }
  // Nothing else sees that of the last one, which decodes to other KV.
  await done(
    "decode",
    changed(at("harmed.kvz"), at("sealed.kvz"), true, () => undefined),
    "-o",
    at("sealed.back"),
  );
  await done("decode", at("plain.kvz"), "-o", at("plain.back"));
  assert.notDeepEqual(tensorIn(readFileSync(at("sealed.back")), "kv"), tensorIn(readFileSync(at("plain.back")), "kv"));
});

test("what is read is not written over, by whatever name", { skip }, async () => {
  const dump = writeDump("input.safetensors", 2);
  symlinkSync(folder, at("link"));
  const profile = writeJson("input.json", { k: PACKED, v: PACKED });
  await done("calibrate", dump, "-o", at("input.calibration"), "--klt", "none");
  await done("encode", dump, "-o", at("input.kvz"), "--profile", "lossless");
  const names = ["input.safetensors", "input.json", "input.calibration", "input.kvz"];
  const before = names.map((name) => readFileSync(at(name)));
  const flags = ["--profile", profile, "--calibration", at("input.calibration")];
  const sensitivity = ["--sensitivity", at("input.kvz")];
  const other = writeDump("other.safetensors", 3);
  const again = (name: string): string => `${folder}/./link/${name}`;
  await Promise.all([
    refused(/input\.safetensors is an input\)/, "encode", dump, "-o", dump, ...flags),
    refused(/is an input \(.*input\.json\)/, "encode", dump, "-o", again("input.json"), ...flags),
    refused(/is an input \(.*input\.calibration\)/, "encode", dump, "-o", again("input.calibration"), ...flags),
    refused(/is an input \(.*input\.kvz\)/, "decode", at("input.kvz"), "-o", again("input.kvz")),
    refused(/is an input \(.*input\.calibration\)/, "decode", at("input.kvz"), "-o", again("input.calibration"), ...flags.slice(2)),
    refused(/is an input \(.*input\.safetensors\)/, "decode", dump, "-o", again("")),
    refused(/is an input/, "compare", dump, ...flags, "--plot", again("input.safetensors")),
    refused(/is an input/, "compare", dump, ...flags, "--plot", profile),
    refused(/is an input/, "calibrate", other, dump, "-o", again("input.safetensors")),
    refused(/is an input/, "calibrate", other, "-o", again("input.safetensors"), "--against", dump),
    refused(/is an input/, "calibrate", other, "-o", again("input.kvz"), ...sensitivity),
  ]);
  assert.deepEqual(
    names.map((name) => readFileSync(at(name))),
    before,
  );
});

test("an output that cannot be is named as it was given, and a plot is whole or not there", { skip }, async () => {
  const dump = writeDump("unwritten.safetensors", 4);
  const [absent, below] = [at("absent/out"), `${dump}/out`];
  await Promise.all([
    refused(/ENOENT[^\n]*absent\/out'[^.]/, "encode", dump, "-o", absent, "--profile", "lossless"),
    refused(/ENOENT[^\n]*absent\/out'[^.]/, "compare", dump, "--plot", absent, "--profile", "lossless"),
    refused(/ENOTDIR[^\n]*unwritten\.safetensors\/out'/, "encode", dump, "-o", below, "--profile", "lossless"),
    refused(/is no file/, "compare", dump, "--plot", folder, "--profile", "lossless"),
  ]);
});

test("pipes and devices are no files: they are neither waited for nor read until memory is gone", { skip }, async () => {
  const dump = writeDump("waiting.safetensors", 5);
  execFileSync("mkfifo", [at("pipe"), at("pipe.safetensors")]);
  symlinkSync("/dev/zero", at("zero"));
  const scored = (name: string, scores: string): string => {
    const quantizer = { kind: "mixhq", scores, bits: 2.5, high: 16, low: 4 };
    return writeJson(name, { k: { quantizer, codec: { kind: "pack" } }, v: PACKED });
  };
  // JSON that would fit, and blanks that do not.
  const rows = JSON.stringify([
    [0, 1],
    [1, 0],
  ]);
  writeFileSync(at("long.scores"), rows.padEnd(limits.headScoresBytes + 1));
  writeFileSync(at("full.scores"), rows.padEnd(limits.headScoresBytes));
  const compare = ["compare", dump, "--profile"];
  await Promise.all([
    refused(/is no plain file/, ...compare, at("pipe")),
    refused(/is no plain file/, ...compare, at("zero")),
    refused(/pipe is no plain file/, ...compare, scored("piped.json", "pipe")),
    refused(/zero is no plain file/, ...compare, scored("endless.json", "zero")),
    refused(/pipe\.safetensors is no file/, ...compare, scored("tensors.json", "pipe.safetensors")),
    refused(/long\.scores is longer than 4194304 bytes/, ...compare, scored("long.json", "long.scores")),
    refused(/pipe is no file/, "compare", at("pipe"), "--profile", "fp8"),
    refused(/pipe is no file/, ...compare, "fp8", "--calibration", at("pipe")),
    refused(/pipe is no file/, "decode", at("pipe"), "-o", at("x")),
  ]);
  await done(...compare, scored("full.json", "full.scores"));
  const served = await kvferry(["serve", "--codec-profiles", at("pipe")]);
  assert.match(served.stderr, /invalid_config.*codec\.profiles: .*pipe is no plain file/);
});

test("a layer with a value that is no number is not merged, and the others are", { skip }, async () => {
  const dump = writeDump("nan.safetensors", 6);
  const bytes = readFileSync(dump);
  const plane = SHAPE.heads * SHAPE.tokens * SHAPE.channels * 2;
  // V of layer 1.
  tensorIn(bytes, "kv").writeUInt16LE(0x7fc0, 3 * plane + 100);
  writeFileSync(dump, bytes);
  const without = writeJson("skip.json", { merge: { ...MERGE, skip: [1] }, k: PACKED, v: {} });
  await done("encode", writeDump("skip.safetensors", 6), "-o", at("skip.kvz"), "--profile", without);
  const expected = tensorIn(readFileSync(at("skip.kvz")), "merge_map");
  for (const skipped of [[], [1]]) {
    const profile = writeJson("nan.json", { merge: { ...MERGE, skip: skipped }, k: PACKED, v: {} });
    await done("encode", dump, "-o", at("nan.kvz"), "--profile", profile);
    const map = tensorIn(readFileSync(at("nan.kvz")), "merge_map");
    assert.ok(map.includes(0x11), "layer 0 is merged");
    assert.deepEqual(map, expected);
    await done("decode", at("nan.kvz"), "-o", at("nan.back"));
    const back = tensorIn(readFileSync(at("nan.back")), "kv");
    assert.deepEqual(back.subarray(3 * plane), tensorIn(bytes, "kv").subarray(3 * plane));
    assert.notDeepEqual(back.subarray(plane, 2 * plane), tensorIn(bytes, "kv").subarray(plane, 2 * plane));
    await done("decode", at("nan.kvz"), "-o", at("nan.back"), "--ragged");
  }
  assert.match(await done("compare", dump, "--profile", at("nan.json")), /of the tokens left/);
});

test("one profile for what is encoded, once; and what became larger is called larger", { skip }, async () => {
  const dump = writeDump("once.safetensors", 7);
  const profile = writeJson("large.json", { k: { quantizer: { kind: "group", levels: 256, group: 1 }, codec: { kind: "none" } }, v: {} });
  await refused(/--profile: fp8 or lossless\?/, "encode", dump, "-o", at("x"), "--profile", "fp8", "--profile", "lossless");
  for (const name of ["lossless", profile]) {
    const told = await done("encode", dump, "-o", at("once.kvz"), "--profile", name);
    const [, from, to, ratio, word] = /(\d+) bytes of KV, (\d+) encoded: (\d+\.\d+) times (\w+)/.exec(told) ?? [];
    const [before, after] = [Number(from), Number(to)];
    assert.deepEqual([ratio, word], after > before ? [(after / before).toFixed(3), "larger"] : [(before / after).toFixed(3), "smaller"]);
    assert.equal(after > before, name === profile, told);
  }
  await refused(/once\.kvz is encoded already/, "encode", at("once.kvz"), "-o", at("x"), "--profile", "lossless");
  await refused(/once\.kvz is encoded already/, "calibrate", at("once.kvz"), "-o", at("x"));
});
