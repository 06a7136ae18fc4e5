/** What iperf3 prints every second: bytes and rate since the last line, for the whole and for each lane; and what was decided about the way, and why. */
import type { LaneInfo } from "../transport/link/link.ts";
import type { ChunkSize } from "../transport/policy/chunk-size.ts";
import type { Flow } from "./client.ts";
import type { Interval, IntervalSum, Reasons, Stream } from "./document.ts";
import { mean } from "./statistics.ts";
import type { WayState } from "./way.ts";

export interface IntervalSource {
  readonly name: string;
  readonly chunk: ChunkSize;
  readonly requestBytes: number;
  /** The kernel's TCP tells of round trips and retransmissions. */
  readonly isTcp: boolean;
  readonly flows: readonly Flow[];
  lanesUp(): number;
  /** As this end sees it, or the other. */
  way(sender: boolean): WayState;
  laneInfo(): readonly LaneInfo[];
}

/** A line whose time is up waits so long: the end of the stretch, if that comes now, belongs into it. */
const STUB_MS = 30;

interface Sample {
  readonly atMs: number;
  readonly moved: readonly Float64Array[];
  readonly lanes: ReadonlyMap<number, LaneInfo>;
  readonly lanesUp: number;
  /** Of whoever sends, in the order of the flows. */
  readonly ways: readonly WayState[];
}

/** Takes a line every `seconds` until stop(), which takes the last one. 0 seconds: only the last. */
export class IntervalMeter {
  readonly #source: IntervalSource;
  readonly #omitted: boolean;
  readonly #emit: (interval: Interval) => void;
  readonly #timer: NodeJS.Timeout | undefined;
  readonly #start: Sample;
  #last: Sample;
  #due: NodeJS.Timeout | undefined;

  constructor(source: IntervalSource, seconds: number, omitted: boolean, emit: (interval: Interval) => void) {
    this.#source = source;
    this.#omitted = omitted;
    this.#emit = emit;
    this.#start = this.#sample();
    this.#last = this.#start;
    this.#timer = seconds > 0 ? setInterval(() => this.#schedule(), seconds * 1000) : undefined;
  }

