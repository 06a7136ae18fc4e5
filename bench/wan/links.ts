/** 256 MiB of paged KV over four links: warm, cold, after a hint, and for long, beside what others reach there. */
import type { Figure } from "../suite-report.ts";
import { median } from "../statistics.ts";
import type { Impairment } from "../impairment.ts";
import { type Ends, pause, withEnds } from "./ends.ts";
import { iperf3Rates, rivalTimes } from "./rivals.ts";
import type { WanContext } from "./context.ts";

export interface WanLink {
  readonly title: string;
  readonly impairment: Impairment;
}

const CANONICAL_BITS = 256 * 2 ** 20 * 8;
const HINT_MS = 300;

export const LINKS: readonly WanLink[] = [
  { title: "1 Gbit/s, 50 ms, no loss", impairment: { profile: "continental", keys: { loss: 0 } } },
  { title: "1 Gbit/s, 50 ms, 0.1 %", impairment: { profile: "continental", keys: {} } },
  { title: "1 Gbit/s, 50 ms, 1 %", impairment: { profile: "lossy", keys: {} } },
  { title: "4 Gbit/s, 20 ms, 0.01 %", impairment: { profile: "regional", keys: {} } },
];

export async function linkFigures(context: WanContext): Promise<Figure[]> {
  const figures: Figure[] = [];
  for (const link of LINKS) figures.push(...(await one(context, link)));
  return figures;
}

async function one(context: WanContext, { title, impairment }: WanLink): Promise<Figure[]> {
  const { say, repetitions } = context;
  say(`${title}: iperf3`);
  const iperf3 = await iperf3Rates(impairment, "", [1, 4, 8], 5);
  const best = Math.max(...iperf3.values());
  say(`${title}: NIXL, Mooncake`);
  const nixl = await rivalTimes("nixl", impairment, "", { seconds: 10, timeoutMs: 90_000, sittings: Math.min(repetitions, 3) }, say);
  const mooncake = context.quick ? undefined : await rivalTimes("mooncake", impairment, "", { seconds: 1, timeoutMs: 240_000 }, say);
  say(`${title}: kvferry`);
  const warm = await withEnds(impairment, context.ends, async (ends) => {
    const times = await warmTimes(ends, repetitions);
    const prompt = await ends.prompt();
    const wrong = await prompt.verify(7);
    const long = await longRate(ends, context.quick ? 5 : 15);
    return { seconds: median(times), wrong, long };
  });
  const strangers = { ...context.ends, acquainted: false };
  const cold: number[] = [];
  const hinted: number[] = [];
  for (let turn = 0; turn < repetitions; turn++) {
    cold.push(await withEnds(impairment, strangers, async (ends) => (await ends.prompt()).move()));
    hinted.push(await withEnds(impairment, strangers, movedAfterHint));
  }
  const others = [...iperf3].map(([streams, rate]) => `${rate.toFixed(3)} (-P ${streams})`).join(", ");
  const clean = impairment.keys["loss"] === 0;
  const ours = gbps(warm.seconds);
  const wanted = impairment.profile === "lossy" ? 0.9 : (clean ? 0.985 : 1) * (nixl === undefined ? Number.NaN : gbps(nixl.warm));
  const coldWanted = (clean ? 0.95 : 0.9) * (nixl?.cold ?? Number.NaN);
  return [
    { name: `${title}: iperf3, 5 s, start included`, measured: `${others} Gbit/s`, wanted: "", met: true },
    { name: `${title}: NIXL, warm (cold)`, measured: timesText(nixl), wanted: "", met: true },
    {
      name: `${title}: Mooncake, 16 lanes, warm (cold)`,
      measured: context.quick ? "not asked" : timesText(mooncake),
      wanted: "",
      met: true,
    },
    {
      name: `${title}: kvferry, warm`,
      measured: `${ours.toFixed(3)} Gbit/s (${warm.seconds.toFixed(3)} s), ${warm.wrong} bytes wrong`,
      wanted: impairment.profile === "lossy" ? "at least 0.90" : `at least ${wanted.toFixed(3)} (${clean ? "0.985 of" : ""} NIXL)`,
      met: Number.isNaN(wanted) ? undefined : ours >= wanted && warm.wrong === 0,
    },
    {
      name: `${title}: kvferry, cold`,
      measured: `${median(cold).toFixed(2)} s`,
      wanted: `at most ${coldWanted.toFixed(2)} s (${clean ? "0.95" : "0.90"} of NIXL)`,
      met: Number.isNaN(coldWanted) ? undefined : median(cold) <= coldWanted,
    },
    {
      name: `${title}: kvferry, cold, with a hint 300 ms before`,
      measured: `${median(hinted).toFixed(2)} s, ${(median(hinted) / warm.seconds).toFixed(3)} of warm`,
      wanted: "within 5 % of warm",
      met: median(hinted) <= 1.05 * warm.seconds,
    },
    {
      name: `${title}: kvferry, long run`,
      measured: `${warm.long.toFixed(3)} Gbit/s, ${(warm.long / best).toFixed(3)} of iperf3's best`,
      wanted: "at least 0.98",
      met: warm.long >= 0.98 * best,
    },
  ];
}

/** Seconds of the first transfer between strangers, of which the asker was told 300 ms before. */
async function movedAfterHint(ends: Ends): Promise<number> {
  const prompt = await ends.prompt();
  const handle = await prompt.offer();
  await ends.asker.ferry.prewarm({ peer: ends.holder.sidecar.address, bytes: CANONICAL_BITS / 8, inMs: HINT_MS, direction: "in" });
  await pause(HINT_MS);
  const startMs = performance.now();
  await prompt.fetch(handle);
  return (performance.now() - startMs) / 1000;
}

/** The first six are not counted: in these seconds the path comes to be known, and lanes that it does not need go. */
export async function warmTimes(ends: Ends, count: number): Promise<number[]> {
  const prompt = await ends.prompt();
  const times: number[] = [];
  for (let turn = -6; turn < count; turn++) {
    const seconds = await prompt.move({ deadlineMs: 120_000 });
    if (turn >= 0) times.push(seconds);
  }
  await prompt.free();
  return times;
}

/** Gbit/s of two prompts that are moved again and again, so that there is always one under way. */
export async function longRate(ends: Ends, seconds: number): Promise<number> {
  const prompts = [await ends.prompt(), await ends.prompt()];
  const startMs = performance.now();
  let bits = 0;
  let endMs = startMs;
  await Promise.all(
    prompts.map(async (prompt) => {
      while (performance.now() - startMs < seconds * 1000) {
        await prompt.move({ deadlineMs: 120_000 });
        bits += CANONICAL_BITS;
        endMs = performance.now();
      }
    }),
  );
  for (const prompt of prompts) await prompt.free();
  return bits / 1e6 / (endMs - startMs);
}

function gbps(seconds: number): number {
  return CANONICAL_BITS / 1e9 / seconds;
}

function timesText(times: { readonly warm: number; readonly cold: number } | undefined): string {
  return times === undefined ? "did not finish" : `${gbps(times.warm).toFixed(3)} Gbit/s (${times.cold.toFixed(2)} s)`;
}
