/**
 * The configuration. Method: each layer overrides the weaker ones field by field; every wrong value is refused by a message that names
 * field, source and what was received; arbitrary JSON never gives anything but a frozen Config or invalid_config.
 */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import * as fc from "fast-check";
import { type Config, configObject, configOf, loadConfig, printConfig } from "../../transport/config.ts";
import { fields } from "../../transport/config/layers.ts";
import { type ConfigInput } from "../../transport/config/schema.ts";
import { KvferryError } from "../../transport/errors.ts";
import { refusal } from "./refusal.ts";

const folder = mkdtempSync(join(tmpdir(), "kvferry-config-"));
after(() => rmSync(folder, { recursive: true }));

function file(content: unknown): string {
  const path = join(folder, `${Math.random().toString(36).slice(2)}.json`);
  writeFileSync(path, typeof content === "string" ? content : JSON.stringify(content));
  return path;
}

test("defaults stand alone and are frozen all the way down", () => {
  const { config, sources } = loadConfig({});
  assert.equal(config.link, "auto");
  assert.equal(config.listen, undefined);
  assert.equal(config.api, undefined);
  assert.equal(config.pool.name, config.name);
  assert.deepEqual(new Set(sources.values()), new Set(["default"]));
  assert.throws(() => Object.assign(config.pool, { bytes: 1 }), TypeError);
  assert.throws(() => (config.allow as string[]).push("0.0.0.0/0"), TypeError);
});

test("flags beat environment beat file beat defaults, field by field", () => {
  const path = file({ pool: { bytes: "2GiB", blockBytes: 4096, numaNode: 1 }, lanes: 2, stallMs: "3s" });
  const loaded = loadConfig({
    file: path,
    environment: { KVFERRY_POOL_BYTES: "3GiB", KVFERRY_LANES: "3", HOME: "/root" },
    flags: { lanes: "5" },
  });
  assert.equal(loaded.config.pool.bytes, 3 * 2 ** 30);
  assert.equal(loaded.config.pool.blockBytes, 4096);
  assert.equal(loaded.config.lanes, 5);
  assert.equal(loaded.config.stallMs, 3000);
  assert.equal(loaded.sources.get("pool.bytes"), "KVFERRY_POOL_BYTES");
  assert.equal(loaded.sources.get("pool.blockBytes"), path);
  assert.equal(loaded.sources.get("lanes"), "--lanes");
  assert.equal(loaded.sources.get("link"), "default");
});

test("a bad value names the field, its source and what came", () => {
  assert.match(
    refusal(() => loadConfig({ environment: { KVFERRY_POOL_BYTES: "lots" } })),
    /Expected a size such as 64MiB.* for pool\.bytes \(from KVFERRY_POOL_BYTES\) but received "lots"/,
  );
  assert.match(
    refusal(() => loadConfig({ flags: { rateBytesPerSecond: "2G" } })),
    /for rateBytesPerSecond \(from --rate\) but received "2G"/,
  );
  assert.match(
    refusal(() => configOf({ peers: ["a=1.2.3.4:1", "no address"] })),
    /for peers \(from configuration\) but received "no address"/,
  );
});

test("unknown names are errors, with the nearest known one", () => {
  assert.match(
    refusal(() => loadConfig({ file: file({ pool: { byts: 1 } }) })),
    /received pool\.byts \(from .*\); did you mean pool\.bytes\?/,
  );
  assert.match(
    refusal(() => loadConfig({ environment: { KVFERRY_LANE: "1" } })),
    /received KVFERRY_LANE \(from the environment\); did you mean KVFERRY_LANES/,
  );
  assert.match(
    refusal(() => loadConfig({ file: file('{"__proto__": {"insecure": true}}') })),
    /received __proto__/,
  );
});

test("variables that Kubernetes makes for a service of our name are no configuration", () => {
  const environment = { KVFERRY_SERVICE_HOST: "10.0.0.1", KVFERRY_PORT: "tcp://10.0.0.1:7421", KVFERRY_PORT_7421_TCP_ADDR: "10.0.0.1" };
  assert.equal(loadConfig({ environment }).config.listen, undefined);
});

test("a file that is absent, not JSON or not an object is a clear error", () => {
  assert.match(
    refusal(() => loadConfig({ file: join(folder, "absent.json") })),
    /absent\.json cannot be read/,
  );
  assert.match(
    refusal(() => loadConfig({ file: file("{") })),
    /is not JSON/,
  );
  assert.match(
    refusal(() => loadConfig({ file: file([]) })),
    /Expected an object/,
  );
});

