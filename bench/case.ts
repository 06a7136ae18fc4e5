/** One case from preparation to its line in the results: warm-up, omitted start, measured windows, the pass that verifies. */
import type { BenchClient, Use } from "./client.ts";
import type { Interval, Result } from "./document.ts";
import { IntervalMeter, reasonsOf } from "./intervals.ts";
import { type LoadLimit, type LoadResult, LoadSamples } from "./load.ts";
import type { BenchCase, BenchOptions } from "./options.ts";
import { distribution, intervalWidthPercent } from "./statistics.ts";

/** -I repeats between these, as netperf does. */
const WINDOWS_MIN = 3;
const WINDOWS_MAX = 30;
/** Of the probe alone: over a long path time ends it, within a host the number. */
const IDLE_WARMUP = 2;
const IDLE_REQUESTS = 1_000;
const IDLE_SECONDS = 2;

export interface CaseHooks {
  readonly onInterval: (interval: Interval) => void;
  readonly onStage: (stage: string) => void;
  /** Called between the measured windows: the tools that take turns with us. Given, it says how many windows there are. */
  readonly turns?: { readonly count: number; readonly take: (turn: number) => Promise<void> } | undefined;
}

export interface CaseRun {
  /** undefined if it was interrupted before a request had ended. */
  readonly result: Result | undefined;
  readonly retransmits: Retransmits;
  /** bits/s of each measured window. */
  readonly windows: readonly number[];
}

/** Segments that TCP sent again while the clock ran; null where nobody counts them. */
export interface Retransmits {
  readonly local: number | null;
  readonly remote: number | null;
}

export function addRetransmits(a: Retransmits, b: Retransmits): Retransmits {
  return { local: sumOf(a.local, b.local), remote: sumOf(a.remote, b.remote) };
}

export async function runCase(client: BenchClient, options: BenchOptions, one: BenchCase, hooks: CaseHooks): Promise<CaseRun> {
  hooks.onStage(`${one.name}: preparing`);
  await client.prepare(one);
  if (options.warmup > 0) {
    await client.window({ requests: Math.max(options.warmup, Math.min(50, options.warmup * client.workload.slots)) });
    await client.prepareAgain(one);
  }
  await client.fill();
  const measure = new Measure(client, options, one, hooks);
  await measure.idle();
  if (options.omitSeconds > 0) await measure.window({ seconds: options.omitSeconds }, true);
  await measureAll(measure, options, hooks);
  const unchecked = { verifiedBytes: 0, wrong: 0 };
  const found = (checked: typeof unchecked): CaseRun => ({
    result: measure.requests === 0 ? undefined : measure.result(checked),
    retransmits: measure.retransmits,
    windows: measure.rates,
  });
  if (client.isInterrupted) return found(unchecked);
  hooks.onStage(`${one.name}: verifying`);
  const checked = options.verify ? await client.verify() : unchecked;
  // What did not come because nobody waited for it is not wrong.
  const run = found(client.isInterrupted ? unchecked : checked);
  await client.endCase();
  return run;
}

async function measureAll(measure: Measure, options: BenchOptions, hooks: CaseHooks): Promise<void> {
  if (hooks.turns !== undefined) {
    const seconds = Math.max((options.seconds ?? 3) / hooks.turns.count, 0.05);
    for (let turn = 0; turn < hooks.turns.count && !measure.isInterrupted; turn++) {
      await hooks.turns.take(turn);
      await measure.window({ seconds }, false);
    }
    return;
  }
  const limit = limitOf(options, measure.requestBytes);
  await measure.window(limit, false);
  if (options.confidence === undefined) return;
  const { level, widthPercent } = options.confidence;
  const sure = (): boolean => measure.rates.length >= WINDOWS_MIN && intervalWidthPercent(measure.rates, level) <= widthPercent;
  while (!sure() && !measure.isInterrupted && measure.rates.length < WINDOWS_MAX) await measure.window(limit, false);
}

function limitOf(options: BenchOptions, requestBytes: number): LoadLimit {
  if (options.iterations !== undefined) return { requests: options.iterations };
  if (options.bytes !== undefined) return { requests: Math.max(1, Math.ceil(options.bytes / requestBytes)) };
  return { seconds: options.seconds };
}

