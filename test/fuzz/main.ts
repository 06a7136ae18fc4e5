/**
 * npm run fuzz -- --target=NAME[,NAME...]|all [--runs=N] [--seconds=S] [--seed=N] [--replay=FILE]
 *
 * Without --runs and --seconds: ten seconds each. Exit code 1 and the input's file if anything misbehaved. README.md has the runs under ASan.
 */
import { parseArgs } from "node:util";
import { readInput } from "./corpus.ts";
import { fuzz, runOne } from "./run.ts";
import type { Target } from "./target.ts";
import { targetNamed, targets } from "./targets.ts";

const { values } = parseArgs({
  options: {
    target: { type: "string", default: "all" },
    runs: { type: "string" },
    seconds: { type: "string" },
    seed: { type: "string", default: "1" },
    replay: { type: "string" },
  },
});

const chosen = values.target === "all" ? targets : values.target.split(",").map(targetNamed);
const runs = numberOf(values.runs, "runs") ?? Number.POSITIVE_INFINITY;
const seconds = numberOf(values.seconds, "seconds") ?? (Number.isFinite(runs) ? Number.POSITIVE_INFINITY : 10);
const seed = numberOf(values.seed, "seed") ?? 1;

try {
  for (const target of chosen) await run(target);
  process.exit(0);
} catch (error) {
  console.error((error as Error).message);
  process.exit(1);
}

async function run(target: Target): Promise<void> {
  if (target.skip !== "") return console.log(`${target.name}: skipped, ${target.skip}`);
  const startMs = performance.now();
  if (values.replay !== undefined) {
    const session = await target.open();
    await runOne(session, readInput(values.replay));
    await session.close();
    return console.log(`${target.name}: ${values.replay} is fine`);
  }
  const onProgress = (done: number): void => {
    if (process.stderr.isTTY) process.stderr.write(`\r${target.name}: ${done} inputs`);
  };
  const done = await fuzz(target, { seed, runs, seconds, onProgress });
  const took = (performance.now() - startMs) / 1000;
  if (process.stderr.isTTY) process.stderr.write("\r");
  console.log(`${target.name}: ${done} inputs in ${took.toFixed(1)} s, seed ${seed}: nothing found`);
}

function numberOf(text: string | undefined, name: string): number | undefined {
  if (text === undefined) return undefined;
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 0) {
    console.error(`Expected a whole number for --${name} but received "${text}"`);
    process.exit(2);
  }
  return value;
}
