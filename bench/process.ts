/** Programs beside us: run to the end with a deadline, or started and ended by their own id. */
import { type ChildProcess, spawn } from "node:child_process";
import { createServer } from "node:net";
import { KvferryError } from "../transport/errors.ts";

export interface Finished {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

const children = new Set<ChildProcess>();
process.on("exit", () => {
  for (const child of children) {
    try {
      // What was started detached leads a group, and all of that ends.
      process.kill(-(child.pid ?? Number.NaN), "SIGKILL");
    } catch {
      child.kill("SIGKILL");
    }
  }
});

/** However this process ends of itself, the child does not outlive it. */
export function endWithUs<Child extends ChildProcess>(child: Child): Child {
  children.add(child);
  child.once("close", () => children.delete(child));
  child.once("error", () => children.delete(child));
  return child;
}

/** Resolves with what it printed, whatever its exit code; rejects: unsupported (cannot be started), deadline_exceeded (does not end). */
export async function runProgram(program: string, args: readonly string[], timeoutMs: number, env?: NodeJS.ProcessEnv): Promise<Finished> {
  const child = endWithUs(
    spawn(program, [...args], {
      stdio: ["ignore", "pipe", "pipe"],
      ...(env === undefined ? {} : { env: { ...process.env, ...env } }),
    }),
  );
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  child.stdout.on("data", (part: Buffer) => stdout.push(part));
  child.stderr.on("data", (part: Buffer) => stderr.push(part));
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    child.kill("SIGKILL");
  }, timeoutMs);
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once("error", (error) => reject(new KvferryError("unsupported", `${program}: ${error.message}`, { cause: error })));
    child.once("close", resolve);
  }).finally(() => clearTimeout(timer));
  if (late) throw new KvferryError("deadline_exceeded", `${program} did not end in ${timeoutMs} ms`);
  return { code, stdout: Buffer.concat(stdout).toString("utf8"), stderr: Buffer.concat(stderr).toString("utf8") };
}

/** Ends a child that may have ended already: asks, and after a second insists. */
export async function endProgram(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = new Promise<void>((resolve) => child.once("close", () => resolve()));
  child.kill("SIGTERM");
  const timer = setTimeout(() => child.kill("SIGKILL"), 1_000);
  await gone;
  clearTimeout(timer);
}

/** A port that was free a moment ago, for programs that cannot say which one they took. */
export async function freePort(host = "127.0.0.1"): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, host, resolve);
  });
  const address = server.address();
  await new Promise<void>((resolve) => server.close(() => resolve()));
  return typeof address === "object" && address !== null ? address.port : 0;
}
