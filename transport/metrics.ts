/**
 * What kvferry counts, by name. One registry for each node, made where the node is made and passed in; there is no global one.
 * Names follow Prometheus: base units (bytes, seconds), `_total` for counters. Labels are bounded: codes come from the closed list, peers
 * from the configuration, links from LinkKind.
 */
import { Counter, Gauge, Histogram, type Metric, Registry } from "prom-client";
import { ChunkTally, type Direction } from "./metrics/chunks.ts";

/** What a transfer's end says (ferry.ts: TransferReport). */
export interface TransferFigures {
  readonly bytes: number;
  readonly wireBytes: number;
  readonly seconds: number;
  readonly chunks: number;
  readonly retries: number;
  readonly resumed: number;
}

/** What the kernel knows of a lane (link.ts: LaneInfo). */
export interface LaneFigures {
  readonly rttUs: number;
  readonly deliveryRateBytesPerSecond: number;
  readonly retransmits: number;
  readonly notSentBytes: number;
}

/** What is known of the path to a peer, and was decided about it (policy/path.ts). */
export interface PathFigures {
  readonly goodputBytesPerSecond: number;
  readonly confidence: number;
  readonly rttUs: number;
  readonly minRttUs: number;
  readonly queueUs: number;
  readonly lossRatio: number;
  readonly lanesWanted: number;
  readonly lanesActive: number;
  readonly chunkBytes: number;
  readonly windowBytes: number;
  readonly paceBytesPerSecond: number;
}

/** What links coded (policy/codec-speed.ts: CodecCounts). */
export interface CodecFigures {
  readonly encodedBytes: number;
  readonly sentBytes: number;
  readonly decodedBytes: number;
  readonly arrivedBytes: number;
  readonly stored: Readonly<Record<string, number>>;
}

/** Read when somebody scrapes, so that nothing has to be kept up to date in between. */
export interface MetricsSources {
  /** One for each tenant, where there are any. */
  readonly pools: () => readonly {
    readonly tenant?: string;
    readonly bytes: number;
    readonly free: number;
    readonly held: number;
    readonly published: number;
    readonly leased: number;
    readonly quarantined: number;
    readonly evictions: number;
  }[];
  readonly lanes: () => readonly {
    readonly tenant?: string;
    readonly peer: string;
    readonly lanes: number;
    readonly info: readonly LaneFigures[];
  }[];
  /** By profile, of all models together; empty where none is configured. */
  readonly codecs: () => readonly ({ readonly tenant?: string; readonly profile: string } & CodecFigures)[];
  readonly paths: () => readonly ({ readonly tenant?: string; readonly peer: string } & PathFigures)[];
  readonly apiClients: () => number;
  readonly transfersRunning: () => number;
  /** Strangers that listeners turned away, and peers that were refused something, by reason. */
  readonly refusals: () => Readonly<Record<string, number>>;
  /** When the node's own certificate ends, in seconds since 1970; undefined without TLS. */
  readonly certificateEndsSeconds: () => number | undefined;
}

const PREFIX = "kvferry_";
const PATH_GAUGES: readonly (readonly [name: string, help: string, of: (path: PathFigures) => number])[] = [
  [
    "path_goodput_bytes_per_second",
    "What the path to the peer gives now, as far as is known; 0: not at all",
    (path) => path.goodputBytesPerSecond,
  ],
  ["path_confidence_ratio", "How far the goodput is to be believed: 0 to 1", (path) => path.confidence],
  ["path_min_rtt_seconds", "Least round trip of the lanes, as the kernel measures it", (path) => path.minRttUs / 1e6],
  ["path_rtt_seconds", "Mean round trip over the lanes", (path) => path.rttUs / 1e6],
  ["path_queue_seconds", "What the mean round trip has more than the least: queues on the way", (path) => path.queueUs / 1e6],
  ["path_loss_ratio", "Of the bytes that were sent, the share that was sent again lately", (path) => path.lossRatio],
  ["path_lanes_wanted", "Lanes that the path was decided to have", (path) => path.lanesWanted],
  ["path_lanes_active", "Lanes that take chunks; the others that are up rest", (path) => path.lanesActive],
  ["path_chunk_bytes", "Size of the chunks of a transfer that would begin now", (path) => path.chunkBytes],
  ["path_window_bytes", "What of a transfer may be under way", (path) => path.windowBytes],
  ["path_pace_bytes_per_second", "What the lanes together are held to; 0: nothing", (path) => path.paceBytesPerSecond],
];
/** From one block on loopback to a long prompt over a WAN. */
const SECONDS = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];
const BYTES = [4e3, 64e3, 1e6, 4e6, 16e6, 64e6, 256e6, 1e9, 4e9, 16e9];

