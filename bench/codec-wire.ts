/**
 * What compression makes of real prompts on a slow link, as a Markdown table: npm run bench:codec-wire. Six prompts go one after the other between two
 * sidecars at the ends of an emulated link, as they are and by a profile in turns; wanted is what the ratio promises, but for a tenth.
 */
import { availableParallelism, loadavg, release, type } from "node:os";
import { packageVersion } from "../transport/cli/package.ts";
import { Candidates, Sides } from "./codec-sides.ts";
import { type Impairment, parseImpairment } from "./impairment.ts";
import { type KvPrompts, readPrompts } from "./kv-dump.ts";
import type { HeldLink } from "./lab.ts";
import { median } from "./statistics.ts";
import { type Figure, markdown, writeResults } from "./suite-report.ts";
import { endBadly, readFlags } from "./usage.ts";
import { withLink } from "./wan/ends.ts";
import type { LayoutOrder } from "./workload.ts";

const USAGE = `npm run bench:codec-wire -- --kv FILE[,FILE...] --calibration FILE [--profiles NAME,...] [--impair WHAT] [--rounds N] [--write]

--kv: dumps of prompts (safetensors) that --calibration was not made of. Prompts go in turns, as they are and by each profile (default:
lossless,cpu-near,cpu-fast), over a link of its own (bench/lab/wan; root, /dev/net/tun, iproute2, a C compiler; default: rate=1000, which is
1 Gbit/s without delay). Takes a minute, in which nothing else should run. --write: the table goes into bench/RESULTS.md between its marks.`;

const NHD16: LayoutOrder = { order: "nhd", blockTokens: 16 };
const ROUNDS = 7;
const WARM_ROUNDS = 2;
const PART = 0.9;

await main();

async function main(): Promise<void> {
  const flags = readFlags(USAGE, {
    kv: { type: "string" },
    calibration: { type: "string" },
    profiles: { type: "string", default: "lossless,cpu-near,cpu-fast" },
    impair: { type: "string", default: "rate=1000" },
    rounds: { type: "string", default: String(ROUNDS) },
    write: { type: "boolean", default: false },
  });
  const { kv: files, calibration } = flags;
  if (files === undefined || calibration === undefined) endBadly("Expected --kv and --calibration", USAGE);
  const rounds = Number(flags.rounds);
  if (!Number.isInteger(rounds) || rounds < 1) endBadly("Expected a number from 1 for --rounds", USAGE);
  const before = loadavg()[0]!;
  const kv = readPrompts(files.split(","), NHD16.blockTokens);
  const impairment = parseImpairment(flags.impair);
  const figures: Figure[] = [];
  for (const profile of flags.profiles.split(",")) figures.push(...(await figuresOf(kv, { profile, calibration }, impairment, rounds)));
  const machine = `${type()} ${release()} ${process.arch}, ${availableParallelism()} CPUs, Node ${process.version}`;
  const day = new Date().toISOString().slice(0, 10);
  const what = `${kv.prompts.length} prompts of ${kv.slice.tokens} tokens, emulated link (${flags.impair})`;
  const table = `kvferry ${packageVersion()}, ${day}; ${machine}, load ${before.toFixed(1)} before; ${what}, medians of ${rounds}.\n\n${markdown(figures)}\n`;
  process.stdout.write(table);
  if (flags.write) writeResults("codec-wire", table);
  if (figures.some(({ met }) => met === false)) process.exitCode = 1;
}

interface Wish {
  readonly profile: string;
  readonly calibration: string;
}

function figuresOf(kv: KvPrompts, wish: Wish, impairment: Impairment, rounds: number): Promise<Figure[]> {
  return withLink(impairment, "", async (link) => Promise.race([inTurns(kv, wish, link, rounds), link.lost]));
}

async function inTurns(kv: KvPrompts, wish: Wish, link: HeldLink, rounds: number): Promise<Figure[]> {
  const open = (profile: string) =>
    Sides.open({
      ...{ kv, link, holderOrder: NHD16, askerOrder: NHD16, flags: { insecure: "true" } },
      candidates: new Candidates({ ...wish, profile }),
    });
  const plain = await open("none");
  try {
    const coded = await open(wish.profile);
    try {
      return await compared(kv, plain, coded, wish.profile, rounds);
    } finally {
      await coded.close();
    }
  } finally {
    await plain.close();
  }
}

/** All prompts once. */
async function round(sides: Sides, kv: KvPrompts): Promise<{ seconds: number; bytes: number; wireBytes: number; stored: number }> {
  const sum = { seconds: 0, bytes: 0, wireBytes: 0, stored: 0 };
  for (const prompt of kv.prompts) {
    const { seconds, report } = await sides.move(prompt);
    sum.seconds += seconds;
    sum.bytes += report.bytes;
    sum.wireBytes += report.wireBytes;
    if (report.profile === "") sum.stored += 1;
  }
  return sum;
}

async function compared(kv: KvPrompts, plain: Sides, coded: Sides, profile: string, rounds: number): Promise<Figure[]> {
  for (let turn = 0; turn < WARM_ROUNDS; turn++) for (const sides of [plain, coded]) await round(sides, kv);
  const [plainTimes, codedTimes]: [number[], number[]] = [[], []];
  let [bytes, wireBytes, stored] = [0, 0, 0];
  for (let turn = 0; turn < rounds; turn++) {
    plainTimes.push((await round(plain, kv)).seconds);
    const once = await round(coded, kv);
    codedTimes.push(once.seconds);
    bytes += once.bytes;
    wireBytes += once.wireBytes;
    stored += once.stored;
  }
  let wrong = 0;
  for (const prompt of kv.prompts) wrong += (await coded.verify(prompt)).wrong;
  const [before, after, ratio] = [median(plainTimes), median(codedTimes), bytes / wireBytes];
  const bound = before / (PART * ratio);
  const gbps = (seconds: number): string => ((bytes / rounds / seconds) * 8e-9).toFixed(2);
  return [
    {
      name: `${profile}: ratio ${ratio.toFixed(2)}${stored > 0 ? `, ${stored} of ${rounds * kv.prompts.length} stored` : ""}`,
      measured: `${ms(after)} ms instead of ${ms(before)} (${gbps(after)} Gbit/s of KV instead of ${gbps(before)}), ${(before / after).toFixed(2)} x; ${wrong} wrong`,
      wanted: `less than ${ms(bound)} ms (${PART} of the ratio)`,
      met: after < bound && wrong === 0,
    },
  ];
}

function ms(seconds: number): string {
  return (seconds * 1000).toFixed(0);
}
