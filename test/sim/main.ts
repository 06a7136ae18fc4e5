/**
 * The simulation's command. A seed that fails is printed with the command that replays it and added to test/sim/seeds.txt, which
 * test/sim/replay.test.ts replays. Exit code 1 then. On a terminal a line of standard error says how far it is.
 */
import "./thaw.ts";
import { execFileSync } from "node:child_process";
import { appendFileSync } from "node:fs";
import { join } from "node:path";
import { Progress } from "../../bench/progress.ts";
import { endBadly, readFlags } from "../../bench/usage.ts";
import { Coverage } from "./coverage.ts";
import { PLANTS } from "./plants.ts";
import { type Run, runSeed } from "./run.ts";
import { seedsIn } from "./seeds.ts";

const SEEDS = join(import.meta.dirname, "seeds.txt");

const USAGE = `npm run sim                          random seeds for a minute
npm run sim -- --seconds=600         for as long as you like
npm run sim -- --seed=7 [--trace]    one seed again, every event of it if asked
npm run sim -- --seeds=1..500        these
npm run sim -- --plant=NAME          with a bug planted (test/sim/plants.ts), to see it caught`;

const values = readFlags(USAGE, {
  seed: { type: "string" },
  seeds: { type: "string" },
  seconds: { type: "string", default: "60" },
  trace: { type: "boolean", default: false },
  plant: { type: "string" },
});
const planted = values.plant === undefined ? undefined : PLANTS[values.plant];
if (values.plant !== undefined && planted === undefined) wrong(`no plant ${values.plant}; there are ${Object.keys(PLANTS).join(", ")}`);

const startedMs = performance.now();
const progress = new Progress(200);
const coverage = new Coverage();
const total = { seeds: 0, events: 0, transfers: 0, succeeded: 0, virtualUs: 0, failures: 0 };

for (const seed of chosenSeeds()) {
  // A single seed is soon over, and a trace says enough.
  if (values.seed === undefined && !values.trace) progress.show(() => `${plainTotals()}; seed ${seed}`);
  await play(seed);
}
progress.clear();
summarize();
process.exitCode = total.failures === 0 ? 0 : 1;

function* chosenSeeds(): Generator<number> {
  if (values.seed !== undefined) yield numberOf(values.seed, "seed");
  else if (values.seeds !== undefined) {
    const [first = "", last = ""] = values.seeds.split("..");
    const [from, to] = [numberOf(first, "seeds"), numberOf(last, "seeds")];
    if (from > to) wrong(`Expected FIRST..LAST for --seeds but received "${values.seeds}"`);
    for (let seed = from; seed <= to; seed++) yield seed;
  } else {
    const endMs = startedMs + 1_000 * numberOf(values.seconds, "seconds");
    for (let seed = Math.floor(Math.random() * 2 ** 47); performance.now() < endMs; seed++) yield seed;
  }
}

async function play(seed: number): Promise<void> {
  const run = await runSeed(seed, {
    ...(values.trace ? { onTrace: (line) => console.log(line) } : {}),
    ...(planted === undefined ? {} : { plant: planted.plant }),
  });
  total.seeds += 1;
  total.events += run.events;
  total.transfers += run.transfers;
  total.succeeded += run.succeeded;
  total.virtualUs += run.virtualUs;
  coverage.add(run.coverage);
  if (values.seed !== undefined) describe(run);
  if (run.failure !== "") fail(run);
}

function describe({ seed, hash, events, outcomes, swarm, virtualUs }: Run): void {
  console.log(`seed ${seed}: trace ${hash}, ${events} events, ${(virtualUs / 1e6).toFixed(1)} virtual seconds`);
  console.log(`${swarm.nodes.length} nodes, ${swarm.enginesPerNode} engines each; faults: ${swarm.faultKinds.join(", ")}`);
  for (const [row, count] of [...outcomes].sort(([, one], [, other]) => other - one)) console.log(`  ${String(count).padStart(4)} ${row}`);
}

function fail({ seed, failure, swarm }: Run): void {
  total.failures += 1;
  progress.clear();
  const plant = values.plant === undefined ? "" : ` --plant=${values.plant}`;
  console.log(`\nFAILED  seed ${seed}  commit ${commit()}  faults ${swarm.faultKinds.join(", ")}\n${failure}`);
  console.log(`again:  npm run sim -- --seed=${seed}${plant} --trace\n`);
  if (values.plant !== undefined || values.seed !== undefined || seedsIn(SEEDS).some((known) => known.seed === seed)) return;
  appendFileSync(SEEDS, `${seed}  ${failure.split("\n")[0]}\n`);
}

function summarize(): void {
  const seconds = (performance.now() - startedMs) / 1_000;
  if (values.seed === undefined) console.log(coverage.table());
  const rate = (count: number): string => Math.round(count / seconds).toLocaleString("en");
  const { seeds, events, transfers, succeeded, virtualUs, failures } = total;
  console.log(
    `\n${seeds} seeds (${(seeds / seconds).toFixed(1)}/s), ${events.toLocaleString("en")} events (${rate(events)}/s), ` +
      `${transfers} transfers (${succeeded} delivered), ${Math.round(virtualUs / 1e6)} virtual seconds in ${seconds.toFixed(1)}; ${failures} failed`,
  );
}

function plainTotals(): string {
  const seconds = Math.round((performance.now() - startedMs) / 1_000);
  const { seeds, events, transfers, failures } = total;
  return `${seconds} s: ${seeds} seeds, ${transfers} transfers, ${events.toLocaleString("en")} events, ${failures} failed`;
}

function commit(): string {
  try {
    return execFileSync("git", ["rev-parse", "--short", "HEAD"], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim();
  } catch {
    return "unknown";
  }
}

function numberOf(text: string, name: string): number {
  const number = Number(text);
  return Number.isSafeInteger(number) && number >= 0 ? number : wrong(`expected a number for --${name} but received "${text}"`);
}

function wrong(message: string): never {
  return endBadly(message, USAGE);
}
