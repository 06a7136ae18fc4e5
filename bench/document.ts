/**
 * The one document that --json prints: schema kvferry.bench/1, as a zod schema. schemas/bench.schema.json is made from it
 * (bench/schema.ts), and every document of the tests is parsed with it. Names of intervals and end are iperf3's; units stand in names.
 * What a link cannot measure is left out or null, never 0: descriptions say when.
 */
import { z } from "zod";

export const SCHEMA = "kvferry.bench/1";

const count = z.number().int().nonnegative();
const rate = z.number().nonnegative();

const distribution = z.strictObject({ min: rate, avg: rate, p50: rate, p95: rate, p99: rate, p999: rate, max: rate, stdev: rate });

const times = { start: rate, end: rate, seconds: rate };
const moved = {
  bytes: count.describe("payload, verified and placed"),
  bits_per_second: rate,
};
const sender = z.boolean().describe("this end sends");
const retransmits = count.optional().describe("segments that TCP sent again, as the sending end's kernel counts them; of link tcp only");
const wireBytes = count
  .nullable()
  .describe(
    "bytes of the TCP streams this way: chunk headers and trailers, acknowledgements, the records of TLS, and what TCP sent again as far as the sender counts it; " +
      "without TCP/IP headers, with the blocks of --latency-under-load. null where a lane died and took its counter along. On link fake, which has no wire, the payloads",
  );

const stream = z.strictObject({
  socket: count.describe("number of the lane"),
  ...times,
  ...moved,
  wire_bytes: wireBytes,
  retransmits,
  snd_cwnd: count.optional().describe("bytes; of TCP's sender, as the following"),
  rtt: rate.optional().describe("us"),
  rttvar: rate.optional().describe("us; the kernel's mean deviation"),
  pmtu: count.optional(),
  omitted: z.boolean(),
  sender,
});

const sum = z.strictObject({ ...times, ...moved, wire_bytes: wireBytes, retransmits, omitted: z.boolean(), sender });

const reasons = z
  .strictObject({
    estimate: z.string().describe("what the path gives"),
    lanes: z.string(),
    window: z.string(),
    pace: z.string(),
    chunk: z.string(),
    congestion: z.string(),
  })
  .describe("why each of these is what it is: the last decisions of whoever sends");

export const interval = z
  .strictObject({
    case: z.string(),
    chunk_bytes: count,
    streams_active: count.describe("lanes that take chunks at the end of the interval"),
    streams_open: count.describe("lanes that are up then: some of them may rest"),
    window_bytes: count.describe("what may be under way at once"),
    pace_bytes_per_second: count.describe("what all lanes together are held to; 0: nothing"),
    estimate_bits_per_second: rate.describe("what the path gives, as far as is known; 0: nothing is known"),
    estimate_confidence: z.number().min(0).max(1),
    reasons,
    reasons_bidir_reverse: reasons.optional().describe("--bidir: of the other end"),
    rtt: rate
      .optional()
      .describe("us; TCP's smoothed round trip at the end of the interval, mean over the lanes; of link tcp only, as the next"),
    min_rtt: rate.optional().describe("us; the least that TCP remembers of any lane"),
    streams: z.array(stream),
    sum,
    sum_bidir_reverse: sum.optional().describe("--bidir: what comes the other way"),
  })
  .describe("of level link; there is no compression_ratio, because nothing is compressed there");

const total = z.strictObject({ ...times, ...moved, retransmits, sender });

const endStream = z.strictObject({
  sender: z.strictObject({
    socket: count,
    ...times,
    ...moved,
    retransmits,
    max_snd_cwnd: count.optional(),
    max_rtt: rate.optional(),
    min_rtt: rate.optional(),
    mean_rtt: rate.optional(),
    sender,
  }),
  receiver: z.strictObject({ socket: count, ...times, ...moved, sender }),
});

/** CPU of both processes, all threads, over the measured stretches. */
const cpu = z.strictObject({
  local_seconds: rate,
  local_system_seconds: rate.describe("of those, in the kernel"),
  remote_seconds: rate,
  remote_system_seconds: rate,
  seconds_per_gib: rate,
  main_thread_us_per_chunk: z.strictObject({ local: rate.nullable(), remote: rate.nullable() }),
});

