/**
 * The product under simulation: seeds that failed once, a fixed set of further ones, and the simulation itself on trial - the same seed must give the
 * same trace, every error code must be reached, every planted bug must be caught. A failure names the seed; `npm run sim -- --seed=N --trace` shows it.
 */
import "./thaw.ts";
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { Coverage } from "./coverage.ts";
import { PLANTS } from "./plants.ts";
import { type Run, runSeed } from "./run.ts";
import { seedsIn } from "./seeds.ts";

const FIXED_SEEDS = 50;
/** A bug that needs more seeds than this to show is as good as not looked for. */
const PLANT_SEEDS = 60;

const coverage = new Coverage();

function expectPass({ seed, failure }: Run, cause = ""): void {
  assert.equal(failure, "", `seed ${seed} ${cause}\nagain: npm run sim -- --seed=${seed} --trace`);
}

test("seeds that failed once pass", async () => {
  for (const { seed, cause } of seedsIn(join(import.meta.dirname, "seeds.txt"))) expectPass(await runSeed(seed), `failed once: ${cause}`);
});

test(`seeds 1 to ${FIXED_SEEDS} pass, each with its hundred transfers and three kinds of fault`, async () => {
  let delivered = 0;
  for (let seed = 1; seed <= FIXED_SEEDS; seed++) {
    const run = await runSeed(seed);
    expectPass(run);
    coverage.add(run.coverage);
    delivered += run.succeeded;
    assert.ok(run.swarm.faultKinds.length >= 3);
  }
  assert.ok(delivered > FIXED_SEEDS * 20, `${delivered} transfers were delivered: faults leave something to work`);
});

test("they reach every error code that can arise below the API and the configuration", () => {
  assert.deepEqual(coverage.missing(), [], `\n${coverage.table()}`);
});

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

for (const [name, { what, plant }] of Object.entries(PLANTS)) {
  test(`the swarm catches ${name}: ${what}`, async () => {
    for (let seed = 1; seed <= PLANT_SEEDS; seed++) if ((await runSeed(seed, { plant })).failure !== "") return;
    assert.fail(`${PLANT_SEEDS} seeds did not notice`);
  });
}
