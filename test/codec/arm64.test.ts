/**
 * Codecs on arm64. Method: native/codec and native/core are compiled for it where a cross compiler is installed; where there is an emulator too, digest.cpp runs there
 * and here, and says the same: blocks and values of either are the other's, and NEON's are the scalar code's.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";

const NATIVE = join(import.meta.dirname, "..", "..", "native");
const CROSS = "aarch64-linux-gnu-g++";
const EMULATOR = "qemu-aarch64";
const SYSROOT = "/usr/aarch64-linux-gnu";
const FLAGS = [
  "-std=c++20",
  "-O2",
  "-fno-exceptions",
  "-ffp-contract=off",
  "-fno-trapping-math",
  "-fno-math-errno",
  "-Wall",
  "-Wextra",
  "-Werror",
];
const OURS = ["-Wno-unused-parameter", "-Wno-missing-field-initializers", `-I${NATIVE}`];

const isThere = (program: string): boolean => spawnSync(program, ["--version"]).status === 0;
const noCross = isThere(CROSS) ? false : `${CROSS} is not installed`;
const noEmulator = isThere(EMULATOR) && existsSync(SYSROOT) ? false : `${EMULATOR} or ${SYSROOT} is not installed`;

const folder = mkdtempSync(join(tmpdir(), "kvferry-arm64-"));
after(() => rmSync(folder, { recursive: true }));
const sourcesOf = (part: string): string[] =>
  readdirSync(join(NATIVE, part))
    .filter((name) => name.endsWith(".cpp"))
    .map((name) => join(NATIVE, part, name));

function run(program: string, args: readonly string[]): string {
  const { status, stdout, stderr, error } = spawnSync(program, args, { encoding: "utf8", timeout: 280_000 });
  assert.equal(status, 0, `${program}: ${error?.message ?? ""}${stderr}${stdout}`.slice(0, 4_000));
  return stdout;
}

test("native/core compiles for arm64", { skip: noCross }, () => {
  run(CROSS, [...FLAGS, ...OURS, "-fsyntax-only", ...sourcesOf("core")]);
});

test("native/codec compiles for arm64, and what it makes there is what it makes here", { skip: noCross }, (t) => {
  const sources = [join(import.meta.dirname, "digest.cpp"), ...sourcesOf("codec"), join(NATIVE, "core", "crc32c.cpp")];
  const [there, here] = [join(folder, "arm64"), join(folder, "host")];
  run(CROSS, [...FLAGS, ...OURS, ...sources, "-o", there, "-ldl"]);
  if (noEmulator !== false) {
    t.diagnostic(`compiled, not run: ${noEmulator}`);
    return;
  }
  run("g++", [...FLAGS.filter((flag) => !flag.startsWith("-W")), `-I${NATIVE}`, ...sources, "-o", here, "-ldl"]);
  const wanted = run(here, []);
  // Of each spec bytes and two checksums: none is stored.
  assert.match(wanted, /^(\d+ [0-9a-f]{8} [0-9a-f]{8} \n){42}$/);
  assert.equal(run(EMULATOR, ["-L", SYSROOT, there]), wanted);
});
