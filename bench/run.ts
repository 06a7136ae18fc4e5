/** A whole bench run, from parsed flags to the document: finds or starts the other end, runs the cases, compares, judges. */
import { availableParallelism, release, type } from "node:os";
import { KvferryError } from "../transport/errors.ts";
import { type CaseRun, runCase } from "./case.ts";
import { BenchClient } from "./client.ts";
import { Competition, ROUNDS } from "./compare.ts";
import { type BenchDocument, type Comparison, type Interval, type Result, SCHEMA } from "./document.ts";
import type { BenchOptions } from "./options.ts";
import type { Output } from "./output.ts";
import { startPartner } from "./partner.ts";

export interface RunContext {
  readonly version: string;
  readonly args: readonly string[];
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Command that starts this program again: how the other end is made. */
  readonly command: readonly string[];
  readonly output: Output;
}

/** Never throws for what goes wrong on the way: the document says it in `error`. */
export async function runBench(options: BenchOptions, context: RunContext): Promise<BenchDocument> {
  const collected = new Collected(options, context);
  try {
    await collected.run();
  } catch (error) {
    const known = error instanceof KvferryError ? error : new KvferryError("internal", (error as Error).message, { cause: error });
    collected.error = { code: known.code, message: known.message };
    collected.cause = error;
  }
  const document = collected.document();
  context.output.finished(document);
  return document;
}

/** What a threshold or a wrong byte means for the exit code; "" = all is well. */
export function judge(options: BenchOptions, document: BenchDocument): string {
  const wrong = document.results.reduce((sum, { n_wrong: count }) => sum + count, 0);
  if (wrong > 0) return `${wrong} bytes did not arrive as they were sent`;
  const { minGigabitsPerSecond: least, maxP99Us: most } = options;
  // A latency bound is meant for single blocks, a rate bound for what can reach it.
  const slow = least === undefined ? undefined : Math.max(...document.results.map(({ bw_avg_bits_per_second: rate }) => rate / 1e9));
  if (least !== undefined && slow !== undefined && slow < least) return `${slow.toFixed(2)} Gbit/s is below --min-gbps ${least}`;
  const late =
    most === undefined
      ? undefined
      : Math.min(...document.results.map(({ latency_us: latency }) => latency?.p99 ?? Number.POSITIVE_INFINITY));
  if (most !== undefined && late !== undefined && late > most) return `p99 of ${late.toFixed(1)} us is above --max-p99-us ${most}`;
  return "";
}

class Collected {
  error: BenchDocument["error"] = null;
  cause: unknown;
  readonly #options: BenchOptions;
  readonly #context: RunContext;
  readonly #intervals: Interval[] = [];
  readonly #results: Result[] = [];
  readonly #notes: string[] = [];
  #comparison: Comparison[] = [];
  #start: BenchDocument["start"];
  #congestion = "";
  #serverOutput: readonly string[] | null = null;

  constructor(options: BenchOptions, context: RunContext) {
    this.#options = options;
    this.#context = context;
    this.#start = startOf(options, context);
  }

