/** What the flags ask for, parsed once: values here, relations between flags in relations.ts. Throws KvferryError (invalid_argument). */
import { expected } from "../transport/check.ts";
import { isHost } from "../transport/config/address.ts";
import { parseDuration, parseRate, parseSize } from "../transport/config/units.ts";
import { limits } from "../transport/limits.ts";
import type { ProfileWish } from "./codec-sides.ts";
import { refuseForeign } from "./foreign.ts";
import { type Impairment, LAB_HOST, parseImpairment } from "./impairment.ts";
import { CANONICAL, type KvSlice, MODELS, type ModelName, runsOf } from "./models.ts";
import { flagName, relate } from "./relations.ts";
import type { ConfidenceLevel } from "./statistics.ts";
import type { TlsChoice } from "./tls.ts";
import type { LayoutOrder } from "./workload.ts";

export type BenchLink = "auto" | "tcp" | "js" | "fake";

export interface BenchCase {
  readonly name: string;
  readonly blockBytes: number;
  readonly batch: number;
  readonly slice: KvSlice | undefined;
  readonly layouts: { readonly local: LayoutOrder; readonly remote: LayoutOrder } | undefined;
}

export interface BenchOptions {
  readonly role: "client" | "server" | "both";
  readonly host: string;
  readonly port: number;
  readonly dataPort: number;
  readonly bind: string;
  readonly oneOff: boolean;
  readonly link: BenchLink;
  /** 0 = by the path. */
  readonly lanes: number;
  readonly ioThreads: number;
  readonly op: "write" | "read";
  readonly reverse: boolean;
  readonly bidirectional: boolean;
  /** Seconds of each case; undefined when bytes or iterations end it. */
  readonly seconds: number | undefined;
  readonly bytes: number | undefined;
  readonly iterations: number | undefined;
  readonly omitSeconds: number;
  readonly intervalSeconds: number;
  readonly warmup: number;
  readonly depth: number;
  /** --latency-under-load: bytes of the block that is timed beside what is measured; 0 = none. */
  readonly probeBytes: number;
  /** 0 = by the path. */
  readonly chunkBytes: number;
  readonly poolBytes: number;
  readonly rateBytesPerSecond: number;
  readonly congestionControl: string;
  /** Of each socket buffer; 0 = as the kernel tunes them. */
  readonly windowBytes: number;
  readonly dscp: number;
  readonly checksum: boolean;
  readonly tls: TlsChoice;
  readonly verify: boolean;
  readonly confidence: { readonly level: ConfidenceLevel; readonly widthPercent: number } | undefined;
  readonly minGigabitsPerSecond: number | undefined;
  readonly maxP99Us: number | undefined;
  readonly data: { readonly kind: "random" } | { readonly kind: "kv"; readonly files: readonly string[] };
  /** --profile: prompts of real KV between two sidecars, instead of blocks over a link. */
  readonly coding: CodingOptions | undefined;
  readonly compare: readonly Competitor[];
  /** Both ends at the two ends of an emulated link. */
  readonly impairment: Impairment | undefined;
  /** Name of that link, once it is there and this process at an end of it; "" before, and without. */
  readonly labName: string;
  readonly cases: readonly BenchCase[];
  /** True with no flag that shapes the workload: two numbers are printed. */
  readonly canonical: boolean;
  readonly output: OutputOptions;
}

export interface CodingOptions extends ProfileWish {
  /** Of each prompt; undefined: all that the shortest dump has. */
  readonly tokens: number | undefined;
  readonly holderOrder: LayoutOrder;
  readonly askerOrder: LayoutOrder;
}

export interface OutputOptions {
  readonly form: "text" | "json" | "stream";
  readonly logfile: string;
  readonly unit: RateUnit;
  readonly title: string;
  readonly extraData: string;
  readonly serverOutput: boolean;
}

export const COMPETITORS = ["iperf3", "raw"] as const;
export type Competitor = (typeof COMPETITORS)[number];

/** Lower case counts bits, upper case bytes, as in iperf3. */
export const RATE_UNITS = ["k", "m", "g", "t", "K", "M", "G", "T"] as const;
export type RateUnit = (typeof RATE_UNITS)[number];

/** What commander hands over. */
export type RawOptions = Readonly<Record<string, string | boolean | undefined>>;

export const DEFAULT_PORT = 7_412;
const LATENCY_BLOCK = 4 * 1024;
const BLOCK_BYTES_MAX = 64 * 2 ** 30;
const CASES_MAX = 64;

