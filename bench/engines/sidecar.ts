/** A sidecar that can be killed and started again where it was: same name, socket, port and pool. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdirSync, openSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { type ClientFerry, connect } from "../../transport/api/client.ts";
import { packageRoot } from "../../transport/cli/package.ts";
import { endWithUs, freePort } from "../process.ts";
import { groupCpuSeconds } from "./vllm.ts";

const START_MS = 30_000;

export interface SidecarOptions {
  readonly name: string;
  readonly folder: string;
  readonly poolBytes: number;
  /** NAME=HOST:PORT, ... */
  readonly peers?: string;
}

export class Sidecar {
  readonly name: string;
  readonly socket: string;
  readonly address: string;
  readonly #args: readonly string[];
  readonly #log: string;
  #child: ChildProcess | undefined;

  private constructor(options: SidecarOptions, address: string) {
    const folder = join(options.folder, options.name);
    mkdirSync(folder, { recursive: true });
    this.name = options.name;
    this.socket = join(folder, "api.sock");
    this.address = address;
    this.#log = join(options.folder, `${options.name}.log`);
    this.#args = [
      ...["serve", "--name", options.name, "--socket", this.socket, "--listen", address, "--allow", "127.0.0.1"],
      ...["--pool-directory", folder, "--pool-bytes", String(options.poolBytes), "--log-level", "info"],
      ...(options.peers === undefined ? [] : ["--peers", options.peers]),
    ];
  }

  static async start(options: SidecarOptions): Promise<Sidecar> {
    const sidecar = new Sidecar(options, `127.0.0.1:${await freePort()}`);
    await sidecar.begin();
    return sidecar;
  }

  /** Resolves when engines can connect. */
  async begin(): Promise<void> {
    const out = openSync(this.#log, "a");
    this.#child = endWithUs(
      spawn(process.execPath, [join(packageRoot, "dist", "transport", "cli.js"), ...this.#args], {
        detached: true,
        stdio: ["ignore", out, out],
      }),
    );
    const ferry = await this.connect();
    await ferry.close();
  }

  async connect(): Promise<ClientFerry> {
    for (const started = Date.now(); ; await pause(50)) {
      try {
        return await connect(this.socket, { client: `bench ${process.pid}` });
      } catch (error) {
        if (Date.now() - started > START_MS) throw error;
      }
    }
  }

  /** Blocks that are neither free nor merely published. */
  async blocksInUse(): Promise<number> {
    const ferry = await this.connect();
    const { pool } = await ferry.stats();
    await ferry.close();
    return pool.held + pool.leased + pool.pinned + pool.quarantined;
  }

  async bytesReceived(): Promise<number> {
    const ferry = await this.connect();
    const { bytesReceived } = await ferry.stats();
    await ferry.close();
    return bytesReceived;
  }

  get alive(): boolean {
    return this.#child?.exitCode === null && this.#child.signalCode === null;
  }

  cpuSeconds(): number {
    return groupCpuSeconds(this.#child?.pid ?? 0);
  }

  signal(signal: NodeJS.Signals): void {
    this.#child?.kill(signal);
  }

  async end(signal: "SIGTERM" | "SIGKILL"): Promise<void> {
    const child = this.#child;
    if (child === undefined || !this.alive) return;
    const gone = new Promise<void>((resolve) => child.once("close", () => resolve()));
    child.kill(signal);
    await gone;
  }
}
