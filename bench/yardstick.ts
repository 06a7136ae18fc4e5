/** The C yardstick (yardstick/raw.c): compiled on demand into the cache folder, once for each version of its source. */
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readFileSync, renameSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { cacheFolder } from "./cache.ts";
import { benchFile } from "./files.ts";
import type { Tool, ToolRun } from "./iperf3.ts";
import { CANONICAL, runsOf } from "./models.ts";
import { endProgram, endWithUs, runProgram } from "./process.ts";

export type Built = { readonly program: string } | { readonly missing: string };

export interface YardstickCase {
  readonly poolBytes: number;
  readonly blockBytes: number;
  readonly batch: number;
}

export interface YardstickRun extends ToolRun {
  readonly p50Us: number;
  readonly p99Us: number;
}

const CANONICAL_CASE: YardstickCase = { poolBytes: 2 ** 30, blockBytes: runsOf(CANONICAL).runBytes, batch: runsOf(CANONICAL).runs };

export async function buildYardstick(): Promise<Built> {
  const source = benchFile("yardstick/raw.c");
  if (source === undefined) return { missing: "the yardstick's source (bench/yardstick/raw.c) is not in this package" };
  const version = createHash("sha256").update(readFileSync(source)).digest("hex").slice(0, 12);
  const program = join(cacheFolder(), `yardstick-${process.arch}-${version}`);
  if (existsSync(program)) return { program };
  // Under a name of its own first: two benches may build at once, and a half-written program must not be run.
  const part = `${program}.${process.pid}`;
  try {
    const { code, stderr } = await runProgram("cc", ["-O2", "-pthread", "-o", part, source], 60_000);
    if (code !== 0) return { missing: `the C yardstick does not compile: ${stderr.trim().slice(0, 300)}` };
    renameSync(part, program);
    return { program };
  } catch {
    return { missing: "no C compiler (cc), so no yardstick of plain sockets (Debian: apt-get install gcc)" };
  }
}

export function yardstick(program: string, lanes: number, one: YardstickCase = CANONICAL_CASE): Tool {
  return { name: "raw", streams: lanes, run: (seconds) => runYardstick(program, lanes, one, seconds) };
}

export async function runYardstick(program: string, lanes: number, one: YardstickCase, seconds: number): Promise<YardstickRun> {
  const server = endWithUs(spawn(program, ["server", String(one.poolBytes)], { stdio: ["ignore", "pipe", "ignore"] }));
  try {
    const port = await new Promise<string>((resolve, reject) => {
      server.once("error", reject);
      server.once("close", (code) => reject(new Error(`the yardstick's server ended with ${code}`)));
      createInterface({ input: server.stdout }).once("line", resolve);
    });
    const { poolBytes, blockBytes, batch } = one;
    const args = ["client", port, poolBytes, server.pid!, lanes, blockBytes, batch, seconds].map(String);
    const { code, stdout, stderr } = await runProgram(program, args, (seconds + 60) * 1000);
    if (code !== 0) throw new Error(`the yardstick ended with ${code}: ${stderr.trim()}`);
    const line = JSON.parse(stdout) as { bits_per_second: number; cpu_seconds_per_gib: number; p50_us: number; p99_us: number };
    return { bitsPerSecond: line.bits_per_second, cpuSecondsPerGib: line.cpu_seconds_per_gib, p50Us: line.p50_us, p99Us: line.p99_us };
  } finally {
    await endProgram(server);
  }
}
