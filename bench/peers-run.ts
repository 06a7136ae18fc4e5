/** Runs a peer's program as two processes on this machine and reads the lines it prints. */
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { KvferryError } from "../transport/errors.ts";
import { benchFile } from "./files.ts";
import { installPeer, type PeerSpecification } from "./peers-install.ts";
import { endProgram, endWithUs, runProgram } from "./process.ts";

export interface PeerLine {
  readonly peer: string;
  readonly op: "write" | "read";
  readonly case: "paged" | "latency" | "failed" | "request";
  readonly bits_per_second?: number;
  readonly cpu_seconds_per_gib?: number;
  readonly p50_us?: number;
  readonly p99_us?: number;
  readonly error?: string;
  /** Of one request. */
  readonly seconds?: number;
}

const CASES_TIMEOUT_MS = 180_000;

/** Where a peer's two processes run, if not on loopback. */
export interface PeerPlace {
  readonly host: string;
  readonly prefix: readonly string[];
}

export interface PeerPlaces {
  readonly client: PeerPlace;
  readonly server: PeerPlace;
  readonly timeoutMs: number;
  readonly environment: Readonly<Record<string, string>>;
}

/** Reads of the paged case, seconds each: the first one opens the connections. Rejects where it does not end in time. */
export async function timePeer(
  peer: PeerSpecification,
  seconds: number,
  places: PeerPlaces,
  say: (line: string) => void,
): Promise<number[]> {
  const lines = await runPeer(peer, ["--seconds", String(seconds), "--paged-only"], places, say);
  return lines.flatMap(({ seconds: taken }) => (taken === undefined ? [] : [taken]));
}

const HERE: PeerPlace = { host: "127.0.0.1", prefix: [] };

export function measurePeer(peer: PeerSpecification, seconds: number, say: (line: string) => void): Promise<PeerLine[]> {
  const places = { client: HERE, server: HERE, timeoutMs: CASES_TIMEOUT_MS, environment: {} };
  return runPeer(peer, ["--seconds", String(seconds)], places, say);
}

async function runPeer(
  peer: PeerSpecification,
  flags: readonly string[],
  places: PeerPlaces,
  say: (line: string) => void,
): Promise<PeerLine[]> {
  const { python, environment: settings } = await installPeer(peer, say);
  say(`measuring ${peer.title}`);
  const folder = mkdtempSync(join(tmpdir(), "kvferry-peer-"));
  const program = benchFile(`peers/${peer.program}`);
  if (program === undefined) throw new KvferryError("unsupported", `bench/peers/${peer.program} is not in this package`);
  const environment = { ...settings, ...places.environment, PYTHONPATH: dirname(program) };
  const command = ({ prefix, host }: PeerPlace, role: string): readonly [string, ...string[]] => {
    const [first, ...rest] = [...prefix, python, program, "--role", role, "--run", folder, "--host", host, ...flags];
    return [first!, ...rest];
  };
  const [serve, ...serveArgs] = command(places.server, "server");
  const server = endWithUs(spawn(serve, serveArgs, { env: { ...process.env, ...environment }, stdio: "ignore" }));
  server.on("error", (error) => say(`${peer.title}: ${error.message}`));
  try {
    const [ask, ...askArgs] = command(places.client, "client");
    const { stdout, stderr, code } = await runProgram(ask, askArgs, places.timeoutMs, environment);
    const lines = stdout.split("\n").flatMap((line) => (line.startsWith("{") ? [JSON.parse(line) as PeerLine] : []));
    if (lines.length === 0) throw new Error(`${peer.title} printed nothing (exit code ${code}): ${stderr.trim().slice(-400)}`);
    return lines;
  } finally {
    await endProgram(server);
    rmSync(folder, { recursive: true, force: true });
  }
}
