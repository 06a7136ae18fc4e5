/** What stands in for nvCOMP in tests, compiled: nvcomp.cpp says with which macros. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { join } from "node:path";

const CXX = process.env["CXX"] ?? "g++";
const FLAGS = ["-std=c++20", "-O1", "-Wall", "-Wextra", "-Werror", "-Wno-unused-function", "-Wno-unused-parameter", "-shared", "-fPIC"];

export const noCompiler = spawnSync(CXX, ["--version"]).status === 0 ? false : `${CXX} is not installed`;

const paths = new Map<string, string>();

/** Its path, in this folder. */
export function standIn(folder: string, ...macros: string[]): string {
  const known = paths.get(macros.join());
  if (known !== undefined) return known;
  const path = join(folder, `nvcomp-${macros.join("-")}.so`);
  // Where the addon watches its memory, this does too.
  const watch = process.env["KVFERRY_NATIVE"]?.includes("/asan/") === true ? ["-fsanitize=address"] : [];
  const flags = [...FLAGS, ...watch, ...macros.map((macro) => `-D${macro}`)];
  const { status, stderr } = spawnSync(CXX, [...flags, join(import.meta.dirname, "nvcomp.cpp"), "-o", path], {
    encoding: "utf8",
    timeout: 100_000,
    env: { ...process.env, LD_PRELOAD: "" },
  });
  assert.equal(status, 0, stderr);
  paths.set(macros.join(), path);
  return path;
}
