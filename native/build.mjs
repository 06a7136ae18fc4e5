// Builds the addon with the compiler and the Node headers of this machine; downloads nothing.
//   node native/build.mjs [--asan | --ubsan | --tsan] [--strict] [--check] [--nodedir=PATH]
// `npm ci` runs it without flags: whatever is missing is said, and the install goes on, because the library also runs on the
// JavaScript link.
import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const kinds = { "--asan": ["address"], "--ubsan": ["undefined"], "--tsan": ["thread"] };
const args = process.argv.slice(2);
const nodedir = args.find((arg) => arg.startsWith("--nodedir="))?.slice("--nodedir=".length) ?? process.env.npm_config_nodedir;
const kind = args.find((arg) => arg in kinds);
const strict = args.includes("--strict");
const out = kind === undefined ? join(here, "out") : join(here, "out", kind.slice(2));
const sanitizer = kind === undefined ? [] : [`-fsanitize=${kinds[kind]}`, "-fno-omit-frame-pointer", "-g"];
const JOBS = 2;
// What kernels for GPUs are made for: machine code for these where the compiler knows them, and PTX of the last for what comes after.
const GPUS = ["80", "90", "100"];

// Every operation rounds as the source says, as on CPUs.
const NVCC_FLAGS = ["-O3", "-fmad=false", "--expt-relaxed-constexpr", "-Xfatbin=-compress-all", "--threads=2"];

const main = async () => {
  const unknown = args.find((arg) => !(arg in kinds) && !["--strict", "--check"].includes(arg) && !arg.startsWith("--nodedir="));
  if (unknown !== undefined) return fail(`unknown option ${unknown}`, 2);
  const state = probe();
  if (args.includes("--check")) return console.log(JSON.stringify({ ...state, built: existsSync(join(out, "kvferry.node")) }, null, 1));
  if (process.env.KVFERRY_SKIP_NATIVE === "1") return skip(["KVFERRY_SKIP_NATIVE=1"]);
  if (state.missing.length > 0) return skip(state.missing);
  const problem = await build(state);
  if (problem === "") return;
  console.error(problem);
  skip(["the addon does not compile here (above); please report it"]);
};

/** Compiler and headers, or what is missing and how to get it. */
function probe() {
  const missing = [];
  const candidates = [process.env.CXX, "g++", "c++", "clang++"].filter((name) => name !== undefined && name !== "");
  const found = candidates
    .map((name) => [name, spawnSync(name, ["--version"], { encoding: "utf8" })])
    .find(([, asked]) => asked.status === 0);
  if (found === undefined) missing.push("no C++ compiler (Debian, Ubuntu: apt-get install g++; Fedora: dnf install gcc-c++)");
  const prefix = dirname(dirname(process.execPath));
  const places = [nodedir, prefix, "/usr/local", "/usr"].filter(Boolean).flatMap((root) => [join(root, "include/node"), join(root, "src")]);
  const headers = places.find(
    (place) => existsSync(join(place, "node_api.h")) && (existsSync(join(place, "uv.h")) || existsSync(uvOf(place))),
  );
  if (headers === undefined) {
    missing.push(`no Node headers in ${places.filter((place) => place.endsWith("node")).join(", ")}`);
    missing.push("(a Node from nodejs.org has them, Debian's come with libnode-dev; elsewhere: --nodedir=PATH)");
  }
  if (process.platform !== "linux") missing.push("the native link is written for Linux");
  // Those of the OpenSSL inside Node, which is bound when it is first called: a Node without it loads the addon all the same.
  const tls = headers !== undefined && existsSync(join(headers, "openssl/ssl.h"));
  return { compiler: found?.[0], version: found?.[1].stdout.split("\n")[0], headers, tls, nvcc: probeNvcc(), missing };
}

/** CUDA's compiler, or why there will be no kernels: nothing else needs it. */
function probeNvcc() {
  const command = process.env.NVCC ?? "nvcc";
  const asked = spawnSync(command, ["--version"], { encoding: "utf8" });
  if (asked.status !== 0) return { problem: `no ${command}: the addon has no GPU kernels` };
  const known = spawnSync(command, ["--list-gpu-code"], { encoding: "utf8" }).stdout ?? "";
  const gpus = GPUS.filter((gpu) => known.includes(`sm_${gpu}\n`));
  if (gpus.length === 0) return { problem: `${command} knows none of sm_${GPUS.join(", sm_")}: the addon has no GPU kernels` };
  return { command, version: /release [\d.]+, (\S+)/.exec(asked.stdout)?.[1] ?? "", gpus, problem: "" };
}

