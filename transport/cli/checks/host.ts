/** The machine as the checks see it: files, folders, free space, programs. The tests have small ones of their own. */
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, statfsSync } from "node:fs";

export interface Host {
  readonly platform: string;
  /** Trimmed text, or undefined where it cannot be read. */
  read(path: string): string | undefined;
  list(path: string): readonly string[];
  space(path: string): { readonly bytes: number; readonly freeBytes: number } | undefined;
  /** Standard output of a program, or undefined where it is absent, fails or takes more than a few seconds. */
  run(program: string, args: readonly string[]): string | undefined;
}

export type Status = "OK" | "WARN" | "FAIL";

export interface Check {
  readonly id: string;
  readonly status: Status;
  readonly found: string;
  /** What to do; "" when nothing is wrong. */
  readonly remedy: string;
}

export const thisHost: Host = {
  platform: process.platform,
  read: (path) => attempt(() => readFileSync(path, "utf8").trim()),
  list: (path) => attempt(() => readdirSync(path)) ?? [],
  space: (path) =>
    attempt(() => {
      const { bsize, blocks, bavail } = statfsSync(path);
      return { bytes: bsize * blocks, freeBytes: bsize * bavail };
    }),
  run: (program, args) =>
    attempt(() => execFileSync(program, [...args], { encoding: "utf8", timeout: 5_000, stdio: ["ignore", "pipe", "ignore"] }).trim()),
};

export function ok(id: string, found: string): Check {
  return { id, status: "OK", found, remedy: "" };
}

export function warn(id: string, found: string, remedy: string): Check {
  return { id, status: "WARN", found, remedy };
}

export function fail(id: string, found: string, remedy: string): Check {
  return { id, status: "FAIL", found, remedy };
}

/** Soft limit of a row of /proc/self/limits: a number, Infinity, or undefined where there is none. */
export function processLimit(host: Host, row: string): number | undefined {
  const line = host
    .read("/proc/self/limits")
    ?.split("\n")
    .find((candidate) => candidate.startsWith(row));
  const soft = line?.slice(row.length).trim().split(/\s+/)[0];
  if (soft === undefined) return undefined;
  return soft === "unlimited" ? Number.POSITIVE_INFINITY : Number(soft);
}

function attempt<T>(run: () => T): T | undefined {
  try {
    return run();
  } catch {
    return undefined;
  }
}
