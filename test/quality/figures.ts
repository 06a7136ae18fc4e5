/** What the scripts say, the bars that a profile has to reach, and the table of both. */

/** With the bounds of its 95 % interval. */
export interface Estimate {
  readonly value: number;
  readonly low: number;
  readonly high: number;
}

/** judge.py's `text_figures`. */
export interface TextFigures {
  readonly texts: number;
  readonly tokens: number;
  readonly kl: Estimate;
  readonly kl_p99: number;
  readonly top1_percent: Estimate;
  readonly nll_change_percent: Estimate;
  readonly nll_before: number;
}

/** judge.py's `retrieval_figures`. */
export interface RetrievalFigures {
  readonly questions: number;
  readonly exact: number;
  readonly exact_before: number;
  readonly digits_percent: number;
  readonly digits_before_percent: number;
  readonly digits_lost_points: Estimate;
  readonly nll: number;
  readonly nll_before: number;
}

export interface Groups {
  readonly [group: string]: TextFigures | RetrievalFigures;
}

export interface Result {
  readonly profile: string;
  /** Of merging: 1 / the share of the tokens that is left. */
  readonly ratio: number;
  readonly groups: Groups;
  /** What is missed of the profile's bars, in words. */
  readonly missed: readonly string[];
}

interface Bars {
  readonly ratio: number;
  /** Of each half of the documents. */
  readonly kl: readonly [number, number];
  /** Upper bound of the loss in retrieved digits, in points; where retrieval was run. */
  readonly lost?: number;
}

const HALVES = ["documents 0-7", "documents 8-15"] as const;
const both = (kl: number): readonly [number, number] => [kl, kl];

/** Real bytes of 1,024-token contexts. For merging: what a prototype reached on each half; no bar says that it is worth having. */
const BARS: Readonly<Record<string, Bars>> = {
  lossless: { ratio: 1.48, kl: both(0) },
  "cpu-near": { ratio: 3.3, kl: both(0.0006) },
  "cpu-fast": { ratio: 4.4, kl: both(0.003) },
  "gpu-near": { ratio: 6.5, kl: both(0.002), lost: 2 },
  "gpu-fast": { ratio: 10, kl: both(0.009) },
  "gpu-max": { ratio: 16, kl: both(0.023) },
  "kvmerger-50": { ratio: 2, kl: [0.014, 0.058] },
};

export const PROFILES = ["lossless", "fp8", "kivi4", "cpu-near", "cpu-fast", "gpu-near", "gpu-fast", "gpu-max"];

export function missedBars(profile: string, ratio: number, groups: Groups): string[] {
  const bars = BARS[profile];
  if (bars === undefined) return [];
  const missed = ratio < bars.ratio ? [`ratio ${ratio.toFixed(2)} < ${bars.ratio}`] : [];
  HALVES.forEach((half, at) => {
    const found = groups[half];
    if (found === undefined || !("kl" in found)) return;
    const most = bars.kl[at] as number;
    if (!(found.kl.value <= most)) missed.push(`KL ${found.kl.value.toFixed(5)} > ${most} (${half})`);
  });
  const retrieved = groups["retrieval"];
  if (bars.lost !== undefined && retrieved !== undefined && "digits_lost_points" in retrieved) {
    const { high } = retrieved.digits_lost_points;
    if (!(high <= bars.lost)) missed.push(`up to ${high.toFixed(2)} points of digits lost > ${bars.lost}`);
  }
  return missed;
}

const COLUMNS = ["profile", "ratio", "texts", "KL", "95 %", "p99", "top-1 %", "95 %", "dNLL %", "95 %", ""];
const RETRIEVAL_COLUMNS = ["profile", "ratio", "exact", "digits %", "lost, points", "95 %", "NLL"];

export function table(results: readonly Result[]): string {
  const texts = results.flatMap(({ profile, ratio, groups, missed }) =>
    Object.entries(groups).flatMap(([group, found], at) =>
      "kl" in found
        ? [[profile, ratio.toFixed(2), group, ...textCells(found), at === 0 ? missed.map((one) => `missed: ${one}`).join("; ") : ""]]
        : [],
    ),
  );
  const retrieval = results.flatMap(({ profile, ratio, groups }) =>
    Object.values(groups).flatMap((found) => ("kl" in found ? [] : [[profile, ratio.toFixed(2), ...retrievalCells(found)]])),
  );
  return [[COLUMNS, texts] as const, [RETRIEVAL_COLUMNS, retrieval] as const]
    .filter(([, rows]) => rows.length > 0)
    .map(([columns, rows]) => aligned([columns, ...rows]))
    .join("\n\n");
}

function textCells({ kl, kl_p99, top1_percent, nll_change_percent }: TextFigures): string[] {
  return [...cells(kl, 5), kl_p99.toFixed(4), ...cells(top1_percent, 2), ...cells(nll_change_percent, 2)];
}

function retrievalCells(found: RetrievalFigures): string[] {
  const { exact, exact_before, questions, digits_percent, digits_before_percent, digits_lost_points, nll, nll_before } = found;
  return [
    `${exact} of ${questions} (${exact_before})`,
    `${digits_percent.toFixed(2)} (${digits_before_percent.toFixed(2)})`,
    ...cells(digits_lost_points, 2),
    `${nll.toFixed(3)} (${nll_before.toFixed(3)})`,
  ];
}

function cells({ value, low, high }: Estimate, digits: number): string[] {
  return [value.toFixed(digits), `${low.toFixed(digits)}..${high.toFixed(digits)}`];
}

function aligned(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column]!))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}