/** Sums up the windows of a case. */
class Measure {
  readonly rates: number[] = [];
  readonly requestBytes: number;
  readonly #client: BenchClient;
  readonly #options: BenchOptions;
  readonly #case: BenchCase;
  readonly #hooks: CaseHooks;
  readonly #samples = new LoadSamples();
  readonly #idle = new LoadSamples();
  readonly #beside = new LoadSamples();
  requests = 0;
  #seconds = 0;
  #wireBytes: number | null = 0;
  #peak = 0;
  #retries = 0;
  retransmits: Retransmits = { local: 0, remote: 0 };
  readonly #cpu = { local: 0, localSystem: 0, remote: 0, remoteSystem: 0, localMain: 0, remoteMain: 0 };
  #last: Use | undefined;

  constructor(client: BenchClient, options: BenchOptions, one: BenchCase, hooks: CaseHooks) {
    this.#client = client;
    this.#options = options;
    this.#case = one;
    this.#hooks = hooks;
    this.requestBytes = client.workload.requestBytes;
  }

  get isInterrupted(): boolean {
    return this.#client.isInterrupted;
  }

  /** What the probe takes with nothing else under way; before the load, because what that leaves in queues takes a while to go. */
  async idle(): Promise<void> {
    if (this.#client.workload.probe === undefined) return;
    this.#hooks.onStage(`${this.#case.name}: one block at a time`);
    await this.#client.windowOfProbe({ requests: IDLE_WARMUP }, new LoadSamples());
    await this.#client.windowOfProbe({ requests: IDLE_REQUESTS, seconds: IDLE_SECONDS }, this.#idle);
  }

  async window(limit: LoadLimit, omitted: boolean): Promise<void> {
    this.#hooks.onStage(`${this.#case.name}: ${omitted ? "warming up" : "measuring"}`);
    const client = this.#client;
    const before = await client.use();
    const source = {
      name: this.#case.name,
      chunk: client.chunk,
      requestBytes: this.requestBytes,
      isTcp: client.linkKind === "tcp",
      flows: client.flows,
      lanesUp: () => client.lanesUp,
      way: (sender: boolean) => client.way(sender),
      laneInfo: () => client.laneInfo(),
    };
    const meter = new IntervalMeter(source, this.#options.intervalSeconds, omitted, (interval) => {
      if (!omitted) this.#addInterval(interval);
      this.#hooks.onInterval(interval);
    });
    let run: LoadResult;
    try {
      const [samples, beside] = omitted ? [new LoadSamples(), new LoadSamples()] : [this.#samples, this.#beside];
      run = await client.window(limit, samples, client.workload.probe === undefined ? undefined : beside);
    } finally {
      meter.stop();
    }
    if (!omitted) this.#add(run, before, await client.use());
  }

  result(checked: { readonly verifiedBytes: number; readonly wrong: number }): Result {
    const options = this.#options;
    const bytes = this.requests * this.requestBytes;
    const rate = (bytes * 8) / this.#seconds;
    const blocks = (this.requests * this.#case.batch) / this.#seconds;
    const use = this.#last!;
    const chunks = this.requests * this.#client.workload.chunks.length;
    const perChunk = (seconds: number): number | null => (Number.isNaN(seconds) ? null : (seconds * 1e6) / chunks);
    const { layouts, slice } = this.#case;
    const width = intervalWidthPercent(this.rates, options.confidence?.level ?? 95);
    return {
      case: this.#case.name,
      level: "link",
      block_bytes: this.#case.blockBytes,
      batch: this.#case.batch,
      request_bytes: this.requestBytes,
      chunk_bytes: this.#client.chunk.bytes,
      iterations: this.requests,
      bytes,
      seconds: this.#seconds,
      bw_avg_bits_per_second: rate,
      bw_peak_bits_per_second: Math.max(this.#peak, ...this.rates),
      blocks_per_second: blocks,
      msg_rate: blocks,
      wire_bytes: this.#wireBytes,
      wire_bps: this.#wireBytes === null ? null : (this.#wireBytes * 8) / this.#seconds,
      ...this.#latencies(),
      latency_under_load: this.#underLoad(),
      cpu: {
        local_seconds: this.#cpu.local,
        local_system_seconds: this.#cpu.localSystem,
        remote_seconds: this.#cpu.remote,
        remote_system_seconds: this.#cpu.remoteSystem,
        seconds_per_gib: (this.#cpu.local + this.#cpu.remote) / (bytes / 2 ** 30),
        main_thread_us_per_chunk: { local: perChunk(this.#cpu.localMain), remote: perChunk(this.#cpu.remoteMain) },
      },
      resident_bytes: { local: use.local.residentBytes, remote: use.remote.residentBytes },
      verified_bytes: checked.verifiedBytes,
      n_wrong: checked.wrong,
      retries: this.#retries,
      retransmits: sumOf(this.retransmits.local, this.retransmits.remote),
      confidence: confidenceOf(options, width, this.rates.length),
      reasons: reasonsOf(this.#client.way(this.#client.flows[0]!.sender), this.#client.chunk),
      fallbacks: fallbacksOf(options, this.#client),
      model: slice?.model ?? "",
      tokens: slice?.tokens ?? 0,
      layout: layouts === undefined ? null : { local: orderName(layouts.local), remote: orderName(layouts.remote) },
      codec: null,
      okay: checked.wrong === 0,
    };
  }

  #latencies(): Pick<Result, "latency_us" | "prep_us" | "post_us" | "tx_us"> {
    const of = (values: ArrayLike<number>) => distribution(values) ?? null;
    const { latencyUs, postUs, transferUs } = this.#samples;
    return {
      latency_us: of(latencyUs.values()),
      prep_us: of(this.#client.prepareUs),
      post_us: of(postUs.values()),
      tx_us: of(transferUs.values()),
    };
  }

  #underLoad(): Result["latency_under_load"] {
    const { probe } = this.#client.workload;
    if (probe === undefined) return null;
    const [idle, loaded] = [this.#idle.latencyUs, this.#beside.latencyUs];
    return {
      block_bytes: probe.bytes,
      idle_us: distribution(idle.values()) ?? null,
      idle_samples: idle.seen,
      loaded_us: distribution(loaded.values()) ?? null,
      loaded_samples: loaded.seen,
    };
  }

  #addInterval({ sum, sum_bidir_reverse: reverse }: Interval): void {
    this.#peak = Math.max(this.#peak, sum.bits_per_second + (reverse?.bits_per_second ?? 0));
    this.#wireBytes = sumOf(this.#wireBytes, sumOf(sum.wire_bytes, reverse === undefined ? 0 : reverse.wire_bytes));
  }

  #add(run: LoadResult, before: Use, after: Use): void {
    this.#seconds += run.seconds;
    this.requests += run.requests;
    if (run.requests === 0) return;
    this.rates.push((run.requests * this.requestBytes * 8) / run.seconds);
    const cpu = (use: Use["local"]): number => use.cpuUserSeconds + use.cpuSystemSeconds;
    this.#cpu.local += cpu(after.local) - cpu(before.local);
    // Of the same time the kernel may say less the second time: bench/run.ts.
    this.#cpu.localSystem += Math.max(after.local.cpuSystemSeconds - before.local.cpuSystemSeconds, 0);
    // The fake link's ends share a process, which is counted once.
    if (this.#client.linkKind !== "fake") {
      this.#cpu.remote += cpu(after.remote) - cpu(before.remote);
      this.#cpu.remoteSystem += Math.max(after.remote.cpuSystemSeconds - before.remote.cpuSystemSeconds, 0);
    }
    this.#cpu.localMain += after.local.mainThreadSeconds - before.local.mainThreadSeconds;
    this.#cpu.remoteMain += after.remote.mainThreadSeconds - before.remote.mainThreadSeconds;
    this.#retries += after.local.retries - before.local.retries + after.remote.retries - before.remote.retries;
    const more = (side: "local" | "remote"): number | null => {
      const [early, late] = [before[side].retransmits, after[side].retransmits];
      return sumOf(this.retransmits[side], early === null || late === null ? null : late - early);
    };
    this.retransmits = { local: more("local"), remote: more("remote") };
    this.#last = after;
  }
}

function sumOf(a: number | null, b: number | null): number | null {
  return a === null || b === null ? null : a + b;
}

function fallbacksOf(options: BenchOptions, client: BenchClient): Result["fallbacks"] {
  const link = options.link === "auto" && client.linkKind === "js" ? [{ from: "tcp", to: "js", reason: "the addon is not loaded" }] : [];
  const lanes = client.losses.map(({ lane, code, from, to }) => ({
    from: `${from} lanes`,
    to: `${to} lanes`,
    reason: `lane ${lane}: ${code}`,
  }));
  return [...link, ...lanes];
}

function confidenceOf(options: BenchOptions, width: number, windows: number): Result["confidence"] {
  if (options.confidence === undefined) return null;
  return {
    level_percent: options.confidence.level,
    wanted_width_percent: options.confidence.widthPercent,
    width_percent: Number.isFinite(width) ? width : null,
    windows,
    reached: width <= options.confidence.widthPercent,
  };
}

function orderName({ order, blockTokens }: { readonly order: string; readonly blockTokens: number }): string {
  return `${order}${blockTokens}`;
}