/** In a checkout of Node itself, libuv's headers lie apart. */
function uvOf(headers) {
  return join(headers, "../deps/uv/include/uv.h");
}

function skip(reasons) {
  console.error("kvferry: the native addon was not built:");
  for (const reason of reasons) console.error(`  - ${reason}`);
  console.error("  kvferry works without it, on the JavaScript link: slower, and engines cannot attach its pool.");
  console.error("  Later: npm rebuild kvferry (in a checkout: npm run build:native). See also: kvferry doctor.");
  if (strict) process.exitCode = 1;
}

function fail(message, code) {
  console.error(`kvferry build: ${message}`);
  process.exitCode = code;
}

async function build({ compiler, version, headers, tls, nvcc }) {
  const flags = flagsFor(headers, tls);
  const stamp = createHash("sha256")
    .update(JSON.stringify([compiler, version, flags]))
    .digest("hex")
    .slice(0, 16);
  mkdirSync(out, { recursive: true });
  const sources = sourcesBelow(here);
  const objects = new Map(sources.map((source) => [source, join(out, `${relative(here, source).replaceAll("/", "-")}.${stamp}.o`)]));
  const stale = sources.filter((source) => isStale(source, objects.get(source)));
  if (stale.length > 0) console.error(`kvferry: compiling ${stale.length} of ${sources.length} files of the native addon with ${version}`);
  const errors = [];
  const kernels = await buildKernels(nvcc, compiler);
  if (kernels.problem !== undefined) return kernels.problem;
  const worker = async () => {
    for (let source = stale.pop(); source !== undefined; source = stale.pop()) {
      const problem = await compile(compiler, flags, source, objects.get(source));
      if (problem !== "") errors.push(problem);
    }
  };
  await Promise.all(Array.from({ length: JOBS }, worker));
  if (errors.length > 0) return errors.join("\n");
  const made = { compiler, version, headers, node: process.version, flags, ...(kernels.said !== undefined && { kernels: kernels.said }) };
  return link(compiler, [...objects.values(), ...(kernels.object === undefined ? [] : [kernels.object])], made);
}

function flagsFor(headers, tls) {
  const api = dirname(createRequire(import.meta.url).resolve("node-addon-api/package.json"));
  return [
    ...["-std=c++20", kind === undefined ? "-O3" : "-O1", "-fPIC", "-fvisibility=hidden", "-fno-exceptions", "-pthread"],
    // Codecs give the same bits on all machines: what is rounded once and what twice is said in the source. Nobody asks for floating-point traps or errno.
    ...["-ffp-contract=off", "-fno-trapping-math", "-fno-math-errno"],
    ...["-Wall", "-Wextra", "-Werror=return-type", "-Wno-unused-parameter", "-Wno-missing-field-initializers"],
    ...["-DNAPI_VERSION=9", "-DNAPI_DISABLE_CPP_EXCEPTIONS", "-DNODE_ADDON_API_DISABLE_DEPRECATED"],
    // A worker that is being terminated can throw nothing any more: without this that would end the process.
    "-DNODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS",
    `-DKVFERRY_TLS=${tls ? 1 : 0}`,
    ...[`-isystem${api}`, `-isystem${headers}`, `-isystem${dirname(uvOf(headers))}`, `-I${here}`],
    ...sanitizer,
  ];
}

/** All kernels as one object, an empty one where there is no compiler for them. `said`: what the record says of them. */
async function buildKernels(nvcc, compiler) {
  const source = join(here, "cuda", "kernels.cu");
  if (!existsSync(source)) return {};
  const name = createHash("sha256")
    .update(JSON.stringify([nvcc, compiler]))
    .digest("hex")
    .slice(0, 16);
  const image = join(out, `kernels.${name}.fatbin`);
  const object = join(out, `kernels.${name}.o`);
  const last = nvcc.gpus?.at(-1);
  const said = nvcc.problem || `nvcc ${nvcc.version}: sm_${nvcc.gpus.join(", sm_")} and PTX of compute_${last}`;
  if (nvcc.problem === "" && isStale(source, image)) {
    console.error(`kvferry: compiling GPU kernels with nvcc ${nvcc.version}`);
    const codes = nvcc.gpus.map((gpu) => `arch=compute_${gpu},code=${gpu === last ? `[sm_${gpu},compute_${gpu}]` : `sm_${gpu}`}`);
    const targets = codes.flatMap((code) => ["-gencode", code]);
    const problem = await compile(nvcc.command, ["-std=c++20", ...NVCC_FLAGS, `-I${here}`, ...targets], source, image, "-fatbin");
    if (problem !== "" && strict) return { problem };
    if (problem !== "") {
      console.error(problem);
      return buildKernels({ problem: "nvcc does not compile the GPU kernels (above): the addon has none" }, compiler);
    }
  }
  if (nvcc.problem === "" ? isOlder(object, image) : !existsSync(object)) {
    const listing = join(out, `kernels.${name}.${process.pid}.S`);
    const fresh = `${object}.${process.pid}`;
    writeFileSync(listing, assembly(nvcc.problem === "" ? image : undefined));
    const problem = await run(compiler, ["-c", listing, "-o", fresh]);
    rmSync(listing);
    if (problem !== "") return { problem };
    renameSync(fresh, object);
    if (nvcc.problem !== "") console.error(`kvferry: ${nvcc.problem}`);
  }
  return { object, said };
}

