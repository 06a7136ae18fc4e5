/** Where this package lies: the same question from a checkout (transport/) and from the built package (dist/transport/). */
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { assert } from "../check.ts";

export const packageRoot: string = findRoot(import.meta.dirname);

export function packageVersion(): string {
  const { version } = JSON.parse(readFileSync(join(packageRoot, "package.json"), "utf8")) as { version: string };
  return version;
}

function findRoot(from: string): string {
  for (let folder = from; ; folder = dirname(folder)) {
    if (existsSync(join(folder, "package.json"))) return folder;
    assert(dirname(folder) !== folder, `no package.json above ${from}`);
  }
}
