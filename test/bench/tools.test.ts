/**
 * What stands beside the bench: the C yardstick, iperf3, profiles. Method: the yardstick is compiled and moves a few pieces; iperf3 runs
 * where it is installed; a profile made by hand is cut to its window.
 */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { Competition } from "../../bench/compare.ts";
import { iperf3, iperf3Available } from "../../bench/iperf3.ts";
import { loaderFlags } from "../../bench/node-flags.ts";
import { parseOptions } from "../../bench/options.ts";
import { freePort, runProgram } from "../../bench/process.ts";
import { shareOf } from "../../bench/profile.ts";
import { markdown } from "../../bench/suite-report.ts";
import { rateText } from "../../bench/text.ts";
import { buildYardstick, runYardstick } from "../../bench/yardstick.ts";

test("the yardstick compiles from its source and moves what it is told to", async (t) => {
  const cache = mkdtempSync(join(tmpdir(), "kvferry-cache-"));
  const before = process.env["KVFERRY_CACHE"];
  process.env["KVFERRY_CACHE"] = cache;
  t.after(() => {
    if (before === undefined) delete process.env["KVFERRY_CACHE"];
    else process.env["KVFERRY_CACHE"] = before;
    rmSync(cache, { recursive: true });
  });
  const built = await buildYardstick();
  if ("missing" in built) {
    assert.match(built.missing, /compiler/);
    t.diagnostic(built.missing);
    return;
  }
  assert.deepEqual(await buildYardstick(), built, "the second time it is there");
  for (const [lanes, batch] of [
    [1, 1],
    [3, 64],
  ] as const) {
    const run = await runYardstick(built.program, lanes, { poolBytes: 2 ** 20, blockBytes: 4_096, batch }, 0.05);
    assert.ok(run.bitsPerSecond > 0 && run.cpuSecondsPerGib! > 0 && run.p50Us > 0 && run.p50Us <= run.p99Us, JSON.stringify(run));
  }
  await assert.rejects(runYardstick(built.program, 1, { poolBytes: 4_096, blockBytes: 4_096, batch: 2 }, 0.05), /ended with 2/);
});

test("iperf3 takes turns where it is installed, and is missed politely where it is not", async (t) => {
  if (!(await iperf3Available())) {
    const { notes, size } = await Competition.gather(parseOptions({ compare: "iperf3", client: "127.0.0.1" }));
    assert.ok(size === 0 && notes.some((note) => note.includes("apt-get install iperf3")), notes.join());
    t.diagnostic("iperf3 is not installed");
    return;
  }
  const run = await iperf3(2, undefined).run(1);
  assert.ok(run.bitsPerSecond > 1e6 && run.cpuSecondsPerGib! > 0, JSON.stringify(run));
});

test("a tool that is not there or never ends is an error, not a hang", async () => {
  await assert.rejects(runProgram("kvferry-no-such-program", [], 1_000), /unsupported/);
  await assert.rejects(runProgram(process.execPath, ["-e", "setInterval(() => {}, 1000)"], 200), /deadline_exceeded/);
  const { code, stdout, stderr } = await runProgram(process.execPath, ["-e", "console.log(1); console.error(2); process.exit(3)"], 10_000);
  assert.deepEqual([code, stdout, stderr], [3, "1\n", "2\n"]);
  assert.notEqual(await freePort(), 0);
});

test("a profile's share: only the window counts, idling does not; the addon's own frames stand apart, their callers are JavaScript", () => {
  const node = (id: number, functionName: string, url = "") => ({ id, callFrame: { functionName, url } });
  const profile = {
    nodes: [
      node(1, "(root)"),
      node(2, "(idle)"),
      node(3, "(program)"),
      node(4, "turn", "file:///x/ferry/node.ts"),
      node(5, "submit", "file:///x/link/native-link.js"),
      node(6, "(garbage collector)"),
      node(7, "inAddon", "file:///x/bench/native-frames.js"),
    ],
    startTime: 1_000,
    samples: [4, 2, 4, 5, 7, 7, 3, 6, 4],
    timeDeltas: [100, 100, 100, 100, 100, 100, 100, 100, 100],
  };
  assert.deepEqual(shareOf(profile, 1_150, 1_850), { javascriptUs: 300, addonUs: 200, programUs: 100 });
});

test("rates in the unit asked for, and a table that Markdown understands", () => {
  assert.deepEqual(
    (["g", "m", "G", "k", "T"] as const).map((unit) => rateText(12.5e9, unit)),
    ["12.50 Gbit/s", "12500.00 Mbit/s", "1.563 GB/s", "12500000.00 kbit/s", "0.002 TB/s"],
  );
  const table = markdown([
    { name: "a", measured: "1", wanted: "2", met: false },
    { name: "b", measured: "3", wanted: "", met: undefined },
  ]);
  assert.deepEqual(table.split("\n").slice(2), ["| a | 1 | 2 | **no** |", "| b | 3 | - | - |"]);
});

test("a child gets this process's loaders, and nothing that would run something else", () => {
  const flags = ["--import", "tsx", "-e", "code()", "--inspect", "--loader=x", "-r", "./y.js", "--test"];
  assert.deepEqual(loaderFlags(flags), ["--import", "tsx", "--loader=x", "-r", "./y.js"]);
});
