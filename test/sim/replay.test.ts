/**
 * Seeds that failed once (seeds.txt) pass; and the simulation itself on trial: the same seed gives the same trace, another one another, and looking
 * on changes nothing.
 */
import "./thaw.ts";
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { runSeed } from "./run.ts";
import { expectPass, seedsIn } from "./seeds.ts";

for (const { seed, cause } of seedsIn(join(import.meta.dirname, "seeds.txt"))) {
  test(`seed ${seed}, which failed once, passes: ${cause}`, async () => expectPass(await runSeed(seed)));
}

test("the same seed gives the same trace, another one another", async () => {
  for (const seed of [3, 17, 41]) {
    const [first, again, other] = [await runSeed(seed), await runSeed(seed), await runSeed(seed + 1_000)];
    assert.deepEqual([first.hash, first.events, first.failure], [again.hash, again.events, again.failure]);
    assert.notEqual(first.hash, other.hash);
  }
});

test("a trace can be read, and looking at it changes nothing", async () => {
  const lines: string[] = [];
  const seen = await runSeed(5, { onTrace: (line) => lines.push(line) });
  assert.equal(seen.hash, (await runSeed(5)).hash);
  assert.ok(lines.some((line) => line.includes(" hears over ")) && lines.some((line) => line.includes(" heal ")));
});
