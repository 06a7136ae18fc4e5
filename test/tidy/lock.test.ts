/**
 * package-lock.json installs anywhere: no host in it, and an entry for every dependency; the rule and the mending are tried on small
 * locks.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { completeLock, type Lock, missingEntries, platformOf } from "./lock.ts";
import { ROOT } from "./source.ts";

const text = readFileSync(join(ROOT, "package-lock.json"), "utf8");

test("the lock names no host to install from, and npm is told to keep it so", () => {
  assert.doesNotMatch(text, /"resolved": "http/);
  assert.match(readFileSync(join(ROOT, ".npmrc"), "utf8"), /^omit-lockfile-registry-resolved=true$/m);
});

test("every dependency in the lock has an entry (if not: npm run lock)", () => {
  assert.deepEqual(missingEntries(JSON.parse(text) as Lock), []);
});

test("missing entries are found as node looks for packages, and the optional ones are made", () => {
  const lock: Lock = {
    packages: {
      "": { dependencies: { a: "1.0.0", absent: "1.0.0" } },
      "node_modules/a": {
        version: "1.0.0",
        dev: true,
        dependencies: { b: "1.0.0" },
        optionalDependencies: { "@x/linux-arm64-musl": "1.0.0" },
      },
      "node_modules/a/node_modules/b": { version: "1.0.0", dependencies: { a: "1.0.0" } },
    },
  };
  assert.deepEqual(
    missingEntries(lock).map(({ name }) => name),
    ["absent", "@x/linux-arm64-musl"],
  );
  const whole = completeLock(lock);
  assert.deepEqual(
    missingEntries(whole).map(({ name }) => name),
    ["absent"],
  );
  assert.deepEqual(whole.packages["node_modules/@x/linux-arm64-musl"], {
    version: "1.0.0",
    cpu: ["arm64"],
    dev: true,
    libc: ["musl"],
    optional: true,
    os: ["linux"],
  });
});

test("a package's name says where it runs", () => {
  assert.deepEqual(platformOf("@oxlint/binding-win32-x64-msvc"), { os: ["win32"], cpu: ["x64"] });
  assert.deepEqual(platformOf("@oxlint/binding-linux-arm-gnueabihf"), { os: ["linux"], cpu: ["arm"], libc: ["glibc"] });
  assert.deepEqual(platformOf("left-pad"), {});
});
