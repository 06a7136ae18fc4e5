/** Real sidecars for tests: `kvferry serve` in processes of their own, with sockets and pools that go when the test does. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";

import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { type ClientFerry, connect } from "../../transport/api/client.ts";
import type { FerryEvent } from "../../transport/ferry/ferry.ts";
import { denseLayout } from "../../transport/kv/build.ts";
import type { Layout } from "../../transport/kv/layout.ts";
import type { Blocks } from "../../transport/memory/pool.ts";
import type { Region } from "../../transport/memory/region.ts";
import { get } from "../http.ts";

const ROOT = new URL("../..", import.meta.url).pathname;
const STARTS_WITHIN_MS = 60_000;
export const BLOCK_TOKENS = 16;
export const BLOCK_BYTES = 8 * 2 * BLOCK_TOKENS * 4 * 64 * 2;
export const IDENTITY = { model: "process", revision: "1", element: "bf16", rope: "", profile: "", extra: "" };

export interface Sidecar {
  readonly name: string;
  readonly port: number;
  readonly socket: string;
  readonly child: ChildProcess;
  /** Resolves with the exit code, or the signal's name. */
  readonly exited: Promise<number | string>;
}

export interface SidecarOptions {
  readonly name: string;
  readonly port: number;
  readonly folder: string;
  readonly flags?: readonly string[];
  /** A module that is loaded before anything else. */
  readonly preload?: string;
  /** Beside this process's own. */
  readonly env?: Readonly<Record<string, string>>;
  /** Takes its log, which is shown else. */
  readonly onLog?: (text: string) => void;
}

export function scratchFolder(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), "kvferry-process-"));
  t.after(() => {
    rmSync(folder, { recursive: true, force: true });
    const mine = readdirSync("/dev/shm").filter((file) => file.includes(poolName(folder, "")));
    for (const file of mine) rmSync(join("/dev/shm", file), { force: true });
  });
  return folder;
}

const poolName = (folder: string, name: string): string => `${folder.slice(-6)}-${name}`;

/** Below those that the kernel gives to whoever dials, and a stretch of its own for each process: test files run side by side. */
let nextPort = 12_000 + (process.pid % 200) * 100;

/** A port that nobody has now, and nobody is given until it is used. */
export async function freePort(): Promise<number> {
  for (let tried = 0; tried < 100; tried++) {
    const port = nextPort++;
    const free = await new Promise<boolean>((resolve) => {
      const server = createServer().on("error", () => resolve(false));
      server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
    });
    if (free) return port;
  }
  throw new Error("no free port");
}

export async function startSidecar(
  t: TestContext,
  { name, port, folder, flags = [], preload, env, onLog }: SidecarOptions,
): Promise<Sidecar> {
  const socket = join(folder, `${name}.sock`);
  const own = ["--name", name, "--listen", `127.0.0.1:${port}`, "--socket", socket, "--pool-name", poolName(folder, name)];
  const pool = ["--pool-bytes", "40MiB", "--pool-block-bytes", String(BLOCK_BYTES), "--log-level", "error"];
  const before = preload === undefined ? [] : ["--import", preload];
  const child = spawn(process.execPath, [...before, "--import", "tsx", "transport/cli.ts", "serve", ...own, ...pool, ...flags], {
    cwd: ROOT,
    env: { ...process.env, ...env },
    stdio: ["ignore", "ignore", onLog === undefined ? "inherit" : "pipe"],
  });
  child.stderr?.on("data", (bytes: Buffer) => onLog?.(bytes.toString("utf8")));
  const exited = new Promise<number | string>((resolve) => child.once("exit", (code, signal) => resolve(code ?? signal ?? "")));
  t.after(() => child.kill("SIGKILL"));
  const endMs = performance.now() + STARTS_WITHIN_MS;
  while (performance.now() < endMs && child.exitCode === null) {
    if ((await statusOf(socket).catch(() => undefined)) !== undefined) return { name, port, socket, child, exited };
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`sidecar ${name} did not start: ${child.exitCode === null ? "no answer" : `it ended with ${child.exitCode}`}`);
}

export interface Status {
  readonly incarnation: string;
  readonly transfers_running: number;
  readonly bytes_sent: number;
  readonly bytes_received: number;
  readonly resident_bytes: number;
  readonly refusals: Readonly<Record<string, number>>;
  readonly pool: Readonly<Record<string, number>>;
}

export async function statusOf<Shape = Status>(socket: string): Promise<Shape> {
  return JSON.parse((await get(socket, "/status")).body) as Shape;
}

/** The value of a line of /metrics; 0 where there is none. */
export async function metricOf(socket: string, line: string): Promise<number> {
  const found = (await get(socket, "/metrics")).body.split("\n").find((text) => text.startsWith(`${line} `));
  return Number(found?.slice(line.length + 1) ?? 0);
}

/** What an engine of these tests keeps in a block. */
export const processLayout = (blockCount: number): Layout =>
  denseLayout({
    layers: 8,
    kvHeads: 4,
    headDim: 64,
    blockTokens: BLOCK_TOKENS,
    element: "bf16",
    order: "NHD",
    form: "block-contiguous",
    kv: "split",
    blockCount,
  });

export interface Engine {
  readonly ferry: ClientFerry;
  readonly region: Region;
  readonly model: number;
  readonly events: FerryEvent[];
  bytesOf(block: number): Uint8Array;
  groups(blocks: Blocks): { readonly group: number; readonly blocks: Blocks; readonly tokens: number }[];
}

/** An engine in this process: attached, with its model registered. */
export async function openEngine(t: TestContext, sidecar: Pick<Sidecar, "socket">): Promise<Engine> {
  const ferry = await connect(sidecar.socket, { client: "test" });
  t.after(() => ferry.close().catch(() => {}));
  const events: FerryEvent[] = [];
  ferry.on((event) => events.push(event));
  const info = await ferry.pool();
  const region = await ferry.attach();
  const { model } = await ferry.registerModel(IDENTITY, processLayout(info.blockCount));
  const bytesOf = (block: number): Uint8Array => {
    const from = info.dataOffset + block * BLOCK_BYTES;
    return region.view.subarray(from, from + BLOCK_BYTES);
  };
  const groups = (blocks: Blocks) => [{ group: 0, blocks, tokens: blocks.ids.length * BLOCK_TOKENS }];
  return { ferry, region, model, events, bytesOf, groups };
}

export async function until(holds: () => boolean | Promise<boolean>, withinMs = 20_000): Promise<void> {
  const endMs = performance.now() + withinMs;
  while (!(await holds())) {
    if (performance.now() > endMs) throw new Error(`did not come to hold within ${withinMs} ms: ${holds}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
