/**
 * The bench's document. Method: a server in this process, real links, tiny sizes; many combinations of flags, each document parsed as JSON
 * and by the schema, its numbers held against each other. The schema file is what the code says.
 */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import * as fc from "fast-check";
import { type BenchDocument, benchDocument } from "../../bench/document.ts";
import { iperf3Available } from "../../bench/iperf3.ts";
import { parseOptions, type RawOptions } from "../../bench/options.ts";
import { Output } from "../../bench/output.ts";
import { endProgram, endWithUs, freePort, runProgram } from "../../bench/process.ts";
import { judge, runBench } from "../../bench/run.ts";
import { schemaText } from "../../bench/schema.ts";
import type { BenchServer } from "../../bench/server.ts";
import { native } from "../../transport/native.ts";
import { limits } from "../../transport/limits.ts";
import { ROOT } from "../cli/spawn.ts";
import { endBench, serveBench } from "./serving.ts";

const LINKS = native === undefined ? ["js"] : ["tcp", "fake", "js"];
if (native === undefined) console.log("# the addon is not built: only the JavaScript link is measured");

const folder = mkdtempSync(join(tmpdir(), "kvferry-bench-"));
let server: BenchServer;
before(async () => {
  server = await serveBench();
});
after(async () => {
  await endBench(server);
  rmSync(folder, { recursive: true });
});

let runs = 0;

/** The document as it was written, and the lines of the file. */
async function run(raw: RawOptions): Promise<{ document: BenchDocument; text: string }> {
  const logfile = join(folder, `${++runs}.log`);
  const fake = raw["link"] === "fake";
  const options = parseOptions({
    pool: "256KiB",
    blockSize: "4KiB",
    iters: "6",
    link: LINKS[0],
    logfile,
    ...(fake ? {} : { client: "127.0.0.1", port: String(server.port) }),
    ...raw,
  });
  const output = new Output(options);
  const document = await runBench(options, {
    version: "test",
    args: ["bench"],
    environment: { KVFERRY_TOKEN: "x", KVFERRY_LANES: "2" },
    command: [],
    output,
  });
  output.close();
  return { document, text: readFileSync(logfile, "utf8") };
}

function check(document: BenchDocument): void {
  benchDocument.parse(document);
  assert.equal(document.error, null, document.error?.message);
  assert.ok(document.results.length > 0 && document.end.okay);
  for (const result of document.results) {
    assert.equal(result.bytes, result.iterations * result.request_bytes);
    assert.equal(result.request_bytes, result.block_bytes * result.batch);
    assert.equal(result.n_wrong, 0);
    assert.equal(result.verified_bytes > 0, document.start.test_start.verify);
    assert.ok(result.latency_us !== null && result.latency_us.p50 <= result.latency_us.p99 && result.latency_us.p50 > 0);
    assert.ok(result.prep_us !== null && result.post_us!.max <= result.latency_us.max && result.tx_us!.max <= result.latency_us.max);
    assert.equal(result.msg_rate, result.blocks_per_second);
    const intervals = document.intervals.filter((interval) => interval.case === result.case && !interval.sum.omitted);
    const moved = intervals.reduce((sum, { sum: { bytes }, sum_bidir_reverse: reverse }) => sum + bytes + (reverse?.bytes ?? 0), 0);
    assert.equal(moved, result.bytes, "intervals have every byte");
    checkWire(document, result);
    checkProbe(result);
  }
  checkEnd(document);
}

/** Alone and beside the case: times of one block, whose bytes are the case's nowhere. */
function checkProbe(result: BenchDocument["results"][number]): void {
  const times = result.latency_under_load;
  if (times === null) return;
  assert.equal(times.block_bytes, result.block_bytes);
  assert.ok(times.idle_samples > 0 && times.loaded_samples > 0 && times.idle_us!.p50 > 0 && times.loaded_us!.p50 > 0);
  if (result.verified_bytes > 0) assert.equal(result.verified_bytes % result.request_bytes, times.block_bytes, "and it is verified");
}

/** Headers and trailers on top of the payload: counted by the link, and known from the number of chunks. */
function checkWire(document: BenchDocument, result: BenchDocument["results"][number]): void {
  const { transport, bidir, warmup } = document.start.test_start;
  if (transport === "fake" && result.latency_under_load === null) return assert.equal(result.wire_bytes, result.bytes);
  const chunks = result.iterations * Math.ceil(result.request_bytes / result.chunk_bytes);
  const framed = result.bytes + chunks * (limits.frameHeaderBytes + limits.frameTrailerBytes);
  // Both ways, acknowledgements of one travel beside the chunks of the other, the last ones of the warm-up too on a busy machine. What TCP sends again it
  // counts again.
  const warming = warmup * Math.ceil(result.request_bytes / result.chunk_bytes);
  const most = framed + (bidir ? (chunks + warming) * limits.frameHeaderBytes : 0);
  // The wire does not know whose bytes it carries: the probe's are among them.
  const probes = result.latency_under_load?.loaded_samples ?? 0;
  if (probes === 0 && (result.retransmits === 0 || transport === "js")) {
    assert.ok(result.wire_bytes! >= framed && result.wire_bytes! <= most, `${result.wire_bytes} not in ${framed}..${most}`);
  }
  assert.ok(Math.abs(result.wire_bps! - (result.wire_bytes! * 8) / result.seconds) < 1);
}

