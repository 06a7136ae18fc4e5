/** What people read of a run. Method: documents made by hand, and their lines. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { BenchDocument, Interval, LinkReport } from "../../bench/document.ts";
import { latenessOf } from "../../bench/lab.ts";
import { parseOptions } from "../../bench/options.ts";
import { decisionText, impairmentText, intervalText, reasonsText, underLoadText } from "../../bench/text.ts";

const OPTIONS = parseOptions({ blockSize: "1MiB" });
const SUM = { start: 1, end: 2, seconds: 1, bytes: 2 ** 20, bits_per_second: 8 * 2 ** 20, wire_bytes: 2 ** 20, omitted: false };

const REASONS = { estimate: "e", lanes: "l", window: "w", pace: "p", chunk: "s", congestion: "c" };

function interval(more: Partial<Interval>): Interval {
  const sum = { ...SUM, retransmits: 3, sender: true };
  return {
    ...{ case: "c", chunk_bytes: 65_536, streams_active: 4, streams_open: 4, window_bytes: 8 * 2 ** 20, pace_bytes_per_second: 0 },
    ...{ estimate_bits_per_second: 0, estimate_confidence: 0, reasons: REASONS, streams: [], sum },
    ...more,
  };
}

test("a line of an interval: lanes, chunks, round trips and retransmissions, as far as the link knows them", () => {
  const line = (more: Partial<Interval>): string => intervalText(interval(more), "m", OPTIONS).trim().replace(/ +/g, " ");
  assert.equal(
    line({ rtt: 50_240, min_rtt: 49_990 }),
    "1.00-2.00 s 1 MiB 8.389 Mbit/s 4 lanes 64 KiB chunks 8 MiB window rtt 50.2 ms (min 50.0) 3 retr",
  );
  assert.match(line({ rtt: 61.25, min_rtt: 9 }), / rtt 0\.06 ms \(min 0\.01\) /);
  assert.match(line({ streams_active: 3 }), / 3 of 4 lanes 64 KiB chunks 8 MiB window 3 retr$/);
  const both = line({ sum_bidir_reverse: { ...SUM, bytes: 0, bits_per_second: 0, sender: false }, rtt: 1_000, min_rtt: 1_000 });
  assert.match(both, /^-> .* 3 retr\n<- .* \(min 1\.00\)$/);
});

test("what was decided anew since the last line is told with its reason, and all of it once", () => {
  const before = interval({});
  assert.equal(decisionText(undefined, before), "lanes 4: l; chunk 64 KiB: s; window 8 MiB: w; pace none: p");
  assert.equal(decisionText(before, interval({ streams_open: 5, window_bytes: 9 * 2 ** 20 })), "", "a window that hardly moves is no news");
  const reasons = { ...REASONS, lanes: "a queue stands" };
  assert.equal(
    decisionText(before, interval({ streams_active: 3, window_bytes: 11 * 2 ** 20 + 5, pace_bytes_per_second: 125_000, reasons })),
    "lanes 4 -> 3: a queue stands; window 8 MiB -> 11 MiB: w; pace none -> 1.000 Mbit/s: p",
  );
});

test("the last reasons of a run, one a line", () => {
  const results = [{ reasons: { ...REASONS, lanes: "other" } }, { reasons: REASONS }];
  const lines = reasonsText({ results } as unknown as BenchDocument).split("\n");
  assert.deepEqual([lines[0], lines[1], lines.length], ["why      estimate    e", "         lanes       l", 6]);
});

const WAY = {
  rate_mbit: 1_000,
  delay_ms: 10,
  packets: 900,
  bytes: 1e6,
  drop_loss: 60,
  drop_queue: 40,
  drop_down: 0,
  drop_device: 0,
  loss_runs: 50,
  reordered: 0,
  corrupted: 0,
  reads: 900,
  queued_bytes: 0,
  in_flight: 0,
  max_queue_ms: 3,
  late_max_ms: 0.4,
  late_mean_us: 20,
};

test("a line about the emulated link", () => {
  const text = (report: LinkReport | null): string => {
    const impairment = { profile: "lossy", keys: { "ba.delay": 40 }, report };
    return impairmentText({ impairment } as unknown as BenchDocument);
  };
  assert.equal(text(null), "link     lossy,ba.delay=40");
  const report = { seconds: 1, ab: WAY, ba: WAY };
  assert.equal(text(report), "link     lossy,ba.delay=40   of 2,000 packets 120 lost, 80 dropped by the queue");
  assert.match(text({ ...report, ba: { ...WAY, drop_down: 7 } }), /of 2,007 packets .*, 7 while it was dead$/);
  assert.equal(impairmentText({ impairment: null } as unknown as BenchDocument), "");
});

test("an emulator that was late is told of, against the round trip that it was to make", () => {
  const late = (us: number, delayMs: number): string =>
    latenessOf({ seconds: 1, ab: { ...WAY, late_mean_us: us, delay_ms: delayMs }, ba: { ...WAY, late_mean_us: us, delay_ms: delayMs } });
  assert.deepEqual([late(20, 10), late(499, 10), late(900, 0)], ["", "", ""]);
  assert.match(late(501, 10), /^the emulated link was 1\.00 ms late .* round trip of 20 ms: do not believe/);
});

test("what one block waits beside a case stands beside what it waits alone", () => {
  const us = (p50: number) => ({ min: 1, avg: p50, p50, p95: p50, p99: 2 * p50, p999: p50, max: p50, stdev: 0 });
  const found = { block_bytes: 4_096, idle_us: us(60), idle_samples: 9, loaded_us: us(500), loaded_samples: 9 };
  const results = [
    { case: "a", latency_under_load: found },
    { case: "b", latency_under_load: null },
    { case: "c", latency_under_load: { ...found, idle_us: null } },
  ];
  assert.deepEqual(underLoadText({ results } as unknown as BenchDocument).split("\n"), [
    "latency  500.0 us p50, 1000.0 us p99 beside a; idle 60.0 us p50, 120.0 us p99   one 4 KiB block",
    "latency  500.0 us p50, 1000.0 us p99 beside c; idle - p50, - p99   one 4 KiB block",
  ]);
});