export class Metrics {
  readonly registry = new Registry();

  readonly transfers = this.#counter("transfers_total", "Transfers that ended; result is ok or an error code", ["direction", "result"]);
  readonly wireBytes = this.#counter("wire_bytes_total", "Payload bytes that crossed the link, repeats counted", ["direction"]);
  readonly retries = this.#counter("chunk_retries_total", "Chunks sent again", []);
  readonly failures = this.#counter("chunk_failures_total", "Chunks that were refused or lost, by error code", ["code"]);
  readonly resumed = this.#counter("transfers_resumed_total", "Times that a transfer went on after its connection was lost", ["direction"]);
  readonly stalls = this.#counter("stalls_total", "Times that a transfer made no progress for stallMs", ["direction"]);
  readonly downgrades = this.#counter("link_downgrades_total", "Times that a slower link was taken, and why", ["from", "to", "reason"]);
  readonly connections = this.#counter("peer_changes_total", "Times that a peer came up or went down", ["peer", "change"]);
  readonly laneLosses = this.#counter("lane_losses_total", "Data connections that died while their peer was up, by error code", [
    "peer",
    "code",
  ]);
  readonly denials = this.#counter("denials_total", "Peers that were not let in or did not get what they asked for, by error code", [
    "what",
    "code",
  ]);
  readonly reloads = this.#counter("tls_reloads_total", "Times that the files of the certificate were read again; result is ok or broken", [
    "result",
  ]);
  readonly policyReloads = this.#counter("policy_reloads_total", "Times that the policy file was read again; result is ok or broken", [
    "result",
  ]);
  readonly codings = this.#counter(
    "codec_transfers_total",
    "Transfers that this node sent, by the profile that they went by (none: as they are) and why; where profiles are configured",
    ["profile", "reason"],
  );
  readonly apiRequests = this.#counter("api_requests_total", "Engine API requests; result is ok or an error code", ["verb", "result"]);

  readonly transferSeconds = this.#histogram("transfer_seconds", "From request to the last chunk placed", ["direction"], SECONDS);
  readonly transferBytes = this.#histogram("transfer_bytes", "Useful bytes of a transfer", ["direction"], BYTES);
  readonly apiSeconds = this.#histogram("api_request_seconds", "From an engine API request to its answer", ["verb"], SECONDS);

  readonly #chunks = new ChunkTally(SECONDS);

  constructor() {
    const { counts, bytes } = this.#chunks;
    for (const [name, help, of] of [
      ["chunks_total", "Chunks placed", counts] as const,
      ["bytes_total", "Useful bytes placed", bytes] as const,
    ]) {
      this.#counter(name, help, ["direction"], (counter) => {
        counter.reset();
        for (const direction of ["in", "out"] as const) counter.inc({ direction }, of[direction]);
      });
    }
    // The registry asks a metric for its name and get() only; its type knows prom-client's own classes.
    this.registry.registerMetric(new ChunkSeconds(this.#chunks) as unknown as Metric);
  }

  /**
   * The node's observer (ferry/context.ts: NodeObserver).
   * @param codeName the name of an error's number
   */
  observer(codeName: (number: number) => string) {
    return {
      transferEnded: (direction: Direction, ok: boolean, code: string, report: TransferFigures): void => {
        this.transfers.inc({ direction, result: ok ? "ok" : code });
        this.wireBytes.inc({ direction }, report.wireBytes);
        this.retries.inc(report.retries);
        if (report.resumed > 0) this.resumed.inc({ direction }, report.resumed);
        if (!ok) return;
        this.transferSeconds.observe({ direction }, report.seconds);
        this.transferBytes.observe({ direction }, report.bytes);
      },
      chunk: (direction: Direction, bytes: number, durationUs: number): void => {
        this.#chunks.add(direction, bytes, durationUs);
      },
      chunkFailed: (code: number): void => this.failures.inc({ code: codeName(code) }),
      stalled: (direction: Direction): void => this.stalls.inc({ direction }),
      policy: (outcome: object): void => this.policyReloads.inc({ result: outcome instanceof Error ? "broken" : "ok" }),
      denied: (what: string, _remote: string, { code }: { readonly code: string }): void => this.denials.inc({ what, code }),
      certificate: (outcome: object): void => this.reloads.inc({ result: outcome instanceof Error ? "broken" : "ok" }),
      coding: (_peer: string, { profile, reason }: { readonly profile: string; readonly reason: string }): void =>
        this.codings.inc({ profile: profile || "none", reason }),
      laneLost: (peer: string, _lane: number, code: string): void => this.laneLosses.inc({ peer, code }),
      peer: (peer: string, up: boolean): void => this.connections.inc({ peer, change: up ? "up" : "down" }),
    };
  }

  /** Gauges that are read at scrape time. Called once, by whoever built the parts. */
  observe(sources: MetricsSources): void {
    this.#observePools(sources.pools);
    this.#gauge("api_clients", "Connected engines", [], (gauge) => gauge.set(sources.apiClients()));
    this.#gauge("transfers_running", "Transfers that have not ended", [], (gauge) => gauge.set(sources.transfersRunning()));
    this.#observeLanes(sources.lanes);
    for (const [name, help, of] of PATH_GAUGES) {
      this.#gauge(name, help, ["tenant", "peer"], (gauge) => {
        gauge.reset();
        for (const path of sources.paths()) gauge.set({ ...labelsOf(path), peer: path.peer }, of(path));
      });
    }
    this.#observeCodecs(sources.codecs);
    this.#observeStrangers(sources);
  }

  #observeCodecs(codecs: MetricsSources["codecs"]): void {
    const ways = [
      ["out", (one: CodecFigures) => [one.encodedBytes, one.sentBytes]],
      ["in", (one: CodecFigures) => [one.decodedBytes, one.arrivedBytes]],
    ] as const;
    for (const [at, name, help] of [
      [0, "codec_original_bytes_total", "Bytes of KV in chunks of transfers with a profile; in: of those alone that came coded"],
      [1, "codec_coded_bytes_total", "What these chunks took on the way"],
    ] as const) {
      this.#counter(name, help, ["tenant", "direction", "profile"], (counter) => {
        counter.reset();
        for (const one of codecs())
          for (const [direction, of] of ways) counter.inc({ ...labelsOf(one), direction, profile: one.profile }, of(one)[at]);
      });
    }
    this.#counter(
      "codec_stored_chunks_total",
      "Chunks that travelled as they are in spite of a profile",
      ["tenant", "profile", "reason"],
      (counter) => {
        counter.reset();
        for (const one of codecs())
          for (const [reason, count] of Object.entries(one.stored)) counter.inc({ ...labelsOf(one), profile: one.profile, reason }, count);
      },
    );
  }

  #observePools(pools: MetricsSources["pools"]): void {
    this.#gauge("pool_blocks", "Blocks by state; leased counts published blocks with a reader", ["tenant", "state"], (gauge) => {
      for (const pool of pools())
        for (const state of ["free", "held", "published", "leased", "quarantined"] as const)
          gauge.set({ ...labelsOf(pool), state }, pool[state]);
    });
    this.#counter("pool_evictions_total", "Published blocks taken for another use", ["tenant"], (counter) => {
      counter.reset();
      for (const pool of pools()) counter.inc(labelsOf(pool), pool.evictions);
    });
    this.#gauge("pool_bytes", "Bytes of pool memory", ["tenant"], (gauge) => {
      for (const pool of pools()) gauge.set(labelsOf(pool), pool.bytes);
    });
  }

  #observeStrangers({ refusals, certificateEndsSeconds }: MetricsSources): void {
    this.#counter(
      "refusals_total",
      "Strangers that were turned away before they were a peer, and peers that were refused what they may not have, by reason",
      ["reason"],
      (counter) => {
        counter.reset();
        for (const [reason, count] of Object.entries(refusals())) counter.inc({ reason }, count);
      },
    );
    if (certificateEndsSeconds() === undefined) return;
    this.#gauge("tls_certificate_ends_seconds", "When this node's certificate ends, as a Unix time", [], (gauge) =>
      gauge.set(certificateEndsSeconds() ?? 0),
    );
  }

  /** Over the lanes of a peer: a lane by itself comes and goes, and would be a label without a bound. */
  #observeLanes(lanes: MetricsSources["lanes"]): void {
    const perPeer = (name: string, help: string, figure: (info: readonly LaneFigures[], count: number) => number): void =>
      this.#gauge(name, help, ["tenant", "peer"], (gauge) => {
        gauge.reset();
        for (const { tenant, peer, lanes: count, info } of lanes())
          gauge.set({ ...(tenant === undefined ? {} : { tenant }), peer }, figure(info, count));
      });
    const sum = (of: (lane: LaneFigures) => number) => (info: readonly LaneFigures[]) => info.reduce((total, lane) => total + of(lane), 0);
    perPeer("lanes", "Data connections that are up", (_info, count) => count);
    perPeer("lane_rtt_seconds", "Round trip as the kernel measures it, of the slowest lane", (info) =>
      info.reduce((most, { rttUs }) => Math.max(most, rttUs / 1e6), 0),
    );
    perPeer(
      "lane_delivery_bytes_per_second",
      "What the lanes last delivered, together",
      sum((lane) => lane.deliveryRateBytesPerSecond),
    );
    perPeer(
      "lane_retransmits",
      "Segments sent again by the lanes that are up",
      sum((lane) => lane.retransmits),
    );
    perPeer(
      "lane_not_sent_bytes",
      "Bytes that the kernel has taken and not sent",
      sum((lane) => lane.notSentBytes),
    );
  }

  /** Sets kvferry_build_info, the usual way to have versions beside the numbers. */
  describe(labels: { readonly version: string; readonly link: string; readonly node: string }): void {
    const info = new Gauge({
      name: `${PREFIX}build_info`,
      help: "Always 1; the labels say what runs",
      labelNames: Object.keys(labels),
      registers: [this.registry],
    });
    info.set({ ...labels }, 1);
  }

  /** The text that /metrics answers with, and its content type. */
  async scrape(): Promise<{ readonly contentType: string; readonly text: string }> {
    return { contentType: this.registry.contentType, text: await this.registry.metrics() };
  }

  #counter<L extends string>(name: string, help: string, labelNames: readonly L[], collect?: (counter: Counter<L>) => void): Counter<L> {
    const more = collect === undefined ? {} : { collect: () => collect(counter) };
    const counter: Counter<L> = new Counter({
      name: PREFIX + name,
      help,
      labelNames: [...labelNames],
      registers: [this.registry],
      ...more,
    });
    return counter;
  }

  #histogram<L extends string>(name: string, help: string, labelNames: readonly L[], buckets: readonly number[]): Histogram<L> {
    return new Histogram({ name: PREFIX + name, help, labelNames: [...labelNames], buckets: [...buckets], registers: [this.registry] });
  }

  #gauge<L extends string>(name: string, help: string, labelNames: readonly L[], collect: (gauge: Gauge<L>) => void): void {
    const registers = [this.registry];
    const gauge: Gauge<L> = new Gauge({ name: PREFIX + name, help, labelNames: [...labelNames], registers, collect: () => collect(gauge) });
  }
}

/** Where there are no tenants there is no such label. */
function labelsOf({ tenant }: { readonly tenant?: string }): { readonly tenant?: string } {
  return tenant === undefined ? {} : { tenant };
}

/** A histogram that is made when it is read. */
class ChunkSeconds {
  readonly name = `${PREFIX}chunk_seconds`;
  readonly help = "From submitting a chunk to its acknowledgement";
  readonly type = "histogram";
  readonly aggregator = "sum";
  readonly #tally: ChunkTally;

  constructor(tally: ChunkTally) {
    this.#tally = tally;
  }

  async get() {
    const { name, help, type, aggregator } = this;
    return { name, help, type, aggregator, values: this.#tally.histogramValues(name) };
  }

  reset(): void {}
}
