/** One case from preparation to its line in the results: warm-up, omitted start, measured windows, the pass that verifies. */
import type { BenchClient, Use } from "./client.ts";
import type { Interval, Result } from "./document.ts";
import { IntervalMeter } from "./intervals.ts";
import type { LoadLimit, LoadResult } from "./load.ts";
import type { BenchCase, BenchOptions } from "./options.ts";
import { distribution, intervalWidthPercent, Samples } from "./statistics.ts";

/** -I repeats between these, as netperf does. */
const WINDOWS_MIN = 3;
const WINDOWS_MAX = 30;

export interface CaseHooks {
  readonly onInterval: (interval: Interval) => void;
  readonly onStage: (stage: string) => void;
  /** Called between the measured windows: the tools that take turns with us. Given, it says how many windows there are. */
  readonly turns?: { readonly count: number; readonly take: (turn: number) => Promise<void> } | undefined;
}

export interface CaseRun {
  readonly result: Result;
  /** bits/s of each measured window. */
  readonly windows: readonly number[];
}

export async function runCase(client: BenchClient, options: BenchOptions, one: BenchCase, hooks: CaseHooks): Promise<CaseRun> {
  hooks.onStage(`${one.name}: preparing`);
  await client.prepare(one);
  if (options.warmup > 0) await client.window({ requests: Math.max(options.warmup, Math.min(50, options.warmup * client.workload.slots)) });
  const samples = new Samples();
  const measure = new Measure(client, options, one, hooks, samples);
  if (options.omitSeconds > 0) await measure.window({ seconds: options.omitSeconds }, true);
  await measureAll(measure, options, hooks);
  hooks.onStage(`${one.name}: verifying`);
  const checked = options.verify ? await client.verify() : { verifiedBytes: 0, wrong: 0 };
  const result = measure.result(checked);
  await client.endCase();
  return { result, windows: measure.rates };
}

async function measureAll(measure: Measure, options: BenchOptions, hooks: CaseHooks): Promise<void> {
  if (hooks.turns !== undefined) {
    const seconds = Math.max((options.seconds ?? 3) / hooks.turns.count, 0.05);
    for (let turn = 0; turn < hooks.turns.count; turn++) {
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
  while (!sure() && measure.rates.length < WINDOWS_MAX) await measure.window(limit, false);
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
  readonly #samples: Samples;
  #seconds = 0;
  #requests = 0;
  #peak = 0;
  #retries = 0;
  readonly #cpu = { local: 0, remote: 0, localMain: 0, remoteMain: 0 };
  #last: Use | undefined;

  constructor(client: BenchClient, options: BenchOptions, one: BenchCase, hooks: CaseHooks, samples: Samples) {
    this.#client = client;
    this.#options = options;
    this.#case = one;
    this.#hooks = hooks;
    this.#samples = samples;
    this.requestBytes = client.workload.requestBytes;
  }

  async window(limit: LoadLimit, omitted: boolean): Promise<void> {
    this.#hooks.onStage(`${this.#case.name}: ${omitted ? "warming up" : "measuring"}`);
    const client = this.#client;
    const before = await client.use();
    const source = {
      name: this.#case.name,
      requestBytes: this.requestBytes,
      sender: this.#options.op === "write" && !this.#options.reverse,
      progress: () => client.progress,
      laneInfo: () => client.laneInfo(),
    };
    const meter = new IntervalMeter(source, this.#options.intervalSeconds, omitted, (interval) => {
      if (!omitted) this.#peak = Math.max(this.#peak, interval.sum.bits_per_second);
      this.#hooks.onInterval(interval);
    });
    let run: LoadResult;
    try {
      run = await client.window(limit, omitted ? new Samples() : this.#samples);
    } finally {
      meter.stop();
    }
    if (!omitted) this.#add(run, before, await client.use());
  }

  result(checked: { readonly verifiedBytes: number; readonly wrong: number }): Result {
    const options = this.#options;
    const bytes = this.#requests * this.requestBytes;
    const rate = (bytes * 8) / this.#seconds;
    const use = this.#last!;
    const chunks = this.#requests * this.#client.workload.chunks.length;
    const perChunk = (seconds: number): number | null => (Number.isNaN(seconds) ? null : (seconds * 1e6) / chunks);
    const { layouts, slice } = this.#case;
    const width = intervalWidthPercent(this.rates, options.confidence?.level ?? 95);
    return {
      case: this.#case.name,
      level: "link",
      block_bytes: this.#case.blockBytes,
      batch: this.#case.batch,
      request_bytes: this.requestBytes,
      chunk_bytes: options.chunkBytes,
      iterations: this.#requests,
      bytes,
      seconds: this.#seconds,
      bw_avg_bits_per_second: rate,
      bw_peak_bits_per_second: Math.max(this.#peak, ...this.rates),
      blocks_per_second: (this.#requests * this.#case.batch) / this.#seconds,
      latency_us: distribution(this.#samples.values()) ?? null,
      cpu: {
        local_seconds: this.#cpu.local,
        remote_seconds: this.#cpu.remote,
        seconds_per_gib: (this.#cpu.local + this.#cpu.remote) / (bytes / 2 ** 30),
        main_thread_us_per_chunk: { local: perChunk(this.#cpu.localMain), remote: perChunk(this.#cpu.remoteMain) },
      },
      resident_bytes: { local: use.local.residentBytes, remote: use.remote.residentBytes },
      verified_bytes: checked.verifiedBytes,
      n_wrong: checked.wrong,
      retries: this.#retries,
      confidence: confidenceOf(options, width, this.rates.length),
      fallbacks:
        options.link === "auto" && this.#client.linkKind === "js" ? [{ from: "tcp", to: "js", reason: "the addon is not loaded" }] : [],
      model: slice?.model ?? "",
      tokens: slice?.tokens ?? 0,
      layout: layouts === undefined ? null : { local: orderName(layouts.local), remote: orderName(layouts.remote) },
      okay: checked.wrong === 0,
    };
  }

  #add(run: LoadResult, before: Use, after: Use): void {
    this.#seconds += run.seconds;
    this.#requests += run.requests;
    this.rates.push((run.requests * this.requestBytes * 8) / run.seconds);
    const cpu = (use: Use["local"]): number => use.cpuUserSeconds + use.cpuSystemSeconds;
    this.#cpu.local += cpu(after.local) - cpu(before.local);
    // The fake link's ends share a process, which is counted once.
    if (this.#client.linkKind !== "fake") this.#cpu.remote += cpu(after.remote) - cpu(before.remote);
    this.#cpu.localMain += after.local.mainThreadSeconds - before.local.mainThreadSeconds;
    this.#cpu.remoteMain += (after.remote.mainThreadSeconds ?? Number.NaN) - (before.remote.mainThreadSeconds ?? Number.NaN);
    this.#retries += after.local.retries - before.local.retries + after.remote.retries - before.remote.retries;
    this.#last = after;
  }
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
