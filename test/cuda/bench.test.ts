/**
 * bench/gpu, the program that measures codecs on a GPU: it compiles, and on the emulator what it checks against the CPU's codec is right, with nvCOMP's coders if there
 * is a library for them.
 * Method: its own build script in a folder of its own, then --emulate, without nvCOMP and with what stands in for it (nvcomp.cpp); where nvcc is missing nobody could use
 * it, and the emulator has tests beside this one.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "node:test";
import { fileURLToPath } from "node:url";
import { standIn } from "./stand-in.ts";

const hasNvcc = ["nvcc", "g++"].every((command) => spawnSync(command, ["--version"]).status === 0);
const NAMES = ["int4", "kivi4 of K", "hadamard4 of K", "cpu-fast of K", "lossless", "gpu-near"];
const NVCOMP = ["int4", "lossless", "gpu-near"].flatMap((name) => [`${name} by nvcomp-ans`, `${name} by nvcomp-bitcomp`]);

test("it compiles, and the emulator's blocks are the CPU's", { skip: hasNvcc ? false : "no nvcc" }, (t) => {
  const folder = mkdtempSync(join(tmpdir(), "kvferry-gpu-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const script = fileURLToPath(new URL("../../bench/gpu/build.sh", import.meta.url));
  const built = spawnSync(script, [folder], { encoding: "utf8", timeout: 280_000 });
  assert.equal(built.status, 0, built.stderr);
  const nvcomp = standIn(folder);
  const bare = emulated(folder);
  assert.equal(bare.nvcomp, "nvCOMP needs a GPU");
  assert.deepEqual(namesOf(bare), [...NAMES, "rans alone"]);
  const whole = emulated(folder, "--nvcomp", nvcomp);
  assert.equal(whole.nvcomp, nvcomp);
  assert.deepEqual(namesOf(whole), [...NAMES, ...NVCOMP, "rans alone"]);
  for (const result of whole.results) {
    assert.equal(result.problem, "", result.name);
    // What stands in for nvCOMP is no measure of it.
    assert.ok(result.ratio > (NVCOMP.includes(result.name) ? 1 : 1.3), `${result.name} shrinks`);
    assert.ok(!("encodeBytesPerSecond" in result), "an emulator has no speed");
  }
  assert.equal(spawnSync(join(folder, "gpu"), ["--fast"]).status, 2);
});

interface Document {
  readonly device: string;
  readonly workBytes: number;
  readonly nvcomp: string;
  readonly results: readonly { readonly name: string; readonly ratio: number; readonly problem: string }[];
}

const namesOf = ({ results }: Document): string[] => results.map(({ name }) => name);

function emulated(folder: string, ...more: string[]): Document {
  const ran = spawnSync(join(folder, "gpu"), ["--emulate", ...more], { encoding: "utf8", timeout: 120_000 });
  assert.equal(ran.status, 0, ran.stdout + ran.stderr);
  const document = JSON.parse(ran.stdout) as Document;
  assert.equal(document.device, "emulator");
  assert.ok(document.workBytes < 64 << 20, "memory beyond input and output");
  return document;
}
