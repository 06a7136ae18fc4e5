/** Runs the command as its users do: another process, its own environment, an exit code. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

export const ROOT = join(import.meta.dirname, "..", "..");

export interface Ran {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

export function start(args: readonly string[], environment: Readonly<Record<string, string>> = {}): ChildProcess {
  const inherited = Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !name.startsWith("KVFERRY_") || name.startsWith("KVFERRY_NATIVE")),
  );
  // --import by URL of this package's tsx: the test may run from anywhere.
  const program = ["--import", import.meta.resolve("tsx"), join(ROOT, "transport", "cli.ts"), ...args];
  return spawn(process.execPath, program, { cwd: ROOT, env: { ...inherited, ...environment }, stdio: ["ignore", "pipe", "pipe"] });
}

export async function finish(child: ChildProcess, timeoutMs = 60_000): Promise<Ran> {
  const out: string[] = [];
  const err: string[] = [];
  child.stdout?.setEncoding("utf8").on("data", (text: string) => out.push(text));
  child.stderr?.setEncoding("utf8").on("data", (text: string) => err.push(text));
  const timer = setTimeout(() => child.kill("SIGKILL"), timeoutMs);
  const [code, signal] = await new Promise<[number | null, NodeJS.Signals | null]>((resolve) =>
    child.once("close", (...ended) => resolve(ended)),
  );
  clearTimeout(timer);
  return { code, signal, stdout: out.join(""), stderr: err.join("") };
}

export function kvferry(args: readonly string[], environment: Readonly<Record<string, string>> = {}): Promise<Ran> {
  return finish(start(args, environment));
}

/** It ends as a user's error does: in words, without output, and without a stack. */
export async function assertRefused(message: RegExp, args: readonly string[]): Promise<void> {
  const ran = await kvferry(args);
  assert.deepEqual([ran.code, ran.stdout], [2, ""], ran.stderr);
  assert.match(ran.stderr, message);
  assert.doesNotMatch(ran.stderr, /internal|\n {4}at /);
}

/** Ids of the processes that it has started and that run still. */
export function childrenOf(processId: number): number[] {
  return readdirSync("/proc").flatMap((name) => {
    if (!/^\d+$/.test(name)) return [];
    try {
      const stat = readFileSync(`/proc/${name}/stat`, "latin1");
      const [state, parent] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
      return Number(parent) === processId && state !== "Z" ? [Number(name)] : [];
    } catch {
      return [];
    }
  });
}

export async function until(what: string, isThere: () => boolean): Promise<void> {
  for (const endMs = Date.now() + 45_000; !isThere(); ) {
    assert.ok(Date.now() < endMs, `${what} did not happen`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Resolves when the child has printed this; what it prints is still there for `finish`. */
export async function printed(child: ChildProcess, pattern: RegExp): Promise<void> {
  let text = "";
  child.stdout!.on("data", (part: string | Buffer) => {
    text += part.toString();
  });
  await until(`${pattern}`, () => pattern.test(text));
}
