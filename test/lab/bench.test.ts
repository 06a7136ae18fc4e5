/**
 * `kvferry bench --impair` as its users run it: both ends in the lab. Method: processes; documents of two labs at once; then whatever may end
 * one of them too early, after which nothing of the lab is left. Names are this test's own, and only those are looked for.
 */
import assert from "node:assert/strict";
import type { ChildProcess } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { test } from "node:test";
import { type BenchDocument, benchDocument } from "../../bench/document.ts";
import { native, nativeProblem } from "../../transport/native.ts";
import { childrenOf, finish, kvferry, printed, type Ran, start, until } from "../cli/spawn.ts";
import { madeDump } from "../codec/made.ts";
import { namespaces, skip } from "./wan.ts";

if (skip !== false) console.log(`# ${skip}`);

const uncoded = native === undefined ? `no addon: ${nativeProblem}` : false;

/** 16 MiB a request. */
const SMALL = ["--tokens", "128"];

test("two labs at once: each document has its own link, every byte verified, goodput below the rate", { skip }, async () => {
  const run = async (words: string, more: readonly string[] = []): Promise<BenchDocument> => {
    const { code, stdout, stderr } = await kvferry(["bench", "--impair", words, "-t", "1", "--json", ...SMALL, ...more]);
    assert.equal(code, 0, stderr);
    return benchDocument.parse(JSON.parse(stdout));
  };
  const [plain, named] = await Promise.all([
    run("rate=200,delay=5"),
    run("continental,rate=300,delay=10,ba.delay=5", ["--latency-under-load"]),
  ]);
  for (const [document, megabits, rttUs] of [
    [plain, 200, 10_000],
    [named, 300, 15_000],
  ] as const) {
    const [result] = document.results;
    assert.ok(document.end.okay && result!.n_wrong === 0 && result!.verified_bytes >= result!.request_bytes);
    const goodput = result!.bw_avg_bits_per_second / 1e6;
    assert.ok(goodput < megabits && goodput > megabits / 20, `${goodput} Mbit/s of ${megabits}`);
    const { report } = document.impairment!;
    assert.deepEqual([report!.ab.rate_mbit, report!.ab.delay_ms + report!.ba.delay_ms], [megabits, rttUs / 1_000]);
    assert.ok(report!.ab.bytes > result!.bytes + result!.verified_bytes, "all of it came over this link");
    assert.equal(document.start.connected[0]!.remote_host, "10.77.0.2");
    assert.ok(!document.start.args.includes("--in-lab"));
    for (const { rtt, min_rtt: least } of document.intervals) {
      if (document.start.test_start.transport === "tcp") assert.ok(rtt! >= least! && least! > rttUs * 0.9, `${least} us`);
    }
  }
  assert.deepEqual(plain.impairment!.profile, "");
  assert.deepEqual(plain.impairment!.keys, { rate: 200, delay: 5 });
  assert.deepEqual([named.impairment!.profile, Object.keys(named.impairment!.keys)], ["continental", ["rate", "delay", "ba.delay"]]);
  const [{ latency_under_load: times }] = named.results as [BenchDocument["results"][number]];
  assert.ok(times!.idle_us!.min > 14_000 && times!.loaded_us!.min > 14_000 && times!.loaded_samples > 0);
});

test("over a slow link sidecars that are left to themselves begin to code when it is known, and the coders", {
  skip: skip || uncoded,
}, async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "kvferry-lab-codec-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const file = join(folder, "prompt.safetensors");
  writeFileSync(file, madeDump(1, { layers: 8, heads: 4, channels: 64, tokens: 600 }, { model: "made" }));
  // Four times 20 ms of a path that is busy: 4.9 MB a prompt, 12 MB/s.
  const asked = ["--data", `kv:${file}`, "--profile", "auto", "--warmup", "3", "--iters", "2", "--impair", "rate=100", "--json"];
  const { code, stdout, stderr } = await kvferry(["bench", ...asked]);
  assert.equal(code, 0, stderr);
  const [result] = benchDocument.parse(JSON.parse(stdout)).results;
  assert.deepEqual([result!.codec!.used, result!.n_wrong, result!.okay], [{ lossless: 2 }, 0, true], JSON.stringify(result!.codec));
  assert.ok(result!.codec!.ratio > 1.2 && (result!.codec!.reasons["pays"] ?? 0) + (result!.codec!.reasons["stays"] ?? 0) === 2, stdout);
});

