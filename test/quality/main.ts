/** `npm run quality`: what a model makes of KV that went through the product's codec. README.md beside this says what is measured and how. */
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { cacheFolder } from "../../bench/cache.ts";
import { Progress } from "../../bench/progress.ts";
import { endBadly, readFlags } from "../../bench/usage.ts";
import { type Groups, missedBars, PROFILES, type Result, table } from "./figures.ts";
import { findPlace, type Place, ROOT, runScript, Scorer } from "./place.ts";
import { calibrate, type RoundTrip, roundTrip } from "./product.ts";

const USAGE = `npm run quality                              the presets on 16 texts of 1,024 tokens; minutes
npm run quality -- --full                    and retrieval (80 questions), and token merging beside it
npm run quality -- --profile=NAME[,NAME...]  these alone; a NAME is a preset or the path of a profile
npm run quality -- --texts=DIR [--contexts=1024,2048]   the text files of DIR instead
npm run quality -- --calibration=FILE        instead of one that is made of the calibration set
npm run quality -- --json=FILE               what is printed, as JSON
Exit code 1 if a preset misses its bar.`;

const flags = readFlags(USAGE, {
  full: { type: "boolean", default: false },
  profile: { type: "string", default: PROFILES.join(",") },
  texts: { type: "string" },
  contexts: { type: "string", default: "1024" },
  calibration: { type: "string" },
  json: { type: "string" },
});
const found = findPlace();
if (typeof found === "string") endBadly(found, USAGE);
const place: Place = found;
const progress = new Progress();
const scratch = mkdtempSync(join(tmpdir(), "kvferry-quality-"));
let scorer: Scorer | undefined;
try {
  const dumps = flags.texts === undefined ? ownDumps() : textDumps(flags.texts);
  const calibration = flags.calibration ?? ownCalibration();
  scorer = new Scorer(place, dumps);
  const results: Result[] = [];
  for (const profile of flags.profile.split(",")) results.push(await judge(scorer, dumps, profile, calibration));
  if (flags.full && flags.texts === undefined) results.push(...merging(dumps));
  progress.clear();
  console.log(table(results));
  if (flags.json !== undefined) writeFileSync(flags.json, `${JSON.stringify({ model: "SmolLM2-135M-Instruct", results }, undefined, 2)}\n`);
  process.exitCode = results.every(({ missed }) => missed.length === 0) ? 0 : 1;
} finally {
  scorer?.close();
  rmSync(scratch, { recursive: true, force: true });
}

function ownDumps(): string[] {
  return [...dump(["--set", "eval"]), ...(flags.full ? dump(["--set", "retrieval"]) : [])];
}

function textDumps(folder: string): string[] {
  return flags.contexts.split(",").flatMap((tokens) => dump(["--texts", folder, "--tokens", tokens]));
}

/** Paths of the dumps. */
function dump(args: readonly string[]): string[] {
  progress.show(() => `prefill: ${args.join(" ")}`);
  return runScript(place, "dump.py", args).map((line) => (line as { readonly path: string }).path);
}

/** Made once of the same dumps by the same product; it travels with nothing, so that its size is no part of a ratio. */
function ownCalibration(): string {
  const dumps = dump(["--set", "calibration"]);
  progress.show(() => "sensitivity of each layer, some minutes the first time");
  // Four texts say enough, and every run of the model costs.
  const [sensitivity] = runScript(place, "sensitivity.py", dumps.slice(0, 4)) as { readonly path: string }[];
  const out = join(cacheFolder(), "quality", "calibrations", `${calibrationKey([...dumps, sensitivity!.path])}.safetensors`);
  if (existsSync(out)) return out;
  progress.show(() => "kvferry codec calibrate, a minute the first time");
  mkdirSync(dirname(out), { recursive: true });
  calibrate(dumps, `${out}.partial`, ["--sensitivity", sensitivity!.path]);
  renameSync(`${out}.partial`, out);
  return out;
}

/** Of what it is made of, files that are named by all that decides them, and of the code that makes it. */
function calibrationKey(files: readonly string[]): string {
  const hash = createHash("sha256").update(files.join("\n"));
  for (const folder of ["transport/codec", "transport/cli/codec"]) {
    const scripts = readdirSync(join(ROOT, folder)).sort();
    for (const script of scripts) hash.update(readFileSync(join(ROOT, folder, script)));
  }
  return hash.digest("hex").slice(0, 24);
}

async function judge(scorer: Scorer, dumps: readonly string[], profile: string, calibration: string): Promise<Result> {
  const folder = join(scratch, "decoded");
  progress.show(() => `${profile}: encode and decode`);
  const ratio = ratioOf(roundTrip(dumps, profile, calibration, folder));
  progress.show(() => `${profile}: score`);
  const { groups } = (await scorer.score(folder)) as { readonly groups: Groups };
  rmSync(folder, { recursive: true });
  return { profile, ratio, groups, missed: missedBars(profile, ratio, groups) };
}

/** Of the texts that are scored; the prose that codes are hidden in is easier. */
function ratioOf(trips: readonly RoundTrip[]): number {
  const scored = trips.filter(({ dump }) => !basename(dump).startsWith("retrieval"));
  return scored.reduce((sum, { kvBytes }) => sum + kvBytes, 0) / scored.reduce((sum, { encodedBytes }) => sum + encodedBytes, 0);
}

/** By the reference, not by the product: it shows what merging costs where it would be used. */
function merging(dumps: readonly string[]): Result[] {
  progress.show(() => "token merging");
  return runScript(place, "merging.py", dumps).map((line) => {
    const { name, tokens_left, groups } = line as { readonly name: string; readonly tokens_left: number; readonly groups: Groups };
    return { profile: name, ratio: 1 / tokens_left, groups, missed: missedBars(name, 1 / tokens_left, groups) };
  });
}
