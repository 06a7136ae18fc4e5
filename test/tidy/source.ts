/** The files of the repository as the tidy rules see them: what git tracks or would track. */
import { execFileSync } from "node:child_process";
import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { type Language, mask } from "./mask.ts";

export const ROOT = join(import.meta.dirname, "..", "..");

export interface Source {
  /** From the repository's root, with forward slashes. */
  readonly path: string;
  readonly text: string;
  readonly language: Language | "python" | "other";
  /** Comments blanked (of other languages: the text itself). */
  readonly code: string;
  /** Comments and strings blanked (of other languages: the text itself). */
  readonly bare: string;
}

export interface Finding {
  readonly path: string;
  /** From 1; 0 = the file as a whole. */
  readonly line: number;
  readonly message: string;
}

/** Written by a program from a file that is here: the file is what people read. */
const GENERATED = [/^transport\/peer\/wire\//, /(^|\/)package-lock\.json$/];

const LANGUAGES: Readonly<Record<string, Source["language"]>> = {
  ts: "typescript",
  mts: "typescript",
  mjs: "typescript",
  js: "typescript",
  h: "cpp",
  cpp: "cpp",
  c: "cpp",
  cu: "cpp",
  cuh: "cpp",
  py: "python",
};

export function makeSource(path: string, text: string): Source {
  const language = LANGUAGES[path.slice(path.lastIndexOf(".") + 1)] ?? "other";
  if (language === "python" || language === "other") return { path, text, language, code: text, bare: text };
  return { path, text, language, ...mask(text, language) };
}

/** Every text file that git tracks, and those not yet added that it does not ignore. */
export function readTree(): Source[] {
  const listing = execFileSync("git", ["ls-files", "-z", "--cached", "--others", "--exclude-standard"], { cwd: ROOT, encoding: "utf8" });
  const paths = [...new Set(listing.split("\0"))].filter((path) => path !== "").sort();
  const sources: Source[] = [];
  for (const path of paths) {
    const file = join(ROOT, path);
    if (statSync(file, { throwIfNoEntry: false })?.isFile() !== true) continue;
    const bytes = readFileSync(file);
    if (!bytes.subarray(0, 8192).includes(0)) sources.push(makeSource(path, bytes.toString("utf8")));
  }
  return sources;
}

export function isGenerated(path: string): boolean {
  return GENERATED.some((pattern) => pattern.test(path));
}

/** Written by hand, in a language with functions. */
export function isCode(source: Source): boolean {
  return source.language !== "other" && !isGenerated(source.path);
}

export function lineOf(text: string, index: number): number {
  let line = 1;
  for (let at = text.indexOf("\n"); at !== -1 && at < index; at = text.indexOf("\n", at + 1)) line++;
  return line;
}

export function show(findings: readonly Finding[]): string {
  return findings.map(({ path, line, message }) => `${path}${line === 0 ? "" : `:${line}`}: ${message}`).join("\n");
}