const underLoad = z
  .strictObject({
    block_bytes: count,
    idle_us: distribution.nullable().describe("with nothing else under way; null where none ended, as in the next"),
    idle_samples: count,
    loaded_us: distribution.nullable().describe("on the same lanes while requests of the case are under way"),
    loaded_samples: count,
  })
  .describe("--latency-under-load: one block at a time, until it is verified and placed; null without, or in a case that is no load");

const codec = z
  .strictObject({
    profile: z.string().describe("as it was asked for"),
    id: z.string().describe("of the first that was used, which names profile and calibration; empty where all was stored"),
    ratio: rate.describe("bytes of KV over payload bytes on the wire, what was stored among them"),
    used: z.record(z.string(), count).describe("prompts by the profile that they came through"),
    reasons: z.record(z.string(), count).describe("prompts by why they were coded or stored"),
    stored_chunks: z.record(z.string(), count).describe("chunks that travelled as they are although a profile was used, by reason"),
    error: z
      .strictObject({ k: rate, v: rate, largest: rate })
      .nullable()
      .describe("the worst of all prompts: root of the squared differences over that of the squares; the largest difference of a value"),
  })
  .describe("--profile: what compression made of it, between two sidecars");

const confidence = z.strictObject({
  level_percent: z.number(),
  wanted_width_percent: rate,
  width_percent: rate.nullable(),
  windows: count,
  reached: z.boolean(),
});

export const result = z.strictObject({
  case: z.string(),
  level: z.enum(["link", "engine"]),
  block_bytes: count,
  batch: count,
  request_bytes: count,
  chunk_bytes: count,
  iterations: count,
  bytes: count,
  seconds: rate,
  bw_avg_bits_per_second: rate,
  bw_peak_bits_per_second: rate,
  blocks_per_second: rate,
  msg_rate: rate.describe("the same under the name that perftest's users look for: a block is a message"),
  wire_bytes: wireBytes,
  wire_bps: rate.nullable().describe("bits/s of wire_bytes, both ways with --bidir"),
  /** From begin to complete of a whole request, measured in JavaScript; null when nothing ended. */
  latency_us: distribution.nullable(),
  prep_us: distribution.nullable().describe("making one request's memory known to the link, at this end, before the clock runs"),
  post_us: distribution.nullable().describe("handing a request to the link; a short one may be sent within it"),
  tx_us: distribution.nullable().describe("from then until all of it is verified and placed"),
  latency_under_load: underLoad.nullable(),
  cpu,
  resident_bytes: z.strictObject({ local: count, remote: count }),
  verified_bytes: count,
  n_wrong: count,
  retries: count.describe("chunks that were sent again"),
  retransmits: count.nullable().describe("segments that TCP sent again, both ends; null where the link is not TCP of the kernel's"),
  confidence: confidence.nullable(),
  reasons,
  fallbacks: z
    .array(z.strictObject({ from: z.string(), to: z.string(), reason: z.string() }))
    .describe("links that were not the first choice, lanes that died in this case, and prompts that a profile was not used for"),
  model: z.string(),
  tokens: count,
  layout: z.strictObject({ local: z.string(), remote: z.string() }).nullable(),
  codec: codec.nullable(),
  okay: z.boolean(),
});

export const comparison = z.strictObject({
  tool: z.string(),
  streams: count,
  bits_per_second: rate,
  /** kvferry's median over the tool's median, of runs that took turns. */
  ratio: rate,
  runs: z.array(rate),
  cpu_seconds_per_gib: rate.nullable(),
});

