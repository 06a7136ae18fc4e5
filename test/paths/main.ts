/**
 * The links' command: the policies of a path on simulated links, many at random or one that is looked at. Exit code 1 where the bars are missed.
 * Links are shared out among processes; each is its seed alone, so that neither their order nor their number changes a result.
 */
import { fork } from "node:child_process";
import { availableParallelism } from "node:os";
import { endBadly, readFlags } from "../../bench/usage.ts";
import { Progress } from "../../bench/progress.ts";
import { Random } from "../sim/random.ts";
import { Drive } from "./drive.ts";
import { randomLink } from "./links.ts";
import { describeLink, describeReading, describeScore, reportOf } from "./report.ts";
import { type Score, scoreLink } from "./score.ts";

const USAGE = `npm run paths                               1,000 random links
npm run paths -- --links=10000 --seed=1     as many as you like, from this seed on
npm run paths -- --link=7 [--trace]         one link again, every reading of it if asked
npm run paths -- --json                     one JSON line for each link, as it is done
npm run paths -- --jobs=1                   in so many processes (default: one for each processor)`;

const values = readFlags(USAGE, {
  links: { type: "string", default: "1000" },
  seed: { type: "string", default: "1" },
  jobs: { type: "string", default: String(availableParallelism()) },
  link: { type: "string" },
  trace: { type: "boolean", default: false },
  json: { type: "boolean", default: false },
});

if (process.send !== undefined) workOff();
else if (values.link === undefined)
  await playAll(numberOf(values.seed, "seed"), numberOf(values.links, "links"), numberOf(values.jobs, "jobs"));
else playOne(numberOf(values.link, "link"));

function playOne(seed: number): void {
  const link = randomLink(seed);
  console.log(describeLink(link));
  if (values.trace) {
    const onReading = (reading: Parameters<typeof describeReading>[0]): void => console.log(describeReading(reading));
    new Drive(link.spec, { seconds: link.seconds, onReading }, new Random(seed, "drive")).run();
  }
  const score = scoreLink(link);
  console.log(values.json ? JSON.stringify(score) : describeScore(score));
}

async function playAll(seed: number, links: number, jobs: number): Promise<void> {
  if (links < 1 || jobs < 1) wrong("expected at least one of --links and --jobs");
  const startedMs = performance.now();
  const progress = new Progress(200);
  const scores: Score[] = [];
  const take = (score: Score): void => {
    scores.push(score);
    if (values.json) console.log(JSON.stringify(score));
    progress.show(() => `${scores.length} of ${links} links, ${Math.round((performance.now() - startedMs) / 1_000)} s`);
  };
  const step = Math.min(jobs, links);
  await Promise.all(Array.from({ length: step }, (_, job) => playApart({ first: seed + job, step, end: seed + links }, take)));
  progress.clear();
  scores.sort((a, b) => a.seed - b.seed);
  const report = reportOf(scores);
  if (!values.json) console.log(`${report.text}\n${links} links in ${((performance.now() - startedMs) / 1_000).toFixed(1)} s`);
  process.exitCode = report.holds ? 0 : 1;
}

/** Every `step`th seed from `first` on, before `end`. */
interface Part {
  readonly first: number;
  readonly step: number;
  readonly end: number;
}

/** Resolves when a process has played its part of the links, and tells it to end. */
function playApart(part: Part, take: (score: Score) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    let left = Math.ceil((part.end - part.first) / part.step);
    const process = fork(import.meta.filename, [], { serialization: "advanced" });
    process.on("message", (score: Score) => {
      take(score);
      left -= 1;
      if (left > 0) return;
      process.disconnect();
      resolve();
    });
    process.once("error", reject);
    process.once("exit", (code, signal) => reject(new Error(`a process that plays links ended: ${signal ?? code}`)));
    process.send(part);
  });
}

function workOff(): void {
  process.once("message", ({ first, step, end }: Part) => {
    for (let seed = first; seed < end; seed += step) process.send?.(scoreLink(randomLink(seed)));
  });
}

function numberOf(text: string, name: string): number {
  const number = Number(text);
  return Number.isSafeInteger(number) && number >= 0 ? number : wrong(`expected a number for --${name} but received "${text}"`);
}

function wrong(message: string): never {
  return endBadly(message, USAGE);
}