  stop(): void {
    clearInterval(this.#timer);
    clearTimeout(this.#due);
    this.#take(this.#sample());
  }

  #schedule(): void {
    const sample = this.#sample();
    this.#due = setTimeout(() => this.#take(sample), STUB_MS);
  }

  #sample(): Sample {
    return {
      atMs: performance.now(),
      moved: this.#source.flows.map(({ movedByLane }) => movedByLane.slice()),
      lanes: new Map(this.#source.laneInfo().map((info) => [info.lane, info])),
      lanesUp: this.#source.lanesUp(),
      ways: this.#source.flows.map(({ sender }) => this.#source.way(sender)),
    };
  }

  #take(now: Sample): void {
    const [start, end] = [this.#last.atMs, now.atMs].map((ms) => (ms - this.#start.atMs) / 1000) as [number, number];
    const times = { start, end, seconds: end - start };
    if (times.seconds <= 0) return;
    const flows = this.#source.flows.map((flow, index) => this.#streams(times, now, flow, index));
    const sums = flows.map((streams, index) => this.#sum(times, now, streams, index));
    // Nothing happened since a line that was taken just before the end.
    if (times.seconds < 0.001 && sums.every(({ bytes }) => bytes === 0)) return;
    const [sum, reverse] = sums as [IntervalSum, IntervalSum | undefined];
    const { chunk, requestBytes } = this.#source;
    const [way, back] = now.ways as [WayState, WayState | undefined];
    this.#emit({
      case: this.#source.name,
      chunk_bytes: Math.min(chunk.bytes, requestBytes),
      streams_active: way.lanesActive,
      // The same lanes for both ends; this one knows at once.
      streams_open: now.lanesUp,
      window_bytes: way.windowBytes,
      pace_bytes_per_second: way.paceBytesPerSecond,
      estimate_bits_per_second: way.goodputBytesPerSecond * 8,
      estimate_confidence: way.confidence,
      reasons: reasonsOf(way, chunk),
      ...(back === undefined ? {} : { reasons_bidir_reverse: reasonsOf(back, chunk) }),
      ...(this.#source.isTcp ? roundTrips([...now.lanes.values()]) : {}),
      streams: flows.flat(),
      sum,
      ...(reverse === undefined ? {} : { sum_bidir_reverse: reverse }),
    });
    this.#last = now;
  }

  #streams(times: Times, now: Sample, { sender }: Flow, index: number): Stream[] {
    const moved = now.moved[index]!.map((bytes, lane) => bytes - this.#last.moved[index]![lane]!);
    // A lane that is gone may still be acknowledged.
    const late = [...moved.keys()].filter((lane) => moved[lane]! > 0);
    const lanes = [...new Set([...this.#last.lanes.keys(), ...now.lanes.keys(), ...late])].sort((a, b) => a - b);
    return lanes.map((lane) => {
      const bytes = moved[lane]!;
      const [last, after] = [this.#last.lanes.get(lane), now.lanes.get(lane)];
      // One that was opened again in another's place counts from nothing; what the other had counted last, nobody knows.
      const isAnother = last !== undefined && after !== undefined && last.local?.port !== after.local?.port;
      const before = isAnother ? undefined : last;
      const isKnown = after !== undefined && !isAnother;
      return {
        socket: lane,
        ...times,
        bytes,
        bits_per_second: (bytes * 8) / times.seconds,
        wire_bytes: isKnown ? wireBytes(after, sender) - (before === undefined ? 0 : wireBytes(before, sender)) : null,
        ...(sender && after !== undefined && this.#source.isTcp ? tcpFigures(before, after) : {}),
        omitted: this.#omitted,
        sender,
      };
    });
  }

  #sum(times: Times, now: Sample, streams: readonly Stream[], index: number): IntervalSum {
    const { sender } = this.#source.flows[index]!;
    const bytes = streams.reduce((sum, stream) => sum + stream.bytes, 0);
    const wire = streams.reduce<number | null>((sum, { wire_bytes: more }) => (sum === null || more === null ? null : sum + more), 0);
    const [before, after] = [this.#last.ways[index]!.retransmits, now.ways[index]!.retransmits];
    return {
      ...times,
      bytes,
      bits_per_second: (bytes * 8) / times.seconds,
      wire_bytes: wire,
      ...(before === null || after === null ? {} : { retransmits: Math.max(after - before, 0) }),
      omitted: this.#omitted,
      sender,
    };
  }
}

export function reasonsOf({ reasons }: WayState, chunk: ChunkSize): Reasons {
  return { ...reasons, chunk: chunk.reason };
}

type Times = { readonly start: number; readonly end: number; readonly seconds: number };

function wireBytes(info: LaneInfo, sender: boolean): number {
  return sender ? info.bytesSent : info.bytesReceived;
}

/** Either end's kernel measures it, whichever way the bytes go. A lane without a sample says 0. */
function roundTrips(lanes: readonly LaneInfo[]): Pick<Interval, "rtt" | "min_rtt"> {
  const measured = lanes.filter(({ rttUs, minRttUs }) => rttUs > 0 && minRttUs > 0);
  if (measured.length === 0) return {};
  return { rtt: mean(measured.map(({ rttUs }) => rttUs)), min_rtt: Math.min(...measured.map(({ minRttUs }) => minRttUs)) };
}

function tcpFigures(before: LaneInfo | undefined, after: LaneInfo) {
  return {
    retransmits: after.retransmits - (before?.retransmits ?? 0),
    snd_cwnd: after.congestionWindowBytes,
    rtt: after.rttUs,
    ...(after.socket === undefined ? {} : { rttvar: after.socket.rttVariationUs, pmtu: after.socket.pathMtuBytes }),
  };
}
