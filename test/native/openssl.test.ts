/**
 * The addon and the OpenSSL of the Node that loads it: bound when it is called, left out where its headers are not. Method: a program that has neither
 * Node nor OpenSSL opens the addon; the build is asked what it makes of headers without them, and what is compiled then.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import test, { type TestContext } from "node:test";
import { native, nativeProblem } from "../../transport/native.ts";

const NATIVE = fileURLToPath(new URL("../../native", import.meta.url));
const ADDON = join(NATIVE, "out", "kvferry.node");
const skip = native === undefined || !existsSync(ADDON) ? `no addon: ${nativeProblem}` : false;
/** Loads the addon as Node does. */
const PROGRAM = `#include <dlfcn.h>
#include <cstdio>
int main(int, char** arguments) {
  if (dlopen(arguments[1], RTLD_LAZY) != nullptr) return 0;
  puts(dlerror());
  return 1;
}
`;

interface Made {
  readonly compiler: string;
  readonly headers: string;
  readonly flags: readonly string[];
}

const made = (): Made => JSON.parse(readFileSync(join(NATIVE, "out", "build.json"), "utf8")) as Made;

function scratch(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), "kvferry-openssl-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

function compile(args: readonly string[]): void {
  const { status, stderr } = spawnSync(made().compiler, args, { encoding: "utf8", timeout: 240_000 });
  assert.equal(status, 0, stderr);
}

test("the addon says which OpenSSL it has found, or why none", { skip }, () => {
  const { version, problem } = native?.tls ?? assert.fail("no addon");
  assert.ok(
    version === "" ? problem !== "" : version.startsWith(`OpenSSL ${process.versions.openssl?.split("+")[0]}`),
    `${version} ${problem}`,
  );
});

test("the addon loads where there is no OpenSSL", { skip }, (t) => {
  const folder = scratch(t);
  writeFileSync(join(folder, "opens.cpp"), PROGRAM);
  compile([join(folder, "opens.cpp"), "-o", join(folder, "opens"), "-ldl"]);
  const { status, stdout } = spawnSync(join(folder, "opens"), [ADDON], { encoding: "utf8" });
  assert.equal(status, 0, stdout);
});

test("headers without OpenSSL's make an addon without TLS", { skip }, (t) => {
  const folder = scratch(t);
  const include = join(folder, "include", "node");
  mkdirSync(include, { recursive: true });
  const { headers, flags } = made();
  for (const name of ["node_api.h", "node_api_types.h", "js_native_api.h", "js_native_api_types.h", "uv.h", "uv"]) {
    if (existsSync(join(headers, name))) symlinkSync(join(headers, name), join(include, name));
  }
  const checked = spawnSync(process.execPath, [join(NATIVE, "build.mjs"), "--check", `--nodedir=${folder}`], { encoding: "utf8" });
  assert.equal((JSON.parse(checked.stdout) as { tls: boolean }).tls, false);
  const without = flags.map((flag) => (flag.startsWith("-DKVFERRY_TLS=") ? "-DKVFERRY_TLS=0" : flag.replace(headers, include)));
  // Everything that names TLS, and what stands in for it.
  for (const source of ["tls_absent", "tls_stream", "greeting"])
    compile([...without, "-fsyntax-only", join(NATIVE, "tcp", `${source}.cpp`)]);
});
