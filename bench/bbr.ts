/** What BBR would have given a run that went without it, as one line for people. */
import { bbrBytesPerSecond, cubicBytesPerSecond, lossRatioOf } from "../transport/policy/flow-rate.ts";
import type { Interval, LinkReport, Result } from "./document.ts";
import type { RateUnit } from "./options.ts";
import { rateText } from "./text.ts";

export interface WithoutBbr {
  /** Of the sender's lanes; "" = it has none. */
  readonly congestion: string;
  readonly result: Result;
  /** Of the run. */
  readonly intervals: readonly Interval[];
  /** Where the link is emulated, and the sender's way over it. */
  readonly link: LinkReport[keyof Pick<LinkReport, "ab" | "ba">] | null;
}

/** "" where nothing was lost, or BBR was there. */
export function bbrText({ congestion, result, intervals, link }: WithoutBbr, unit: RateUnit): string {
  const own = intervals.filter(({ case: name, sum }) => name === result.case && !sum.omitted);
  const sum = (figure: (interval: Interval) => number): number => own.reduce((total, one) => total + figure(one), 0);
  const retransmits = sum((one) => one.sum.retransmits ?? 0);
  if (congestion === "" || congestion.startsWith("bbr") || retransmits === 0) return "";
  const lossRatio = lossRatioOf(
    retransmits,
    sum(({ sum: { wire_bytes: bytes, bytes: payload } }) => bytes ?? payload),
  );
  const rttUs = Math.min(...own.map(({ min_rtt: least }) => least ?? Number.POSITIVE_INFINITY));
  const rate = result.bw_avg_bits_per_second;
  // Of an unknown path, what it once carried is the least that it can.
  const isKnown = link !== null && link.rate_mbit > 0;
  const carries = isKnown ? link.rate_mbit * 1e6 : Math.max(rate, ...own.map((one) => one.sum.bits_per_second));
  const path = { rateBytesPerSecond: carries / 8, rttUs, lossRatio };
  const [bbr, cubic] = [bbrBytesPerSecond(path) * 8, cubicBytesPerSecond(path) * 8];
  const what = isKnown ? "the link's rate" : "the most that it carried in an interval";
  const flow = Number.isFinite(rttUs)
    ? `, where one flow of cubic averages ${rateText(cubic, unit)} at ${Math.round(rttUs)} us (RFC 9438, 5.1)`
    : "";
  return (
    `with BBR about ${rateText(Math.max(bbr, rate), unit)} instead of ${rateText(rate, unit)} (estimate: ${congestion} sent ${(lossRatio * 100).toFixed(3)} % ` +
    `again${flow}; BBR fills ${what} whatever is lost; kvferry doctor says how to have it)`
  );
}
