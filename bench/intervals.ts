/** What iperf3 prints every second: bytes and rate since the last line, for the whole and for each lane. */
import type { LaneInfo } from "../transport/link/link.ts";
import type { Interval } from "./document.ts";
import type { Progress } from "./load.ts";

export interface IntervalSource {
  readonly name: string;
  readonly requestBytes: number;
  readonly sender: boolean;
  progress(): Progress;
  laneInfo(): readonly LaneInfo[];
}

/** Takes a line every `seconds` until stop(), which takes the last one. 0 seconds: only the last. */
export class IntervalMeter {
  readonly #source: IntervalSource;
  readonly #omitted: boolean;
  readonly #emit: (interval: Interval) => void;
  readonly #startMs: number;
  readonly #timer: NodeJS.Timeout | undefined;
  #last: Progress;
  #lanes: Map<number, LaneInfo>;

  constructor(source: IntervalSource, seconds: number, omitted: boolean, emit: (interval: Interval) => void) {
    this.#source = source;
    this.#omitted = omitted;
    this.#emit = emit;
    this.#startMs = performance.now();
    this.#last = { atMs: this.#startMs, requests: 0 };
    this.#lanes = byLane(source.laneInfo());
    this.#timer = seconds > 0 ? setInterval(() => this.#take(), seconds * 1000) : undefined;
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#take();
  }

  #take(): void {
    const now = this.#source.progress();
    const lanes = byLane(this.#source.laneInfo());
    const [start, end] = [(this.#last.atMs - this.#startMs) / 1000, (now.atMs - this.#startMs) / 1000];
    const seconds = end - start;
    // Nothing happened since a line that was taken just before the end.
    if (seconds <= 0 || (seconds < 0.001 && now.requests === this.#last.requests)) return;
    const common = { start, end, seconds, omitted: this.#omitted, sender: this.#source.sender };
    const bytes = (now.requests - this.#last.requests) * this.#source.requestBytes;
    const streams = [...lanes.values()].map((lane) => ({ ...common, ...this.#laneFigures(lane, seconds) }));
    const retransmits = streams.reduce((sum, stream) => sum + stream.retransmits, 0);
    this.#emit({ case: this.#source.name, streams, sum: { ...common, bytes, bits_per_second: (bytes * 8) / seconds, retransmits } });
    this.#last = now;
    this.#lanes = lanes;
  }

  #laneFigures(lane: LaneInfo, seconds: number) {
    const before = this.#lanes.get(lane.lane);
    const moved = (info: LaneInfo | undefined): number => (this.#source.sender ? (info?.bytesSent ?? 0) : (info?.bytesReceived ?? 0));
    const bytes = Math.max(0, moved(lane) - moved(before));
    return {
      socket: lane.lane,
      bytes,
      bits_per_second: (bytes * 8) / seconds,
      retransmits: Math.max(0, lane.retransmits - (before?.retransmits ?? 0)),
      snd_cwnd: lane.congestionWindowBytes,
      rtt: lane.rttUs,
    };
  }
}

function byLane(infos: readonly LaneInfo[]): Map<number, LaneInfo> {
  return new Map(infos.map((info) => [info.lane, info]));
}