  async run(): Promise<void> {
    const options = this.#options;
    const { output, command } = this.#context;
    const competition = options.compare.length === 0 ? undefined : await Competition.gather(options);
    output.stage("starting the other end");
    const partner = options.role === "both" ? await startPartner(command, options, this.#context.version) : undefined;
    try {
      const port = partner?.port ?? options.port;
      const client = await BenchClient.open(options, options.host, port);
      try {
        this.#connected(client, port);
        output.started(this.#start);
        await this.#cases(client, competition);
        this.#congestion = client.laneInfo()[0]?.congestionControl ?? "";
      } finally {
        await client.close();
      }
    } finally {
      if (competition !== undefined) this.#notes.push(...competition.notes);
      const lines = await partner?.stop();
      if (options.output.serverOutput) this.#serverOutput = lines ?? ["(the server prints where it runs)"];
    }
  }

  document(): BenchDocument {
    const { output } = this.#options;
    const okay = this.error === null && this.#results.every((result) => result.okay);
    return {
      schema: SCHEMA,
      title: output.title,
      extra_data: output.extraData,
      start: this.#start,
      intervals: this.#intervals,
      results: this.#results,
      comparison: this.#comparison,
      end: { ...this.#totals(), notes: this.#notes, okay, errors: this.error === null ? [] : [this.error.message] },
      server_output: this.#serverOutput === null ? null : [...this.#serverOutput],
      error: this.error,
    };
  }

  async #cases(client: BenchClient, competition: Competition | undefined): Promise<void> {
    const { output } = this.#context;
    const options = this.#options;
    for (const [index, one] of options.cases.entries()) {
      // The tools beside us move one stream of bytes: they take turns with the first case, which does the same.
      const rival = index === 0 && competition !== undefined && competition.size > 0 ? competition : undefined;
      const take = rival === undefined ? undefined : () => rival.take((options.seconds ?? 3) / ROUNDS, (stage) => output.stage(stage));
      const run: CaseRun = await runCase(client, options, one, {
        onInterval: (interval) => {
          this.#intervals.push(interval);
          output.interval(interval);
        },
        onStage: (stage) => output.stage(stage),
        turns: take === undefined ? undefined : { count: ROUNDS, take },
      });
      this.#results.push(run.result);
      if (rival !== undefined) this.#comparison = rival.result(run.windows);
    }
  }

  #connected(client: BenchClient, port: number): void {
    const { host, lanes } = this.#options;
    const connected = Array.from({ length: lanes }, (_, socket) => ({ socket, remote_host: host, remote_port: client.info.dataPort }));
    const test_start = { ...this.#start.test_start, transport: client.linkKind };
    this.#start = { ...this.#start, connecting_to: { host, port }, connected, test_start, remote_system_info: client.info.systemInfo };
    if (client.linkKind === "js" && this.#options.link === "auto")
      this.#notes.push("the addon is not loaded: this measures the JavaScript link (kvferry doctor says why)");
  }

  #totals(): Omit<BenchDocument["end"], "notes" | "okay" | "errors"> {
    const seconds = this.#results.reduce((sum, result) => sum + result.seconds, 0);
    const bytes = this.#results.reduce((sum, result) => sum + result.bytes, 0);
    const total = (sender: boolean) => ({
      start: 0,
      end: seconds,
      seconds,
      bytes,
      bits_per_second: seconds === 0 ? 0 : (bytes * 8) / seconds,
      sender,
    });
    const percent = (side: "local_seconds" | "remote_seconds"): number => {
      const used = this.#results.reduce((sum, { cpu }) => sum + cpu[side], 0);
      return seconds === 0 ? 0 : (100 * used) / seconds;
    };
    const [request, block] = this.#results;
    return {
      sum_sent: total(true),
      sum_received: total(false),
      cpu_utilization_percent: { host_total: percent("local_seconds"), remote_total: percent("remote_seconds") },
      sender_tcp_congestion: this.#congestion,
      summary: {
        goodput_bits_per_second: request?.bw_avg_bits_per_second ?? null,
        latency_p50_us: (block ?? request)?.latency_us?.p50 ?? null,
      },
    };
  }
}

/** Variables that change what is measured; others may hold secrets. */
const RECORDED = /^(?:KVFERRY_(?!.*(?:SECRET|TOKEN)).*|NODE_OPTIONS|UV_THREADPOOL_SIZE|OMP_NUM_THREADS|CUDA_VISIBLE_DEVICES)$/;

function startOf(options: BenchOptions, context: RunContext): BenchDocument["start"] {
  const now = Date.now();
  const recorded = Object.entries(context.environment).flatMap(([name, value]) =>
    RECORDED.test(name) && value !== undefined ? [[name, value]] : [],
  );
  return {
    version: context.version,
    system_info: `${type()} ${release()} ${process.arch}, ${availableParallelism()} CPUs, Node ${process.version}`,
    remote_system_info: "",
    timestamp: { time: new Date(now).toUTCString(), timesecs: Math.floor(now / 1000), timemillisecs: now },
    args: [...context.args],
    env: Object.fromEntries(recorded) as Record<string, string>,
    connecting_to: { host: options.host, port: options.port },
    connected: [],
    test_start: {
      transport: options.link,
      op: options.reverse ? "read" : options.op,
      src_mem: "dram",
      dst_mem: "dram",
      num_streams: options.lanes,
      chunk_bytes: options.chunkBytes,
      pool_bytes: options.poolBytes,
      depth: options.depth,
      duration_s: options.seconds ?? null,
      bytes: options.bytes ?? null,
      iterations: options.iterations ?? null,
      omit_s: options.omitSeconds,
      warmup: options.warmup,
      reverse: options.reverse,
      bidir: options.bidirectional,
      compression: "none",
      checksum: options.checksum,
      verify: options.verify,
      data: options.data.kind === "random" ? "random" : `kv:${options.data.file}`,
      rate_bytes_per_second: options.rateBytesPerSecond,
      congestion_control: options.congestionControl,
    },
  };
}
