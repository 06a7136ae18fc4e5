/** Files of this folder that are not compiled: the same question from a checkout (bench/) and from the built package (dist/bench/). */
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";

/** Path of bench/NAME, or undefined where the package does not have it. */
export function benchFile(name: string): string | undefined {
  for (let folder = import.meta.dirname; dirname(folder) !== folder; folder = dirname(folder)) {
    const file = join(folder, "bench", name);
    // dist/bench/ has only what was compiled; the next folder up has the rest.
    if (existsSync(file)) return file;
  }
  return undefined;
}
