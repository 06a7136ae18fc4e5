/** Every figure over emulated WAN links, beside what others reach there, as a Markdown table: npm run bench:wan. */
import { availableParallelism, loadavg, release, type } from "node:os";
import { packageVersion } from "../transport/cli/package.ts";
import { type Figure, markdown, writeResults } from "./suite-report.ts";
import { endBadly, readFlags } from "./usage.ts";
import { tlsFlags } from "./wan/certificates.ts";
import { changeFigures } from "./wan/changes.ts";
import { classFigures } from "./wan/classes.ts";
import type { WanContext } from "./wan/context.ts";
import { cubicFigures } from "./wan/cubic.ts";
import { linkFigures } from "./wan/links.ts";

const PARTS: Readonly<Record<string, (context: WanContext) => Promise<Figure[]>>> = {
  links: linkFigures,
  cubic: cubicFigures,
  changes: changeFigures,
  classes: classFigures,
};
const USAGE = `npm run bench:wan -- [--quick] [--only ${Object.keys(PARTS).join("|")}] [--repetitions N] [--plain] [--write]

Both ends on this machine, at the ends of an emulated link (bench/lab/wan; root, /dev/net/tun, iproute2, a C compiler), with iperf3, Mooncake
and NIXL on the same links in the same sitting. Takes about 40 minutes, in which nothing else should run. --quick: fewer turns, no Mooncake.
--plain: kvferry without TLS. --write: the table goes into bench/RESULTS.md between its marks.`;

await main();

async function main(): Promise<void> {
  const values = readFlags(USAGE, {
    quick: { type: "boolean" },
    only: { type: "string" },
    repetitions: { type: "string" },
    plain: { type: "boolean" },
    write: { type: "boolean" },
  });
  const wanted = values.only?.split(",") ?? Object.keys(PARTS);
  const unknown = wanted.find((name) => PARTS[name] === undefined);
  if (unknown !== undefined) endBadly(`Expected ${Object.keys(PARTS).join(", ")} for --only but received ${unknown}`, USAGE);
  const repetitions = Number(values.repetitions ?? (values.quick === true ? 2 : 5));
  if (!Number.isInteger(repetitions) || repetitions < 1) endBadly("Expected a number from 1 for --repetitions", USAGE);
  const context: WanContext = {
    repetitions,
    quick: values.quick === true,
    ends: { flags: values.plain === true ? { insecure: "true" } : tlsFlags() },
    say: (line) => process.stderr.write(`${line}\n`),
  };
  const before = loadavg()[0]!;
  const figures: Figure[] = [];
  for (const name of wanted) {
    try {
      figures.push(...(await PARTS[name]!(context)));
    } catch (error) {
      // A part that fails is a row of the table: the others are measured all the same.
      process.exitCode = 1;
      process.stderr.write(`${(error as Error).stack}\n`);
      figures.push({ name, measured: `failed: ${(error as Error).message.replaceAll("|", "/").slice(0, 200)}`, wanted: "", met: false });
    }
  }
  const machine = `${type()} ${release()} ${process.arch}, ${availableParallelism()} CPUs, Node ${process.version}`;
  const day = new Date().toISOString().slice(0, 10);
  const head = `kvferry ${packageVersion()}, ${day}; ${machine}, load ${before.toFixed(1)} before; emulated links, medians of ${repetitions}.`;
  const table = `${head}\n\n${markdown(figures)}\n`;
  process.stdout.write(table);
  if (values.write === true) writeResults("wan", table);
}
