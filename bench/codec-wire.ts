/**
 * What compression makes of real prompts on a slow link, as a Markdown table: npm run bench:codec-wire. Six prompts go one after the other between two
 * sidecars at the ends of an emulated link, as they are and by a profile in turns; wanted is what the ratio promises, but for a tenth.
 */
import { availableParallelism, loadavg, release, type } from "node:os";
import { packageVersion } from "../transport/cli/package.ts";
import { Candidates, MoveTimes, Sides } from "./codec-sides.ts";
import { type Impairment, parseImpairment } from "./impairment.ts";
import { type KvPrompts, readPrompts } from "./kv-dump.ts";
import type { HeldLink } from "./lab.ts";
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

async function compared(kv: KvPrompts, plain: Sides, coded: Sides, profile: string, rounds: number): Promise<Figure[]> {
  const [before, after] = [new MoveTimes(), new MoveTimes()];
  const ways = [
    [plain, before],
    [coded, after],
  ] as const;
  for (let turn = -WARM_ROUNDS; turn < rounds; turn++)
    for (const [sides, times] of ways)
      for (const prompt of kv.prompts) {
        const move = await sides.move(prompt);
        if (turn >= 0) times.add(move);
      }
  let wrong = 0;
  for (const prompt of kv.prompts) wrong += (await coded.verify(prompt)).wrong;
  const ratio = after.bytes / after.wireBytes;
  const bound = before.seconds / (PART * ratio);
  const gbps = ({ bytes, seconds }: MoveTimes): string => ((bytes / rounds / seconds) * 8e-9).toFixed(2);
  const rates = `${gbps(after)} Gbit/s of KV instead of ${gbps(before)}`;
  return [
    {
      name: `${profile}: ratio ${ratio.toFixed(2)}${after.stored > 0 ? `, ${after.stored} of ${rounds * kv.prompts.length} stored` : ""}`,
      measured: `${ms(after.seconds)} ms instead of ${ms(before.seconds)} (${rates}), ${(before.seconds / after.seconds).toFixed(2)} x; ${wrong} wrong`,
      wanted: `less than ${ms(bound)} ms (${PART} of the ratio)`,
      met: after.seconds < bound && wrong === 0,
    },
  ];
}

function ms(seconds: number): string {
  return (seconds * 1000).toFixed(0);
}
