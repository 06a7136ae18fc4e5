/** Runs a peer's program as two processes on this machine and reads the lines it prints. */
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { KvferryError } from "../transport/errors.ts";
import { benchFile } from "./files.ts";
import { installPeer, type PeerSpecification } from "./peers-install.ts";
import { endProgram, runProgram } from "./process.ts";

export interface PeerLine {
  readonly peer: string;
  readonly op: "write" | "read";
  readonly case: "paged" | "latency" | "failed";
  readonly bits_per_second?: number;
  readonly cpu_seconds_per_gib?: number;
  readonly p50_us?: number;
  readonly p99_us?: number;
  readonly error?: string;
}

const CASES_TIMEOUT_MS = 180_000;

export async function measurePeer(peer: PeerSpecification, seconds: number, say: (line: string) => void): Promise<PeerLine[]> {
  const { python, environment: settings } = await installPeer(peer, say);
  say(`measuring ${peer.title}`);
  const folder = mkdtempSync(join(tmpdir(), "kvferry-peer-"));
  const program = benchFile(`peers/${peer.program}`);
  if (program === undefined) throw new KvferryError("unsupported", `bench/peers/${peer.program} is not in this package`);
  const environment = { ...settings, PYTHONPATH: dirname(program) };
  const args = (role: string): string[] => [program, "--role", role, "--run", folder, "--seconds", String(seconds)];
  const server = spawn(python, args("server"), { env: { ...process.env, ...environment }, stdio: "ignore" });
  server.on("error", (error) => say(`${peer.title}: ${error.message}`));
  try {
    const { stdout, stderr, code } = await runProgram(python, args("client"), CASES_TIMEOUT_MS, environment);
    const lines = stdout.split("\n").flatMap((line) => (line.startsWith("{") ? [JSON.parse(line) as PeerLine] : []));
    if (lines.length === 0) throw new Error(`${peer.title} printed nothing (exit code ${code}): ${stderr.trim().slice(-400)}`);
    return lines;
  } finally {
    await endProgram(server);
    rmSync(folder, { recursive: true, force: true });
  }
}
