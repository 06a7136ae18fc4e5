/** The figures that are measured straight on a link: the canonical request beside its yardsticks, one block, unequal layouts. */
import type { BenchDocument, Comparison, Result } from "./document.ts";
import { parseOptions, type RawOptions } from "./options.ts";
import { Output } from "./output.ts";
import { runBench } from "./run.ts";
import type { Figure, SuiteContext } from "./suite-report.ts";
import { buildYardstick, runYardstick } from "./yardstick.ts";

/** Plain and TLS, each so often. */
const TLS_ROUNDS = 5;
const CANONICAL_TITLE = "2,048 tokens of Llama-3.1-8B, 8,192 x 32 KiB";

export async function linkFigures(context: SuiteContext): Promise<Figure[]> {
  const withCrc = await measure(context, "canonical, CRC on", { compare: "iperf3", time: String(context.seconds), iters: undefined });
  const withoutCrc = await measure(context, "canonical, CRC off", {
    compare: "raw",
    checksum: false,
    time: String(context.seconds),
    model: "llama3-8b",
  });
  const unequal = await measure(context, "unequal layouts", layoutFlags(context, "nhd16", "hnd32"));
  const equal = await measure(context, "equal layouts", layoutFlags(context, "nhd16", "nhd16"));
  return [
    ...canonicalFigures(withCrc, withoutCrc),
    await tlsFigure(context),
    ...(await blockFigures(context, withCrc.results[1]!)),
    {
      name: "unequal layouts (NHD 16 -> HND 32), link",
      measured:
        `${gbps(unequal.results[0]!)} Gbit/s, ${ratio(rate(unequal), rate(equal))} of equal layouts (${gbps(equal.results[0]!)}), ` +
        verified(unequal.results[0]!),
      wanted: "at least half of equal layouts, no byte wrong",
      met: rate(unequal) >= 0.5 * rate(equal) && [unequal, equal].every(isRight),
    },
  ];
}

function canonicalFigures(withCrc: BenchDocument, withoutCrc: BenchDocument): Figure[] {
  const result = withCrc.results[0]!;
  const beside = (document: BenchDocument, tool: string, streams: number): Comparison | undefined =>
    document.comparison.find((one) => one.tool === tool && one.streams === streams);
  const [single, four, raw] = [beside(withCrc, "iperf3", 1), beside(withCrc, "iperf3", 4), beside(withCrc, "raw", 4)];
  const rawPlain = beside(withoutCrc, "raw", 4);
  const cpu = result.cpu.seconds_per_gib;
  const rawCpu = raw?.cpu_seconds_per_gib ?? undefined;
  return [
    {
      name: `${CANONICAL_TITLE}, link, CRC on`,
      measured: `${gbps(result)} Gbit/s, ${verified(result)}`,
      wanted: "",
      met: isRight(withCrc),
    },
    against("of iperf3 -P 1", single, "at least 1.3x", (value) => value >= 1.3),
    against("of iperf3 -P 4", four, "printed", () => true),
    against("of raw C, 4 lanes", raw, "at least 0.8x", (value) => value >= 0.8),
    against("of raw C, 4 lanes, CRC off", rawPlain, "at least 0.92x", (value) => value >= 0.92),
    {
      name: "CPU of both ends, CRC on",
      measured: `${cpu.toFixed(2)} s/GiB${rawCpu === undefined ? "" : `, ${ratio(cpu, rawCpu)} of raw C (${rawCpu.toFixed(2)})`}`,
      wanted: "at most 1.3x raw C",
      met: rawCpu === undefined ? undefined : cpu <= 1.3 * rawCpu,
    },
  ];
}

