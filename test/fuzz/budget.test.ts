/**
 * Sixty seconds of fuzzing, shared out among all targets, from a seed that changes from day to day; what it finds comes with the command that
 * finds it again. KVFERRY_TEST_FUZZ_SECONDS changes the budget.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { fuzz } from "./run.ts";
import { targets } from "./targets.ts";

const budgetSeconds = Number(process.env["KVFERRY_TEST_FUZZ_SECONDS"] ?? 60);
const runnable = targets.filter(({ skip }) => skip === "");
const seed = Math.floor(Date.now() / 86_400_000);

for (const target of targets) {
  test(`fuzz ${target.name}, seed ${seed}`, { skip: target.skip === "" ? false : target.skip }, async () => {
    const runs = await fuzz(target, { seed, runs: Number.POSITIVE_INFINITY, seconds: budgetSeconds / runnable.length });
    assert.ok(runs > 0, "at least one input was run");
  });
}