export function parseOptions(raw: RawOptions): BenchOptions {
  refuseForeign(raw);
  const options = parseValues(raw);
  relate(raw, options);
  return Object.freeze(options);
}

function parseValues(raw: RawOptions): BenchOptions {
  const read = reader(raw);
  const cases = casesOf(raw);
  const depth = read.whole("depth", 1, 64) ?? 1;
  const impairment = raw.impair === undefined ? undefined : parseImpairment(String(raw.impair));
  const labName = read.pattern("inLab", /^[\w-]{1,64}$/, "the name of a link") ?? "";
  const limited = raw.bytes !== undefined || raw.iters !== undefined;
  return {
    role: raw.server === true ? "server" : raw.client === undefined ? "both" : "client",
    host: raw.client !== undefined ? read.host("client") : labName === "" ? "127.0.0.1" : LAB_HOST,
    port: read.whole("port", 0, 65_535) ?? DEFAULT_PORT,
    dataPort: read.whole("dataPort", 0, 65_535) ?? 0,
    bind: raw.bind === undefined ? "" : read.host("bind"),
    oneOff: raw.oneOff === true,
    link: read.word("link", ["auto", "tcp", "js", "fake"] as const) ?? "auto",
    lanes: read.whole("parallel", 1, limits.lanesMax) ?? 0,
    ioThreads: read.whole("threads", 0, 64) ?? 0,
    op: read.word("op", ["write", "read"] as const) ?? "write",
    reverse: raw.reverse === true,
    bidirectional: raw.bidir === true,
    seconds: limited ? undefined : (read.seconds("time", 0.05, 86_400) ?? 3),
    bytes: read.size("bytes", 1, Number.MAX_SAFE_INTEGER),
    iterations: read.whole("iters", 1, 1e12),
    omitSeconds: read.seconds("omit", 0, 3_600) ?? 0,
    intervalSeconds: read.seconds("interval", 0, 3_600) ?? 1,
    warmup: read.whole("warmup", 0, 1e6) ?? (impairment === undefined ? 2 : 1),
    depth,
    probeBytes: raw.latencyUnderLoad === true ? (read.size("blockSize", 1, BLOCK_BYTES_MAX) ?? LATENCY_BLOCK) : 0,
    chunkBytes: read.size("chunk", 1, limits.chunkBytesMax) ?? 0,
    poolBytes:
      read.size("pool", 4_096, 64 * 2 ** 30) ??
      (impairment === undefined ? 2 ** 30 : slowPool(cases, (raw.bidir === true ? 2 : 1) * depth)),
    rateBytesPerSecond: read.rate("bitrate") ?? 0,
    congestionControl: read.pattern("congestion", /^[a-z0-9_]{1,15}$/, "the name of a congestion control") ?? "",
    windowBytes: read.size("window", 1_024, 2 ** 30) ?? 0,
    dscp: dscpOf(raw.dscp),
    checksum: raw.checksum !== false,
    tls: tlsOf(raw),
    verify: raw.verify !== false,
    confidence: confidenceOf(raw.confidence),
    minGigabitsPerSecond: read.positive("minGbps"),
    maxP99Us: read.positive("maxP99Us"),
    data: dataOf(raw.data),
    coding: codingOf(raw),
    compare: competitorsOf(raw.compare),
    impairment,
    labName,
    cases,
    canonical: isCanonical(raw),
    output: {
      form: raw.jsonStream === true ? "stream" : raw.json === true ? "json" : "text",
      logfile: typeof raw.logfile === "string" ? raw.logfile : "",
      unit: read.word("format", RATE_UNITS) ?? "g",
      title: typeof raw.title === "string" ? raw.title : "",
      extraData: typeof raw.extraData === "string" ? raw.extraData : "",
      serverOutput: raw.getServerOutput === true,
    },
  };
}

/** One case for each size; with no flag that shapes it, the canonical request and the latency of one block. */
function casesOf(raw: RawOptions): readonly BenchCase[] {
  const read = reader(raw);
  const batch = read.whole("batchSize", 1, 1_048_576);
  const layouts = layoutsOf(raw);
  const slice =
    layouts !== undefined || ["model", "tokens", "tp", "blockTokens"].some((flag) => raw[flag] !== undefined) ? sliceOf(raw) : undefined;
  const plain = (blockBytes: number): BenchCase => ({
    name: `${blockBytes}x${batch ?? 1}`,
    blockBytes,
    batch: batch ?? 1,
    slice: undefined,
    layouts: undefined,
  });
  const one = read.size("blockSize", 1, BLOCK_BYTES_MAX);
  if (one !== undefined) return [plain(one)];
  const start = read.size("startBlockSize", 1, BLOCK_BYTES_MAX);
  if (start !== undefined || raw.maxBlockSize !== undefined) return sweep(start ?? LATENCY_BLOCK, read).map(plain);
  if (slice !== undefined) return [kvCase(slice, layouts)];
  if (batch !== undefined) return [plain(runsOf(CANONICAL).runBytes)];
  return [kvCase(CANONICAL, undefined), { name: "block", blockBytes: LATENCY_BLOCK, batch: 1, slice: undefined, layouts: undefined }];
}

