/** The demo's processes: sidecars and engines, started, spoken to, waited for with deadlines, and ended whatever happens. */
import { type ChildProcess, spawn } from "node:child_process";
import { createServer } from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { connect, type Ferry } from "../kvferry.ts";
import type { Answer, Command } from "../protocol.ts";

const ROOT = join(import.meta.dirname, "..", "..", "..");
const START_SECONDS = 60;
const ANSWER_SECONDS = 300;
const WORDS_KEPT = 4_000;

export interface SidecarProcess {
  readonly address: string;
  readonly socket: string;
  /** The demo's own connection, to watch it. */
  readonly ferry: Ferry;
  /** Resolves with the exit code, or with undefined after a signal, once it is gone. */
  end(signal: "SIGTERM" | "SIGKILL"): Promise<number | undefined>;
}

export interface EngineProcess {
  readonly ready: Extract<Answer, { event: "ready" }>;
  /** Sends a command and waits for its answer; rejects where that is an error, or where the engine ends. */
  ask<E extends Answer["event"]>(event: E, command: Omitted<Command>): Promise<Extract<Answer, { event: E }>>;
}

type Omitted<T> = T extends { readonly sequence: number } ? Omit<T, "id" | "sequence"> & { readonly sequence?: number } : Omit<T, "id">;
/** A command without its number, which the process gives it. */
export type Request = Omitted<Command>;

const running = new Set<ChildProcess>();

/** Ends what is still running. */
export function endAll(): void {
  for (const child of running) child.kill("SIGKILL");
}

export async function startSidecar(flags: Readonly<Record<string, string>>, socket: string, address: string): Promise<SidecarProcess> {
  const args = Object.entries({ ...flags, socket, listen: address }).flatMap(([name, value]) => [`--${name}`, value]);
  const child = start([join(ROOT, "transport", "cli.ts"), "serve", ...args]);
  const gone = new Promise<number | undefined>((resolve) => child.once("close", (code) => resolve(code ?? undefined)));
  const ferry = await untilConnected(child, socket);
  return {
    address,
    socket,
    ferry,
    async end(signal) {
      child.kill(signal);
      const code = await within(gone, START_SECONDS, `the sidecar at ${address} did not end after ${signal}`);
      await ferry.close().catch(() => undefined);
      return code;
    },
  };
}

export async function startEngine(socket: string, model: string, contextTokens: number, sequences = 1): Promise<EngineProcess> {
  const child = start([
    join(ROOT, "engines", "llama", "main.ts"),
    "--socket",
    socket,
    "--model",
    model,
    "--context",
    String(contextTokens),
    "--sequences",
    String(sequences),
  ]);
  const waiting = new Map<number, { resolve: (answer: Answer) => void; reject: (error: Error) => void }>();
  const answered = (id: number): Promise<Answer> => new Promise((resolve, reject) => waiting.set(id, { resolve, reject }));
  child.once("close", (code, signal) => {
    for (const { reject } of waiting.values()) reject(new Error(`an engine ended (${signal ?? code}): ${wordsOf(child)}`));
    waiting.clear();
  });
  let commands = 0;
  const first = answered(0);
  createInterface({ input: child.stdout as NodeJS.ReadableStream }).on("line", (line) => {
    const answer = JSON.parse(line) as Answer;
    const id = answer.event === "ready" ? 0 : answer.id;
    waiting.get(id)?.resolve(answer);
    waiting.delete(id);
  });
  const ready = expectEvent("ready", await within(first, START_SECONDS, "an engine did not start"));
  return {
    ready,
    async ask(event, command) {
      if (child.exitCode !== null || child.signalCode !== null) throw new Error(`an engine has ended: ${wordsOf(child)}`);
      const id = ++commands;
      const answer = answered(id);
      child.stdin?.write(`${JSON.stringify({ id, ...command })}\n`);
      return expectEvent(event, await within(answer, ANSWER_SECONDS, `an engine did not answer "${command.op}"`));
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

function start(args: readonly string[]): ChildProcess {
  const child = spawn(process.execPath, ["--import", "tsx", ...args], { cwd: ROOT, stdio: ["pipe", "pipe", "pipe"] });
  running.add(child);
  child.once("close", () => running.delete(child));
  child.once("error", () => running.delete(child));
  let words = "";
  child.stderr?.setEncoding("utf8").on("data", (text: string) => {
    words = `${words}${text}`.slice(-WORDS_KEPT);
    lastWords.set(child, words);
  });
  return child;
}

const lastWords = new WeakMap<ChildProcess, string>();

function wordsOf(child: ChildProcess): string {
  return lastWords.get(child)?.trim() || "it said nothing";
}

async function untilConnected(child: ChildProcess, socket: string): Promise<Ferry> {
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

function expectEvent<E extends Answer["event"]>(event: E, answer: Answer): Extract<Answer, { event: E }> {
  if (answer.event === event) return answer as Extract<Answer, { event: E }>;
  throw new Error(answer.event === "error" ? answer.message : `an engine answered ${answer.event} where ${event} was expected`);
}

async function within<T>(promise: Promise<T>, seconds: number, message: string): Promise<T> {
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
