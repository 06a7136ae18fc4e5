/**
 * The simulation on trial: every bug that is planted on purpose (plants.ts) must make one of the first seeds fail, and a run with a bug leaves none
 * behind. A bug that needs more seeds than these to show is as good as not looked for.
 */
import "./thaw.ts";
import assert from "node:assert/strict";
import { test } from "node:test";
import { PLANTS } from "./plants.ts";
import { runSeed } from "./run.ts";
import { expectPass } from "./seeds.ts";

const SEEDS = 60;

async function caughtBy(plant: () => () => void): Promise<number | undefined> {
  for (let seed = 1; seed <= SEEDS; seed++) if ((await runSeed(seed, { plant })).failure !== "") return seed;
  return undefined;
}

for (const [name, { what, plant }] of Object.entries(PLANTS)) {
  test(`the swarm catches ${name}: ${what}`, async () => {
    const seed = await caughtBy(plant);
    assert.ok(seed !== undefined, `${SEEDS} seeds did not notice`);
    expectPass(await runSeed(seed));
  });
}
