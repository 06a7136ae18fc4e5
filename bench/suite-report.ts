/** The suite's table: what was measured, what was wanted, whether it was met. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { packageRoot } from "../transport/cli/package.ts";

export interface Figure {
  readonly name: string;
  readonly measured: string;
  readonly wanted: string;
  /** undefined = could not be measured here. */
  readonly met: boolean | undefined;
}

export interface SuiteContext {
  readonly version: string;
  /** Starts this command again: how the other end of a link is made. */
  readonly command: readonly string[];
  readonly link: string;
  /** Of each throughput case. */
  readonly seconds: number;
  /** Transfers of the memory figure. */
  readonly transfers: number;
  readonly say: (line: string) => void;
}

export function markdown(figures: readonly Figure[]): string {
  const rows = figures.map(
    ({ name, measured, wanted, met }) =>
      `| ${name} | ${measured} | ${wanted || "-"} | ${met === undefined ? "-" : met ? "yes" : "**no**"} |`,
  );
  return ["| figure | measured | wanted | met |", "|---|---|---|---|", ...rows].join("\n");
}

/** Puts a table into bench/RESULTS.md, between the marks of its part. */
export function writeResults(part: "suite" | "engines" | "wan" | "hostile" | "codec" | "codec-wire", table: string): void {
  const file = join(packageRoot, "bench", "RESULTS.md");
  const text = readFileSync(file, "utf8");
  const [begin, end] = [`<!-- ${part}: begin -->`, `<!-- ${part}: end -->`];
  const [head, tail] = [text.indexOf(begin), text.indexOf(end)];
  if (head < 0 || tail < head) throw new Error(`${file} has no marks ${begin} and ${end}`);
  writeFileSync(file, `${text.slice(0, head + begin.length)}\n${table}${text.slice(tail)}`);
}
