/**
 * `npm run bench:codec`: how fast native/codec is on one core, profiles and the coders by themselves, each beside a memcpy in the same rounds (native/codec.cpp).
 * Compiled on demand with the addon's optimisation; needs the sources, so a checkout or the package.
 */
import { readdirSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { cpus, loadavg, tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { TensorFile } from "../transport/config/tensor-file.ts";
import { benchFile } from "./files.ts";
import { runProgram } from "./process.ts";
import { writeResults } from "./suite-report.ts";
import { align } from "./text.ts";
import { endBadly, readFlags } from "./usage.ts";

const USAGE = `npm run bench:codec -- [--kv FILE.safetensors] [--isa NAME[,NAME]] [--json] [--write]

Median of 9 rounds on one core, in bytes of bf16 a second, beside memcpy of 256 MiB: how many times slower than that.
--kv: real values (bf16). --isa: avx512, avx2, scalar; else all of this CPU. --write: the table goes to bench/RESULTS.md.`;

interface Line {
  readonly name: string;
  readonly isa?: string;
  /** Of chunks: what was done to them. */
  readonly way?: "" | "codec" | "crc" | "both" | "verified";
  readonly bytesPerSecond: number;
  readonly timesSlowerThanMemcpy?: number;
  readonly bitsPerValue?: number;
}

/** How many times slower than memcpy a case may be, with the best instructions there are. */
const WANTED: Readonly<Record<string, number>> = {
  "int8 encode": 3,
  "int8 decode": 2,
  "int4 encode": 3,
  "int4 decode": 2,
  "cpu-fast encode": 14,
  "cpu-fast decode": 10,
  "lossless encode": 14,
  "lossless decode": 8,
};
/** What is left of the slower of codec and CRC32C where chunks go through both. */
const TOGETHER_WANTED = 0.9;
const FLAGS = ["-std=c++20", "-O3", "-fno-exceptions", "-ffp-contract=off", "-fno-trapping-math", "-fno-math-errno"];

const flags = readFlags(USAGE, {
  kv: { type: "string" },
  isa: { type: "string", default: "all" },
  json: { type: "boolean", default: false },
  write: { type: "boolean", default: false },
});
const load = loadavg()[0]!;
const lines = await measure([flags.isa, ...(flags.kv === undefined ? [] : placeOf(flags.kv))]);
const rows = tableOf(lines.filter(({ way }) => !way));
const chunkRows = chunkTableOf(lines.filter(({ way }) => way));
process.stdout.write(flags.json ? `${JSON.stringify({ results: lines }, null, 1)}\n` : `${align(rows)}\n\n${align(chunkRows)}\n`);
if (flags.write) writeResults("codec", markdown(lines, rows, chunkRows));

async function measure(args: readonly string[]): Promise<Line[]> {
  const source = benchFile("native/codec.cpp");
  if (source === undefined) throw new Error("bench/native/codec.cpp is not in this package");
  const native = join(dirname(source), "..", "..", "native");
  const coders = readdirSync(join(native, "codec")).filter((name) => name.endsWith(".cpp"));
  const folder = await mkdtemp(join(tmpdir(), "kvferry-bench-codec-"));
  try {
    const program = join(folder, "codec");
    const sources = [source, ...coders.map((name) => join(native, "codec", name)), join(native, "core/crc32c.cpp")];
    const built = await runProgram("g++", [...FLAGS, `-I${native}`, "-o", program, ...sources, "-ldl"], 240_000);
    if (built.code !== 0) throw new Error(built.stderr);
    const ran = await runProgram(program, args, 240_000);
    if (ran.code !== 0) throw new Error(`the measuring program ended with ${ran.code} ${ran.stderr}`);
    return ran.stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as Line);
  } finally {
    await rm(folder, { recursive: true });
  }
}

/** Of the file's values. */
function placeOf(path: string): string[] {
  const file = new TensorFile(path);
  const { dtype, offset, bytes } = file.tensor("kv");
  file.close();
  if (dtype !== "BF16") endBadly(`Expected kv in BF16 in ${path}, not in ${dtype}`, USAGE);
  return [path, String(offset), String(bytes)];
}

/** A row for each case, a column for each instruction set, the best first. */
function tableOf(all: readonly Line[]): string[][] {
  const isas = [...new Set(all.flatMap(({ isa }) => isa ?? []))];
  const names = [...new Set(all.flatMap(({ name, isa }) => (isa === undefined ? [] : name)))];
  const body = names.map((name) => {
    const found = isas.map((isa) => all.find((line) => line.name === name && line.isa === isa)!);
    const [best] = found;
    const cells = found.map(({ timesSlowerThanMemcpy }) => timesSlowerThanMemcpy!.toFixed(2));
    return [name, (best!.bytesPerSecond / 1e9).toFixed(2), ...cells, WANTED[name]?.toString() ?? "-", best!.bitsPerValue!.toFixed(2)];
  });
  return [["", "GB/s of bf16", ...isas, "wanted at most", "bits a value"], ...body];
}

/** A row for each profile and direction: GB/s of bf16, and what is left of the slower one's. */
function chunkTableOf(all: readonly Line[]): string[][] {
  const names = [...new Set(all.map(({ name }) => name))];
  const body = names.map((name) => {
    const rate = (way: Line["way"]): number => all.find((line) => line.name === name && line.way === way)!.bytesPerSecond / 1e9;
    const [codec, crc, both, verified] = [rate("codec"), rate("crc"), rate("both"), rate("verified")];
    const slower = Math.min(codec, crc);
    return [
      ...[name, codec.toFixed(2), crc.toFixed(1), both.toFixed(2), (both / slower).toFixed(2), String(TOGETHER_WANTED)],
      ...[verified.toFixed(2), (verified / slower).toFixed(2)],
    ];
  });
  return [["", "codec", "CRC32C", "both", "of the slower", "wanted at least", "verified", "of the slower"], ...body];
}

function markdownTable([head, ...body]: readonly (readonly string[])[]): string {
  const row = (cells: readonly string[]): string => `| ${cells.join(" | ")} |\n`;
  return `${row(head!)}${row(head!.map(() => "---"))}${body.map(row).join("")}`;
}

function markdown(all: readonly Line[], rows: readonly (readonly string[])[], chunkRows: readonly (readonly string[])[]): string {
  const memcpy = (all.find(({ isa }) => isa === undefined)!.bytesPerSecond / 1e9).toFixed(2);
  const values = flags.kv === undefined ? "made values" : `values of ${basename(flags.kv)}`;
  const day = new Date().toISOString().slice(0, 10);
  return (
    `${day}, ${cpus()[0]!.model.trim()}, load ${load.toFixed(1)} before; one thread, median of nine rounds in turns with memcpy of 256 MiB ` +
    `(${memcpy} GB/s), ${values}, in bytes of bf16: GB/s with the\nbest instructions, and how many times slower than memcpy. ` +
    `Tiles are 512 tokens of 3 heads of 64 channels, all in one thread; all instruction sets give the same bytes.\n\n` +
    `${markdownTable(rows)}\nChunks of 1 MiB as lanes code them, GB/s of bf16 with the best instructions: the codec alone, CRC32C of what travels alone, both, ` +
    `and both where blocks\ncarry a checksum of what they decode to (\`--verify-decoded\`: an encoder that loses something decodes as well).\n\n` +
    `${markdownTable(chunkRows)}`
  );
}