/** The medians of rounds in turns: what else the machine does then weighs on both alike. */
async function tlsFigure(context: SuiteContext): Promise<Figure> {
  const [plain, tls]: [BenchDocument[], BenchDocument[]] = [[], []];
  for (let round = 1; round <= TLS_ROUNDS; round++) {
    const time = String(context.seconds);
    plain.push(await measure(context, `plain beside TLS, ${round} of ${TLS_ROUNDS}`, { time }));
    tls.push(await measure(context, `TLS, ${round} of ${TLS_ROUNDS}`, { time, tls: true }));
  }
  const [ours, theirs] = [medianOf(tls), medianOf(plain)];
  const openssl = process.versions.openssl ?? "";
  // OpenSSL 3.0 has AES-GCM for AVX2 at best; since 3.2 it uses wider registers where the CPU has them.
  const least = openssl.startsWith("3.0.") ? 0.4 : 0.55;
  return {
    name: "TLS 1.3 against plain, link, 4 lanes",
    measured:
      `${ratio(rate(ours), rate(theirs))} (${gbps(ours.results[0]!)} of ${gbps(theirs.results[0]!)} Gbit/s, in turns), ` +
      `${ours.results[0]!.cpu.seconds_per_gib.toFixed(2)} s/GiB of both ends, OpenSSL ${openssl}`,
    wanted: `at least ${least}x`,
    met: rate(ours) >= least * rate(theirs) && [...plain, ...tls].every(isRight),
  };
}

function medianOf(documents: readonly BenchDocument[]): BenchDocument {
  return [...documents].sort((a, b) => rate(a) - rate(b))[documents.length >> 1]!;
}

/** One 4 KiB block at a time; the yardstick's own latency beside it tells how idle the machine was. */
async function blockFigures(context: SuiteContext, result: Result): Promise<Figure[]> {
  const latency = result.latency_us!;
  const built = await buildYardstick();
  const raw =
    "program" in built
      ? await runYardstick(built.program, 4, { poolBytes: 2 ** 26, blockBytes: 4_096, batch: 1 }, Math.min(1, context.seconds))
      : undefined;
  const beside = raw === undefined ? "" : ` (raw C ${raw.p50Us.toFixed(0)} / ${raw.p99Us.toFixed(0)})`;
  return [
    {
      name: "one 4 KiB block on a standing grant, p50 / p99",
      measured: `${latency.p50.toFixed(0)} / ${latency.p99.toFixed(0)} us${beside}`,
      wanted: "under 150 / 500 us on an idle machine",
      met: latency.p50 < 150 && latency.p99 < 500,
    },
  ];
}

async function measure(context: SuiteContext, title: string, raw: RawOptions): Promise<BenchDocument> {
  context.say(title);
  // As the yardsticks have them, and as those before had them.
  const options = parseOptions({ link: context.link, logfile: "/dev/null", parallel: "4", chunk: "1MiB", ...raw });
  const output = new Output(options);
  try {
    const document = await runBench(options, { version: context.version, args: [], environment: {}, command: context.command, output });
    if (document.error !== null) throw new Error(`${title}: ${document.error.message}`);
    return document;
  } finally {
    output.close();
  }
}

function layoutFlags(context: SuiteContext, local: string, remote: string): RawOptions {
  return { layoutLocal: local, layoutRemote: remote, time: String(context.seconds) };
}

function against(name: string, comparison: Comparison | undefined, wanted: string, met: (ratio: number) => boolean): Figure {
  if (comparison === undefined) return { name, measured: "not measured: the tool is not here", wanted, met: undefined };
  const measured = `${comparison.ratio.toFixed(2)}x (${(comparison.bits_per_second / 1e9).toFixed(1)} Gbit/s, taking turns)`;
  return { name, measured, wanted, met: met(comparison.ratio) };
}

/** Every byte was looked at, and none was wrong. */
function isRight({ results }: BenchDocument): boolean {
  return results.every(({ n_wrong: wrong, verified_bytes: bytes }) => wrong === 0 && bytes > 0);
}

function rate(document: BenchDocument): number {
  return document.results[0]!.bw_avg_bits_per_second;
}

function gbps(result: Result): string {
  return (result.bw_avg_bits_per_second / 1e9).toFixed(1);
}

function ratio(ours: number, theirs: number): string {
  return `${(ours / theirs).toFixed(2)}x`;
}

function verified(result: Result): string {
  return result.n_wrong === 0
    ? `${(result.verified_bytes / 2 ** 20).toFixed(0)} MiB verified byte by byte`
    : `${result.n_wrong} BYTES WRONG`;
}