const start = z.strictObject({
  version: z.string(),
  system_info: z.string(),
  remote_system_info: z.string(),
  timestamp: z.strictObject({ time: z.string(), timesecs: count, timemillisecs: count }),
  args: z.array(z.string()),
  env: z.record(z.string(), z.string()),
  connecting_to: z.strictObject({ host: z.string(), port: count }),
  connected: z
    .array(z.strictObject({ socket: count, local_host: z.string(), local_port: count, remote_host: z.string(), remote_port: count }))
    .describe("lanes; none on a link without sockets"),
  tls: z
    .strictObject({ protocol: z.string(), cipher: z.string(), resumed: count.describe("lanes with a short handshake") })
    .nullable()
    .describe("what the lanes speak; null: bare TCP"),
  sock_bufsize: count.describe("-w; 0: as the kernel tunes"),
  sndbuf_actual: count.optional().describe("of the first lane, as the kernel counts (twice what it grants); link tcp only"),
  rcvbuf_actual: count.optional(),
  devices: z
    .array(
      z.strictObject({
        nic: z.string().describe("interface that has the local address of the lanes"),
        numa: z.number().int().nullable().describe("node of its device; null where it has none, as loopback"),
        gid_index: z.null().describe("of RDMA, which is not built yet"),
        gpu: z.null(),
        gpudirect: z.literal("none"),
      }),
    )
    .describe("this end's"),
  test_start: z.strictObject({
    transport: z.string(),
    op: z.enum(["write", "read"]),
    src_mem: z.string(),
    dst_mem: z.string(),
    num_streams: count.describe("lanes at the beginning; without -P they follow the path"),
    chunk_bytes: count.describe("0: by the path; results and intervals have what came of it"),
    pool_bytes: count,
    depth: count,
    duration_s: rate.nullable(),
    bytes: count.nullable(),
    iterations: count.nullable(),
    omit_s: rate,
    warmup: count,
    reverse: z.boolean(),
    bidir: z.boolean(),
    compression: z.string(),
    checksum: z.boolean(),
    verify: z.boolean(),
    data: z.string(),
    rate_bytes_per_second: count,
    congestion_control: z.string(),
    window_bytes: count,
    dscp: count,
  }),
});

const end = z.strictObject({
  streams: z.array(endStream).describe("over everything that was measured; a lane that died has what it moved"),
  sum_sent: total,
  sum_received: total,
  sum_sent_bidir_reverse: total.optional(),
  sum_received_bidir_reverse: total.optional(),
  cpu_utilization_percent: z.strictObject({
    host_total: rate,
    host_user: rate,
    host_system: rate,
    remote_total: rate,
    remote_user: rate,
    remote_system: rate,
  }),
  sender_tcp_congestion: z.string(),
  /** The two numbers of a run without flags; null where a case was not run. */
  summary: z.strictObject({ goodput_bits_per_second: rate.nullable(), latency_p50_us: rate.nullable() }),
  notes: z.array(z.string()),
  okay: z.boolean(),
  errors: z.array(z.string()),
});

const linkWay = z.strictObject({
  rate_mbit: rate.describe("as it was at the end; 0: unlimited"),
  delay_ms: rate,
  packets: count.describe("delivered, counted as on a wire"),
  bytes: count,
  drop_loss: count,
  drop_queue: count,
  drop_down: count,
  drop_device: count.describe("by the kernel: the emulator was too slow, or the link was just being made"),
  loss_runs: count,
  reordered: count,
  corrupted: count,
  reads: count,
  queued_bytes: count,
  in_flight: count,
  max_queue_ms: rate,
  late_max_ms: rate,
  late_mean_us: rate.describe("how long after its time a packet was handed over"),
});

export const linkReport = z
  .strictObject({ seconds: rate, ab: linkWay.describe("from this end to the server"), ba: linkWay })
  .describe("the emulator's own counters, since the link came up: warming up and verifying included");

const impairment = z.strictObject({
  profile: z.string().describe('"" if none was named'),
  keys: z.record(z.string(), z.union([z.number(), z.string()])).describe("what was given beside it; delay is one way"),
  report: linkReport.nullable().describe("null where the run ended before it could be asked for"),
});

export const benchDocument = z.strictObject({
  schema: z.literal(SCHEMA),
  title: z.string(),
  extra_data: z.string(),
  start,
  intervals: z.array(interval),
  results: z.array(result),
  comparison: z.array(comparison),
  impairment: impairment.nullable().describe("--impair: the emulated link between both ends; null without"),
  end,
  server_output: z.array(z.string()).nullable(),
  error: z.strictObject({ code: z.string(), message: z.string() }).nullable(),
});

export type BenchDocument = z.infer<typeof benchDocument>;
export type Reasons = z.infer<typeof reasons>;
export type Interval = z.infer<typeof interval>;
export type IntervalSum = z.infer<typeof sum>;
export type Stream = z.infer<typeof stream>;
export type Result = z.infer<typeof result>;
export type LinkReport = z.infer<typeof linkReport>;
export type Comparison = z.infer<typeof comparison>;
