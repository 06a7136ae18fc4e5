/** `kvferry bench --profile`: prompts take turns on their way between two sidecars until there is enough; then each is looked at. */
import { assert } from "../transport/check.ts";
import { asKvferryError, KvferryError } from "../transport/errors.ts";
import type { CodecError } from "../transport/cli/codec/compare.ts";
import { Candidates, type Move, Sides } from "./codec-sides.ts";
import { codedCounts, type CodedCounts } from "./codec-counts.ts";
import { type BenchDocument, type Result, SCHEMA } from "./document.ts";
import { HeldLink, labReport } from "./lab.ts";
import { type KvPrompts, readPrompts } from "./kv-dump.ts";
import { runsOf, shapeOf } from "./models.ts";
import type { BenchOptions, CodingOptions } from "./options.ts";
import type { RunContext } from "./run.ts";
import type { CpuUse } from "./sidecars.ts";
import { startOf } from "./start.ts";
import { distribution } from "./statistics.ts";
import type { LayoutOrder } from "./workload.ts";

/** Never throws for what goes wrong on the way: the document says it in `error`. */
export async function runProfile(options: BenchOptions, context: RunContext): Promise<BenchDocument> {
  const run = new ProfileRun(options, context);
  let error: BenchDocument["error"] = null;
  try {
    await run.run();
  } catch (cause) {
    const { code, message } = asKvferryError(cause);
    error = { code, message };
  }
  const document = run.document(error);
  context.output.finished(document);
  return document;
}

interface Measured {
  readonly kv: KvPrompts;
  readonly candidates: Candidates;
  readonly moves: readonly Move[];
  readonly errors: readonly CodecError[];
  readonly wrong: number;
  readonly cpu: { readonly local: CpuUse; readonly remote: CpuUse };
  readonly residentBytes: { readonly local: number; readonly remote: number };
  readonly coded: CodedCounts;
}

class ProfileRun {
  readonly #options: BenchOptions;
  readonly #coding: CodingOptions;
  readonly #context: RunContext;
  #measured: Measured | undefined;
  #link: Awaited<ReturnType<typeof labReport>> = null;

  constructor(options: BenchOptions, context: RunContext) {
    assert(options.coding !== undefined, "a profile was asked for");
    this.#options = options;
    this.#coding = options.coding;
    this.#context = context;
  }

