/** The measuring program of bench:codec, which is compiled when somebody runs it, still fits native/codec. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import test from "node:test";

const ROOT = join(import.meta.dirname, "..", "..");
const CXX = process.env["CXX"] ?? "g++";
const skip = spawnSync(CXX, ["--version"]).status !== 0 && `no ${CXX}`;

test("bench/native/codec.cpp compiles", { skip }, () => {
  const args = ["-std=c++20", "-fsyntax-only", "-Wall", "-Werror", `-I${join(ROOT, "native")}`, join(ROOT, "bench/native/codec.cpp")];
  const { status, stderr } = spawnSync(CXX, args, { encoding: "utf8", timeout: 120_000 });
  assert.equal(status, 0, stderr);
});
