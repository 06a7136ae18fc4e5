/**
 * The product under simulation, a fixed number of seeds: each must pass with its hundred transfers and three kinds of fault, and together they must
 * reach every error code of the closed list that is not asserted by a test elsewhere (coverage.ts). A failure names the seed;
 * `npm run sim -- --seed=N --trace` shows it.
 */
import "./thaw.ts";
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { ErrorCode } from "../../transport/errors.ts";
import { Coverage, ELSEWHERE } from "./coverage.ts";
import { runSeed } from "./run.ts";
import { expectPass } from "./seeds.ts";

/** So many, in portions that end in time on a slow machine as well. The large swarm is `npm run sim`. */
const SEEDS = 60;
const AT_ONCE = 20;
const ROOT = join(import.meta.dirname, "../..");

const coverage = new Coverage();

for (let first = 1; first <= SEEDS; first += AT_ONCE) {
  test(`seeds ${first} to ${first + AT_ONCE - 1} pass`, async () => {
    let delivered = 0;
    for (let seed = first; seed < first + AT_ONCE; seed++) {
      const run = await runSeed(seed);
      expectPass(run);
      coverage.add(run.coverage);
      delivered += run.succeeded;
      assert.ok(run.swarm.faultKinds.length >= 3);
      assert.ok(run.transfers >= 100, `seed ${seed} began ${run.transfers} transfers`);
    }
    assert.ok(delivered > AT_ONCE * 20, `${delivered} transfers were delivered: faults leave something to work`);
  });
}

test("every way that a fetch may go is gone by some of them", () => {
  for (const [path, times] of coverage.paths) assert.ok(times > 0, `no seed goes ${path}\n${coverage.table()}`);
});

test("every code of schemas/errors.json is reached by them or asserted by the test that coverage.ts names", () => {
  const { errors } = JSON.parse(readFileSync(join(ROOT, "schemas/errors.json"), "utf8")) as { errors: { code: ErrorCode }[] };
  for (const { code } of errors) {
    const path = ELSEWHERE[code];
    if (path === undefined) assert.ok(coverage.count(code) > 0, `no seed reaches ${code}\n${coverage.table()}`);
    else {
      assert.equal(coverage.count(code), 0, `the swarm reaches ${code}: it needs no other home`);
      const asserts = new RegExp(`\\bassert\\b.*\\b${code}\\b`);
      assert.ok(path.endsWith(".test.ts") && asserts.test(readFileSync(join(ROOT, path), "utf8")), `${path} asserts ${code}`);
    }
  }
  const known = new Set<string>(errors.map(({ code }) => code));
  assert.deepEqual(
    Object.keys(ELSEWHERE).filter((code) => !known.has(code)),
    [],
  );
});
