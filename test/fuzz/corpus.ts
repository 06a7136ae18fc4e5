/** Inputs that are kept: one file of hex for each, in corpus/FOLDER/. What once went wrong stays here for good. */
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const CORPUS = join(import.meta.dirname, "corpus");
const FAILURES = join(import.meta.dirname, "..", "..", ".cache", "fuzz");

export interface Kept {
  readonly name: string;
  readonly input: Uint8Array;
}

export function readCorpus(corpus: string): Kept[] {
  const folder = join(CORPUS, corpus);
  if (!existsSync(folder)) return [];
  const names = readdirSync(folder).filter((name) => name.endsWith(".hex"));
  return names.sort().map((name) => ({ name, input: readInput(join(folder, name)) }));
}

/** Hex in any lines; `#` begins a comment. */
export function readInput(path: string): Uint8Array {
  const lines = readFileSync(path, "utf8").split("\n");
  const hex = lines.map((line) => line.replace(/#.*/, "").replaceAll(/\s/g, "")).join("");
  return Uint8Array.from(Buffer.from(hex, "hex"));
}

/** Returns the path. */
export function keepFailure(target: string, input: Uint8Array, why: string): string {
  mkdirSync(FAILURES, { recursive: true });
  const path = join(FAILURES, `${target}-${createHash("sha256").update(input).digest("hex").slice(0, 12)}.hex`);
  const hex =
    Buffer.from(input)
      .toString("hex")
      .match(/.{1,96}/g) ?? [];
  writeFileSync(path, `# ${why.split("\n")[0]}\n${hex.join("\n")}\n`);
  return path;
}
