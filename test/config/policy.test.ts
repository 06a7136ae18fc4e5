/**
 * The policy file. Method: one whole example, a fault for each rule, named by its place in the file; arbitrary JSON never gives anything but tenants or
 * invalid_config.
 */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import fc from "fast-check";
import { configOf, loadConfig } from "../../transport/config.ts";
import { loadPolicy, parsePolicy } from "../../transport/config/policy-file.ts";
import { KvferryError } from "../../transport/errors.ts";
import { limits } from "../../transport/limits.ts";
import { refusal } from "./refusal.ts";

const folder = mkdtempSync(join(tmpdir(), "kvferry-policy-"));
after(() => rmSync(folder, { recursive: true }));

const PRESET = { bytes: 64 * 2 ** 20, blockBytes: 2 ** 20 };

test("a whole file, with what is left out filled in, frozen all the way down", () => {
  const file = join(folder, "policy.json");
  const written = {
    tenants: {
      blue: {
        identities: ["spiffe://fleet/blue/*"],
        socket: "/run/blue.sock",
        pool: { bytes: "8MiB", blockBytes: "64KiB" },
        rate: "2Gbit",
        fetch: [{ from: "green", namespaces: ["public/*"] }],
      },
      green: { identities: ["green.example"], socket: "/run/green.sock" },
      guests: { identities: ["*.guest.example"] },
    },
  };
  writeFileSync(file, JSON.stringify(written));
  const tenants = loadPolicy(file, PRESET);
  const bare = { rateBytesPerSecond: 0, rules: [] };
  assert.deepEqual(tenants, [
    {
      name: "blue",
      identities: ["spiffe://fleet/blue/*"],
      socket: "/run/blue.sock",
      pool: { bytes: 8 * 2 ** 20, blockBytes: 65_536 },
      rateBytesPerSecond: 250_000_000,
      rules: [{ from: "green", namespaces: ["public/*"] }],
    },
    { name: "green", identities: ["green.example"], socket: "/run/green.sock", pool: PRESET, ...bare },
    // It has no engines here, and needs no memory.
    { name: "guests", identities: ["*.guest.example"], socket: "", pool: { bytes: limits.poolBytesMin, blockBytes: 262_144 }, ...bare },
  ]);
  assert.throws(() => (tenants[0]!.identities as string[]).push("*"), TypeError);
});

test("what is wrong is named by its place", () => {
  const blue = { identities: ["blue"], socket: "/run/blue.sock" };
  const wrong = (tenants: unknown): string => refusal(() => parsePolicy({ tenants }, "p.json", PRESET));
  assert.match(wrong([]), /for tenants \(from p\.json\)/);
  assert.match(wrong({}), /Expected 1 to 64 tenants for tenants/);
  assert.match(wrong({ blue: {} }), /patterns over certificates' identities, at least one for tenants\.blue\.identities/);
  assert.match(wrong({ blue: { identities: [] } }), /for tenants\.blue\.identities/);
  assert.match(wrong({ blue: "all" }), /\{identities, socket\?.* for tenants\.blue \(from p\.json\) but received "all"/);
  assert.match(
    wrong({ "no name": blue }),
    /Expected 1 to 48 letters, .* a letter or digit first, for a tenant's name \(from p\.json\) but received "no name"/,
  );
  assert.match(
    wrong({ blue: { ...blue, rate: "fast" } }),
    /Expected a rate .* for tenants\.blue\.rate \(from p\.json\) but received "fast"/,
  );
  assert.match(wrong({ blue: { ...blue, pool: { bytes: "1KiB" } } }), /Expected a size .* for tenants\.blue\.pool\.bytes/);
  assert.match(wrong({ blue: { ...blue, pool: { bytes: "1MiB", blockBytes: "2MiB" } } }), /tenants\.blue\.pool\.blockBytes/);
  assert.match(wrong({ blue: { identities: ["b"], pool: { bytes: "2MiB" } } }), /no engines here \(socket\) for tenants\.blue\.pool/);
  assert.match(wrong({ blue, red: blue }), /a socket of its own for tenants\.red\.socket/);
  assert.match(wrong({ blue, red: { ...blue, socket: "/run/./blue.sock" } }), /a socket of its own for tenants\.red\.socket/);
  assert.match(wrong({ blue: { ...blue, color: 1 } }), /known field but received tenants\.blue\.color/);
  const rule = (from: string, namespaces: unknown) => ({ blue: { ...blue, fetch: [{ from, namespaces }] } });
  assert.match(wrong(rule("green", ["*"])), /the name of another tenant for tenants\.blue\.fetch\.0\.from .* received "green"/);
  assert.match(wrong(rule("blue", ["*"])), /the name of another tenant/);
  assert.match(wrong(rule("blue", "*")), /a list of patterns over namespaces, at least one for tenants\.blue\.fetch\.0\.namespaces/);
  assert.match(
    refusal(() => loadPolicy(join(folder, "gone.json"), PRESET)),
    /policy: ENOENT/,
  );
  writeFileSync(join(folder, "bad.json"), "{");
  assert.match(
    refusal(() => loadPolicy(join(folder, "bad.json"), PRESET)),
    /is not JSON/,
  );
});

test("what the parser of JSON would drop is refused", () => {
  const file = join(folder, "twice.json");
  const twice = (text: string): string => {
    writeFileSync(file, text);
    return refusal(() => loadPolicy(file, PRESET));
  };
  assert.match(
    twice('{"tenants": {"a": {"identities": ["x"]}, "b": {"identities": ["y"]}, "a" : {"identities": ["*"]}}}'),
    /names "a" twice/,
  );
  assert.match(twice('{"tenants": {"a": {"identities": ["x"], "\\u0069dentities": ["*"]}}}'), /names "identities" twice/);
  assert.match(twice('{"tenants": {"__proto__": {"identities": ["x"]}}}'), /__proto__ is no name/);
  // The same name in two objects, and in texts, is none.
  const apart =
    '{"tenants": {"a": {"identities": ["\\"a\\": {", "a"]}, "b": {"identities": ["a"], "fetch": [{"from": "a", "namespaces": ["{"]}]}}}';
  writeFileSync(file, apart);
  assert.deepEqual(
    loadPolicy(file, PRESET).map(({ name, identities }) => [name, ...identities]),
    [
      ["a", '"a": {', "a"],
      ["b", "a"],
    ],
  );
});

test("what has no end is not read", () => {
  const device = /\/dev\/zero is no plain file/;
  assert.match(
    refusal(() => loadPolicy("/dev/zero", PRESET)),
    device,
  );
  assert.match(
    refusal(() => loadConfig({ file: "/dev/zero" })),
    device,
  );
  assert.match(
    refusal(() => configOf({ secretFile: "/dev/zero" })),
    device,
  );
});

test("a policy needs certificates", () => {
  assert.match(
    refusal(() => configOf({ policy: "policy.json" })),
    /Expected certificates .* beside policy/,
  );
});

test("arbitrary JSON is tenants or invalid_config", () => {
  const shaped = fc.record({ tenants: fc.dictionary(fc.constantFrom("a", "b", "a b"), fc.jsonValue()) });
  fc.assert(
    fc.property(fc.oneof(fc.jsonValue(), shaped), (value) => {
      try {
        assert.ok(parsePolicy(value, "file", PRESET).length > 0);
      } catch (error) {
        assert.ok(error instanceof KvferryError && error.code === "invalid_config", String(error));
      }
    }),
  );
});
