/**
 * The command line. Method: processes are started as users start them; help names every flag, versions and checks come as JSON of a fixed
 * shape, and every way to be wrong ends in exit code 2 with one line that says what and one that says what to do.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { fields } from "../../transport/config/layers.ts";
import { kvferry } from "./spawn.ts";

test("help teaches: every verb with examples, every setting with its variable", async () => {
  const [main, serve, bench, doctor] = await Promise.all([
    kvferry(["--help"]),
    kvferry(["serve", "--help"]),
    kvferry(["bench", "--help"]),
    kvferry(["doctor", "--help"]),
  ]);
  for (const { code, stdout, stderr } of [main, serve, bench, doctor]) {
    assert.equal(code, 0);
    assert.equal(stderr, "");
    assert.match(stdout, /kvferry (serve|bench|doctor)/);
  }
  for (const verb of ["serve", "route", "cert", "bench", "doctor", "version"]) assert.match(main.stdout, new RegExp(`^  ${verb} `, "m"));
  for (const { flag, variable } of fields)
    assert.ok(serve.stdout.includes(flag) && serve.stdout.replace(/\s+/g, " ").includes(variable), flag);
  assert.match(bench.stdout, /Examples:[\s\S]*--compare iperf3[\s\S]*Exit codes: 0/);
});

test("version, readable and as JSON", async () => {
  const [text, json, short] = await Promise.all([kvferry(["version"]), kvferry(["version", "--json"]), kvferry(["--version"])]);
  const versions = JSON.parse(json.stdout) as Record<string, unknown>;
  assert.match(String(versions["kvferry"]), /^\d+\.\d+\.\d+/);
  assert.equal(versions["node"], process.version);
  assert.equal(versions["protocol"], 1);
  assert.match(text.stdout, /^kvferry +\d+\.\d+\.\d+\nnode/);
  assert.equal(short.stdout.trim(), versions["kvferry"]);
});

test("wrong usage is exit code 2 and says what to do", async () => {
  const wrong: [string[], RegExp][] = [
    [["fly"], /unknown command 'fly'/],
    [["bench", "--fast"], /unknown option '--fast'/],
    [["bench", "-t", "3", "-n", "1MiB"], /^kvferry: invalid_argument: .*-t excludes -n.*\n {2}\S/],
    [["bench", "-l", "4 cats"], /^kvferry: invalid_argument: .*Expected a size.*"4 cats".*\n {2}\S/],
    [["doctor", "--rtt", "far"], /^kvferry: invalid_argument: .*Expected a time/],
    [["serve", "--lanes", "65"], /^kvferry: invalid_config: .*for lanes \(from --lanes\) but received "65".*\n {2}\S/],
    [["cert", "node", "--name", "a", "--out", "."], /required option '--ca <directory>' not specified/],
    [["cert", "ca", "--out", ".", "--days", "0"], /^kvferry: invalid_argument: .*Expected a number of days/],
    [["serve", "--config", "absent.json"], /^kvferry: invalid_config: .*absent\.json cannot be read/],
  ];
  const runs = await Promise.all(wrong.map(([args]) => kvferry(args)));
  runs.forEach(({ code, stdout, stderr }, index) => {
    assert.match(stderr, wrong[index]![1]);
    assert.equal(code, 2, stderr);
    assert.equal(stdout, "");
  });
});

test("a stack only when asked for", async () => {
  const [quiet, verbose] = await Promise.all([kvferry(["bench", "-l", "x"]), kvferry(["bench", "-l", "x", "--verbose"])]);
  assert.doesNotMatch(quiet.stderr, /\n\s+at /);
  assert.match(verbose.stderr, /\n\s+at /);
});

test("print-config shows value and source, secrets masked, and is refused what serve would refuse", async () => {
  const environment = { KVFERRY_POOL_BYTES: "2GiB", KVFERRY_SECRET: "0123456789abcdef" };
  const [text, json, open] = await Promise.all([
    kvferry(["serve", "--print-config", "--rate", "2Gbit"], environment),
    kvferry(["serve", "--print-config", "--json", "--checksum", "off", "--insecure"], environment),
    kvferry(["serve", "--print-config", "--listen", "0.0.0.0:7411"]),
  ]);
  assert.match(text.stdout, /^pool\.bytes +2 GiB +KVFERRY_POOL_BYTES$/m);
  assert.match(text.stdout, /^rateBytesPerSecond +2 Gbit\/s +--rate$/m);
  assert.ok(!`${text.stdout}${json.stdout}`.includes("0123456789abcdef"));
  const values = JSON.parse(json.stdout) as Record<string, { value: unknown; source: string }>;
  assert.deepEqual(values["checksum"], { value: false, source: "--checksum" });
  assert.deepEqual(values["insecure"], { value: true, source: "--insecure" });
  assert.equal(open.code, 2);
  assert.match(open.stderr, /certificates.*--insecure/);
});

test("doctor: a list of checks as JSON, a table for people, exit code 1 for a FAIL", async () => {
  const [json, text, full] = await Promise.all([
    kvferry(["doctor", "--json"]),
    kvferry(["doctor"]),
    kvferry(["doctor", "--json"], { KVFERRY_POOL_BYTES: "4TiB", KVFERRY_POOL_DIRECTORY: "/tmp" }),
  ]);
  const document = JSON.parse(json.stdout) as { schema: string; status: string; checks: Record<string, string>[] };
  assert.equal(document.schema, "kvferry.doctor/1");
  for (const check of document.checks) {
    assert.deepEqual(Object.keys(check), ["id", "status", "found", "remedy"]);
    assert.match(check["status"]!, /^(OK|WARN|FAIL)$/);
    assert.ok(check["found"] !== "" && (check["status"] === "OK") === (check["remedy"] === ""), JSON.stringify(check));
    assert.match(text.stdout, new RegExp(`^(OK|WARN|FAIL) +${check["id"]} `, "m"));
  }
  assert.equal(full.code, 1);
  const failed = (JSON.parse(full.stdout) as typeof document).checks.filter(({ status }) => status === "FAIL").map(({ id }) => id);
  assert.ok(failed.includes("pool_space"), String(failed));
});

test("doctor without the addon: a WARN that says why and what to do, and what the JavaScript link costs", async () => {
  const [json, text] = await Promise.all([
    kvferry(["doctor", "--json"], { KVFERRY_NATIVE: "off" }),
    kvferry(["doctor"], { KVFERRY_NATIVE: "off" }),
  ]);
  const { checks } = JSON.parse(json.stdout) as { checks: Record<string, string>[] };
  const addon = checks.find(({ id }) => id === "addon");
  assert.deepEqual([addon?.["status"], addon?.["found"]], ["WARN", "not loaded: KVFERRY_NATIVE=off"]);
  assert.match(addon?.["remedy"] ?? "", /compiler.*npm run build:native.*JavaScript/);
  assert.equal(checks.find(({ id }) => id === "crc32c")?.["status"], "WARN");
  assert.match(text.stdout, /^WARN +addon +not loaded: KVFERRY_NATIVE=off/m);
  assert.match(text.stdout, /npm run build:native/);
});
