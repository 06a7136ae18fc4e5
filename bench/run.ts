/** A whole bench run, from parsed flags to the document: finds or starts the other end, runs the cases, compares, judges. */
import { KvferryError } from "../transport/errors.ts";
import { bbrText } from "./bbr.ts";
import { addRetransmits, type Retransmits, runCase } from "./case.ts";
import { BenchClient } from "./client.ts";
import { Competition, ROUNDS } from "./compare.ts";
import { type BenchDocument, type Comparison, type Interval, type LinkReport, type Result, SCHEMA } from "./document.ts";
import { labReport, latenessOf } from "./lab.ts";
import type { BenchOptions } from "./options.ts";
import type { Output } from "./output.ts";
import { startPartner } from "./partner.ts";
import { connectedOf, type StartContext, startOf } from "./start.ts";
import { StreamTotals } from "./streams.ts";
import { wishOf } from "./way.ts";

export interface RunContext extends StartContext {
  /** Command that starts this program again: how the other end is made. */
  readonly command: readonly string[];
  readonly output: Output;
  /** Ends the run with what has been measured; the reason is the signal's name. */
  readonly interruption?: AbortSignal;
}

/** After an interruption, for the stretch that runs to be summed up; what waits for something else is left. */
const INTERRUPTION_MS = 300;
/** The same where the other end's part of it comes through the queue of an emulated link. */
const LAB_INTERRUPTION_MS = 3_000;

