/** The suite's table: what was measured, what was wanted, whether it was met. */

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
