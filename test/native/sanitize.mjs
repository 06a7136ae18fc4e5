#!/usr/bin/env node
/**
 * The tests of native code again, on builds of the addon that watch themselves: memory errors and leaks (asan), undefined
 * behaviour (ubsan), data races (tsan).
 *
 *   npm run test:sanitize [-- [--asan] [--ubsan] [--tsan] [TEST FILE ...]]
 *
 * Without flags all three, over test/native, test/link, test/codec, test/cuda and the jobs. Node itself is an ordinary build, so leaks count only if
 * they come out of the addon, and races only if both sides are in it. Exit code 0 only if every file passed and nothing was
 * reported.
 */
import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";

const ROOT = join(import.meta.dirname, "..", "..");
const FILE_SECONDS = 600;
const OURS = /kvferry\.node|\/native\/(?:core|napi|tcp|fake|shm|rdma|codec|cuda)\//;

/** `runtime`: preloaded, because node is not linked with it. `prefix`: TSan's shadow does not fit around a randomized address space. */
const KINDS = {
  "--asan": {
    runtime: "libasan.so",
    options: { ASAN_OPTIONS: "abort_on_error=1:detect_leaks=1:strict_string_checks=1", LSAN_OPTIONS: "exitcode=0" },
  },
  "--ubsan": { runtime: "libubsan.so", options: { UBSAN_OPTIONS: "halt_on_error=1:print_stacktrace=1" } },
  "--tsan": {
    runtime: "libtsan.so",
    options: { TSAN_OPTIONS: "ignore_noninstrumented_modules=1:second_deadlock_stack=1" },
    prefix: ["setarch", "-R"],
  },
};

const asked = process.argv.slice(2);
const kinds = Object.keys(KINDS).filter((kind) => asked.includes(kind));
const files = asked.filter((argument) => !argument.startsWith("--"));
const unknown = asked.filter((argument) => argument.startsWith("--") && !(argument in KINDS));
if (unknown.length > 0) {
  console.error(`test/native/sanitize.mjs: unknown option ${unknown[0]}`);
  process.exit(2);
}

let failures = 0;
for (const kind of kinds.length > 0 ? kinds : Object.keys(KINDS)) {
  const name = kind.slice(2);
  console.log(`== ${name}`);
  if (spawnSync(process.execPath, [join(ROOT, "native", "build.mjs"), kind, "--strict"], { stdio: "inherit" }).status !== 0) {
    failures += 1;
    continue;
  }
  for (const file of files.length > 0 ? files : testFiles()) {
    const problem = await runOne(kind, file);
    console.log(`${problem === "" ? "pass" : "FAIL"}  ${name}  ${file}`);
    if (problem !== "") console.log(problem);
    failures += problem === "" ? 0 : 1;
  }
}
process.exit(failures === 0 ? 0 : 1);

function testFiles() {
  const folders = ["test/native", "test/link", "test/codec", "test/cuda"].filter((folder) => existsSync(join(ROOT, folder)));
  const found = folders.flatMap((folder) => readdirSync(join(ROOT, folder)).map((file) => join(folder, file)));
  found.push("test/memory/jobs.test.ts");
  // Tests that run compilers are nobody's to watch here.
  const compiles = /\/(?:native\/build|cuda\/bench)\.test\.ts$/;
  return found.filter((file) => file.endsWith(".test.ts") && !compiles.test(file)).sort();
}

/** "" or what went wrong. */
async function runOne(kind, file) {
  const { runtime, options, prefix = [] } = KINDS[kind];
  const reports = mkdtempSync(join(tmpdir(), "kvferry-sanitize-"));
  try {
    const logged = Object.entries(options).map(([variable, value]) => [variable, `${value}:log_path=${join(reports, "report")}`]);
    const environment = {
      ...process.env,
      ...Object.fromEntries(logged),
      KVFERRY_NATIVE: join(ROOT, "native", "out", kind.slice(2), "kvferry.node"),
    };
    // By env, so that what comes before node is not watched.
    const command = [...prefix, "env", `LD_PRELOAD=${runtimePath(runtime)}`, process.execPath, "--import", "tsx", join(ROOT, file)];
    const { code, output } = await run(command, environment);
    const found = readdirSync(reports).flatMap((report) => counted(readFileSync(join(reports, report), "utf8")));
    if (code === 0 && found.length === 0) return "";
    const failed = output.split("\n").filter((line) => line.startsWith("not ok"));
    return [`exit code ${code}`, ...failed, ...(code === 0 ? [] : [output.slice(-4_000)]), ...found].join("\n");
  } finally {
    rmSync(reports, { recursive: true, force: true });
  }
}

/** Everything counts but leaks of what node itself has allocated: it leaves things behind when a worker is terminated. */
function counted(report) {
  if (!report.includes("LeakSanitizer")) return [report];
  const records = report.split("\n\n").filter((record) => /(?:Direct|Indirect) leak of/.test(record) && OURS.test(record));
  const ofNode = `(${process.execPath}+0x`;
  return records.filter((record) => !record.split("\n").some((line) => /^ *#1 /.test(line) && line.includes(ofNode)));
}

function runtimePath(library) {
  const compiler = process.env.CXX ?? "g++";
  const { stdout, status } = spawnSync(compiler, [`-print-file-name=${library}`], { encoding: "utf8" });
  const path = stdout?.trim() ?? "";
  if (status !== 0 || !path.includes("/")) throw new Error(`${compiler} has no ${library} (${basename(path)})`);
  return path;
}

function run([command, ...args], environment) {
  return new Promise((settle) => {
    const child = spawn(command, args, { cwd: ROOT, env: environment, stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    child.stdout.on("data", (data) => (output += data));
    child.stderr.on("data", (data) => (output += data));
    const timer = setTimeout(() => child.kill("SIGKILL"), FILE_SECONDS * 1_000);
    child.on("error", (error) => settle({ code: 127, output: error.message }));
    child.on("close", (code, signal) => {
      clearTimeout(timer);
      settle({ code: code ?? signal, output });
    });
  });
}
