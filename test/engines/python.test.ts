/**
 * The own checks of the Python projects (pytest on real sidecars, mypy, ruff), run in a virtual environment that is kept in the cache folder. Without
 * Python 3.10, or where the packages cannot be had, they are skipped with the reason.
 */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { cacheFolder } from "../../bench/cache.ts";

const ENGINES = join(import.meta.dirname, "../../engines");
/** What the client needs is all that the other projects need, besides the client. */
const REQUIREMENTS = join(ENGINES, "python/pyproject.toml");
const INSTALL_TIMEOUT_MS = 90_000;
const CHECK_TIMEOUT_MS = 240_000;

/** The environment's own interpreter, or why there is none. */
function environment(): { readonly python: string } | { readonly reason: string } {
  const version = spawnSync("python3", ["-c", "import sys, venv, ensurepip; print(*sys.version_info[:2])"], { encoding: "utf8" });
  if (version.error !== undefined || version.status !== 0) return { reason: "there is no python3 with venv" };
  const [major = 0, minor = 0] = version.stdout.trim().split(" ").map(Number);
  if (major !== 3 || minor < 10) return { reason: `python3 is ${major}.${minor}; the client needs 3.10` };
  const requirements = listed("dependencies").concat(listed("test"));
  const name = createHash("sha256")
    .update(`${version.stdout}${requirements.join(" ")}`)
    .digest("hex")
    .slice(0, 12);
  const folder = join(cacheFolder(), `python-client-${name}`);
  const python = join(folder, "bin/python");
  const complete = join(folder, "complete");
  if (existsSync(complete)) return { python };
  rmSync(folder, { recursive: true, force: true });
  const steps: [string, string[]][] = [
    ["python3", ["-m", "venv", folder]],
    [python, ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries=1", "--timeout=10", ...requirements]],
  ];
  for (const [command, args] of steps) {
    const { status, stderr } = spawnSync(command, args, { encoding: "utf8", timeout: INSTALL_TIMEOUT_MS });
    if (status !== 0) return { reason: `its packages cannot be installed: ${stderr.trim().split("\n").at(-1) || "it took too long"}` };
  }
  writeFileSync(complete, "");
  return { python };
}

/** A list of the project's file. */
function listed(name: string): string[] {
  const text = readFileSync(REQUIREMENTS, "utf8");
  const list = new RegExp(`^${name} = \\[(.*)\\]$`, "m").exec(text)?.[1];
  assert.ok(list !== undefined, `pyproject.toml has no list ${name}`);
  return [...list.matchAll(/"([^"]+)"/g)].map((match) => match[1]!);
}

const found = environment();
const skip = "reason" in found ? found.reason : false;

const checks: [string, string[]][] = [
  ["pytest", ["pytest", "--color=no"]],
  ["mypy", ["mypy"]],
  ["ruff", ["ruff", "check", "--no-cache"]],
  ["ruff's format", ["ruff", "format", "--check", "--no-cache"]],
];

const projects: [string, string, typeof checks][] = [
  ["the Python client", "python", checks],
  ["SGLang's backend", "sglang", checks],
  // The rest of its checks need vLLM: vllm.test.ts.
  ["vLLM's connector", "vllm", checks.filter(([name]) => name.startsWith("ruff"))],
  // And of this: test/quality.
  ["the quality harness", "../test/quality", checks.filter(([name]) => name.startsWith("ruff"))],
];

for (const [title, folder, its] of projects) {
  for (const [name, args] of its) {
    test(`${title} passes ${name}`, { skip, timeout: CHECK_TIMEOUT_MS }, (t) => runCheck(t, folder, name, args));
  }
}

async function runCheck(t: TestContext, folder: string, name: string, args: readonly string[]): Promise<void> {
  assert.ok("python" in found);
  // A group of its own, so that what the tests have started ends with them.
  const child = spawn(found.python, ["-m", ...args], { cwd: join(ENGINES, folder), stdio: ["ignore", "pipe", "pipe"], detached: true });
  t.after(() => {
    if (child.exitCode === null && child.pid !== undefined) process.kill(-child.pid, "SIGKILL");
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.on("data", (chunk: Buffer) => {
      output = (output + chunk.toString()).slice(-20_000);
    });
  }
  const status = await new Promise((resolve, reject) => child.once("close", resolve).once("error", reject));
  assert.equal(status, 0, `${name} fails:\n${output}`);
}
