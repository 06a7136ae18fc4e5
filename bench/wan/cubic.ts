/** A host that has only cubic: many lanes instead of one that a loss does not stop. */
import type { Figure } from "../suite-report.ts";
import { median } from "../statistics.ts";
import type { WanContext } from "./context.ts";
import { withEnds } from "./ends.ts";
import { LINKS, longRate, warmTimes } from "./links.ts";
import { iperf3Rates, rivalTimes } from "./rivals.ts";

export async function cubicFigures(context: WanContext): Promise<Figure[]> {
  const figures: Figure[] = [];
  for (const { title, impairment } of [LINKS[1]!, LINKS[3]!]) {
    context.say(`${title}, cubic`);
    const iperf3 = await iperf3Rates(impairment, "cubic", [1, 4, 8], 10);
    const nixl = context.quick ? undefined : await rivalTimes("nixl", impairment, "cubic", { seconds: 1, timeoutMs: 80_000 }, context.say);
    const options = { ...context.ends, congestionControl: "cubic", flags: { ...context.ends.flags, "congestion-control": "cubic" } };
    const { rate, warm } = await withEnds(impairment, options, async (ends) => {
      const times = await warmTimes(ends, Math.min(context.repetitions, 3));
      return { warm: median(times), rate: await longRate(ends, 15) };
    });
    const eight = iperf3.get(8)!;
    figures.push({
      name: `${title}, cubic only: kvferry`,
      measured:
        `${rate.toFixed(3)} Gbit/s, ${(rate / eight).toFixed(1)}x iperf3 -P 8; 256 MiB in ${warm.toFixed(2)} s; ` +
        `iperf3 ${[...iperf3].map(([streams, one]) => `${one.toFixed(3)} (-P ${streams})`).join(", ")}; ` +
        `NIXL ${nixl === undefined ? "not done in 80 s" : `${nixl.warm.toFixed(1)} s`}`,
      wanted: "at least 1.5x iperf3 -P 8",
      met: rate >= 1.5 * eight,
    });
  }
  return figures;
}