test("certificates are three files that go together, and let a node listen anywhere", () => {
  const tls = { certificate: "node.crt", key: "node.key", authorities: "ca.crt" };
  assert.equal(configOf({}).tls, undefined);
  assert.deepEqual(configOf({ listen: "0.0.0.0:7421", tls }).tls, { ...tls, denied: "" });
  const flags = { tls: { ...tls, denied: "denied.txt" } };
  assert.deepEqual(loadConfig({ environment: { KVFERRY_TLS_KEY: "other.key" }, flags }).config.tls?.key, "node.key");
  assert.match(
    refusal(() => configOf({ tls: { certificate: "node.crt", key: "node.key" } })),
    /Expected a file for tls\.authorities \(from default\): certificate, key and authorities go together/,
  );
  assert.match(
    refusal(() => configOf({ tls: { denied: "denied.txt" } })),
    /Expected a file for tls\.certificate/,
  );
  const peers = [{ name: "a", address: "h:1", identity: "spiffe://fleet/a" }, "b=h:2"];
  assert.deepEqual(
    configOf({ peers }).peers.map(({ identity }) => identity),
    ["spiffe://fleet/a", ""],
  );
});

test("profiles are named, each once, and what is used is one of them", () => {
  assert.deepEqual(configOf({}).codec, { profiles: [], calibration: [], use: "auto", acceptLossy: false });
  const environment = {
    KVFERRY_CODEC_PROFILES: "cpu-fast, lossless",
    KVFERRY_CODEC_ACCEPT_LOSSY: "true",
    KVFERRY_CODEC_CALIBRATION: "a,b",
  };
  assert.deepEqual(loadConfig({ environment, flags: { codec: { use: "lossless" } } }).config.codec, {
    ...{ profiles: ["cpu-fast", "lossless"], calibration: ["a", "b"], use: "lossless", acceptLossy: true },
  });
  assert.match(
    refusal(() => configOf({ codec: { profiles: ["lossless"], use: "int8" } })),
    /Expected "auto", "none" or one of codec\.profiles .* but received int8/,
  );
  assert.match(
    refusal(() => configOf({ codec: { profiles: ["int8", "int8"] } })),
    /Expected different profiles for codec\.profiles .* received int8 twice/,
  );
});

test("peer traffic leaves the host only when somebody said insecure", () => {
  assert.match(
    refusal(() => configOf({ listen: "0.0.0.0:7421" })),
    /needs? insecure|insecure = true/,
  );
  assert.match(
    refusal(() => configOf({ listen: "[::]:7421" })),
    /insecure/,
  );
  assert.match(
    refusal(() => configOf({ listen: "host.example:7421" })),
    /insecure/,
  );
  assert.deepEqual(configOf({ listen: "0.0.0.0:7421", insecure: true }).listen, { host: "0.0.0.0", port: 7421 });
  for (const listen of ["127.0.0.1:0", "127.9.9.9:1", "[::1]:7421", "localhost:7421"]) assert.ok(configOf({ listen }).listen);
});

test("the engine API over TCP needs loopback and a token", () => {
  assert.match(
    refusal(() => configOf({ api: { port: 1 } })),
    /Expected a token for api\.token/,
  );
  assert.match(
    refusal(() => configOf({ api: { port: 1, token: "0123456789abcdef", host: "10.0.0.1" } })),
    /loopback address for api\.host/,
  );
  assert.deepEqual(configOf({ api: { port: 0, token: "0123456789abcdef" } }).api, {
    host: "127.0.0.1",
    port: 0,
    token: "0123456789abcdef",
  });
});

test("relations between fields", () => {
  assert.match(
    refusal(() => configOf({ pool: { bytes: "1MiB", blockBytes: "2MiB" } })),
    /pool\.blockBytes .* at most pool\.bytes/,
  );
  assert.match(
    refusal(() => configOf({ windowBytes: "1MiB", chunkBytes: "2MiB" })),
    /windowBytes .* hold a chunk/,
  );
  assert.match(
    refusal(() => configOf({ heartbeatMs: 2_000, stallMs: 2_000 })),
    /heartbeatMs .* below stallMs/,
  );
  assert.match(
    refusal(() => configOf({ peers: ["a=h:1", "a=h:2"] })),
    /received a twice/,
  );
  assert.match(
    refusal(() => configOf({ name: "me", peers: ["me=h:1"] })),
    /not to name this node/,
  );
});

test("peers and allow come as JSON or as words", () => {
  const fromWords = loadConfig({ environment: { KVFERRY_PEERS: "a=10.0.0.1:1, b=[fd00::1]:2", KVFERRY_ALLOW: "a,10.0.0.0/8" } }).config;
  assert.deepEqual(fromWords.peers, [
    { name: "a", address: "10.0.0.1:1", secret: "", identity: "" },
    { name: "b", address: "[fd00::1]:2", secret: "", identity: "" },
  ]);
  assert.deepEqual(fromWords.allow, ["a", "10.0.0.0/8"]);
  const fromJson = loadConfig({
    environment: { KVFERRY_PEERS: '[{"name":"a","address":"h:1","secret":"0123456789abcdef"}]', KVFERRY_ALLOW: "" },
  }).config;
  assert.deepEqual(fromJson.peers, [{ name: "a", address: "h:1", secret: "0123456789abcdef", identity: "" }]);
  assert.deepEqual(fromJson.allow, []);
});

