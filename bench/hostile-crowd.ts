/** The process of bench/crowd.ts, held: started at a port, asked how it fares, ended. */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { CrowdReport } from "./crowd.ts";
import { loaderFlags } from "./node-flags.ts";
import { endProgram, endWithUs } from "./process.ts";

export type { CrowdReport } from "./crowd.ts";

export interface CrowdOptions {
  readonly port: number;
  readonly count: number;
  readonly ratePerSecond?: number;
  readonly sources?: number;
  readonly redialMs?: number;
}

const WAIT_MS = 60_000;

export class HeldCrowd {
  readonly #child: ChildProcess;
  #report: CrowdReport = { dialled: 0, closed: 0, failed: 0, open: 0 };
  #waiters: (() => void)[] = [];

  static start({ port, count, ratePerSecond, sources, redialMs }: CrowdOptions): HeldCrowd {
    const flags = { port, count, rate: ratePerSecond, sources, "redial-ms": redialMs };
    const args = Object.entries(flags).flatMap(([name, value]) => (value === undefined ? [] : [`--${name}`, String(value)]));
    const here = join(import.meta.dirname, "crowd.ts");
    const program = existsSync(here) ? here : join(import.meta.dirname, "crowd.js");
    // As if it were elsewhere: what it computes itself should not be what is measured.
    const command = ["-n", "19", process.execPath, ...loaderFlags(), program, ...args];
    return new HeldCrowd(endWithUs(spawn("nice", command, { stdio: ["pipe", "pipe", "inherit"] })));
  }

  private constructor(child: ChildProcess) {
    this.#child = child;
    createInterface({ input: child.stdout as NodeJS.ReadableStream }).on("line", (line) => {
      this.#report = JSON.parse(line) as CrowdReport;
      for (const resolve of this.#waiters.splice(0)) resolve();
    });
    child.once("close", () => {
      for (const resolve of this.#waiters.splice(0)) resolve();
    });
  }

  get report(): CrowdReport {
    return this.#report;
  }

  /** Until its next report says so; rejects if it ends or takes too long. */
  async until(holds: (report: CrowdReport) => boolean): Promise<void> {
    const endMs = performance.now() + WAIT_MS;
    while (!holds(this.#report)) {
      if (this.#child.exitCode !== null) throw new Error(`the crowd has ended with ${this.#child.exitCode}`);
      if (performance.now() > endMs) throw new Error(`the crowd came no further than ${JSON.stringify(this.#report)}`);
      await new Promise<void>((resolve) => this.#waiters.push(resolve));
    }
  }

  async end(): Promise<void> {
    this.#child.stdin?.end();
    await endProgram(this.#child);
  }
}
