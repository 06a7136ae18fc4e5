/**
 * `npm run bench:codec`: how fast the coders of native/codec are on one core, each beside a memcpy in the same rounds (native/codec.cpp). Compiled on
 * demand with the addon's optimisation; needs the sources, so a checkout or the package.
 */
import { readdirSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { benchFile } from "./files.ts";
import { runProgram } from "./process.ts";
import { align } from "./text.ts";
import { readFlags } from "./usage.ts";

const USAGE = `npm run bench:codec -- [--kv FILE.safetensors] [--json]

Median of 9 rounds on one core, in bytes of bf16 a second, beside memcpy of 256 MiB. --kv: real values (bf16) for the lossless coder.`;

interface Line {
  readonly name: string;
  readonly isa?: string;
  readonly bytesPerSecond: number;
  readonly timesSlowerThanMemcpy?: number;
  readonly bitsPerValue?: number;
}

const HEAD = ["coder", "ISA", "GB/s of bf16", "memcpy / coder", "bits a value"];

const flags = readFlags(USAGE, { kv: { type: "string" }, json: { type: "boolean", default: false } });
const lines = await measure(flags.kv === undefined ? [] : [flags.kv]);
process.stdout.write(flags.json ? `${JSON.stringify({ results: lines }, null, 1)}\n` : `${align([HEAD, ...lines.map(rowOf)])}\n`);

async function measure(args: readonly string[]): Promise<Line[]> {
  const source = benchFile("native/codec.cpp");
  if (source === undefined) throw new Error("bench/native/codec.cpp is not in this package");
  const native = join(dirname(source), "..", "..", "native");
  const coders = readdirSync(join(native, "codec")).filter((name) => name.endsWith(".cpp"));
  const folder = await mkdtemp(join(tmpdir(), "kvferry-bench-codec-"));
  try {
    const program = join(folder, "codec");
    const sources = [source, ...coders.map((name) => join(native, "codec", name))];
    const built = await runProgram(
      "g++",
      ["-std=c++20", "-O3", "-fno-exceptions", `-I${native}`, "-o", program, ...sources, "-ldl"],
      240_000,
    );
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

function rowOf({ name, isa = "", bytesPerSecond, timesSlowerThanMemcpy, bitsPerValue }: Line): string[] {
  return [name, isa, (bytesPerSecond / 1e9).toFixed(2), timesSlowerThanMemcpy?.toFixed(2) ?? "1", bitsPerValue?.toFixed(3) ?? ""];
}
