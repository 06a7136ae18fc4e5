/** The other end on this machine: this very program, started again as a one-off server on loopback, or at the lab's other end. It ends with us. */
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { KvferryError } from "../transport/errors.ts";
import { atEnd } from "./impairment.ts";
import type { BenchOptions } from "./options.ts";
import { endProgram, endWithUs } from "./process.ts";

export interface Partner {
  readonly port: number;
  /** Ends it; resolves with the lines it printed. */
  stop(): Promise<readonly string[]>;
}

const START_TIMEOUT_MS = 20_000;

export async function startPartner(command: readonly string[], options: BenchOptions, version: string): Promise<Partner> {
  return options.link === "fake" ? startHere(version) : startBeside(command, options);
}

/** The fake link joins two ends of one process. */
async function startHere(version: string): Promise<Partner> {
  const { startServer } = await import("./server.ts");
  const lines: string[] = [];
  const server = await startServer({ bind: "127.0.0.1", port: 0, oneOff: true, version, say: (line) => void lines.push(line) });
  return {
    port: server.port,
    stop: async () => {
      server.close();
      await server.done;
      return lines;
    },
  };
}

async function startBeside(command: readonly string[], { host, labName }: BenchOptions): Promise<Partner> {
  const flags = ["bench", "-s", "-1", "--bind", host, "-p", "0", "--json-stream", "--with-parent"];
  const [program, ...args] = labName === "" ? [...command, ...flags] : atEnd(labName, "b", [...command, ...flags]);
  const child = endWithUs(spawn(program!, args, { stdio: ["pipe", "pipe", "pipe"] }));
  const lines: string[] = [];
  const stderr: string[] = [];
  child.stderr.setEncoding("utf8").on("data", (text: string) => stderr.push(text));
  // A broken pipe only says that the partner is gone, which its exit says better.
  child.stdin.on("error", () => {});
  const port = await new Promise<number>((resolve, reject) => {
    const timer = setTimeout(() => reject(new KvferryError("deadline_exceeded", "the other end did not start")), START_TIMEOUT_MS);
    const fail = (detail: string): void => reject(new KvferryError("unsupported", `the other end did not start: ${detail}`));
    child.once("error", (error) => fail(error.message));
    child.once("close", (code) => fail(`exit code ${code}: ${stderr.join("").trim().slice(-500)}`));
    createInterface({ input: child.stdout }).on("line", (line) => {
      const { event, data } = JSON.parse(line) as { event: string; data: { port: number; text: string } };
      if (event === "listening") {
        clearTimeout(timer);
        resolve(data.port);
      } else lines.push(data.text);
    });
  }).catch(async (error: unknown) => {
    await endProgram(child);
    throw error;
  });
  return {
    port,
    stop: async () => {
      child.stdin.end();
      await endProgram(child);
      return lines;
    },
  };
}