/** Of a bench that runs: the prefix of its namespaces, and all processes that it has brought about. */
function tracesOf(bench: ChildProcess): { readonly prefix: string; readonly processes: readonly number[] } {
  const prefix = `kvferry-${bench.pid}-`;
  const family = (id: number): number[] => childrenOf(id).flatMap((child) => [child, ...family(child)]);
  return { prefix, processes: family(bench.pid!) };
}

function commandOf(id: number): string {
  try {
    return readFileSync(`/proc/${id}/cmdline`, "latin1").replaceAll("\0", " ");
  } catch {
    return "";
  }
}

/** Starts one, calls `end` in the middle of its first case, and waits until nothing is left. */
async function endedBy(end: (bench: ChildProcess, processes: readonly number[]) => void, flags: readonly string[] = []): Promise<Ran> {
  const bench = start(["bench", "--impair", "rate=200,delay=5", ...SMALL, "-t", "60", "-i", "0.2", ...flags]);
  const ran = finish(bench);
  await printed(bench, /interval|Mbit|Gbit/);
  const { prefix, processes } = tracesOf(bench);
  assert.equal(namespaces(prefix).length, 2);
  const commands = processes.map(commandOf);
  for (const part of ["wan.sh hold", "wanem-", "--in-lab", "--with-parent"])
    assert.equal(commands.filter((command) => command.includes(part)).length, 1, `${part}: ${commands.join("\n")}`);
  end(bench, processes);
  const result = await ran;
  await until("the end of the namespaces", () => namespaces(prefix).length === 0);
  // A zombie that nobody reaps has no command any more.
  await until("the end of all processes", () => processes.every((id) => commandOf(id) === ""));
  return result;
}

function kill(processes: readonly number[], part: string): void {
  process.kill(processes.find((id) => commandOf(id).includes(part))!, "SIGKILL");
}

test("SIGINT: what was measured is printed, and nothing of the lab is left", { skip }, async () => {
  const { code, stdout, stderr } = await endedBy((bench) => bench.kill("SIGINT"), ["--json-stream"]);
  assert.equal(code, 130, stderr);
  const events = stdout
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as { event: string; data: Record<string, unknown> });
  assert.deepEqual(
    events.slice(-2).map(({ event }) => event),
    ["end", "error"],
  );
  assert.equal(events.at(-1)!.data["code"], "cancelled");
  assert.ok((events.at(-2)!.data["impairment"] as BenchDocument["impairment"])!.report !== null);
});

test("killed, it leaves nothing either", { skip }, async () => {
  assert.equal((await endedBy((bench) => bench.kill("SIGKILL"))).signal, "SIGKILL");
});

test("a part of the lab that dies ends the rest, with its name", { skip }, async () => {
  const parts = ["wanem-", "--in-lab", "--with-parent"];
  const [link, end, partner] = (await Promise.all(parts.map((part) => endedBy((_, processes) => kill(processes, part))))) as [
    Ran,
    Ran,
    Ran,
  ];
  assert.deepEqual([link.code, /connection_lost: .*the emulated link ended/.test(link.stderr)], [2, true], link.stderr);
  assert.deepEqual([end.code, /the measuring end was ended by SIGKILL/.test(end.stderr)], [2, true], end.stderr);
  assert.deepEqual([partner.code, /connection_lost/.test(partner.stderr)], [2, true], partner.stderr);
});

test("what no lab can be made of is refused: exit code 2, and what is missing", async () => {
  const folder = mkdtempSync(join(tmpdir(), "kvferry-path-"));
  try {
    for (const name of ["bash", "dirname"]) {
      const found = (process.env["PATH"] ?? "").split(delimiter).find((place) => existsSync(join(place, name)));
      symlinkSync(join(found!, name), join(folder, name));
    }
    const { code, stdout, stderr } = await kvferry(["bench", "--impair", "metro", "--json"], { PATH: folder });
    assert.match(stderr, /^kvferry: unsupported: .*--impair: not possible here: no ip \(package iproute2\)/);
    assert.deepEqual([code, stdout], [2, ""]);
    const unknown = await kvferry(["bench", "--impair", "moon"]);
    assert.equal(unknown.code, 2);
    assert.match(
      unknown.stderr,
      /Expected a profile \(ideal, metro, .*\) or KEY=VALUE \(rate, delay, .*\) for --impair but received "moon"/,
    );
  } finally {
    rmSync(folder, { recursive: true });
  }
});
