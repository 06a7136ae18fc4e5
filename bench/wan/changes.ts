/** Links that change while KV moves: a recorded trace, steps, a blackout; links that are unequal or unruly; a cap. */
import { readFileSync } from "node:fs";
import { benchFile } from "../files.ts";
import type { Figure } from "../suite-report.ts";
import { median } from "../statistics.ts";
import type { WanContext } from "./context.ts";
import { type Ends, pause, withEnds } from "./ends.ts";
import { longRate, warmTimes } from "./links.ts";

const CANONICAL_BITS = 256 * 2 ** 20 * 8;
const TRACE_SECONDS = 60;
const TRACE_SCALE = 0.025;
/** What TCP over IPv4 with time stamps leaves of a packet of 1,500 bytes: the lab counts packets. */
const PAYLOAD_PART = 1_448 / 1_500;

export async function changeFigures(context: WanContext): Promise<Figure[]> {
  return [
    await trace(context),
    ...(await steps(context)),
    await blackout(context),
    await asymmetric(context),
    await bursty(context),
    await capped(context),
  ];
}

/** Two prompts by turns for as long as the trace lasts; what has arrived at its end counts, also of what is under way. */
async function trace({ ends: options, say }: WanContext): Promise<Figure> {
  say("bandwidth that follows the recorded trace");
  const { bits, seconds } = await withEnds({ profile: "congested", keys: {} }, options, async (ends) => {
    const before = (await ends.asker.ferry.stats()).bytesReceived;
    const startMs = performance.now();
    await longRate(ends, TRACE_SECONDS);
    return { bits: ((await ends.asker.ferry.stats()).bytesReceived - before) * 8, seconds: (performance.now() - startMs) / 1000 };
  });
  // The link began a few seconds before the first transfer: over whole turns of the trace its mean is what counts.
  const share = bits / 1e9 / seconds / (traceMean() * PAYLOAD_PART);
  return {
    name: "bandwidth that follows the recorded trace (congested)",
    measured: `${(bits / 1e9 / seconds).toFixed(3)} Gbit/s over ${seconds.toFixed(0)} s, ${share.toFixed(3)} of its integral`,
    wanted: "at least 0.92",
    met: share >= 0.92,
  };
}

function traceMean(): number {
  const file = benchFile("lab/wan/bandwidth_trace.csv");
  if (file === undefined) throw new Error("bench/lab/wan/bandwidth_trace.csv is not in this package");
  const rates = readFileSync(file, "utf8")
    .trim()
    .split("\n")
    .slice(1)
    .map((line) => Number(line.split(",")[1]) * TRACE_SCALE);
  return rates.reduce((sum, rate) => sum + rate, 0) / rates.length;
}

/** What the sender believes one second after a step, against the rate that the link has then. */
async function steps({ ends: options, say }: WanContext): Promise<Figure[]> {
  say("steps of the rate");
  return withEnds({ profile: "", keys: { rate: 1_000, delay: 10, queue: 4_096 } }, options, async (ends) => {
    const figures: Figure[] = [];
    const load = longRate(ends, 18);
    await pause(6_000);
    for (const [from, to] of [
      [1_000, 400],
      [400, 800],
    ] as const) {
      await ends.link.set(`rate=${to}`);
      await pause(1_000);
      const believed = (await estimateOf(ends)) / (to * PAYLOAD_PART);
      figures.push({
        name: `a step from ${from} to ${to} Mbit/s, 20 ms: the estimate one second later`,
        measured: `${believed.toFixed(2)} of what the link gives`,
        wanted: "within 10 %",
        met: Math.abs(believed - 1) <= 0.1,
      });
      await pause(4_000);
    }
    await load;
    return figures;
  });
}

/** Mbit/s. */
async function estimateOf(ends: Ends): Promise<number> {
  const { peers } = await ends.holder.ferry.stats();
  return Math.max(...peers.map(({ goodputBytesPerSecond }) => (goodputBytesPerSecond * 8) / 1e6));
}

async function blackout({ ends: options, say, repetitions }: WanContext): Promise<Figure> {
  say("a blackout of 3 s");
  const { back, twice } = await withEnds({ profile: "", keys: { rate: 1_000, delay: 10, queue: 4_096 } }, options, async (ends) => {
    const found = { back: [] as number[], twice: [] as number[] };
    const prompt = await ends.prompt();
    await prompt.move();
    for (let turn = 0; turn < repetitions; turn++) {
      const transfer = prompt.fetch(await prompt.offer(), { deadlineMs: 60_000 });
      await pause(700);
      await ends.link.set("down=1");
      await pause(3_000);
      const silent = await receivedAt(ends);
      await ends.link.set("down=0");
      const startMs = performance.now();
      while ((await receivedAt(ends)) === silent && performance.now() - startMs < 10_000) await pause(5);
      found.back.push((performance.now() - startMs) / 1000);
      const { bytes, wireBytes } = await transfer;
      found.twice.push((wireBytes - bytes) / 2 ** 20);
    }
    return found;
  });
  return {
    name: "a blackout of 3 s in a transfer at 1 Gbit/s, 20 ms: until KV is placed again",
    measured: `${median(back).toFixed(2)} s (${back.map((one) => one.toFixed(2)).join(", ")}); ${median(twice).toFixed(1)} MiB came twice`,
    wanted: "within 0.5 s",
    met: median(back) <= 0.5,
  };
}

async function receivedAt(ends: Ends): Promise<number> {
  return (await ends.asker.ferry.stats()).bytesReceived;
}

async function asymmetric(context: WanContext): Promise<Figure> {
  return shape(
    context,
    "1000 Mbit/s there, 50 Mbit/s back, 20 ms",
    { profile: "asymmetric", keys: { "ab.rate": 50, "ba.rate": 1_000, "ab.queue": 256, "ba.queue": 4_096 } },
    0.93,
  );
}

async function bursty(context: WanContext): Promise<Figure> {
  return shape(context, "losses in bursts, jitter, reordering (bursty)", { profile: "bursty", keys: {} }, 0.9);
}

async function shape(
  { ends: options, say, repetitions }: WanContext,
  title: string,
  impairment: { readonly profile: string; readonly keys: Readonly<Record<string, number>> },
  wanted: number,
): Promise<Figure> {
  say(title);
  const seconds = median(await withEnds(impairment, options, (ends) => warmTimes(ends, repetitions)));
  const rate = CANONICAL_BITS / 1e9 / seconds;
  return { name: title, measured: `${rate.toFixed(3)} Gbit/s`, wanted: `at least ${wanted}`, met: rate >= wanted };
}

/** Without its first seconds, in which windows open, and its last, in which lanes run dry. */
async function capped({ ends: options, say }: WanContext): Promise<Figure> {
  say("a cap of 300 Mbit/s");
  const flags = { ...options.flags, rate: "300Mbit" };
  const rate = await withEnds({ profile: "", keys: { rate: 1_000, delay: 25, queue: 6_144 } }, { ...options, flags }, async (ends) => {
    const load = longRate(ends, 25);
    await pause(4_000);
    const before = await receivedAt(ends);
    const startMs = performance.now();
    await pause(20_000);
    const bits = ((await receivedAt(ends)) - before) * 8;
    const seconds = (performance.now() - startMs) / 1000;
    await load;
    return bits / 1e9 / seconds;
  });
  return {
    name: "a cap of 300 Mbit/s for the peer",
    measured: `${(rate * 1000).toFixed(0)} Mbit/s over 20 s`,
    wanted: "within 3 %",
    met: Math.abs(rate - 0.3) <= 0.009,
  };
}
