/** The demos' processes: sidecars and whatever else, started, waited for with deadlines, and ended whatever happens. */
import { type ChildProcess, spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { type ClientFerry, connect } from "../../transport/index.ts";

export const ROOT = join(import.meta.dirname, "..", "..");
export const START_SECONDS = 60;
const WORDS_KEPT = 4_000;

export interface SidecarProcess {
  readonly address: string;
  readonly socket: string;
  /** The demo's own connection, to watch it. */
  readonly ferry: ClientFerry;
  /** What it said last on standard error, where its log goes. */
  words(): string;
  /** Resolves with the exit code, or with undefined after a signal, once it is gone. */
  end(signal: "SIGTERM" | "SIGKILL"): Promise<number | undefined>;
}

const running = new Set<ChildProcess>();

/** Ends what is still running and what that has started, which may hold the pipes; nobody waits for them any longer. */
export function endAll(): void {
  for (const child of running) {
    // First, because what loses its parent is no longer found below it.
    if (child.pid !== undefined) for (const pid of startedBy(child.pid)) endProcess(pid);
    child.kill("SIGKILL");
    for (const stream of child.stdio) stream?.destroy();
  }
}

/** The processes below one, the lowest first; none where the kernel does not say. */
function startedBy(pid: number): number[] {
  let threads: string[];
  try {
    threads = readdirSync(`/proc/${pid}/task`);
  } catch {
    return [];
  }
  return threads.flatMap((thread) => {
    try {
      const children = readFileSync(`/proc/${pid}/task/${thread}/children`, "utf8").trim();
      return children === "" ? [] : children.split(" ").flatMap((child) => [...startedBy(Number(child)), Number(child)]);
    } catch {
      return [];
    }
  });
}

function endProcess(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // It has ended by itself.
  }
}

export async function startSidecar(flags: Readonly<Record<string, string>>, socket: string, address: string): Promise<SidecarProcess> {
  const args = Object.entries({ ...flags, socket, listen: address }).flatMap(([name, value]) => [`--${name}`, value]);
  const child = startNode([join(ROOT, "transport", "cli.ts"), "serve", ...args]);
  const gone = new Promise<number | undefined>((resolve) => child.once("close", (code) => resolve(code ?? undefined)));
  const ferry = await untilConnected(child, socket);
  return {
    address,
    socket,
    ferry,
    words: () => wordsOf(child),
    async end(signal) {
      child.kill(signal);
      const code = await within(gone, START_SECONDS, `the sidecar at ${address} did not end after ${signal}`);
      await ferry.close().catch(() => undefined);
      return code;
    },
  };
}

/** A port of the loopback address that nobody has. */
export async function freeAddress(): Promise<string> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => server.once("error", reject).listen(0, "127.0.0.1", resolve));
  const address = server.address();
  await new Promise<void>((resolve) => server.close(() => resolve()));
  if (address === null || typeof address === "string") throw new Error("no TCP port on 127.0.0.1");
  return `127.0.0.1:${address.port}`;
}

export function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

/** One of our own programs. */
export function startNode(args: readonly string[]): ChildProcess {
  return startProgram(process.execPath, ["--import", "tsx", ...args]);
}

export function startProgram(program: string, args: readonly string[], env: NodeJS.ProcessEnv = process.env): ChildProcess {
  const child = spawn(program, [...args], { cwd: ROOT, env, stdio: ["pipe", "pipe", "pipe"] });
  running.add(child);
  child.once("close", () => running.delete(child));
  let words = "";
  const keep = (text: string): void => {
    words = `${words}${text}`.slice(-WORDS_KEPT);
    lastWords.set(child, words);
  };
  child.stderr.setEncoding("utf8").on("data", keep);
  child.once("error", (error) => {
    running.delete(child);
    keep(`${program}: ${error.message}`);
  });
  return child;
}

const lastWords = new WeakMap<ChildProcess, string>();

/** What it said last on standard error. */
export function wordsOf(child: ChildProcess): string {
  return lastWords.get(child)?.trim() || "it said nothing";
}

async function untilConnected(child: ChildProcess, socket: string): Promise<ClientFerry> {
  child.stdout?.resume();
  for (let waitedMs = 0; waitedMs < START_SECONDS * 1000; waitedMs += 100) {
    if (child.exitCode !== null || child.signalCode !== null) throw new Error(`the sidecar did not start: ${wordsOf(child)}`);
    try {
      return await connect(socket);
    } catch {
      await pause(100);
    }
  }
  throw new Error(`the sidecar did not open ${socket}: ${wordsOf(child)}`);
}

export async function within<T>(promise: Promise<T>, seconds: number, message: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${message} within ${seconds} s`)), seconds * 1000);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
