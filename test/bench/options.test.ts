/** Flags of the bench. Method: values and relations through the same parser that the command uses; what cannot be is refused by name. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { LAB_HOST, wordsOf } from "../../bench/impairment.ts";
import { runsOf } from "../../bench/models.ts";
import { parseOptions, type RawOptions } from "../../bench/options.ts";
import { KvferryError } from "../../transport/errors.ts";

function refusal(raw: RawOptions, code = "invalid_argument"): string {
  try {
    parseOptions(raw);
  } catch (error) {
    assert.ok(error instanceof KvferryError && error.code === code, String(error));
    return error.message;
  }
  return assert.fail(`was accepted: ${JSON.stringify(raw)}`);
}

test("no flags: both ends here, the canonical request and one block", () => {
  const options = parseOptions({});
  assert.equal(options.role, "both");
  assert.ok(options.canonical && options.verify && options.checksum);
  assert.deepEqual(
    options.cases.map(({ blockBytes, batch }) => [blockBytes, batch]),
    [
      [32 * 1024, 8_192],
      [4 * 1024, 1],
    ],
  );
});

test("models: runs as their caches have them", () => {
  const runs = (model: RawOptions[string], more: RawOptions = {}) =>
    parseOptions({ model, pool: "64GiB", ...more }).cases.map(({ blockBytes, batch }) => [blockBytes, batch])[0];
  assert.deepEqual(runs("llama3-8b"), [16 * 8 * 128 * 2, 32 * 2 * 128]);
  assert.deepEqual(runs("llama3-70b", { tp: "8", tokens: "32768" }), [16 * 1 * 128 * 2, 80 * 2 * 2_048]);
  assert.deepEqual(runs("qwen2.5-7b", { blockTokens: "32" }), [32 * 4 * 128 * 2, 28 * 2 * 64]);
  assert.deepEqual(runs("deepseek-v3-mla", { tp: "8" }), [16 * 576 * 2, 61 * 128], "a latent is whole on every rank");
  assert.deepEqual(runs("smollm2-135m", { tokens: "17" }), [16 * 3 * 64 * 2, 30 * 2 * 2]);
  assert.deepEqual(
    runsOf({ model: "llama3-8b", tokens: 1, tensorParallel: 64, blockTokens: 16 }).runBytes,
    16 * 128 * 2,
    "never less than a head",
  );
});

test("sweeps: one case for each size", () => {
  const { cases, canonical } = parseOptions({ startBlockSize: "4KiB", maxBlockSize: "1MiB", stepFactor: "4", batchSize: "8" });
  assert.deepEqual(
    cases.map(({ blockBytes }) => blockBytes),
    [4096, 16_384, 65_536, 262_144, 1_048_576],
  );
  assert.ok(cases.every(({ batch }) => batch === 8) && !canonical);
});

test("units as iperf3 has them: -b counts bits, -n bytes, -t seconds", () => {
  assert.equal(parseOptions({ bitrate: "10G" }).rateBytesPerSecond, 1.25e9);
  assert.equal(parseOptions({ bitrate: "2Gbit" }).rateBytesPerSecond, 250e6);
  assert.equal(parseOptions({ bitrate: "100M" }).rateBytesPerSecond, 12.5e6);
  assert.equal(parseOptions({ bytes: "1G" }).bytes, 2 ** 30);
  assert.deepEqual(
    ["3", "0.5", "500ms"].map((time) => parseOptions({ time }).seconds),
    [3, 0.5, 0.5],
  );
});

test("layouts, confidence, comparison, data", () => {
  const layouts = parseOptions({ layoutLocal: "nhd16", layoutRemote: "hnd32" }).cases[0]!.layouts;
  assert.deepEqual(layouts, { local: { order: "nhd", blockTokens: 16 }, remote: { order: "hnd", blockTokens: 32 } });
  assert.deepEqual(parseOptions({ confidence: "95,5" }).confidence, { level: 95, widthPercent: 5 });
  assert.deepEqual(parseOptions({ compare: "iperf3" }).compare, ["iperf3", "raw"]);
  assert.deepEqual(parseOptions({ compare: "raw" }).compare, ["raw"]);
  assert.deepEqual(parseOptions({ data: "kv:a.bin" }).data, { kind: "kv", files: ["a.bin"] });
});

test("--impair: a profile, values over it, or values alone; pool and warm-up as a slow link wants them", () => {
  const impaired = (impair: string, more: RawOptions = {}) => parseOptions({ impair, ...more });
  assert.deepEqual(impaired("continental").impairment, { profile: "continental", keys: {} });
  assert.deepEqual(impaired("rate=2000,delay=40,loss=0.05").impairment, { profile: "", keys: { rate: 2_000, delay: 40, loss: 0.05 } });
  const both = impaired("lossy,ba.delay=80,timeline=/tmp/x").impairment!;
  assert.deepEqual(both, { profile: "lossy", keys: { "ba.delay": 80, timeline: "/tmp/x" } });
  assert.deepEqual(wordsOf(both), ["lossy", "ba.delay=80", "timeline=/tmp/x"]);
  const pool = (more: RawOptions): number => impaired("metro", more).poolBytes;
  assert.deepEqual([impaired("metro").warmup, pool({}), pool({ bidir: true }), pool({ depth: "3" })], [1, 2 ** 28, 2 ** 29, 3 * 2 ** 28]);
  assert.deepEqual([pool({ tokens: "1024" }), pool({ blockSize: "4KiB" }), pool({ bidir: true, depth: "8" })], [2 ** 27, 2 ** 20, 2 ** 30]);
  assert.deepEqual(
    [pool({ tokens: "4096" }), pool({ tokens: "65536", pool: "8GiB" }), pool({ pool: "1GiB" })],
    [2 ** 29, 2 ** 33, 2 ** 30],
  );
  assert.deepEqual([impaired("metro").host, impaired("metro", { inLab: "x-" }).host], ["127.0.0.1", LAB_HOST]);
  assert.equal(parseOptions({}).impairment, undefined);
});

test("--latency-under-load: a block of -l or of 4 KiB, beside requests that are larger", () => {
  const bytes = (raw: RawOptions): number => parseOptions({ latencyUnderLoad: true, ...raw }).probeBytes;
  assert.deepEqual([bytes({}), bytes({ blockSize: "16KiB", batchSize: "8" }), parseOptions({}).probeBytes], [4_096, 16_384, 0]);
});

test("what cannot be is refused by name", () => {
  const wrong: [RawOptions, RegExp][] = [
    [{ server: true, client: "h" }, /-s and -c/],
    [{ oneOff: true }, /-1 is for the server/],
    [{ bytes: "1G", iters: "3" }, /-n and --iters/],
    [{ time: "3", iters: "3" }, /-t excludes/],
    [{ json: true, jsonStream: true }, /--json and --json-stream/],
    [{ reverse: true, bidir: true }, /-R and --bidir/],
    [{ blockSize: "1MiB", startBlockSize: "4KiB" }, /-l and --start-block-size/],
    [{ link: "fake", client: "h" }, /fake lives in one process/],
    [{ confidence: "95,5", iters: "3" }, /-I needs -t/],
    [{ compare: "iperf3", iters: "3" }, /--compare needs -t/],
    [{ blockSize: "2GiB" }, /does not fit --pool/],
    [{ pool: "1MiB" }, /does not fit --pool/],
    [{ data: "kv:x", reverse: true }, /kv:FILE/],
    [{ link: "rdma" }, /one of auto, tcp, js, fake/],
    [{ model: "gpt-5" }, /for --model/],
    [{ parallel: "65" }, /from 1 to 64 for --parallel/],
    [{ layoutLocal: "nhd" }, /--layout-local/],
    [{ confidence: "94,5" }, /--confidence/],
    [{ compare: "netperf" }, /--compare/],
    [{ data: "zeroes" }, /--data/],
    [{ minGbps: "-1" }, /--min-gbps/],
    [{ format: "x" }, /--format/],
    [{ client: "not a host" }, /a host for --client/],
    [{ time: "forever" }, /a time from/],
    [{ dscp: "64" }, /a code point .* for --dscp/],
    [{ dscp: "af44" }, /a code point .* for --dscp/],
    [{ window: "12" }, /for --window/],
    [{ srcMem: "disk" }, /dram or vram for --src-mem/],
    [{ transport: "tcp" }, /--transport is called --link here/],
    [{ impair: "moon" }, /Expected a profile \(ideal, .*\) or KEY=VALUE \(rate, .*\) for --impair but received "moon"/],
    [{ impair: "" }, /a profile .* for --impair/],
    [{ impair: "metro,lossy" }, /Expected KEY=VALUE \(rate, .*\) for --impair but received "lossy"/],
    [{ impair: "speed=3" }, /KEY=VALUE .* but received "speed=3"/],
    [{ impair: "constructor=3" }, /KEY=VALUE/],
    [{ impair: "ac.rate=3" }, /KEY=VALUE/],
    [{ impair: "ab.timeline=x" }, /KEY=VALUE/],
    [{ impair: "loss=101" }, /a number from 0 to 100 for --impair loss but received "101"/],
    [{ impair: "queue=0" }, /a number from 1 to 10000000 for --impair queue/],
    [{ impair: "rate=-1" }, /for --impair rate/],
    [{ impair: "rate=1,rate=2" }, /each key once, and not rate again/],
    [{ impair: "timeline=a b" }, /without blanks/],
  ];
  for (const [raw, sentence] of wrong) assert.match(refusal(raw), sentence);
});

test("nothing is ignored: flags that have no effect beside others are refused", () => {
  const wrong: [RawOptions, RegExp][] = [
    [{ server: true, parallel: "8" }, /--parallel is for the client/],
    [{ server: true, checksum: false }, /--checksum is for the client/],
    [{ server: true, title: "t", blockSize: "4KiB" }, /--block-size is for the client/],
    [{ daemon: true }, /-D is for the server/],
    [{ bind: "::1" }, /--bind is for the server/],
    [{ port: "7" }, /-p goes with -s or -c/],
    [{ model: "llama3-8b", batchSize: "2" }, /--batch-size and --model exclude each other/],
    [{ tokens: "16", blockSize: "4KiB" }, /--block-size and --tokens exclude each other/],
    [{ maxBlockSize: "4KiB", layoutLocal: "nhd16" }, /--max-block-size and --layout-local exclude each other/],
    [{ stepFactor: "4" }, /--step-factor goes with/],
    [{ threads: "2", link: "js" }, /--threads is for the native link/],
    [{ compare: "raw", confidence: "95,5" }, /-I and --compare/],
    [{ verify: false, checkConsistency: true }, /--check-consistency is --verify/],
    [{ reportGbits: true, format: "M" }, /--report-gbits is -f g/],
    [{ impair: "metro", server: true }, /--impair excludes -s and -c/],
    [{ impair: "metro", client: "h" }, /--impair excludes -s and -c/],
    [{ impair: "metro", link: "fake" }, /--impair needs sockets/],
    [{ impair: "metro", compare: "raw" }, /--impair excludes --compare/],
    [{ inLab: "x" }, /--in-lab is what --impair starts/],
    [{ latencyUnderLoad: true, blockSize: "4KiB" }, /--latency-under-load needs a load/],
    [{ latencyUnderLoad: true, server: true }, /--latency-under-load is for the client/],
  ];
  for (const [raw, sentence] of wrong) assert.match(refusal(raw), sentence);
  const server = { server: true, port: "7", bind: "::1", oneOff: true, daemon: true, logfile: "x", title: "t", json: true, checksum: true };
  assert.equal(parseOptions(server).role, "server");
});

test("flags of other tools: what is built means the same, the rest is refused by name", () => {
  assert.deepEqual(
    ["ef", "AF11", "cs7", "le", "be", "46", "0x2e", "0"].map((dscp) => parseOptions({ dscp }).dscp),
    [46, 10, 56, 1, 0, 46, 46, 0],
  );
  assert.equal(parseOptions({ window: "4M" }).windowBytes, 4 * 2 ** 20);
  assert.deepEqual([parseOptions({}).windowBytes, parseOptions({}).dscp], [0, 0]);
  assert.ok(parseOptions({ checkConsistency: true, srcMem: "dram", dstMem: "dram" }).verify);
  assert.equal(parseOptions({ reportGbits: true }).output.unit, "g");
  const foreign: [RawOptions, RegExp][] = [
    [{ srcMem: "vram" }, /--src-mem vram: GPU memory/],
    [{ dstMem: "vram" }, /--dst-mem vram: GPU memory/],
    [{ useCuda: "0" }, /--use-cuda: GPU memory/],
    [{ useCudaDmabuf: true }, /--use-cuda-dmabuf: GPU memory/],
    [{ ibDev: "mlx5_0" }, /-d names an RDMA device/],
    [{ gidIndex: "3" }, /-x is the GID/],
  ];
  for (const [raw, sentence] of foreign) assert.match(refusal(raw, "unsupported"), sentence);
});
