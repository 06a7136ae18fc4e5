/** Units and addresses. Method: a table of what people write, and round trips of what we print. */
import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { formatAddress, isCidr, isHost, isLoopback, parseAddress } from "../../transport/config/address.ts";
import { formatRate, formatSize, parseBoolean, parseDuration, parseRate, parseSize } from "../../transport/config/units.ts";

test("sizes", () => {
  const table: [unknown, number | undefined][] = [
    ["64MiB", 67_108_864],
    ["64m", 67_108_864],
    ["64MB", 64_000_000],
    ["1.5 GiB", 1_610_612_736],
    ["4096", 4096],
    [4096, 4096],
    ["0", 0],
    ["", undefined],
    ["MiB", undefined],
    ["-1", undefined],
    [-1, undefined],
    ["1e9", undefined],
    ["64 Mbit", undefined],
    [1.5, 2],
    [Number.NaN, undefined],
    [undefined, undefined],
    [{}, undefined],
    ["1constructor", undefined],
    ["99999999999999999999", undefined],
    ["0x10", undefined],
  ];
  for (const [text, bytes] of table) assert.equal(parseSize(text), bytes, String(text));
});

test("rates: bits by default on a network, bytes when they say so, never a guess", () => {
  const table: [unknown, number | undefined][] = [
    ["2Gbit", 250_000_000],
    ["2gbit/s", 250_000_000],
    ["2Gbps", 250_000_000],
    ["2Gb/s", 250_000_000],
    ["100 Mbit", 12_500_000],
    ["8 bit", 1],
    ["2GB/s", 2_000_000_000],
    ["1GiB", 1_073_741_824],
    [1000, 1000],
    ["1000", 1000],
    ["0", 0],
    [0, 0],
    ["0.5Gbit/s", 62_500_000],
    ["2G", undefined],
    ["2gb", undefined],
    ["fast", undefined],
    ["-2Gbit", undefined],
    ["", undefined],
    [Number.POSITIVE_INFINITY, undefined],
  ];
  for (const [text, rate] of table) assert.equal(parseRate(text), rate, String(text));
});

test("durations and booleans", () => {
  assert.deepEqual(["2s", "500ms", "1m", 30, "30", "1h", "2d", ""].map(parseDuration), [
    2000,
    500,
    60_000,
    30,
    30,
    3_600_000,
    undefined,
    undefined,
  ]);
  assert.deepEqual(["yes", "OFF", true, "1", "maybe", 1].map(parseBoolean), [true, false, true, true, undefined, undefined]);
});

test("property: what is printed parses to the same size and nearly the same rate", () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 2 ** 44 }), (value) => {
      const size = parseSize(formatSize(value));
      assert.ok(size !== undefined && Math.abs(size - value) <= value * 0.006, `${value} ${formatSize(value)}`);
      const rate = parseRate(formatRate(value));
      assert.ok(rate !== undefined && Math.abs(rate - value) <= Math.max(1, value * 0.006), `${value} ${formatRate(value)}`);
    }),
  );
});

test("addresses", () => {
  assert.deepEqual(parseAddress("10.0.0.1:7421"), { host: "10.0.0.1", port: 7421 });
  assert.deepEqual(parseAddress("[::1]:0"), { host: "::1", port: 0 });
  assert.deepEqual(parseAddress("prefill-0.kv.svc:7421"), { host: "prefill-0.kv.svc", port: 7421 });
  const bad = [
    "",
    ":1",
    "host",
    "host:",
    "host:65536",
    "::1:80",
    "[::1]",
    "[10.0.0.1]:1",
    "[::g]:1",
    "1.2.3.400:1",
    "a b:1",
    "a/b:1",
    "-a:1",
  ];
  for (const text of bad) assert.equal(parseAddress(text), undefined, text);
  assert.equal(formatAddress({ host: "::1", port: 1 }), "[::1]:1");
});

test("what certainly is this machine", () => {
  for (const host of ["127.0.0.1", "127.255.1.2", "::1", "localhost", "::ffff:127.0.0.1"]) assert.ok(isLoopback(host), host);
  for (const host of ["0.0.0.0", "::", "127.example.com", "localhost.evil.com", "10.0.0.1", "::ffff:10.0.0.1"])
    assert.ok(!isLoopback(host), host);
});

test("hosts and ranges", () => {
  assert.ok(isCidr("10.0.0.0/8") && isCidr("fd00::/8") && isCidr("1.2.3.4/32"));
  for (const text of ["10.0.0.0", "10.0.0.0/33", "x/8", "10.0.0.0/8/8", "10.0.0.0/", "/8"]) assert.ok(!isCidr(text), text);
  assert.ok(isHost("a-b.c") && !isHost("1.2.3") && !isHost("") && !isHost("a..b"));
});
