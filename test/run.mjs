#!/usr/bin/env node
/**
 * The one command behind `npm test`: type check, lint, format, unused code, then every `.test.ts` under test/ with node's own runner.
 *
 *   node test/run.mjs [--only STEP[,STEP]] [AREA ...]
 *
 * AREA is a folder of test/ ("kv") or a part of a test file's path: then only those tests run, and nothing else. Nothing is built here:
 * `npm ci` has done that, and tests of native code say so where the addon is missing. Exit code 0 only if every step passed in time.
 */
import { spawn } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { join, relative } from "node:path";
import { parseArgs } from "node:util";
import { kill, running, watch } from "./watch.mjs";

const ROOT = join(import.meta.dirname, "..");
// Ten minutes are the aim on two quiet cores; a busy machine has twice as long.
const TOTAL_SECONDS = 1_200;
const TEST_SECONDS = 300;
const FILES_AT_ONCE = 2;

const bin = (name) => join(ROOT, "node_modules", ".bin", name);

/** In this order. */
const STEPS = [
  { name: "types", command: bin("tsc"), args: ["-p", "tsconfig.json"] },
  { name: "lint", command: bin("oxlint"), args: ["--deny-warnings", "--quiet"] },
  { name: "format", command: bin("biome"), args: ["format", "--max-diagnostics=20"] },
  { name: "unused", command: bin("knip"), args: ["--no-progress", "--no-config-hints"] },
  { name: "tests", command: process.execPath, args: undefined },
];

const { values, positionals } = parseArgs({ allowPositionals: true, options: { only: { type: "string" } } });
const wanted = values.only?.split(",") ?? (positionals.length > 0 ? ["tests"] : STEPS.map(({ name }) => name));
const unknown = wanted.filter((name) => !STEPS.some((step) => step.name === name));
if (unknown.length > 0) {
  console.error(`test/run.mjs: no step is called ${unknown.join(", ")}; there are ${STEPS.map(({ name }) => name).join(", ")}`);
  process.exit(2);
}

const startedAt = process.hrtime.bigint();
const elapsedSeconds = () => Number((process.hrtime.bigint() - startedAt) / 1_000_000n) / 1000;
const outcomes = [];
for (const step of STEPS.filter(({ name }) => wanted.includes(name))) {
  const before = elapsedSeconds();
  const args = step.name === "tests" ? testArguments(positionals) : step.args;
  console.log(`== ${step.name}`);
  const failure = args === undefined ? "no test file matches" : await run(step.command, args, TOTAL_SECONDS - before);
  outcomes.push({ name: step.name, failure, seconds: elapsedSeconds() - before });
}

console.log("");
for (const { name, failure, seconds } of outcomes)
  console.log(`${failure === "" ? "pass" : "FAIL"}  ${name} (${seconds.toFixed(1)} s)${failure && `: ${failure}`}`);
process.exit(outcomes.every(({ failure }) => failure === "") ? 0 : 1);

/** Runs one command in a process group of its own; returns "" or what went wrong. */
function run(command, args, seconds) {
  if (!existsSync(command)) return Promise.resolve(`${relative(ROOT, command)} is missing: run npm ci`);
  return new Promise((resolve) => {
    const child = spawn(command, args, { cwd: ROOT, stdio: ["ignore", "inherit", "inherit"], detached: true, env: environment() });
    let failure = "";
    const unwatch = watch(child.pid);
    const end = (reason) => {
      failure ||= reason;
      for (const line of running(child.pid)) console.error(line);
      // The group, so that sidecars and engines that a hung test started end with it.
      if (child.pid !== undefined) kill(-child.pid);
    };
    const timer = setTimeout(() => end(`did not end within ${TOTAL_SECONDS} s overall`), Math.max(1, seconds) * 1000);
    const interrupt = () => end("interrupted");
    process.once("SIGINT", interrupt).once("SIGTERM", interrupt);
    child.once("error", (error) => {
      clearTimeout(timer);
      unwatch();
      resolve(String(error.message));
    });
    child.once("close", (code, signal) => {
      clearTimeout(timer);
      unwatch();
      process.off("SIGINT", interrupt).off("SIGTERM", interrupt);
      resolve(failure || (code === 0 ? "" : signal === null ? `exit code ${code}` : `ended by ${signal}`));
    });
  });
}

/** A developer's own settings must not decide what a test sees. */
function environment() {
  return Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !name.startsWith("KVFERRY_") || name.startsWith("KVFERRY_TEST_")),
  );
}

/** Node 20 expands no patterns, so the files are named one by one. */
function testArguments(areas) {
  const all = readdirSync(join(ROOT, "test"), { recursive: true, encoding: "utf8" }).filter((path) => path.endsWith(".test.ts"));
  const files = all.filter(
    (path) => areas.length === 0 || areas.some((area) => path.startsWith(`${area}/`) || `test/${path}`.includes(area)),
  );
  if (files.length === 0) return undefined;
  const flags = [
    "--import",
    "tsx",
    "--test",
    "--test-reporter=spec",
    `--test-concurrency=${FILES_AT_ONCE}`,
    `--test-timeout=${TEST_SECONDS * 1000}`,
  ];
  return [...flags, ...files.sort().map((path) => join("test", path))];
}
