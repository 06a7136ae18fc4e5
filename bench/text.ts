/** What people read: two numbers of a run without flags, a table otherwise, and beside either what was compared. */
import { formatSize } from "../transport/config/units.ts";
import type { BenchDocument, Comparison, Interval, IntervalSum, Result } from "./document.ts";
import { MODELS, type ModelName } from "./models.ts";
import type { BenchOptions, RateUnit } from "./options.ts";

const MiB = 2 ** 20;
const SCALE: Readonly<Record<string, number>> = { k: 1e3, m: 1e6, g: 1e9, t: 1e12 };

/** "35.10 Gbit/s"; upper-case units count bytes. */
export function rateText(bitsPerSecond: number, unit: RateUnit): string {
  const bytes = unit !== unit.toLowerCase();
  return `${rateNumber(bitsPerSecond, unit)} ${prefixOf(unit)}${bytes ? "B" : "bit"}/s`;
}

/** "Gb/s", "MB/s". */
function unitText(unit: RateUnit): string {
  return `${prefixOf(unit)}${unit === unit.toLowerCase() ? "b" : "B"}/s`;
}

function prefixOf(unit: RateUnit): string {
  return unit === "k" || unit === "K" ? "k" : unit.toUpperCase();
}

export function twoNumbers(document: BenchDocument, unit: RateUnit): string {
  const [request, block] = document.results;
  const lines: string[] = [];
  const { tls } = document.start;
  const over = tls === null ? "" : `, ${tls.protocol} with ${tls.cipher}`;
  if (request !== undefined) lines.push(`goodput  ${rateText(request.bw_avg_bits_per_second, unit)}   ${describe(request)}${over}`);
  if (block !== undefined) {
    lines.push(`latency  ${microseconds(block.latency_us?.p50)} p50   one ${formatSize(block.block_bytes)} block, placed and acknowledged`);
  }
  return [...lines, ...underLoadLines(document)].join("\n");
}

/** What one block waits while a case is under way. */
export function underLoadText(document: BenchDocument): string {
  return underLoadLines(document).join("\n");
}

function underLoadLines({ results }: BenchDocument): string[] {
  return results.flatMap(({ case: name, latency_under_load: found }) => {
    if (found === null) return [];
    const times = (us: typeof found.idle_us): string => `${microseconds(us?.p50)} p50, ${microseconds(us?.p99)} p99`;
    return [`latency  ${times(found.loaded_us)} beside ${name}; idle ${times(found.idle_us)}   one ${formatSize(found.block_bytes)} block`];
  });
}

/** "21.40"; a trickle keeps digits that say something. */
function rateNumber(bitsPerSecond: number, unit: RateUnit): string {
  const value = (unit === unit.toLowerCase() ? bitsPerSecond : bitsPerSecond / 8) / SCALE[unit.toLowerCase()]!;
  return value.toFixed(value < 0.001 ? 6 : value < 10 ? 3 : 2);
}

/** As RDMA users read them: the rate in bits and in bytes, latency of a request in us, then what may explain it. */
const columns = (unit: RateUnit): string[] => [
  "Block",
  "Batch",
  `BW(${unitText(unit)})`,
  "BW(GB/s)",
  "MsgRate",
  "Lat avg",
  "p50",
  "p99",
  "p99.9 (us)",
  "Retr",
  "Retried",
  "Transport",
  "Comp",
  "Chunk",
  "CPU s/GiB",
  "Verified",
];

export function tableText(document: BenchDocument, unit: RateUnit): string {
  const rows = document.results.map((result) => [
    formatSize(result.block_bytes),
    String(result.batch),
    rateNumber(result.bw_avg_bits_per_second, unit),
    (result.bw_avg_bits_per_second / 8e9).toFixed(3),
    result.msg_rate.toFixed(0),
    ...(["avg", "p50", "p99", "p999"] as const).map((name) => result.latency_us?.[name].toFixed(1) ?? "-"),
    result.retransmits === null ? "-" : String(result.retransmits),
    String(result.retries),
    document.start.test_start.transport + (document.start.tls === null ? "" : "+tls"),
    document.start.test_start.compression,
    formatSize(result.chunk_bytes),
    result.cpu.seconds_per_gib.toFixed(2),
    result.n_wrong > 0 ? `${result.n_wrong} WRONG` : result.verified_bytes === 0 ? "no" : formatSize(result.verified_bytes),
  ]);
  return align([columns(unit), ...rows]);
}

/** --profile: what was gained, and what it cost. */
export function codecText(document: BenchDocument, unit: RateUnit): string {
  const rows = document.results.flatMap(({ codec, request_bytes, iterations, latency_us, wire_bps, bw_avg_bits_per_second: rate, cpu }) => {
    if (codec === null) return [];
    const { profile, ratio, error } = codec;
    const errors = error === null ? "-" : `${(100 * error.k).toFixed(2)}, ${(100 * error.v).toFixed(2)}`;
    return [
      [
        ...[profile, String(iterations), formatSize(request_bytes), ratio.toFixed(2), rateNumber(rate, unit)],
        ...[wire_bps === null ? "-" : rateNumber(wire_bps, unit), ((latency_us?.p50 ?? 0) / 1000).toFixed(1)],
        ...[cpu.seconds_per_gib.toFixed(2), errors],
      ],
    ];
  });
  if (rows.length === 0) return "";
  const head = [
    "Profile",
    "Prompts",
    "Bytes",
    "Ratio",
    `KV(${unitText(unit)})`,
    `Wire(${unitText(unit)})`,
    "p50 (ms)",
    "CPU s/GiB",
    "Error of K, V (%)",
  ];
  return `${align([head, ...rows])}\n${document.results.map(({ codec }) => codecReasons(codec)).join("\n")}`;
}

