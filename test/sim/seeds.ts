/** Seeds that failed once, each with its cause: read from seeds.txt, replayed by replay.test.ts. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import type { Run } from "./run.ts";

export interface KnownSeed {
  readonly seed: number;
  readonly cause: string;
}

/** One a line: the seed, then its cause; # begins a comment. */
export function seedsIn(path: string): KnownSeed[] {
  return readFileSync(path, "utf8")
    .split("\n")
    .filter((line) => line.trim() !== "" && !line.startsWith("#"))
    .map((line) => {
      const [, seed, cause = ""] = /^(\d+)\s+(.*)$/.exec(line) ?? [];
      if (seed === undefined) throw new Error(`${path}: a line that is no seed with its cause: ${line}`);
      return { seed: Number(seed), cause };
    });
}

/** Fails with what to type to see it again. */
export function expectPass({ seed, failure }: Run): void {
  assert.equal(failure, "", `seed ${seed}\nagain: npm run sim -- --seed=${seed} --trace`);
}