/** iperf3's sums are those of its streams, one way and the other. */
function checkEnd({ start, results, end }: BenchDocument): void {
  const { bidir, reverse, op, num_streams: lanes, transport } = start.test_start;
  const sender = bidir || (!reverse && op === "write");
  const total = results.reduce((sum, { bytes }) => sum + bytes, 0);
  assert.equal(end.sum_sent.bytes + (end.sum_sent_bidir_reverse?.bytes ?? 0), total);
  assert.equal(end.sum_received.bytes + (end.sum_received_bidir_reverse?.bytes ?? 0), total);
  assert.deepEqual([end.sum_sent.sender, end.sum_sent_bidir_reverse?.sender], [sender, bidir ? false : undefined]);
  assert.equal(end.sum_sent.retransmits !== undefined, transport === "tcp");
  assert.equal(end.streams.length, bidir ? 2 * lanes : lanes);
  assert.equal(
    end.streams.reduce((sum, stream) => sum + stream.sender.bytes, 0),
    total,
  );
  assert.equal(start.connected.length, transport === "fake" ? 0 : lanes);
  const used = end.cpu_utilization_percent;
  assert.ok(Math.abs(used.host_user + used.host_system - used.host_total) < 1e-6 && used.host_total > 0);
}

const flags = fc.record({
  link: fc.constantFrom(...LINKS),
  direction: fc.constantFrom("write", "read", "reverse", "bidir"),
  checksum: fc.boolean(),
  verify: fc.boolean(),
  parallel: fc.constantFrom("1", "3"),
  depth: fc.constantFrom("1", "3"),
  warmup: fc.constantFrom("0", "2"),
  chunk: fc.constantFrom("4KiB", "10000", "1MiB"),
  latencyUnderLoad: fc.boolean(),
  size: fc.constantFrom(["1", "1"], ["64", "16"], ["4KiB", "8"], ["5000", "3"], ["64KiB", "1"]),
  title: fc.constantFrom("", 'quo"te', "line\nbreak", "ünïcode"),
});

test("property: whatever the flags, valid JSON of one schema, bytes verified", async () => {
  await fc.assert(
    fc.asyncProperty(flags, async ({ direction, size, checksum, verify, title, latencyUnderLoad, ...rest }) => {
      const directed = direction === "reverse" ? { reverse: true } : direction === "bidir" ? { bidir: true } : { op: direction };
      // A request of one block is no load.
      const isProbed = latencyUnderLoad && size[1] !== "1";
      const { document, text } = await run({
        ...rest,
        ...directed,
        checksum,
        verify,
        title,
        extraData: title,
        json: true,
        blockSize: size[0]!,
        batchSize: size[1]!,
        ...(isProbed ? { latencyUnderLoad } : {}),
      });
      check(document);
      assert.equal(document.results[0]!.latency_under_load !== null, isProbed);
      const written = JSON.parse(text) as BenchDocument;
      assert.deepEqual(written, JSON.parse(JSON.stringify(document)));
      assert.equal(written.title, title);
      assert.equal(written.start.test_start.transport, rest.link);
    }),
    { numRuns: 40 },
  );
});

test("a sweep has one entry for each size; a model's shape stands in the result", async () => {
  const { document } = await run({ blockSize: undefined, startBlockSize: "1KiB", maxBlockSize: "16KiB", stepFactor: "4", json: true });
  check(document);
  assert.deepEqual(
    document.results.map((result) => result.block_bytes),
    [1024, 4096, 16_384],
  );
  const model = (await run({ blockSize: undefined, model: "smollm2-135m", tokens: "16", pool: "2MiB", iters: "3" })).document;
  check(model);
  assert.deepEqual([model.results[0]!.model, model.results[0]!.tokens, model.results[0]!.batch], ["smollm2-135m", 16, 60]);
});

test("unequal layouts are moved and verified", async () => {
  const { document } = await run({
    blockSize: undefined,
    model: "smollm2-135m",
    tokens: "40",
    layoutLocal: "nhd16",
    layoutRemote: "hnd32",
    pool: "4MiB",
    iters: "3",
  });
  assert.equal(document.error, null, document.error?.message);
  const result = document.results[0]!;
  assert.deepEqual(result.layout, { local: "nhd16", remote: "hnd32" });
  assert.equal(result.request_bytes, 30 * 2 * 40 * 3 * 64 * 2);
  assert.ok(result.verified_bytes >= result.request_bytes && result.n_wrong === 0);
});

