/**
 * The addon's build where something is missing or wrong: what is said, and how it ends.
 * Method: a copy of build.mjs in a folder of its own with one small source, run as `npm ci` and `npm run build:native` run it.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type TestContext } from "node:test";
import { native, nativeProblem } from "../../transport/native.ts";

const skip = native === undefined ? `no addon: ${nativeProblem}` : false;
const SOURCE = `#include "answer.h"
#include <node_api.h>
NAPI_MODULE_INIT() {
  napi_value value;
  napi_create_int32(env, kAnswer, &value);
  return value;
}
`;

interface Place {
  readonly native: string;
  readonly addon: string;
  run(args: readonly string[], environment?: Record<string, string>): { code: number | null; said: string };
}

function place(t: TestContext): Place {
  const root = mkdtempSync(join(tmpdir(), "kvferry-build-"));
  t.after(() => rmSync(root, { recursive: true, force: true }));
  const folder = join(root, "native");
  mkdirSync(join(folder, "core"), { recursive: true });
  mkdirSync(join(folder, "fuzz"));
  copyFileSync(new URL("../../native/build.mjs", import.meta.url), join(folder, "build.mjs"));
  symlinkSync(new URL("../../node_modules", import.meta.url).pathname, join(root, "node_modules"));
  writeFileSync(join(folder, "core", "answer.cpp"), SOURCE);
  writeFileSync(join(folder, "core", "answer.h"), "#pragma once\nconstexpr int kAnswer = 42;\n");
  writeFileSync(join(folder, "fuzz", "apart.cpp"), "this is no part of the addon\n");
  return {
    native: folder,
    addon: join(folder, "out", "kvferry.node"),
    run(args, environment = {}) {
      const { KVFERRY_SKIP_NATIVE: _, ...inherited } = process.env;
      const ran = spawnSync(process.execPath, [join(folder, "build.mjs"), ...args], {
        encoding: "utf8",
        timeout: 120_000,
        env: { ...inherited, ...environment },
      });
      return { code: ran.status, said: ran.stderr };
    },
  };
}

test("a build loads, is not repeated, and is when a header changes", { skip }, (t) => {
  const { native: folder, addon, run } = place(t);
  assert.equal(run(["--strict"]).code, 0);
  assert.equal(createRequire(import.meta.url)(addon), 42);
  const { mtimeMs, ino } = statSync(addon);
  assert.deepEqual(run(["--strict"]), { code: 0, said: "" });
  assert.equal(statSync(addon).mtimeMs, mtimeMs);
  writeFileSync(join(folder, "core", "answer.h"), "#pragma once\nconstexpr int kAnswer = 43;\n");
  const later = new Date(Date.now() + 2_000);
  utimesSync(join(folder, "core", "answer.h"), later, later);
  assert.match(run(["--strict"]).said, /compiling 1 of 1 files/);
  assert.notEqual(statSync(addon).ino, ino, "another file: who has the old one loaded keeps it");
  assert.ok(JSON.parse(readFileSync(join(folder, "out", "build.json"), "utf8")).compiler);
});

test("what does not compile is shown; an install goes on, a strict build does not", { skip }, (t) => {
  const { native: folder, addon, run } = place(t);
  writeFileSync(join(folder, "core", "broken.cpp"), "int broken( { return 1; }\n");
  const install = run([]);
  assert.equal(install.code, 0);
  assert.match(install.said, /broken\.cpp:1:/);
  assert.match(install.said, /JavaScript link/);
  assert.equal(run(["--strict"]).code, 1);
  assert.equal(existsSync(addon), false);
});

test("without a compiler or headers an install says what to get, and goes on", { skip }, (t) => {
  const { run } = place(t);
  const bare = { PATH: "/nonexistent", CXX: "" };
  const install = run([], bare);
  assert.equal(install.code, 0);
  assert.match(install.said, /no C\+\+ compiler/);
  assert.match(install.said, /apt-get install g\+\+/);
  assert.match(install.said, /JavaScript link/);
  assert.equal(run(["--strict"], bare).code, 1);
});

test("without nvcc there are no GPU kernels, which is said once and stands in the record", { skip }, (t) => {
  const { native: folder, addon, run } = place(t);
  mkdirSync(join(folder, "cuda"));
  writeFileSync(join(folder, "cuda", "kernels.cu"), "this is for nvcc alone\n");
  const bare = { NVCC: "/nonexistent/nvcc" };
  const built = run(["--strict"], bare);
  assert.equal(built.code, 0, built.said);
  assert.match(built.said, /no \/nonexistent\/nvcc: the addon has no GPU kernels/);
  assert.equal(createRequire(import.meta.url)(addon), 42);
  assert.match(JSON.parse(readFileSync(join(folder, "out", "build.json"), "utf8")).kernels, /no GPU kernels/);
  assert.deepEqual(run(["--strict"], bare), { code: 0, said: "" });
});

test("it can be skipped, and does not guess what an option means", { skip }, (t) => {
  const { addon, run } = place(t);
  const skipped = run([], { KVFERRY_SKIP_NATIVE: "1" });
  assert.equal(skipped.code, 0);
  assert.match(skipped.said, /KVFERRY_SKIP_NATIVE/);
  assert.equal(existsSync(addon), false);
  assert.equal(run(["--fast"]).code, 2);
});
