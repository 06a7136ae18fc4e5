/** What flags mean to each other: nothing that was asked for is ignored. Throws KvferryError (invalid_argument). */
import { KvferryError } from "../transport/errors.ts";
import type { BenchCase, BenchOptions, RawOptions } from "./options.ts";

/** All that a server takes; the rest comes from the client. */
const SERVER_FLAGS = new Set([
  "server",
  "port",
  "bind",
  "oneOff",
  "daemon",
  "json",
  "jsonStream",
  "logfile",
  "title",
  "withParent",
  "tlsCert",
  "tlsKey",
  "tlsCa",
  "verbose",
]);

/** All that says something of prompts between two sidecars; the rest is of links, which they choose for themselves. */
const PROFILE_FLAGS = new Set([
  ...["profile", "calibration", "data", "tokens", "blockTokens", "layoutLocal", "layoutRemote"],
  ...["time", "bytes", "iters", "warmup", "verify", "checkConsistency", "minGbps", "maxP99Us", "impair", "congestion"],
  ...["json", "jsonStream", "logfile", "format", "reportGbits", "title", "extraData", "verbose"],
]);

/** Flags that say what runs are like, each in its own way. */
const MODEL_FLAGS = ["model", "tokens", "tp", "blockTokens", "layoutLocal", "layoutRemote"] as const;
const SWEEP_FLAGS = ["startBlockSize", "maxBlockSize"] as const;

