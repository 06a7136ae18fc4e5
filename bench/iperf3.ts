/** iperf3 as a yardstick: the number that every operator knows of a path. */
import { type ChildProcessByStdio, spawn } from "node:child_process";
import type { Readable } from "node:stream";
import { endProgram, endWithUs, freePort, runProgram } from "./process.ts";

export interface ToolRun {
  readonly bitsPerSecond: number;
  /** CPU seconds of both ends for each GiB; undefined where the tool does not say. */
  readonly cpuSecondsPerGib: number | undefined;
}

export interface Tool {
  readonly name: string;
  readonly streams: number;
  run(seconds: number): Promise<ToolRun>;
}

export const IPERF3_MISSING = "iperf3 is not installed, so there is nothing of its to compare with (Debian: apt-get install iperf3)";

export async function iperf3Available(): Promise<boolean> {
  try {
    return (await runProgram("iperf3", ["--version"], 5_000)).code === 0;
  } catch {
    return false;
  }
}

/** Between two processes here, or with the `iperf3 -s` that somebody runs on `host`. */
/** At the two ends of an emulated link: from b to a, as KV goes that a fetches. `name`: of the link; seconds are whole. */
export async function iperf3InLab(
  ends: { readonly client: readonly string[]; readonly server: readonly string[]; readonly host: string },
  streams: number,
  seconds: number,
  congestionControl: string,
): Promise<number> {
  const port = String(5_210);
  const [serve, ...serveArgs] = [...ends.server, "iperf3", "-s", "-1", "-p", port, "--forceflush"];
  const server = endWithUs(spawn(serve!, serveArgs, { stdio: ["ignore", "pipe", "ignore"] }));
  try {
    await listening(server);
    const flags = ["-c", ends.host, "-p", port, "-P", String(streams), "-t", String(seconds), "-R", "-J"];
    const [ask, ...askArgs] = [...ends.client, "iperf3", ...flags, ...(congestionControl === "" ? [] : ["-C", congestionControl])];
    const { stdout } = await runProgram(ask!, askArgs, (seconds + 60) * 1000);
    const document = JSON.parse(stdout) as Iperf3Document;
    if (document.end?.sum_received === undefined) throw new Error(`iperf3: ${document.error ?? "no result"}`);
    return document.end.sum_received.bits_per_second;
  } finally {
    await endProgram(server);
  }
}

export function iperf3(streams: number, host: string | undefined): Tool {
  return {
    name: "iperf3",
    streams,
    run: async (seconds) =>
      host === undefined ? withServer((port) => client("127.0.0.1", port, streams, seconds)) : client(host, 5_201, streams, seconds),
  };
}

async function withServer(use: (port: number) => Promise<ToolRun>): Promise<ToolRun> {
  const port = await freePort();
  const args = ["-s", "-1", "-p", String(port), "-B", "127.0.0.1", "--forceflush"];
  const server = endWithUs(spawn("iperf3", args, { stdio: ["ignore", "pipe", "ignore"] }));
  try {
    await listening(server);
    return await use(port);
  } finally {
    await endProgram(server);
  }
}

function listening(server: ChildProcessByStdio<null, Readable, null>): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.once("close", () => reject(new Error("iperf3 -s ended at once")));
    server.stdout.on("data", (text: Buffer) => {
      if (text.includes("listening")) resolve();
    });
  });
}

interface Iperf3Document {
  readonly error?: string;
  readonly end?: {
    readonly sum_received: { readonly bits_per_second: number; readonly bytes: number; readonly seconds: number };
    readonly cpu_utilization_percent: { readonly host_total: number; readonly remote_total: number };
  };
}

async function client(host: string, port: number, streams: number, seconds: number): Promise<ToolRun> {
  // iperf3 takes whole seconds only, and needs a few to start and end.
  const whole = Math.max(1, Math.round(seconds));
  const { stdout } = await runProgram(
    "iperf3",
    ["-c", host, "-p", String(port), "-P", String(streams), "-t", String(whole), "-J"],
    (whole + 20) * 1000,
  );
  const document = JSON.parse(stdout) as Iperf3Document;
  if (document.end?.sum_received === undefined) throw new Error(`iperf3: ${document.error ?? "no result"}`);
  const { sum_received: received, cpu_utilization_percent: cpu } = document.end;
  const cpuSeconds = ((cpu.host_total + cpu.remote_total) / 100) * received.seconds;
  return { bitsPerSecond: received.bits_per_second, cpuSecondsPerGib: cpuSeconds / (received.bytes / 2 ** 30) };
}
