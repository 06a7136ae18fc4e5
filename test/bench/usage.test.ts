/** What people type first at the programs beside the CLI: --help, and a flag that there is none of. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import test from "node:test";

const ROOT = join(import.meta.dirname, "..", "..");
const PROGRAMS = [
  "bench/suite.ts",
  "bench/engines.ts",
  "test/sim/main.ts",
  "test/fuzz/main.ts",
  "test/soak/soak.ts",
  "engines/demo/main.ts",
];

for (const program of PROGRAMS) {
  test(`${program} says what it can do`, () => {
    const run = (flag: string) =>
      spawnSync(process.execPath, ["--import", "tsx", program, flag], { cwd: ROOT, encoding: "utf8", timeout: 60_000 });
    const help = run("--help");
    assert.deepEqual([help.status, help.stderr], [0, ""]);
    assert.match(help.stdout, /^npm run /);
    const wrong = run("--nonsense");
    assert.deepEqual([wrong.status, wrong.stdout], [2, ""]);
    assert.match(wrong.stderr, /^Unknown option '--nonsense'/);
    assert.ok(!wrong.stderr.includes("    at "), "no stack");
  });
}
