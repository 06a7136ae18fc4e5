/**
 * Every figure in one go, as a Markdown table: npm run bench, npm run bench:peers (with --peers).
 */
import { existsSync } from "node:fs";
import { availableParallelism, loadavg, release, type } from "node:os";
import { join } from "node:path";
import { packageVersion } from "../transport/cli/package.ts";
import { engineFigures } from "./figures-engine.ts";
import { linkFigures } from "./figures-link.ts";
import { peerFigures } from "./figures-peers.ts";
import { loaderFlags } from "./node-flags.ts";
import { type Figure, markdown, type SuiteContext, writeResults } from "./suite-report.ts";
import { endBadly, readFlags } from "./usage.ts";

const PARTS = ["link", "engine", "peers"];
const LINKS = ["auto", "tcp", "js"];
const USAGE = `npm run bench -- [--quick] [--seconds N] [--only ${PARTS.join("|")}] [--link ${LINKS.join("|")}] [--write]
npm run bench:peers                  the same with Mooncake and NIXL beside it, which it installs into a cache folder

--quick: half a second each, to see that it works. --write: the table goes into bench/RESULTS.md between its marks.`;

await main();

async function main(): Promise<void> {
  const values = flags();
  const context: SuiteContext = {
    version: packageVersion(),
    command: [process.execPath, ...loaderFlags(), cliPath()],
    link: values.link ?? "auto",
    seconds: Number(values.seconds ?? (values.quick === true ? 0.5 : 6)),
    transfers: values.quick === true ? 200 : 10_000,
    say: (line) => process.stderr.write(`${line}\n`),
  };
  const before = loadavg()[0]!;
  const wants = (part: string): boolean => values.only === undefined || values.only === part;
  const figures: Figure[] = [];
  // A part that fails is a row of the table: the others are measured all the same.
  const part = async (name: string, measure: () => Promise<Figure[]>): Promise<void> => {
    try {
      figures.push(...(await measure()));
    } catch (error) {
      process.exitCode = 1;
      process.stderr.write(`${(error as Error).stack}\n`);
      figures.push({ name, measured: `failed: ${(error as Error).message.replaceAll("|", "/").slice(0, 200)}`, wanted: "", met: false });
    }
  };
  if (wants("link") || values.peers === true) await part("straight on a link", () => linkFigures(context));
  if (wants("engine")) await part("through the engine API", () => engineFigures(context));
  if (values.peers === true || values.only === "peers") await part("peers", () => peerFigures(context, oursOf(figures)));
  const machine = `${type()} ${release()} ${process.arch}, ${availableParallelism()} CPUs, Node ${process.version}`;
  const day = new Date().toISOString().slice(0, 10);
  const head = `kvferry ${context.version}, ${day}; ${machine}, load ${before.toFixed(1)} before; loopback, two processes.`;
  const table = `${head}\n\n${markdown(figures)}\n`;
  process.stdout.write(table);
  if (values.write === true) writeResults("suite", table);
}

function flags() {
  const values = readFlags(USAGE, {
    peers: { type: "boolean" },
    quick: { type: "boolean" },
    seconds: { type: "string" },
    only: { type: "string" },
    link: { type: "string" },
    write: { type: "boolean" },
  });
  if (values.only !== undefined && !PARTS.includes(values.only)) endBadly(`Expected ${PARTS.join(", ")} for --only`, USAGE);
  if (values.link !== undefined && !LINKS.includes(values.link)) endBadly(`Expected ${LINKS.join(", ")} for --link`, USAGE);
  if (values.seconds !== undefined && !(Number(values.seconds) > 0)) endBadly("Expected a number above 0 for --seconds", USAGE);
  return values;
}

/** Gbit/s of the canonical request, out of its own line. */
function oursOf(measured: readonly Figure[]): number {
  const line = measured.find(({ name }) => name.endsWith("link, CRC on"));
  return Number(/^([\d.]+) Gbit/.exec(line?.measured ?? "")?.[1] ?? Number.NaN) * 1e9;
}

function cliPath(): string {
  const source = join(import.meta.dirname, "..", "transport", "cli.ts");
  return existsSync(source) ? source : join(import.meta.dirname, "..", "transport", "cli.js");
}