test("secrets come from files too, and are never printed", () => {
  const path = join(folder, "secret");
  writeFileSync(path, "0123456789abcdef-very-secret\n");
  const loaded = loadConfig({ flags: { secretFile: path, peers: [{ name: "p", address: "h:1", secret: "another-secret-of-16" }] } });
  assert.equal(loaded.config.secret, "0123456789abcdef-very-secret");
  for (const printed of [printConfig(loaded), JSON.stringify(configObject(loaded))]) {
    assert.ok(!printed.includes("very-secret") && !printed.includes("another-secret"), printed);
  }
  const short = refusal(() => configOf({ secret: "hunter2" }));
  assert.ok(!short.includes("hunter2"), short);
  assert.match(
    refusal(() => configOf({ secretFile: join(folder, "nothing") })),
    /secretFile/,
  );
});

test("--print-config names every field once, with its source", () => {
  const lines = printConfig(loadConfig({ environment: { KVFERRY_LANES: "7" } })).split("\n");
  assert.deepEqual(
    lines.map((line) => line.split(" ")[0]),
    fields.map((field) => field.path),
  );
  assert.match(lines.find((line) => line.startsWith("lanes"))!, /7\s+KVFERRY_LANES$/);
  assert.match(lines.find((line) => line.startsWith("pool.bytes"))!, /1 GiB\s+default$/);
});

test("every field has its own variable and flag", () => {
  assert.equal(new Set(fields.map((field) => field.variable)).size, fields.length);
  assert.equal(new Set(fields.map((field) => field.flag)).size, fields.length);
});

test("property: whatever the JSON, a frozen Config or invalid_config", () => {
  const keys = fc.constantFrom(...fields.map((field) => field.path), "pool", "api", "log", "deadlines", "nonsense");
  const value = fc.oneof(
    fc.jsonValue({ maxDepth: 3 }),
    fc.constantFrom("64MiB", "2Gbit", "", "on", "127.0.0.1:1", "0.0.0.0:1", -1, 1e300, "a=b:1"),
  );
  fc.assert(
    fc.property(fc.array(fc.tuple(keys, value), { maxLength: 4 }), (entries) => {
      const input: Record<string, unknown> = {};
      for (const [path, entry] of entries) {
        const [outer, inner] = path.split(".") as [string, string?];
        if (inner === undefined) input[outer] = entry;
        else if (typeof input[outer] === "object" && input[outer] !== null) (input[outer] as Record<string, unknown>)[inner] = entry;
        else input[outer] = { [inner]: entry };
      }
      try {
        checkConfig(configOf(input as ConfigInput));
      } catch (error) {
        assert.ok(error instanceof KvferryError && error.code === "invalid_config", String(error));
      }
    }),
    { numRuns: 2_000 },
  );
});

test("property: a value in the environment means what it means in a file", () => {
  const sizes = fc.record({ bytes: fc.integer({ min: 1, max: 64 }), unit: fc.constantFrom("MiB", "GiB", "M", "g", "MB") });
  fc.assert(
    fc.property(sizes, fc.integer({ min: 1, max: 64 }), fc.boolean(), ({ bytes, unit }, lanes, checksum) => {
      const text = `${bytes + 1}${unit}`;
      const a = loadConfig({ file: file({ pool: { bytes: text, blockBytes: 4096 }, lanes, checksum }) }).config;
      const environment = {
        KVFERRY_POOL_BYTES: text,
        KVFERRY_POOL_BLOCK_BYTES: "4KiB",
        KVFERRY_LANES: `${lanes}`,
        KVFERRY_CHECKSUM: `${checksum}`,
      };
      assert.deepEqual(loadConfig({ environment }).config, a);
    }),
    { numRuns: 100 },
  );
});

function checkConfig(config: Config): void {
  assert.ok(Object.isFrozen(config) && Object.isFrozen(config.pool) && Object.isFrozen(config.peers));
  assert.ok(Number.isSafeInteger(config.pool.bytes) && config.pool.blockBytes <= config.pool.bytes);
  assert.ok(config.lanes >= 0 && config.lanes <= 64 && config.windowBytes >= config.chunkBytes);
  assert.ok(typeof config.checksum === "boolean" && ["auto", "tcp", "js"].includes(config.link));
  for (const peer of config.peers) assert.equal(typeof peer.address, "string");
}

test("what is said of a wrong list of peers tells none of their secrets, however the list is written", () => {
  const peers = [{ name: "a", address: "h:1", secret: ["hush-hush-hush-hush"] }];
  for (const text of [JSON.stringify(peers), JSON.stringify(peers).slice(0, -1)]) {
    assert.throws(
      () => loadConfig({ environment: { KVFERRY_PEERS: text } }),
      (error) => error instanceof KvferryError && error.code === "invalid_config" && !error.message.includes("hush"),
    );
  }
});
