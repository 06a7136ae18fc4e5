/** The fuzzers' command. All targets are run, whatever one finds; exit code 1 and the input's file if anything misbehaved. */
import { endBadly, readFlags } from "../../bench/usage.ts";
import { runUnderAsan } from "./asan.ts";
import { readInput } from "./corpus.ts";
import { fuzz, runOne } from "./run.ts";
import type { Target } from "./target.ts";
import { targets } from "./targets.ts";

const MILLION = 1_000_000;

const USAGE = `npm run fuzz -- [--target=NAME[,NAME...]|all] [--runs=N] [--seconds=S] [--seed=N] [--asan] [--replay=FILE]

Without --runs and --seconds: ten seconds each. --asan: targets that reach the addon run on one that watches its memory, and a million
inputs is what is run unless said otherwise. Targets: ${targets.map(({ name }) => name).join(", ")}`;

const values = readFlags(USAGE, {
  target: { type: "string", default: "all" },
  runs: { type: "string" },
  seconds: { type: "string" },
  seed: { type: "string", default: "1" },
  asan: { type: "boolean", default: false },
  replay: { type: "string" },
});

const chosen = values.target === "all" ? targets : values.target.split(",").map(targetOrUsage);
const inputs = numberOf(values.runs, "runs");
const time = numberOf(values.seconds, "seconds");
const seed = numberOf(values.seed, "seed") ?? 1;
const runs = inputs ?? (time === undefined && values.asan ? MILLION : Number.POSITIVE_INFINITY);
const seconds = time ?? (Number.isFinite(runs) ? Number.POSITIVE_INFINITY : 10);

let failures = 0;
for (const target of chosen) if (!values.asan || !target.native) failures += await run(target);
const watched = chosen.filter(({ native }) => values.asan && native).map(({ name }) => name);
if (watched.length > 0) failures += await runUnderAsan([`--target=${watched.join()}`, ...sameAgain()]);
process.exit(failures === 0 ? 0 : 1);

function targetOrUsage(name: string): Target {
  return targets.find((target) => target.name === name) ?? endBadly(`No target is called ${name}`, USAGE);
}

/** Returns how many inputs failed: none or one. */
async function run(target: Target): Promise<number> {
  try {
    await runTarget(target);
    return 0;
  } catch (error) {
    console.error((error as Error).message);
    return 1;
  }
}

async function runTarget(target: Target): Promise<void> {
  if (target.skip !== "") return console.log(`${target.name}: skipped, ${target.skip}`);
  const startMs = performance.now();
  if (values.replay !== undefined) {
    const session = await target.open();
    await runOne(session, readInput(values.replay));
    await session.close();
    return console.log(`${target.name}: ${values.replay} is fine`);
  }
  const onProgress = (done: number): void => {
    if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${target.name}: ${progressOf(done, (performance.now() - startMs) / 1000)}`);
  };
  onProgress(0);
  const done = await fuzz(target, { seed, runs, seconds, onProgress });
  const took = (performance.now() - startMs) / 1000;
  if (process.stderr.isTTY) process.stderr.write("\r\x1b[K");
  console.log(`${target.name}: ${done} inputs in ${took.toFixed(1)} s, seed ${seed}: nothing found`);
}

function progressOf(done: number, tookSeconds: number): string {
  const rate = done / tookSeconds;
  const leftSeconds = Number.isFinite(runs) ? (runs - done) / rate : seconds - tookSeconds;
  const left = done === 0 ? "" : `, ${Math.round(rate)} a second, ${Math.ceil(leftSeconds / 60)} min left`;
  return `${done}${Number.isFinite(runs) ? ` of ${runs}` : ""} inputs${left}`;
}

/** What the watched process is told of what this one was. */
function sameAgain(): string[] {
  const replay = values.replay === undefined ? [] : [`--replay=${values.replay}`];
  if (Number.isFinite(runs)) replay.push(`--runs=${runs}`);
  if (Number.isFinite(seconds)) replay.push(`--seconds=${seconds}`);
  return [...replay, `--seed=${seed}`];
}

function numberOf(text: string | undefined, name: string): number | undefined {
  if (text === undefined) return undefined;
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 0) endBadly(`Expected a whole number for --${name} but received "${text}"`, USAGE);
  return value;
}
