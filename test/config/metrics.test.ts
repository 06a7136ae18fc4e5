/** Metrics and log lines. Method: events in, the scraped text and the written lines out; two registries in one process do not meet. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { createLog } from "../../transport/log.ts";
import { Metrics } from "../../transport/metrics.ts";

const lane = { rttUs: 250, deliveryRateBytesPerSecond: 1e9, retransmits: 2, notSentBytes: 4_096 };
const path = {
  ...{
    peer: "decode",
    goodputBytesPerSecond: 1.25e8,
    confidence: 0.75,
    rttUs: 62_500,
    minRttUs: 50_000,
    queueUs: 12_500,
    lossRatio: 0.001,
  },
  ...{ lanesWanted: 3, lanesActive: 2, chunkBytes: 262_144, windowBytes: 3e7, paceBytesPerSecond: 0 },
};
const report = { bytes: 100, wireBytes: 150, seconds: 0.02, chunks: 2, retries: 1, resumed: 0 };

test("events become numbers under documented names", async () => {
  const metrics = new Metrics();
  const observer = metrics.observer((number) => `code_${number}`);
  observer.chunk("out", 60, 100);
  observer.chunk("out", 30, 1.5e6);
  observer.chunk("out", 10, 90e6);
  observer.chunk("in", 7, 0);
  observer.chunkFailed(40);
  observer.transferEnded("out", true, "ok", report);
  observer.transferEnded("in", false, "deadline_exceeded", { ...report, resumed: 2 });
  observer.stalled("in");
  observer.laneLost("decode", 3, "lane_lost");
  metrics.observe({
    refusals: () => ({ plain: 2, expired: 0 }),
    certificateEndsSeconds: () => 1.9e9,
    pools: () => [{ bytes: 4096, free: 1, held: 2, published: 3, leased: 1, quarantined: 0, evictions: 9 }],
    lanes: () => [{ peer: "decode", lanes: 4, info: [lane, { ...lane, rttUs: 2_500_000, retransmits: 40 }] }],
    paths: () => [path],
    codecs: () => [],
    apiClients: () => 2,
    transfersRunning: () => 5,
  });
  metrics.describe({ version: "1.2.3", link: "tcp", node: "a" });
  const { text, contentType } = await metrics.scrape();
  assert.match(contentType, /^text\/plain/);
  for (const line of [
    'kvferry_transfers_total{direction="out",result="ok"} 1',
    'kvferry_transfers_total{direction="in",result="deadline_exceeded"} 1',
    'kvferry_bytes_total{direction="out"} 100',
    'kvferry_chunks_total{direction="out"} 3',
    'kvferry_chunk_seconds_bucket{le="0.0001"} 1',
    'kvferry_chunk_seconds_bucket{le="0.00025"} 1',
    'kvferry_chunk_seconds_bucket{le="5"} 2',
    'kvferry_chunk_seconds_bucket{le="+Inf"} 3',
    "kvferry_chunk_seconds_sum 91.5001",
    "kvferry_chunk_seconds_count 3",
    'kvferry_chunk_failures_total{code="code_40"} 1',
    'kvferry_transfers_resumed_total{direction="in"} 2',
    'kvferry_stalls_total{direction="in"} 1',
    'kvferry_transfer_seconds_count{direction="out"} 1',
    'kvferry_pool_blocks{state="published"} 3',
    "kvferry_pool_bytes 4096",
    "kvferry_pool_evictions_total 9",
    'kvferry_lanes{peer="decode"} 4',
    'kvferry_lane_rtt_seconds{peer="decode"} 2.5',
    'kvferry_lane_delivery_bytes_per_second{peer="decode"} 2000000000',
    'kvferry_lane_retransmits{peer="decode"} 42',
    'kvferry_lane_not_sent_bytes{peer="decode"} 8192',
    'kvferry_lane_losses_total{peer="decode",code="lane_lost"} 1',
    'kvferry_path_goodput_bytes_per_second{peer="decode"} 125000000',
    'kvferry_path_confidence_ratio{peer="decode"} 0.75',
    'kvferry_path_min_rtt_seconds{peer="decode"} 0.05',
    'kvferry_path_rtt_seconds{peer="decode"} 0.0625',
    'kvferry_path_queue_seconds{peer="decode"} 0.0125',
    'kvferry_path_loss_ratio{peer="decode"} 0.001',
    'kvferry_path_lanes_wanted{peer="decode"} 3',
    'kvferry_path_lanes_active{peer="decode"} 2',
    'kvferry_path_chunk_bytes{peer="decode"} 262144',
    'kvferry_path_window_bytes{peer="decode"} 30000000',
    'kvferry_path_pace_bytes_per_second{peer="decode"} 0',
    'kvferry_refusals_total{reason="plain"} 2',
    'kvferry_refusals_total{reason="expired"} 0',
    "kvferry_tls_certificate_ends_seconds 1900000000",
    'kvferry_build_info{version="1.2.3",link="tcp",node="a"} 1',
  ]) {
    assert.ok(text.split("\n").includes(line), `${line}\n${text}`);
  }
});

test("what was coded is counted by profile, and what was not by its reason", async () => {
  const metrics = new Metrics();
  const observer = metrics.observer(String);
  observer.coding("decode", { profile: "int8", reason: "pays" });
  observer.coding("decode", { profile: "", reason: "wire_is_faster" });
  metrics.observe({
    refusals: () => ({}),
    certificateEndsSeconds: () => undefined,
    pools: () => [],
    lanes: () => [],
    paths: () => [],
    codecs: () => [
      {
        profile: "int8",
        encodedBytes: 800,
        sentBytes: 401,
        decodedBytes: 80,
        arrivedBytes: 40,
        stored: { incompressible: 2, not_finite: 0 },
      },
    ],
    apiClients: () => 0,
    transfersRunning: () => 0,
  });
  const { text } = await metrics.scrape();
  for (const line of [
    'kvferry_codec_original_bytes_total{direction="out",profile="int8"} 800',
    'kvferry_codec_coded_bytes_total{direction="out",profile="int8"} 401',
    'kvferry_codec_original_bytes_total{direction="in",profile="int8"} 80',
    'kvferry_codec_coded_bytes_total{direction="in",profile="int8"} 40',
    'kvferry_codec_stored_chunks_total{profile="int8",reason="incompressible"} 2',
    'kvferry_codec_transfers_total{profile="int8",reason="pays"} 1',
    'kvferry_codec_transfers_total{profile="none",reason="wire_is_faster"} 1',
  ]) {
    assert.ok(text.split("\n").includes(line), `${line}\n${text}`);
  }
});

test("every metric says what it is, and two nodes in one process count apart", async () => {
  const [a, b] = [new Metrics(), new Metrics()];
  a.downgrades.inc({ from: "tcp", to: "js", reason: "no addon" });
  for (const { help, name } of await a.registry.getMetricsAsJSON()) {
    assert.ok(help.length > 10, name);
    assert.match(name, /^kvferry_[a-z_]+$/);
  }
  assert.match((await a.scrape()).text, /kvferry_link_downgrades_total\{from="tcp",to="js",reason="no addon"\} 1/);
  assert.doesNotMatch((await b.scrape()).text, /no addon/);
});

test("log lines: JSON for machines, one readable line for people, nothing below the level", () => {
  const lines: string[] = [];
  const stream = { write: (line: string) => void lines.push(line) };
  const json = createLog({ level: "info", format: "json" }, "node-a", stream);
  json.debug({}, "unseen");
  json.warn({ code: "lane_lost", lane: 3 }, "lane ended");
  const { time, ...rest } = JSON.parse(lines[0]!) as Record<string, unknown>;
  assert.match(String(time), /^\d{4}-\d\d-\d\dT.*Z$/);
  assert.deepEqual(rest, { level: "warn", node: "node-a", code: "lane_lost", lane: 3, msg: "lane ended" });
  createLog({ level: "info", format: "text" }, "node-b", stream).error({ code: "closed", at: { x: 1 } }, "went away");
  assert.match(lines[1]!, /^\S+Z ERROR node-b: went away code=closed at=\{"x":1\}\n$/);
  createLog({ level: "info", format: "text" }, "node-b", stream).info({ client: "x\n\u001b[31mred" }, "hello");
  assert.match(lines[2]!, /client=x\\x0a\\x1b\[31mred\n$/, "what others named forges no line and reaches no terminal");
  assert.equal(lines.length, 3);
});