function kvCase(slice: KvSlice, layouts: BenchCase["layouts"]): BenchCase {
  const { runs, runBytes } = runsOf(slice);
  return { name: `${slice.model}/${slice.tokens}`, blockBytes: runBytes, batch: runs, slice, layouts };
}

function sweep(start: number, read: ReturnType<typeof reader>): number[] {
  const most = read.size("maxBlockSize", start, BLOCK_BYTES_MAX) ?? Math.max(start, 64 * 2 ** 20);
  const factor = read.whole("stepFactor", 2, 1_024) ?? 2;
  const sizes: number[] = [];
  for (let size = start; size <= most && sizes.length < CASES_MAX; size *= factor) sizes.push(size);
  return sizes;
}

function sliceOf(raw: RawOptions): KvSlice {
  const read = reader(raw);
  const model = read.word("model", Object.keys(MODELS) as ModelName[]) ?? CANONICAL.model;
  return {
    model,
    tokens: read.whole("tokens", 1, 4_194_304) ?? CANONICAL.tokens,
    tensorParallel: read.whole("tp", 1, 64) ?? 1,
    blockTokens: read.whole("blockTokens", 1, limits.blockTokensMax) ?? CANONICAL.blockTokens,
  };
}

function layoutsOf(raw: RawOptions): BenchCase["layouts"] {
  if (raw.layoutLocal === undefined && raw.layoutRemote === undefined) return undefined;
  const local = layoutOrder(raw.layoutLocal ?? "nhd16", "--layout-local");
  return { local, remote: layoutOrder(raw.layoutRemote ?? raw.layoutLocal ?? "nhd16", "--layout-remote") };
}

function codingOf(raw: RawOptions): BenchOptions["coding"] {
  if (raw.profile === undefined) return undefined;
  const read = reader(raw);
  const { local, remote } = layoutsOf(raw) ?? {};
  const plain: LayoutOrder = { order: "nhd", blockTokens: read.whole("blockTokens", 1, limits.blockTokensMax) ?? CANONICAL.blockTokens };
  return {
    profile: String(raw.profile),
    calibration: raw.calibration === undefined ? "" : String(raw.calibration),
    tokens: read.whole("tokens", 1, limits.keyTokensMax),
    holderOrder: local ?? plain,
    askerOrder: remote ?? plain,
  };
}

function layoutOrder(value: string | boolean, name: string): LayoutOrder {
  const match = /^(nhd|hnd)(\d{1,5})$/.exec(String(value));
  const blockTokens = Number(match?.[2]);
  if (match === null || blockTokens < 1 || blockTokens > limits.blockTokensMax)
    throw expected("an order and tokens of a block such as nhd16 or hnd32", name, value);
  return { order: match[1] as "nhd" | "hnd", blockTokens };
}

/** Names as RFC 2474, 2597 and 3246 have them, and iperf3. */
function dscpOf(value: RawOptions[string]): number {
  if (value === undefined) return 0;
  const text = String(value).toLowerCase();
  const [, family, first, second] = /^(af|cs)([0-7])([1-3])?$/.exec(text) ?? [];
  const named: Readonly<Record<string, number>> = { be: 0, default: 0, le: 1, va: 44, ef: 46 };
  if (named[text] !== undefined) return named[text];
  if (family === "cs" && second === undefined) return Number(first) * 8;
  if (family === "af" && second !== undefined && first! >= "1" && first! <= "4") return Number(first) * 8 + Number(second) * 2;
  const number = /^(?:\d{1,2}|0x[0-9a-f]{1,2})$/.test(text) ? Number(text) : Number.NaN;
  if (!(number <= 63)) throw expected("a code point from 0 to 63, or a name such as af11, cs1, ef", "--dscp", value);
  return number;
}

