/** What iperf3 has in `end`: each lane's totals over everything that was measured, and their sums, one way and the other. */
import type { BenchDocument, Interval, Stream } from "./document.ts";

type EndStream = BenchDocument["end"]["streams"][number];
type Total = BenchDocument["end"]["sum_sent"];

interface LaneTotal {
  bytes: number;
  retransmits: number | undefined;
  maxWindow: number;
  readonly rtts: number[];
}

export class StreamTotals {
  #seconds = 0;
  /** By sender, then by lane. */
  readonly #lanes = { true: new Map<number, LaneTotal>(), false: new Map<number, LaneTotal>() };

  add(interval: Interval): void {
    if (interval.sum.omitted) return;
    this.#seconds += interval.sum.seconds;
    for (const stream of interval.streams) this.#addStream(stream);
  }

  /** One way: whose sender is this end, or the other. */
  streams(sender: boolean): EndStream[] {
    return [...this.#lanes[`${sender}`]].map(([socket, total]) => {
      const common = { socket, ...this.#figures(total.bytes) };
      const rtts = total.rtts;
      const tcp =
        total.retransmits === undefined
          ? {}
          : {
              retransmits: total.retransmits,
              max_snd_cwnd: total.maxWindow,
              max_rtt: Math.max(...rtts),
              min_rtt: Math.min(...rtts),
              mean_rtt: Math.round(rtts.reduce((sum, rtt) => sum + rtt, 0) / rtts.length),
            };
      return { sender: { ...common, ...tcp, sender }, receiver: { ...common, sender } };
    });
  }

  /** @param retransmits of the sender; null where nobody counts them */
  total(sender: boolean, retransmits: number | null): Total {
    let bytes = 0;
    for (const total of this.#lanes[`${sender}`].values()) bytes += total.bytes;
    return { ...this.#figures(bytes), ...(retransmits === null ? {} : { retransmits }), sender };
  }

  #addStream({ socket, sender, bytes, retransmits, snd_cwnd: window, rtt }: Stream): void {
    const lanes = this.#lanes[`${sender}`];
    const total = lanes.get(socket) ?? { bytes: 0, retransmits: undefined, maxWindow: 0, rtts: [] };
    lanes.set(socket, total);
    total.bytes += bytes;
    if (retransmits === undefined) return;
    total.retransmits = (total.retransmits ?? 0) + retransmits;
    total.maxWindow = Math.max(total.maxWindow, window ?? 0);
    total.rtts.push(rtt ?? 0);
  }

  #figures(bytes: number) {
    const seconds = this.#seconds;
    return { start: 0, end: seconds, seconds, bytes, bits_per_second: seconds === 0 ? 0 : (bytes * 8) / seconds };
  }
}