  async run(): Promise<void> {
    const { impairment, data, congestionControl } = this.#options;
    const { tokens, holderOrder, askerOrder, ...wish } = this.#coding;
    const { output } = this.#context;
    output.stage("reading the dumps");
    const candidates = new Candidates(wish);
    const kv = readPrompts(data.kind === "kv" ? data.files : [], holderOrder.blockTokens, tokens);
    output.stage("starting two sidecars");
    const link = impairment === undefined ? undefined : await HeldLink.up(impairment, congestionControl);
    try {
      // An emulated link has addresses of its own, and nobody else at it.
      const flags: Readonly<Record<string, string>> = link === undefined ? {} : { insecure: "true" };
      const sides = await Sides.open({ kv, candidates, holderOrder, askerOrder, flags, link });
      output.started(this.#start());
      const work = this.#measure(sides, kv, candidates);
      try {
        await (link === undefined ? work : Promise.race([work, link.lost]));
      } finally {
        await sides.close();
      }
      if (link !== undefined) this.#link = await labReport(link.name);
    } finally {
      await link?.down();
    }
  }

  async #measure(sides: Sides, kv: KvPrompts, candidates: Candidates): Promise<void> {
    const {
      warmup,
      verify,
      seconds = Number.POSITIVE_INFINITY,
      bytes = Number.POSITIVE_INFINITY,
      iterations = Number.POSITIVE_INFINITY,
    } = this.#options;
    const { output, interruption } = this.#context;
    output.stage("warming up");
    for (let turn = 0; turn < warmup; turn++) for (const prompt of kv.prompts) await sides.move(prompt);
    const cpu = () => ({ local: sides.asker.sidecar.cpuUse(), remote: sides.holder.sidecar.cpuUse() });
    const [cpuBefore, codedBefore] = [cpu(), await codedCounts(sides.holder.sidecar)];
    const moves: Move[] = [];
    let [movedSeconds, movedBytes] = [0, 0];
    // Whole rounds, so that every prompt counts for as much.
    while (moves.length === 0 || (movedSeconds < seconds && movedBytes < bytes && moves.length < iterations)) {
      for (const prompt of kv.prompts) {
        if (interruption?.aborted === true) throw new KvferryError("cancelled", `interrupted by ${String(interruption.reason)}`);
        const move = await sides.move(prompt);
        moves.push(move);
        movedSeconds += move.seconds;
        movedBytes += move.report.bytes;
        output.stage(`${moves.length} prompts moved`);
      }
    }
    const [cpuAfter, codedAfter] = [cpu(), await codedCounts(sides.holder.sidecar)];
    const residentBytes = { local: sides.asker.sidecar.residentBytesBesidePool(), remote: sides.holder.sidecar.residentBytesBesidePool() };
    output.stage("verifying");
    const checks = [];
    if (verify) for (const prompt of kv.prompts) checks.push(await sides.verify(prompt));
    this.#measured = {
      ...{ kv, candidates, moves, residentBytes },
      errors: checks.map(({ error }) => error),
      wrong: checks.reduce((sum, { wrong }) => sum + wrong, 0),
      cpu: { local: usedSince(cpuBefore.local, cpuAfter.local), remote: usedSince(cpuBefore.remote, cpuAfter.remote) },
      coded: codedAfter.since(codedBefore),
    };
  }

  document(error: BenchDocument["error"]): BenchDocument {
    const { output, impairment } = this.#options;
    const results = this.#measured === undefined ? [] : [this.#result(this.#measured)];
    const notes = results.flatMap(({ fallbacks }) => fallbacks.map(({ from, to, reason }) => `${from} -> ${to}: ${reason}`));
    return {
      schema: SCHEMA,
      title: output.title,
      extra_data: output.extraData,
      start: this.#start(),
      intervals: [],
      results,
      comparison: [],
      impairment: impairment === undefined ? null : { profile: impairment.profile, keys: { ...impairment.keys }, report: this.#link },
      end: {
        ...endOf(results),
        notes,
        okay: error === null && results.every(({ okay }) => okay),
        errors: error === null ? [] : [error.message],
      },
      server_output: null,
      error,
    };
  }

  #start(): BenchDocument["start"] {
    const start = startOf(this.#options, this.#context);
    return { ...start, test_start: { ...start.test_start, transport: "tcp", op: "read", compression: this.#coding.profile } };
  }

  #result({ kv, candidates, moves, errors, wrong, cpu, residentBytes, coded }: Measured): Result {
    const { slice, prompts } = kv;
    const seconds = sumOf(moves, (move) => move.seconds);
    const [bytes, wireBytes] = [sumOf(moves, ({ report }) => report.bytes), sumOf(moves, ({ report }) => report.wireBytes)];
    const { runs, runBytes } = runsOf(slice);
    const rates = moves.map((move) => (move.report.bytes * 8) / move.seconds);
    const title = shapeOf(slice).title;
    const requestBytes = bytes / moves.length;
    return {
      case: `${title}/${slice.tokens}`,
      level: "engine",
      block_bytes: runBytes,
      batch: runs,
      request_bytes: requestBytes,
      chunk_bytes: Math.round(requestBytes / moves.at(-1)!.report.chunks),
      iterations: moves.length,
      bytes,
      seconds,
      bw_avg_bits_per_second: (bytes * 8) / seconds,
      bw_peak_bits_per_second: Math.max(...rates),
      blocks_per_second: (moves.length * runs) / seconds,
      msg_rate: (moves.length * runs) / seconds,
      wire_bytes: wireBytes,
      wire_bps: (wireBytes * 8) / seconds,
      latency_us: distribution(moves.map((move) => move.seconds * 1e6)) ?? null,
      prep_us: null,
      post_us: null,
      tx_us: distribution(moves.map(({ report }) => report.seconds * 1e6)) ?? null,
      latency_under_load: null,
      cpu: {
        local_seconds: cpu.local.seconds,
        local_system_seconds: cpu.local.systemSeconds,
        remote_seconds: cpu.remote.seconds,
        remote_system_seconds: cpu.remote.systemSeconds,
        seconds_per_gib: (cpu.local.seconds + cpu.remote.seconds) / (bytes / 2 ** 30),
        main_thread_us_per_chunk: { local: null, remote: null },
      },
      resident_bytes: residentBytes,
      verified_bytes: errors.length === 0 ? 0 : prompts.length * requestBytes,
      n_wrong: wrong,
      retries: sumOf(moves, ({ report }) => report.retries),
      retransmits: null,
      confidence: null,
      reasons: NOT_ASKED,
      fallbacks: fallbacksOf(this.#coding.profile, candidates, moves, coded),
      model: title,
      tokens: slice.tokens,
      layout: { local: orderName(this.#coding.holderOrder), remote: orderName(this.#coding.askerOrder) },
      codec: codecOf(candidates, moves, errors, coded),
      okay: wrong === 0,
    };
  }
}

/** Sidecars decide for themselves: `kvferry status` says what, and why. */
const NOT_ASKED: Result["reasons"] = { estimate: "", lanes: "", window: "", pace: "", chunk: "", congestion: "" };

function codecOf(
  candidates: Candidates,
  moves: readonly Move[],
  errors: readonly CodecError[],
  coded: CodedCounts,
): NonNullable<Result["codec"]> {
  const used: Record<string, number> = {};
  for (const { report } of moves) {
    const name = candidates.nameOf(report.profile);
    used[name] = (used[name] ?? 0) + 1;
  }
  const most = (of: (error: CodecError) => number): number => Math.max(...errors.map(of));
  const [id = ""] = moves.map(({ report }) => report.profile).filter((one) => one !== "");
  return {
    profile: candidates.wish.profile,
    id,
    ratio: sumOf(moves, ({ report }) => report.bytes) / sumOf(moves, ({ report }) => report.wireBytes),
    used,
    reasons: coded.reasons("kvferry_codec_transfers_total"),
    stored_chunks: coded.reasons("kvferry_codec_stored_chunks_total"),
    error: errors.length === 0 ? null : { k: most(({ k }) => k), v: most(({ v }) => v), largest: most(({ largest }) => largest) },
  };
}

/** What was asked for and not done, if that is so. */
function fallbacksOf(wished: string, candidates: Candidates, moves: readonly Move[], coded: CodedCounts): Result["fallbacks"] {
  const stored = moves.filter(({ report }) => report.profile === "").length;
  if (wished === "none" || wished === "auto" || stored === 0) return [];
  const reasons = Object.keys(coded.reasons("kvferry_codec_transfers_total")).join(", ");
  return [{ from: wished, to: "stored", reason: `${stored} of ${moves.length} prompts: ${reasons}` }];
}

function endOf(results: readonly Result[]): Omit<BenchDocument["end"], "notes" | "okay" | "errors"> {
  const [result] = results;
  const seconds = result?.seconds ?? 0;
  const total = { start: 0, end: seconds, seconds, bytes: result?.bytes ?? 0, bits_per_second: result?.bw_avg_bits_per_second ?? 0 };
  const percent = (used: number): number => (seconds === 0 ? 0 : (100 * used) / seconds);
  const { local_seconds: local = 0, local_system_seconds: localSystem = 0 } = result?.cpu ?? {};
  const { remote_seconds: remote = 0, remote_system_seconds: remoteSystem = 0 } = result?.cpu ?? {};
  return {
    streams: [],
    sum_sent: { ...total, sender: false },
    sum_received: { ...total, sender: false },
    cpu_utilization_percent: {
      host_total: percent(local),
      host_user: percent(Math.max(local - localSystem, 0)),
      host_system: percent(localSystem),
      remote_total: percent(remote),
      remote_user: percent(Math.max(remote - remoteSystem, 0)),
      remote_system: percent(remoteSystem),
    },
    sender_tcp_congestion: "",
    summary: { goodput_bits_per_second: result?.bw_avg_bits_per_second ?? null, latency_p50_us: result?.latency_us?.p50 ?? null },
  };
}

function usedSince(before: CpuUse, after: CpuUse): CpuUse {
  const systemSeconds = Math.max(after.systemSeconds - before.systemSeconds, 0);
  return { seconds: after.seconds - before.seconds, systemSeconds };
}

function sumOf<Item>(items: readonly Item[], of: (item: Item) => number): number {
  return items.reduce((sum, item) => sum + of(item), 0);
}

function orderName({ order, blockTokens }: LayoutOrder): string {
  return `${order}${blockTokens}`;
}