function codecReasons(codec: Result["codec"]): string {
  if (codec === null) return "";
  const list = (counts: Readonly<Record<string, number>>): string =>
    Object.entries(counts)
      .map(([name, count]) => `${name} ${count}`)
      .join(", ") || "none";
  return `prompts by profile: ${list(codec.used)}; why: ${list(codec.reasons)}; chunks that were stored: ${list(codec.stored_chunks)}`;
}

/** A number that was measured on less than was asked for says so. */
export function fallbackText(document: BenchDocument): string {
  return document.results
    .flatMap(({ case: name, fallbacks }) => fallbacks.map(({ from, to, reason }) => `FALLBACK in ${name}: ${from} -> ${to} (${reason})`))
    .join("\n");
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

/** What --impair made of the way between both ends, and what it did to the packets. */
export function impairmentText({ impairment }: BenchDocument): string {
  if (impairment === null) return "";
  const { profile, keys, report } = impairment;
  const head = `link     ${[...(profile === "" ? [] : [profile]), ...Object.entries(keys).map(([name, value]) => `${name}=${value}`)].join(",")}`;
  if (report === null) return head;
  const { ab, ba } = report;
  const dropped = (["drop_loss", "drop_queue", "drop_down"] as const).map((name) => ab[name] + ba[name]);
  const all = dropped.reduce((sum, count) => sum + count, ab.packets + ba.packets);
  const [lost, queue, down] = dropped.map((count) => count.toLocaleString("en"));
  const dead = down === "0" ? "" : `, ${down} while it was dead`;
  return `${head}   of ${all.toLocaleString("en")} packets ${lost} lost, ${queue} dropped by the queue${dead}`;
}

/** One line for each direction; the case stands in front where there are several. */
export function intervalText(interval: Interval, unit: RateUnit, options: Pick<BenchOptions, "cases">): string {
  const { sum, sum_bidir_reverse: reverse, streams_active: active, streams_open: open, rtt, min_rtt: least } = interval;
  const width = Math.max(...options.cases.map(({ name }) => name.length));
  const state = [
    lanesText(active, open),
    `${formatSize(interval.chunk_bytes)} chunks`,
    `${sizeText(interval.window_bytes)} window`,
    ...(rtt === undefined || least === undefined ? [] : [`rtt ${milliseconds(rtt)} ms (min ${milliseconds(least)})`]),
  ];
  const line = (one: IntervalSum, arrow: string): string => {
    const { start, end, bytes, bits_per_second: rate, retransmits, omitted } = one;
    const cells = [
      `${start.toFixed(2)}-${end.toFixed(2)} s`.padStart(14),
      formatSize(bytes).padStart(11),
      rateText(rate, unit).padStart(14),
    ];
    return [
      ...(options.cases.length > 1 ? [interval.case.padEnd(width)] : []),
      ...(arrow === "" ? [] : [arrow]),
      ...cells,
      ...state,
      ...(retransmits === undefined ? [] : [`${retransmits} retr`]),
      ...(omitted ? ["(omitted)"] : []),
    ].join("  ");
  };
  return reverse === undefined ? line(sum, "") : `${line(sum, "->")}\n${line(reverse, "<-")}`;
}

/** What was decided anew since the line before, and why; "" = nothing. Without one before: everything. */
export function decisionText(before: Interval | undefined, now: Interval): string {
  const { reasons } = now;
  const changes = [
    { name: "lanes", from: before?.streams_active, to: now.streams_active, text: String, reason: reasons.lanes, parts: 0 },
    { name: "chunk", from: before?.chunk_bytes, to: now.chunk_bytes, text: sizeText, reason: reasons.chunk, parts: 0 },
    { name: "window", from: before?.window_bytes, to: now.window_bytes, text: sizeText, reason: reasons.window, parts: WINDOW_PARTS },
    { name: "pace", from: before?.pace_bytes_per_second, to: now.pace_bytes_per_second, text: paceText, reason: reasons.pace, parts: 0 },
  ];
  return changes
    .filter(({ from, to, parts }) => from === undefined || Math.abs(to - from) * parts > from || (parts === 0 && to !== from))
    .map(({ name, from, to, text, reason }) => `${name} ${from === undefined ? "" : `${text(from)} -> `}${text(to)}: ${reason}`)
    .join("; ");
}

/** The last decisions. */
export function reasonsText({ results }: BenchDocument): string {
  const { reasons } = results.at(-1)!;
  const names = ["estimate", "lanes", "chunk", "window", "pace", "congestion"] as const;
  return names.map((name, index) => `${(index === 0 ? "why" : "").padEnd(7)}  ${name.padEnd(10)}  ${reasons[name]}`).join("\n");
}

/** A window that changes by less than a quarter is not told of. */
const WINDOW_PARTS = 4;

function lanesText(active: number, open: number): string {
  return active < open ? `${active} of ${open} lanes` : `${active} lane${active === 1 ? "" : "s"}`;
}

/** Bytes, where nobody needs the last of them. */
function sizeText(bytes: number): string {
  return formatSize(bytes < MiB ? bytes : Math.round(bytes / MiB) * MiB);
}

function paceText(bytesPerSecond: number): string {
  return bytesPerSecond === 0 ? "none" : rateText(bytesPerSecond * 8, "m");
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

/** Of a round trip: within a host as well as around the world. */
function milliseconds(microseconds: number): string {
  return (microseconds / 1000).toFixed(microseconds < 10_000 ? 2 : 1);
}

function microseconds(value: number | undefined): string {
  return value === undefined ? "-" : `${value.toFixed(1)} us`;
}