/** Never throws for what goes wrong on the way: the document says it in `error`. */
export async function runBench(options: BenchOptions, context: RunContext): Promise<BenchDocument> {
  const collected = new Collected(options, context);
  const waitMs = options.labName === "" ? INTERRUPTION_MS : LAB_INTERRUPTION_MS;
  try {
    await Promise.race([collected.run(), interrupted(context.interruption, waitMs)]);
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
  readonly #streams = new StreamTotals();
  #retransmits: Retransmits = { local: 0, remote: 0 };
  #comparison: Comparison[] = [];
  #start: BenchDocument["start"];
  #congestion = "";
  #serverOutput: readonly string[] | null = null;
  #linkReport: LinkReport | null = null;

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
        this.#watch(client);
        this.#connected(client, port);
        output.started(this.#start);
        await this.#cases(client, competition);
      } finally {
        await client.close();
      }
    } finally {
      if (competition !== undefined) this.#notes.push(...competition.notes);
      if (options.labName !== "") await this.#askLink(options.labName);
      this.#tellOfBbr();
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
      impairment: this.#impairment(),
      end: { ...this.#totals(), notes: this.#notes, okay, errors: this.error === null ? [] : [this.error.message] },
      server_output: this.#serverOutput === null ? null : [...this.#serverOutput],
      error: this.error,
    };
  }

  #impairment(): BenchDocument["impairment"] {
    const { impairment } = this.#options;
    return impairment === undefined ? null : { profile: impairment.profile, keys: { ...impairment.keys }, report: this.#linkReport };
  }

  async #askLink(name: string): Promise<void> {
    this.#linkReport = await labReport(name);
    const lateness = this.#linkReport === null ? "" : latenessOf(this.#linkReport);
    if (lateness !== "") this.#notes.push(lateness);
  }

  /** Of the first case, which is the one that fills the path. */
  #tellOfBbr(): void {
    const [result] = this.#results;
    // Within a host a loss is no path's.
    if (result === undefined || wishOf(this.#options).isLocal) return;
    const { bidirectional, op, reverse, output } = this.#options;
    const isOurs = bidirectional || (op === "write" && !reverse);
    const link = this.#linkReport?.[isOurs ? "ab" : "ba"] ?? null;
    const said = bbrText({ congestion: this.#congestion, result, intervals: this.#intervals, link }, output.unit);
    if (said !== "") this.#notes.push(said);
  }

  async #cases(client: BenchClient, competition: Competition | undefined): Promise<void> {
    const { output } = this.#context;
    const options = this.#options;
    for (const [index, one] of options.cases.entries()) {
      throwIfInterrupted(this.#context.interruption);
      // The tools beside us move one stream of bytes: they take turns with the first case, which does the same.
      const rival = index === 0 && competition !== undefined && competition.size > 0 ? competition : undefined;
      const take = rival === undefined ? undefined : () => rival.take((options.seconds ?? 3) / ROUNDS, (stage) => output.stage(stage));
      const run = await runCase(client, options, one, {
        onInterval: (interval) => {
          this.#intervals.push(interval);
          this.#streams.add(interval);
          output.interval(interval);
        },
        onStage: (stage) => output.stage(stage),
        turns: take === undefined ? undefined : { count: ROUNDS, take },
      });
      if (run.result !== undefined) this.#results.push(run.result);
      this.#congestion = client.way(client.flows[0]!.sender).congestionControl;
      this.#retransmits = addRetransmits(this.#retransmits, run.retransmits);
      if (rival !== undefined && run.windows.length > 0) this.#comparison = rival.result(run.windows);
    }
    throwIfInterrupted(this.#context.interruption);
  }

  /** What may happen at any time: a lane that dies, a signal. */
  #watch(client: BenchClient): void {
    const { output, interruption } = this.#context;
    client.onLoss = ({ lane, code, from, to }) => output.warn(`LANE LOST: lane ${lane} (${code}); ${to} of ${from} lanes are left`);
    interruption?.addEventListener("abort", () => client.interrupt());
  }

  #connected(client: BenchClient, port: number): void {
    const { host } = this.#options;
    const test_start = { ...this.#start.test_start, transport: client.linkKind, num_streams: client.lanesUp };
    this.#start = {
      ...this.#start,
      ...connectedOf(client.laneInfo()),
      connecting_to: { host, port },
      test_start,
      remote_system_info: client.info.systemInfo,
    };
    if (client.linkKind === "js" && this.#options.link === "auto")
      this.#notes.push("the addon is not loaded: this measures the JavaScript link (kvferry doctor says why)");
  }

  #totals(): Omit<BenchDocument["end"], "notes" | "okay" | "errors"> {
    const seconds = this.#results.reduce((sum, result) => sum + result.seconds, 0);
    const { bidirectional, op, reverse } = this.#options;
    const sender = bidirectional || (op === "write" && !reverse);
    const sent = (ours: boolean) => this.#streams.total(ours, this.#retransmits[ours ? "local" : "remote"]);
    const received = (ours: boolean) => this.#streams.total(ours, null);
    // The kernel shares a process's time out between user and system anew each time it is asked: over a short run either may go back a little.
    const percent = (used: (cpu: Result["cpu"]) => number): number =>
      seconds === 0 ? 0 : Math.max((100 * this.#results.reduce((sum, { cpu }) => sum + used(cpu), 0)) / seconds, 0);
    const [request, block] = this.#results;
    return {
      streams: [...this.#streams.streams(sender), ...(bidirectional ? this.#streams.streams(false) : [])],
      sum_sent: sent(sender),
      sum_received: received(sender),
      ...(bidirectional ? { sum_sent_bidir_reverse: sent(false), sum_received_bidir_reverse: received(false) } : {}),
      cpu_utilization_percent: {
        host_total: percent((cpu) => cpu.local_seconds),
        host_user: percent((cpu) => cpu.local_seconds - cpu.local_system_seconds),
        host_system: percent((cpu) => cpu.local_system_seconds),
        remote_total: percent((cpu) => cpu.remote_seconds),
        remote_user: percent((cpu) => cpu.remote_seconds - cpu.remote_system_seconds),
        remote_system: percent((cpu) => cpu.remote_system_seconds),
      },
      sender_tcp_congestion: this.#congestion,
      summary: {
        goodput_bits_per_second: request?.bw_avg_bits_per_second ?? null,
        latency_p50_us: (block ?? request)?.latency_us?.p50 ?? null,
      },
    };
  }
}

function throwIfInterrupted(interruption: AbortSignal | undefined): void {
  if (interruption?.aborted === true) throw cancelled(interruption);
}

function cancelled({ reason }: AbortSignal): KvferryError {
  return new KvferryError("cancelled", `interrupted by ${String(reason)}`);
}

/** Rejects soon after the interruption; never resolves. */
function interrupted(interruption: AbortSignal | undefined, waitMs: number): Promise<never> {
  return new Promise((_, reject) => {
    interruption?.addEventListener("abort", () => setTimeout(() => reject(cancelled(interruption)), waitMs));
  });
}