export function flagName(name: string): string {
  return `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}

/** A request that is no larger than the probe is no load. */
export function isProbed({ blockBytes, batch }: BenchCase, probeBytes: number): boolean {
  return probeBytes > 0 && blockBytes * batch > probeBytes;
}

export function relate(raw: RawOptions, options: BenchOptions): void {
  if (options.coding !== undefined) relateProfile(raw, options);
  else if (raw.calibration !== undefined) refuse("--calibration goes with --profile");
  relateLab(raw, options);
  relateEnds(raw, options);
  relateTls(raw, options);
  relateMeasure(raw, options);
  if (options.coding === undefined) relateWorkload(raw, options);
  relateOutput(raw);
}

function relateProfile(raw: RawOptions, { data, impairment }: BenchOptions): void {
  const foreign = Object.keys(raw).find(
    (name) => !PROFILE_FLAGS.has(name) && raw[name] !== undefined && !(name === "checksum" && raw[name] === true),
  );
  if (foreign !== undefined) refuse(`${flagName(foreign)} excludes --profile, which moves prompts between two sidecars on this machine`);
  if (data.kind !== "kv") refuse("--profile needs real KV: --data kv:FILE.safetensors[,FILE...]");
  if (raw.congestion !== undefined && impairment === undefined) refuse("-C goes with --impair here: sidecars take the host's");
}

/** A certificate goes with its key and with whom it believes. */
function relateTls(raw: RawOptions, { role, link }: BenchOptions): void {
  const files = ["tlsCert", "tlsKey", "tlsCa"];
  const missing = files.find((name) => raw[name] === undefined);
  if (missing !== undefined && files.some((name) => raw[name] !== undefined)) refuse(`${flagName(missing)} is missing`);
  const given = missing === undefined;
  if (given && raw.tls === true) refuse("--tls and --tls-cert exclude each other: certificates of the moment, or real ones");
  if (given && role === "both") refuse("--tls-cert goes with -s or -c; without them --tls makes both ends' certificates");
  if ((given || raw.tls === true) && link === "fake") refuse("--link fake has no sockets, and no TLS");
}

function relateEnds(raw: RawOptions, { role, link, oneOff, congestionControl, compare }: BenchOptions): void {
  if (raw.server === true && raw.client !== undefined) refuse("-s and -c exclude each other: one end is the server");
  if (compare.length > 0 && role === "server") refuse("--compare is for the client");
  if (role === "server") {
    // CRC is on where nobody says anything.
    const foreign = Object.keys(raw).find(
      (name) => !SERVER_FLAGS.has(name) && raw[name] !== undefined && !(name === "checksum" && raw[name] === true),
    );
    if (foreign !== undefined) refuse(`${flagName(foreign)} is for the client, which brings the server its parameters`);
    return;
  }
  if (oneOff) refuse("-1 is for the server (-s)");
  if (raw.daemon === true) refuse("-D is for the server (-s)");
  if (raw.bind !== undefined) refuse("--bind is for the server (-s)");
  if (raw.port !== undefined && role === "both") refuse("-p goes with -s or -c; without them both ends find a free port");
  if (link === "fake" && role !== "both") refuse("--link fake lives in one process: no -s, no -c");
  if (link === "fake" && congestionControl !== "") refuse("--link fake has no congestion control");
  if (raw.threads !== undefined && (link === "js" || link === "fake")) refuse(`--threads is for the native link, not for --link ${link}`);
}

function relateLab(raw: RawOptions, { impairment, labName, link, compare }: BenchOptions): void {
  if (impairment === undefined) {
    if (labName !== "") refuse("--in-lab is what --impair starts its measuring end with");
    return;
  }
  if (raw.server === true || raw.client !== undefined) refuse("--impair excludes -s and -c: it runs both ends on this machine");
  if (link === "fake") refuse("--impair needs sockets; link fake has none");
  if (compare.length > 0) refuse("--impair excludes --compare: the tools beside us would run over loopback");
}

function relateMeasure(raw: RawOptions, { seconds, omitSeconds, confidence, compare }: BenchOptions): void {
  if (raw.bytes !== undefined && raw.iters !== undefined) refuse("-n and --iters exclude each other");
  if (raw.time !== undefined && (raw.bytes !== undefined || raw.iters !== undefined))
    refuse("-t excludes -n and --iters: one of them ends a case");
  if (seconds !== undefined && omitSeconds >= seconds * 10) refuse("-O omits more than ten times what -t measures");
  if (confidence !== undefined && seconds === undefined) refuse("-I needs -t: it repeats a timed case");
  if (compare.length > 0 && seconds === undefined) refuse("--compare needs -t: the tools beside it run by time");
  if (compare.length > 0 && confidence !== undefined) refuse("-I and --compare exclude each other: turns are counted beforehand");
  if (raw.checkConsistency === true && raw.verify === false) refuse("--check-consistency is --verify: it excludes --no-verify");
}

function relateWorkload(raw: RawOptions, { bidirectional, reverse, op, data, cases, poolBytes, probeBytes }: BenchOptions): void {
  const given = (names: readonly string[]): string | undefined => names.find((name) => raw[name] !== undefined);
  const [model, sweep] = [given(MODEL_FLAGS), given(SWEEP_FLAGS)];
  if (raw.reverse === true && raw.bidir === true) refuse("-R and --bidir exclude each other");
  if (raw.blockSize !== undefined && sweep !== undefined) refuse("-l and --start-block-size exclude each other: one size, or a sweep");
  if (raw.stepFactor !== undefined && sweep === undefined) refuse("--step-factor goes with --start-block-size or --max-block-size");
  if (model !== undefined) {
    const size = given(["blockSize", ...SWEEP_FLAGS, "batchSize"]);
    if (size !== undefined) refuse(`${flagName(size)} and ${flagName(model)} exclude each other: a model says how large its runs are`);
  }
  if (probeBytes > 0 && !cases.some((one) => isProbed(one, probeBytes)))
    refuse("--latency-under-load needs a load: requests larger than one block (--batch-size)");
  const pulls = bidirectional || reverse || op === "read";
  if (data.kind === "kv" && data.files.length > 1) refuse("--data takes several files with --profile only");
  if (data.kind === "kv" && pulls) refuse("--data kv:FILE goes with writes: only this end has the file");
  for (const { name, blockBytes, batch } of cases) {
    if (blockBytes * batch > poolBytes)
      refuse(`case ${name} moves ${blockBytes * batch} bytes at once, which does not fit --pool ${poolBytes}`);
  }
}

function relateOutput(raw: RawOptions): void {
  if (raw.json === true && raw.jsonStream === true) refuse("--json and --json-stream exclude each other");
  if (raw.reportGbits === true && raw.format !== undefined && raw.format !== "g")
    refuse(`--report-gbits is -f g, and excludes -f ${String(raw.format)}`);
}

function refuse(sentence: string): never {
  throw new KvferryError("invalid_argument", sentence);
}
