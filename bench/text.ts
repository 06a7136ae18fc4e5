/** What people read: two numbers of a run without flags, a table otherwise, and beside either what was compared. */
import { formatSize } from "../transport/config/units.ts";
import type { BenchDocument, Comparison, Interval, Result } from "./document.ts";
import { MODELS, type ModelName } from "./models.ts";
import type { RateUnit } from "./options.ts";

const SCALE: Readonly<Record<string, number>> = { k: 1e3, m: 1e6, g: 1e9, t: 1e12 };

/** "35.10 Gbit/s"; upper-case units count bytes. */
export function rateText(bitsPerSecond: number, unit: RateUnit): string {
  const bits = unit === unit.toLowerCase();
  const value = (bits ? bitsPerSecond : bitsPerSecond / 8) / SCALE[unit.toLowerCase()]!;
  return `${value.toFixed(value < 10 ? 3 : 2)} ${unit === "k" ? "k" : unit.toUpperCase()}${bits ? "bit" : "B"}/s`;
}

export function twoNumbers(document: BenchDocument, unit: RateUnit): string {
  const [request, block] = document.results;
  const lines: string[] = [];
  if (request !== undefined) lines.push(`goodput  ${rateText(request.bw_avg_bits_per_second, unit)}   ${describe(request)}`);
  if (block !== undefined) {
    lines.push(`latency  ${microseconds(block.latency_us?.p50)} p50   one ${formatSize(block.block_bytes)} block, placed and acknowledged`);
  }
  return lines.join("\n");
}

const COLUMNS = [
  "Block",
  "Batch",
  "BW",
  "BW(GB/s)",
  "Blocks/s",
  "avg",
  "p50",
  "p99",
  "p99.9(us)",
  "Retr",
  "Link",
  "Comp",
  "Chunk",
  "CPU s/GiB",
  "Verified",
];

export function tableText(document: BenchDocument, unit: RateUnit): string {
  const rows = document.results.map((result) => [
    formatSize(result.block_bytes),
    String(result.batch),
    rateText(result.bw_avg_bits_per_second, unit),
    (result.bw_avg_bits_per_second / 8e9).toFixed(3),
    result.blocks_per_second.toFixed(0),
    ...(["avg", "p50", "p99", "p999"] as const).map((name) => result.latency_us?.[name].toFixed(1) ?? "-"),
    String(result.retries),
    document.start.test_start.transport,
    document.start.test_start.compression,
    formatSize(result.chunk_bytes),
    result.cpu.seconds_per_gib.toFixed(2),
    result.n_wrong > 0 ? `${result.n_wrong} WRONG` : result.verified_bytes === 0 ? "no" : formatSize(result.verified_bytes),
  ]);
  return align([COLUMNS, ...rows]);
}

export function comparisonText(comparison: readonly Comparison[], unit: RateUnit): string {
  if (comparison.length === 0) return "";
  const rows = comparison.map(({ tool, streams, bits_per_second: rate, ratio, cpu_seconds_per_gib: cpu }) => [
    tool,
    String(streams),
    rateText(rate, unit),
    `${ratio.toFixed(2)}x`,
    cpu === null ? "-" : cpu.toFixed(2),
  ]);
  return align([["Beside", "Streams", "BW", "kvferry is", "CPU s/GiB"], ...rows]);
}

export function intervalText(interval: Interval, unit: RateUnit): string {
  const { start, end, bytes, bits_per_second: rate, retransmits, omitted } = interval.sum;
  const time = `${start.toFixed(2)}-${end.toFixed(2)} s`;
  const cells = [time.padStart(14), formatSize(bytes).padStart(11), rateText(rate, unit).padStart(14), `${retransmits} retr`];
  return [...cells, ...(omitted ? ["(omitted)"] : [])].join("  ");
}

/** Columns of equal width, numbers to the right. */
export function align(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows
    .map((row) => row.map((cell, column) => (column === 0 ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!))).join("  "))
    .join("\n");
}

function describe(result: Result): string {
  const model = result.model === "" ? undefined : MODELS[result.model as ModelName].title;
  const what = model === undefined ? "" : `${result.tokens.toLocaleString("en")} tokens of ${model}, `;
  const checked = result.n_wrong > 0 ? `${result.n_wrong} BYTES WRONG` : result.verified_bytes > 0 ? "every byte verified" : "not verified";
  return `${what}${result.batch.toLocaleString("en")} x ${formatSize(result.block_bytes)}, ${checked}`;
}

function microseconds(value: number | undefined): string {
  return value === undefined ? "-" : `${value.toFixed(1)} us`;
}
