/**
 * The one document that --json prints: schema kvferry.bench/1, as a zod schema. schemas/bench.schema.json is made from it
 * (bench/schema.ts), and every document of the tests is parsed with it. Names of intervals and end are iperf3's; units stand in names.
 */
import { z } from "zod";

export const SCHEMA = "kvferry.bench/1";

const count = z.number().int().nonnegative();
const rate = z.number().nonnegative();

const distribution = z.strictObject({ min: rate, avg: rate, p50: rate, p95: rate, p99: rate, p999: rate, max: rate, stdev: rate });

const stream = z.strictObject({
  socket: count,
  start: rate,
  end: rate,
  seconds: rate,
  bytes: count,
  bits_per_second: rate,
  retransmits: count,
  snd_cwnd: count,
  rtt: rate,
  omitted: z.boolean(),
  sender: z.boolean(),
});

const sum = z.strictObject({
  start: rate,
  end: rate,
  seconds: rate,
  bytes: count,
  bits_per_second: rate,
  retransmits: count,
  omitted: z.boolean(),
  sender: z.boolean(),
});

export const interval = z.strictObject({ case: z.string(), streams: z.array(stream), sum });

const total = z.strictObject({ start: rate, end: rate, seconds: rate, bytes: count, bits_per_second: rate, sender: z.boolean() });

/** CPU of both processes, all threads, over the measured stretches. */
const cpu = z.strictObject({
  local_seconds: rate,
  remote_seconds: rate,
  seconds_per_gib: rate,
  main_thread_us_per_chunk: z.strictObject({ local: rate.nullable(), remote: rate.nullable() }),
});

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
  /** From begin to complete of a whole request, measured in JavaScript; null when nothing ended. */
  latency_us: distribution.nullable(),
  cpu,
  resident_bytes: z.strictObject({ local: count, remote: count }),
  verified_bytes: count,
  n_wrong: count,
  retries: count,
  confidence: confidence.nullable(),
  fallbacks: z.array(z.strictObject({ from: z.string(), to: z.string(), reason: z.string() })),
  model: z.string(),
  tokens: count,
  layout: z.strictObject({ local: z.string(), remote: z.string() }).nullable(),
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
  connected: z.array(z.strictObject({ socket: count, remote_host: z.string(), remote_port: count })),
  test_start: z.strictObject({
    transport: z.string(),
    op: z.enum(["write", "read"]),
    src_mem: z.string(),
    dst_mem: z.string(),
    num_streams: count,
    chunk_bytes: count,
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
  }),
});

const end = z.strictObject({
  sum_sent: total,
  sum_received: total,
  cpu_utilization_percent: z.strictObject({ host_total: rate, remote_total: rate }),
  sender_tcp_congestion: z.string(),
  /** The two numbers of a run without flags; null where a case was not run. */
  summary: z.strictObject({ goodput_bits_per_second: rate.nullable(), latency_p50_us: rate.nullable() }),
  notes: z.array(z.string()),
  okay: z.boolean(),
  errors: z.array(z.string()),
});

export const benchDocument = z.strictObject({
  schema: z.literal(SCHEMA),
  title: z.string(),
  extra_data: z.string(),
  start,
  intervals: z.array(interval),
  results: z.array(result),
  comparison: z.array(comparison),
  end,
  server_output: z.array(z.string()).nullable(),
  error: z.strictObject({ code: z.string(), message: z.string() }).nullable(),
});

export type BenchDocument = z.infer<typeof benchDocument>;
export type Interval = z.infer<typeof interval>;
export type Result = z.infer<typeof result>;
export type Comparison = z.infer<typeof comparison>;