test("timed runs: omitted start is flagged, confidence is told, one line for each event", async () => {
  const timed = { iters: undefined, time: "0.1" };
  const omitted = (await run({ ...timed, omit: "0.1", interval: "0.05" })).document;
  check(omitted);
  assert.ok(omitted.intervals.some(({ sum }) => sum.omitted) && omitted.intervals.some(({ sum }) => !sum.omitted));
  const sure = (await run({ ...timed, time: "0.05", confidence: "90,100" })).document;
  assert.ok(sure.results[0]!.confidence!.windows >= 3 && sure.results[0]!.confidence!.reached);
  const { text } = await run({ ...timed, jsonStream: true, interval: "0.05" });
  const events = text
    .trim()
    .split("\n")
    .map((line) => (JSON.parse(line) as { event: string }).event);
  assert.equal(events[0], "start");
  assert.equal(events.at(-1), "end");
  assert.ok(events.slice(1, -1).length > 0 && events.slice(1, -1).every((event) => event === "interval"));
});

test("an iperf3 reader finds what it looks for, in ours as in iperf3's own", async (t) => {
  const { document, text } = await run({
    iters: undefined,
    time: "0.6",
    interval: "0.1",
    json: true,
    parallel: "2",
    chunk: "4KiB",
    batchSize: "16",
  });
  check(document);
  const read = (json: string): Record<string, unknown> & { rows: number[][]; by_stream: number[][] } => {
    const { status, stdout, stderr } = spawnSync("python3", [join(import.meta.dirname, "iperf3_reader.py")], {
      input: json,
      encoding: "utf8",
    });
    assert.equal(status, 0, stderr);
    return JSON.parse(stdout) as ReturnType<typeof read>;
  };
  const found = read(text);
  assert.deepEqual([found["streams"], found["sent"], found["received"]], [2, document.end.sum_sent.bits_per_second, found["sent"]]);
  assert.equal(found["sent_bytes"], document.results[0]!.bytes);
  assert.equal(found.rows.length, document.intervals.length);
  assert.equal(found.rows.length > 1, true, "a busy machine is late with some, and not with all");
  assert.deepEqual(found["hosts"], ["127.0.0.1", "127.0.0.1"]);
  assert.equal(
    found.by_stream.reduce((sum, [sent]) => sum + sent!, 0),
    found["sent_bytes"],
  );
  if (!(await iperf3Available())) return t.diagnostic("iperf3 is not installed: the reader was not tried on its own document");
  const port = await freePort();
  const child = endWithUs(
    spawn("iperf3", ["-s", "-1", "-p", String(port), "-B", "127.0.0.1", "--forceflush"], { stdio: ["ignore", "pipe", "ignore"] }),
  );
  await new Promise<void>((resolve) => child.stdout.on("data", (words: Buffer) => words.includes("listening") && resolve()));
  const theirs = await runProgram("iperf3", ["-c", "127.0.0.1", "-p", String(port), "-t", "1", "-P", "2", "-J"], 30_000);
  await endProgram(child);
  assert.deepEqual(Object.keys(read(theirs.stdout)), Object.keys(found));
});

test("text: a table with its columns; a title before every line; rates in the unit asked for", async () => {
  const { text } = await run({ title: "T", format: "M" });
  assert.ok(
    text
      .trim()
      .split("\n")
      .every((line) => line.startsWith("T:  ")),
    text,
  );
  assert.match(
    text,
    /Block +Batch +BW\(MB\/s\) +BW\(GB\/s\) +MsgRate +Lat avg +p50 +p99 +p99\.9 \(us\) +Retr +Retried +Transport +Comp +Chunk/,
  );
  assert.match(text, / MB\/s /);
  const [header, row] = text.trim().split("\n").slice(-2) as [string, string];
  assert.equal(header.length, row.length, "columns are aligned");
});

test("thresholds are judged after the fact", async () => {
  const { document } = await run({});
  assert.equal(judge(parseOptions({ minGbps: "0.0000001", maxP99Us: "100000000" }), document), "");
  assert.match(judge(parseOptions({ minGbps: "100000" }), document), /below --min-gbps/);
  assert.match(judge(parseOptions({ maxP99Us: "0.001" }), document), /above --max-p99-us/);
  const wrong = { ...document, results: [{ ...document.results[0]!, n_wrong: 3, okay: false }] };
  assert.match(judge(parseOptions({}), wrong), /3 bytes did not arrive/);
});

test("what goes wrong stands in the document: no server there, a server that is busy, a case that does not fit", async () => {
  const absent = (await run({ port: "1" })).document;
  assert.equal(absent.error?.code, "connect_failed");
  assert.ok(!absent.end.okay);
  benchDocument.parse(absent);
  const large = (
    await run({ blockSize: undefined, model: "smollm2-135m", tokens: "40", layoutLocal: "nhd16", layoutRemote: "hnd32", pool: "1200000" })
  ).document;
  assert.equal(large.error?.code, "invalid_argument");
});

test("secrets of the environment are not recorded", async () => {
  const { document } = await run({});
  assert.deepEqual(document.start.env, { KVFERRY_LANES: "2" });
});

test("schemas/bench.schema.json is what the code says (node --import tsx bench/schema.ts writes it)", () => {
  assert.equal(readFileSync(join(ROOT, "schemas", "bench.schema.json"), "utf8"), schemaText());
});
