/** What ten thousand strangers take from a good peer, as a Markdown table: npm run bench:hostile. */
import { availableParallelism, loadavg, release, type } from "node:os";
import { packageVersion } from "../transport/cli/package.ts";
import { HeldCrowd } from "./hostile-crowd.ts";
import { blockBytesOf } from "./layouts.ts";
import { CANONICAL } from "./models.ts";
import { closeEngine, type EngineSide, openEngine, Prompt } from "./pair.ts";
import { SidecarProcess } from "./sidecars.ts";
import { type Figure, markdown, writeResults } from "./suite-report.ts";
import { endBadly, readFlags } from "./usage.ts";
import { tlsFlags } from "./wan/certificates.ts";
import type { LayoutOrder } from "./workload.ts";

const NHD16: LayoutOrder = { order: "nhd", blockTokens: 16 };
const POOL_BYTES = 2 ** 30;
const HOST = "127.0.0.1";
const KEPT = 0.8;
const USAGE = `npm run bench:hostile -- [--count 10000] [--seconds 8] [--only plain|tls] [--write]

Two sidecars on this machine, the KV of a prompt going from one to the other again and again, alone, then while --count connections from fifty
addresses come to the holder's port at 2,000 a second, say nothing, garbage, half a preamble, half a TLS handshake or a byte a second, and come again
5 s after they were closed; then alone once more. Their process runs at nice 19: elsewhere it would take no processor from us. --write: the table
goes into bench/RESULTS.md between its marks.`;

await main();

async function main(): Promise<void> {
  const values = readFlags(USAGE, {
    count: { type: "string" },
    seconds: { type: "string" },
    only: { type: "string" },
    write: { type: "boolean" },
  });
  const [count, seconds] = [Number(values.count ?? 10_000), Number(values.seconds ?? 8)];
  if (!Number.isInteger(count) || count < 1 || !(seconds > 0)) endBadly("Expected numbers above 0 for --count and --seconds", USAGE);
  if (values.only !== undefined && !["plain", "tls"].includes(values.only)) endBadly("Expected plain or tls for --only", USAGE);
  const before = loadavg()[0]!;
  const figures: Figure[] = [];
  for (const kind of ["plain", "tls"]) {
    if (values.only !== undefined && values.only !== kind) continue;
    figures.push(...(await besideCrowd(kind, kind === "tls" ? tlsFlags([HOST]) : {}, count, seconds)));
  }
  const machine = `${type()} ${release()} ${process.arch}, ${availableParallelism()} CPUs, Node ${process.version}`;
  const day = new Date().toISOString().slice(0, 10);
  const head = `kvferry ${packageVersion()}, ${day}; ${machine}, load ${before.toFixed(1)} before; loopback, ${seconds} s each.`;
  const table = `${head}\n\n${markdown(figures)}\n`;
  process.stdout.write(table);
  if (values.write === true) writeResults("hostile", table);
}

async function besideCrowd(kind: string, flags: Readonly<Record<string, string>>, count: number, seconds: number): Promise<Figure[]> {
  const common = {
    poolBytes: POOL_BYTES,
    blockBytes: blockBytesOf(CANONICAL, NHD16.blockTokens),
    flags: { ...flags, "log-level": "error" },
  };
  const holder = await openEngine(await SidecarProcess.start({ ...common, name: "holder" }), CANONICAL, NHD16);
  const asker = await openEngine(
    await SidecarProcess.start({ ...common, name: "asker", peers: `holder=${holder.sidecar.address}` }),
    CANONICAL,
    NHD16,
  );
  const prompt = await Prompt.make(CANONICAL, holder, asker);
  const wrong = await prompt.verify(1);
  const first = await rate(prompt, seconds);
  const quiet = { bytes: holder.sidecar.residentBytesBesidePool(), descriptors: holder.sidecar.descriptors() };
  const crowd = HeldCrowd.start({ port: Number(holder.sidecar.address.split(":").at(-1)), count });
  await crowd.until(({ dialled }) => dialled >= count);
  const watch = watched(holder.sidecar);
  const beside = await rate(prompt, seconds);
  const wrongBeside = await prompt.verify(2);
  const newcomerSeconds = await firstTransfer(holder, common);
  const { bytes, descriptors } = watch();
  const { dialled, closed, failed } = crowd.report;
  await crowd.end();
  const second = await rate(prompt, seconds);
  const after = holder.sidecar.descriptors();
  for (const side of [asker, holder]) {
    await closeEngine(side);
    await side.sidecar.stop();
  }
  const alone = (first + second) / 2;
  const mib = (of: number): string => (of / 2 ** 20).toFixed(0);
  return [
    {
      name: `${kind}: the good peer beside ${count.toLocaleString("en")} connections`,
      measured:
        `${gbps(beside)} Gbit/s, ${(beside / alone).toFixed(2)} of what it has alone (${gbps(first)} before, ${gbps(second)} after), ` +
        `${wrong + wrongBeside} bytes wrong; ${dialled} connections made, ${closed} closed, ${failed} failed meanwhile`,
      wanted: `at least ${KEPT}`,
      met: beside >= KEPT * alone && wrong + wrongBeside === 0,
    },
    {
      name: `${kind}: the holder's memory beside its pool, and descriptors`,
      measured: `${mib(bytes)} MiB at most (${mib(quiet.bytes)} before), ${descriptors} descriptors at most (${quiet.descriptors} before, ${after} after)`,
      wanted: "bounded: at most 64 MiB more, and 320 descriptors",
      met: bytes - quiet.bytes <= 64 * 2 ** 20 && descriptors - quiet.descriptors <= 320,
    },
    {
      name: `${kind}: a new good peer's first transfer meanwhile`,
      measured: `${newcomerSeconds.toFixed(2)} s from its start of dialling to 256 MiB in place`,
      wanted: "",
      met: true,
    },
  ];
}

async function rate(prompt: Prompt, seconds: number): Promise<number> {
  const startMs = performance.now();
  let moved = 0;
  while (performance.now() - startMs < seconds * 1000) {
    await prompt.move();
    moved += prompt.bytes;
  }
  return (moved * 8e3) / (performance.now() - startMs);
}

async function firstTransfer(holder: EngineSide, common: Omit<Parameters<typeof SidecarProcess.start>[0], "name">): Promise<number> {
  const newcomer = await openEngine(await SidecarProcess.start({ ...common, name: "newcomer" }), CANONICAL, NHD16);
  const prompt = await Prompt.make(CANONICAL, holder, newcomer);
  const seconds = await prompt.move();
  await closeEngine(newcomer);
  await newcomer.sidecar.stop();
  return seconds;
}

/** Looks again and again; the most it saw, when it is asked. */
function watched(sidecar: SidecarProcess): () => { readonly bytes: number; readonly descriptors: number } {
  const most = { bytes: 0, descriptors: 0 };
  const timer = setInterval(() => {
    most.bytes = Math.max(most.bytes, sidecar.residentBytesBesidePool());
    most.descriptors = Math.max(most.descriptors, sidecar.descriptors());
  }, 100);
  return () => {
    clearInterval(timer);
    return most;
  };
}

function gbps(bitsPerSecond: number): string {
  return (bitsPerSecond / 1e9).toFixed(1);
}
