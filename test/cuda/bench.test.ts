/**
 * bench/gpu, the program that measures codecs on a GPU: it compiles, and on the emulator what it checks against the CPU's codec is right.
 * Method: its own build script in a folder of its own, then --emulate; where nvcc is missing nobody could use it, and the emulator has tests beside this one.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "node:test";
import { fileURLToPath } from "node:url";

const hasNvcc = ["nvcc", "g++"].every((command) => spawnSync(command, ["--version"]).status === 0);
const NAMES = ["int4", "kivi4 of K", "hadamard4 of K", "cpu-fast of K", "lossless", "gpu-near", "rans alone"];

test("it compiles, and the emulator's blocks are the CPU's", { skip: hasNvcc ? false : "no nvcc" }, (t) => {
  const folder = mkdtempSync(join(tmpdir(), "kvferry-gpu-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const script = fileURLToPath(new URL("../../bench/gpu/build.sh", import.meta.url));
  const built = spawnSync(script, [folder], { encoding: "utf8", timeout: 280_000 });
  assert.equal(built.status, 0, built.stderr);
  const ran = spawnSync(join(folder, "gpu"), ["--emulate"], { encoding: "utf8", timeout: 120_000 });
  assert.equal(ran.status, 0, ran.stdout + ran.stderr);
  const document = JSON.parse(ran.stdout) as {
    device: string;
    workBytes: number;
    results: { name: string; ratio: number; problem: string }[];
  };
  assert.equal(document.device, "emulator");
  assert.ok(document.workBytes < 64 << 20, "memory beyond input and output");
  assert.deepEqual(
    document.results.map(({ name, problem }) => [name, problem]),
    NAMES.map((name) => [name, ""]),
  );
  for (const result of document.results) {
    assert.ok(result.ratio > 1.3, `${result.name} shrinks`);
    assert.ok(!("encodeBytesPerSecond" in result), "an emulator has no speed");
  }
  assert.equal(spawnSync(join(folder, "gpu"), ["--fast"]).status, 2);
});
