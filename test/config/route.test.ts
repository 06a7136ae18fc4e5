/** The configuration of route. Method: as config.test.ts; sources override each other, wrong values are refused by name and source. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { environmentLayer, serveTable } from "../../transport/config/layers.ts";
import { loadRoute, printRoute, routeConfigOf, routeObject } from "../../transport/config/route.ts";
import type { RouteInput } from "../../transport/config/route-schema.ts";
import { KvferryError } from "../../transport/errors.ts";

const folder = mkdtempSync(join(tmpdir(), "kvferry-route-"));
after(() => rmSync(folder, { recursive: true }));

const decode = ["http://127.0.0.1:8200"];

test("flags beat environment beat file beat defaults, and the environment of serve is another", () => {
  const path = join(folder, "route.json");
  writeFileSync(
    path,
    JSON.stringify({ decode, prefill: "http://a:1/,https://b", prefillTimeoutMs: "2s", drainMs: 5, log: { format: "text" } }),
  );
  const loaded = loadRoute({
    file: path,
    environment: {
      KVFERRY_ROUTE_DRAIN_MS: "6",
      KVFERRY_ROUTE_REQUEST_TIMEOUT_MS: "9s",
      KVFERRY_POOL_BYTES: "2GiB",
      KVFERRY_ROUTE_CONFIG: "x",
    },
    flags: { requestTimeoutMs: "8s", allowPrefiller: "10.0.0.0/8:*" },
  });
  const { config, sources } = loaded;
  assert.deepEqual(config.prefill, ["http://a:1", "https://b"]);
  assert.deepEqual([config.prefillTimeoutMs, config.requestTimeoutMs, config.drainMs, config.log.format], [2_000, 8_000, 6, "text"]);
  assert.deepEqual(config.listen, { host: "127.0.0.1", port: 7480 });
  assert.deepEqual(
    ["prefillTimeoutMs", "requestTimeoutMs", "drainMs", "name"].map((field) => sources.get(field)),
    [path, "--request-timeout", "KVFERRY_ROUTE_DRAIN_MS", "default"],
  );
  assert.throws(() => (config.decode as string[]).push("x"), TypeError);
  assert.match(printRoute(loaded), /^bodyBytesMax +32 MiB +default$/m);
  assert.deepEqual(routeObject(loaded)["drainMs"], { value: 6, source: "KVFERRY_ROUTE_DRAIN_MS" });
  assert.equal(environmentLayer(serveTable, { KVFERRY_ROUTE_DRAIN_MS: "6" }).size, 0);
});

test("wrong values are refused by name and source", () => {
  const wrong: readonly [RouteInput | Record<string, unknown>, RegExp][] = [
    [{}, /at least one engine for decode \(from default\)/],
    [{ decode: ["127.0.0.1:8000"] }, /for decode \(from configuration\) but received "127\.0\.0\.1:8000"/],
    [{ decode: ["http://u:p@h:1"] }, /for decode/],
    [{ decode: ["http://h:1/v1"] }, /for decode/],
    [{ decode: ["http://h:1?x"] }, /for decode/],
    [{ decode: ["ftp://h:1"] }, /for decode/],
    [{ decode: ["http://h:1", "http://H:1/"] }, /different engines for decode .* http:\/\/h:1 twice/],
    [{ decode, listen: "0.0.0.0:80" }, /loopback address for listen .*--insecure/],
    [{ decode, allowPrefiller: ["*:1"] }, /for allowPrefiller \(from configuration\) but received "\*:1"/],
    [{ decode, listen: "" }, /HOST:PORT for listen/],
    [{ decode, prefillTimeoutMs: "10m" }, /prefillTimeoutMs .* below requestTimeoutMs/],
    [{ decode, minPrefillTokens: -1 }, /for minPrefillTokens/],
    [{ decode, bodyBytesMax: "1TiB" }, /for bodyBytesMax/],
    [{ decode, bodiesBytesMax: "1MiB" }, /bodiesBytesMax .* to hold a body of bodyBytesMax/],
    [{ decode, prefil: [] }, /received prefil \(from configuration\); did you mean prefill\?/],
  ];
  for (const [input, message] of wrong) {
    assert.throws(
      () => routeConfigOf(input as RouteInput),
      (error) => error instanceof KvferryError && error.code === "invalid_config" && message.test(error.message),
      String(message),
    );
  }
  assert.throws(
    () => loadRoute({ environment: { KVFERRY_ROUTE_PREFIL: "x" } }),
    /KVFERRY_ROUTE_PREFIL.*did you mean KVFERRY_ROUTE_PREFILL/,
  );
  assert.equal(routeConfigOf({ decode, listen: "0.0.0.0:80", insecure: true }).listen.host, "0.0.0.0");
});