/** Constants that begin and end with the kernels (native/cuda/driver.cpp). */
function assembly(image) {
  const named = (name) => [`.globl ${name}`, `.hidden ${name}`, `${name}:`];
  const content = image === undefined ? [] : [`.incbin ${JSON.stringify(image)}`];
  const lines = [
    ".section .rodata",
    ".balign 64",
    ...named("kvferry_kernels_begin"),
    ...content,
    ...named("kvferry_kernels_end"),
    ".byte 0",
  ];
  return `${[...lines, '.section .note.GNU-stack,"",%progbits'].join("\n")}\n`;
}

function isOlder(file, than) {
  return !existsSync(file) || statSync(file).mtimeMs < statSync(than).mtimeMs;
}

/** Under another name first: whoever builds at the same time never sees half an object. As old as when the compiler began to read. */
async function compile(compiler, flags, source, object, mode = "-c") {
  const begun = new Date();
  const fresh = `${object}.${process.pid}`;
  const problem = await run(compiler, [...flags, "-MMD", "-MF", `${fresh}.d`, mode, source, "-o", fresh]);
  if (problem !== "") return problem;
  utimesSync(fresh, begun, begun);
  renameSync(`${fresh}.d`, `${object}.d`);
  renameSync(fresh, object);
  return "";
}

/** Under another name first: a process that has the old addon loaded keeps it. */
async function link(compiler, objects, made) {
  const target = join(out, "kvferry.node");
  const record = JSON.stringify({ ...made, objects: objects.map((object) => [relative(out, object), statSync(object).mtimeMs]) }, null, 1);
  if (existsSync(target) && readText(join(out, "build.json")) === record) return "";
  const fresh = `${target}.${process.pid}`;
  const problem = await run(compiler, ["-shared", "-pthread", "-Wl,-z,lazy", ...sanitizer, ...objects, "-o", fresh]);
  if (problem !== "") return problem;
  rmSync(join(out, "build.json"), { force: true });
  renameSync(fresh, target);
  writeFileSync(join(out, "build.json"), record);
  return "";
}

function readText(path) {
  return existsSync(path) ? readFileSync(path, "utf8") : "";
}

/** Every .cpp of the addon; tools beside it have their own programs. */
function sourcesBelow(folder) {
  return readdirSync(folder, { withFileTypes: true })
    .filter((entry) => !["out", "test", "fuzz"].includes(entry.name))
    .flatMap((entry) => {
      const path = join(folder, entry.name);
      return entry.isDirectory() ? sourcesBelow(path) : path.endsWith(".cpp") ? [path] : [];
    })
    .sort();
}

/** Older than its source or than any header that it read. */
function isStale(source, object) {
  if (!existsSync(object) || !existsSync(`${object}.d`)) return true;
  const made = statSync(object).mtimeMs;
  const read = readFileSync(`${object}.d`, "utf8")
    .replaceAll("\\\n", " ")
    .split(/\s+/)
    .slice(1)
    .filter((file) => file !== "" && file !== ":");
  return [source, ...read].some((file) => !existsSync(resolve(file)) || statSync(resolve(file)).mtimeMs > made);
}

function run(command, commandArgs) {
  return new Promise((settle) => {
    const child = spawn(command, commandArgs, { stdio: ["ignore", "pipe", "pipe"] });
    let text = "";
    child.stdout.on("data", (data) => (text += data));
    child.stderr.on("data", (data) => (text += data));
    child.on("error", (error) => settle(`${command}: ${error.message}`));
    child.on("close", (code) => {
      if (code === 0 && text !== "") console.error(text);
      settle(code === 0 ? "" : text || `${command} exited with ${code}`);
    });
  });
}

await main();