function confidenceOf(value: RawOptions[string]): BenchOptions["confidence"] {
  if (value === undefined) return undefined;
  const match = /^(90|95|99),(\d+(?:\.\d+)?)$/.exec(String(value));
  const widthPercent = Number(match?.[2]);
  if (match === null || widthPercent <= 0 || widthPercent > 100)
    throw expected("LEVEL,WIDTH such as 95,5 (level 90, 95 or 99)", "--confidence", value);
  return { level: Number(match[1]) as ConfidenceLevel, widthPercent };
}

/** Files, all three, or certificates of the moment. */
function tlsOf(raw: RawOptions): TlsChoice {
  const [certificate, key, authorities] = (["tlsCert", "tlsKey", "tlsCa"] as const).map((flag) => raw[flag] ?? "");
  if (typeof certificate === "string" && typeof key === "string" && typeof authorities === "string" && certificate !== "")
    return { certificate, key, authorities };
  return raw.tls === true ? "moment" : "off";
}

function dataOf(value: RawOptions[string]): BenchOptions["data"] {
  if (value === undefined || value === "random") return { kind: "random" };
  const files = String(value).startsWith("kv:") ? String(value).slice(3).split(",") : [""];
  if (files.includes("")) throw expected('"random" or kv:FILE[,FILE...]', "--data", value);
  return { kind: "kv", files };
}

/** `iperf3` brings the C yardstick with it: its ratio is the other half of the answer. */
function competitorsOf(value: RawOptions[string]): readonly Competitor[] {
  if (value === undefined) return [];
  const names = String(value).split(",");
  for (const name of names)
    if (!COMPETITORS.some((known) => known === name)) throw expected(`a list of ${COMPETITORS.join(", ")}`, "--compare", value);
  return COMPETITORS.filter((name) => names.includes(name) || (name === "raw" && names.includes("iperf3")));
}

/** Warming up and verifying take each request that fits a pool once: over a slow link those that are under way at once are enough. */
function slowPool(cases: readonly BenchCase[], requests: number): number {
  const largest = Math.max(...cases.map(({ blockBytes, batch }) => blockBytes * batch));
  return Math.min(2 ** 30, Math.max(2 ** 20, largest * requests));
}

function isCanonical(raw: RawOptions): boolean {
  const shaping = [
    "blockSize",
    "startBlockSize",
    "maxBlockSize",
    "batchSize",
    "model",
    "tokens",
    "tp",
    "blockTokens",
    "layoutLocal",
    "layoutRemote",
  ];
  return shaping.every((flag) => raw[flag] === undefined);
}

function reader(raw: RawOptions) {
  const get = <T>(flag: string, what: string, parse: (text: string) => T | undefined): T | undefined => {
    const value = raw[flag];
    if (value === undefined) return undefined;
    const parsed = parse(String(value));
    if (parsed === undefined) throw expected(what, flagName(flag), value);
    return parsed;
  };
  const within = (number: number | undefined, low: number, high: number): number | undefined =>
    number !== undefined && number >= low && number <= high ? number : undefined;
  return {
    whole: (flag: string, low: number, high: number) =>
      get(flag, `an integer from ${low} to ${high}`, (text) => within(/^\d{1,15}$/.test(text) ? Number(text) : undefined, low, high)),
    size: (flag: string, low: number, high: number) =>
      get(flag, `a size such as 32KiB, from ${low} to ${high} bytes`, (text) => within(parseSize(text), low, high)),
    // iperf3 means bits by -b 10G; here too, and only here.
    rate: (flag: string) =>
      get(flag, "a rate such as 2Gbit or 10G (bits)", (text) => parseRate(/^[\d.]+[KMGkmg]$/.test(text) ? `${text}bit` : text)),
    seconds: (flag: string, low: number, high: number) =>
      get(flag, `a time from ${low} to ${high} s`, (text) =>
        within(/^\d+(\.\d+)?$/.test(text) ? Number(text) : scaled(parseDuration(text)), low, high),
      ),
    positive: (flag: string) =>
      get(flag, "a positive number", (text) => within(/^\d+(\.\d+)?$/.test(text) ? Number(text) : undefined, Number.MIN_VALUE, 1e12)),
    pattern: (flag: string, pattern: RegExp, what: string) => get(flag, what, (text) => (pattern.test(text) ? text : undefined)),
    host: (flag: string) => get(flag, "a host", (text) => (isHost(text) ? text : undefined))!,
    word: <W extends string>(flag: string, words: readonly W[]) =>
      get(flag, `one of ${words.join(", ")}`, (text) => words.find((word) => word === text)),
  };
}

function scaled(ms: number | undefined): number | undefined {
  return ms === undefined ? undefined : ms / 1000;
}
