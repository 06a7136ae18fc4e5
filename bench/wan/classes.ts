/** Priorities: something urgent while bulk moves, and background beside somebody else's traffic. */
import { atEnd, LAB_HOST } from "../impairment.ts";
import { iperf3InLab } from "../iperf3.ts";
import type { KvSlice } from "../models.ts";
import { distribution } from "../statistics.ts";
import type { Figure } from "../suite-report.ts";
import type { WanContext } from "./context.ts";
import { pause, withEnds, withLink } from "./ends.ts";
import { longRate } from "./links.ts";

const LINK = { profile: "", keys: { rate: 1_000, delay: 25, queue: 6_144 } };
/** 16 tokens of Llama-3.1-8B are 2 MiB; 8 tokens one. */
const URGENT: KvSlice = { model: "llama3-8b", tokens: 8, tensorParallel: 1, blockTokens: 16 };
const URGENT_EVERY_MS = 150;
/** A new path has more lanes than it needs for so long at most. */
const SETTLE_MS = 10_000;

export async function classFigures(context: WanContext): Promise<Figure[]> {
  return [...(await urgent(context)), await background(context)];
}

async function urgent({ ends: options, say, quick }: WanContext): Promise<Figure[]> {
  say("an urgent MiB beside bulk");
  return withEnds(LINK, options, async (ends) => {
    const small = await ends.prompt(URGENT);
    const samples = async (priority: "urgent" | "normal", seconds: number): Promise<number[]> => {
      const times: number[] = [];
      for (const endMs = performance.now() + seconds * 1000; performance.now() < endMs; await pause(URGENT_EVERY_MS))
        times.push((await small.move({ priority, deadlineMs: 30_000 })) * 1000);
      return times;
    };
    await small.move();
    const alone = distribution(await samples("urgent", 3))!;
    const seconds = quick ? 10 : 30;
    const load = longRate(ends, seconds + SETTLE_MS / 1000 + 1);
    await pause(SETTLE_MS);
    const beside = distribution(await samples("urgent", seconds))!;
    await load;
    return [
      {
        name: "an urgent MiB during a bulk transfer that has gone on for 10 s, 1 Gbit/s, 50 ms: p50 / p99",
        measured: `${beside.p50.toFixed(0)} / ${beside.p99.toFixed(0)} ms (alone ${alone.p50.toFixed(0)} / ${alone.p99.toFixed(0)})`,
        wanted: "p99 under 150 ms",
        met: beside.p99 < 150,
      },
    ];
  });
}

/** One BBR flow of iperf3 alone, then beside background transfers, on the same link. */
async function background({ ends: options, say, quick }: WanContext): Promise<Figure> {
  say("background beside a foreign flow");
  const seconds = quick ? 10 : 20;
  const alone = await withLink(LINK, "", ({ name }) =>
    iperf3InLab({ client: atEnd(name, "a", []), server: atEnd(name, "b", []), host: LAB_HOST }, 1, seconds, "bbr"),
  );
  const { foreign, ours } = await withEnds(LINK, options, async (ends) => {
    const prompt = await ends.prompt();
    await prompt.move();
    const stop = new AbortController();
    const load = (async () => {
      while (!stop.signal.aborted) await prompt.move({ priority: "background", deadlineMs: 600_000 });
    })();
    await pause(3_000);
    const { name } = ends.link;
    const startMs = performance.now();
    const midway = (await ends.asker.ferry.stats()).bytesReceived;
    const bits = await iperf3InLab({ client: atEnd(name, "a", []), server: atEnd(name, "b", []), host: LAB_HOST }, 1, seconds, "bbr");
    const moved = (((await ends.asker.ferry.stats()).bytesReceived - midway) * 8) / 1e9 / ((performance.now() - startMs) / 1000);
    stop.abort();
    await load;
    return { foreign: bits, ours: moved };
  });
  return {
    name: "background beside one foreign iperf3 BBR flow, 1 Gbit/s, 50 ms",
    measured: `the flow keeps ${(foreign / alone).toFixed(2)} of what it had alone (${(alone / 1e9).toFixed(3)} Gbit/s); background moves ${ours.toFixed(3)} Gbit/s`,
    wanted: "at least 0.8",
    met: foreign >= 0.8 * alone,
  };
}
