/** Each tidy rule on snippets: one that breaks it and one that only looks like it. A rule that cannot fail is no rule. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { functionsOf } from "./functions.ts";
import { findCycles, importsOf } from "./imports.ts";
import { mask } from "./mask.ts";
import { ruleNamed } from "./rules.ts";
import { makeSource } from "./source.ts";

interface Case {
  readonly rule: string;
  readonly path: string;
  readonly bad: readonly string[];
  readonly good: readonly string[];
}

const functionOf = (lines: number): string => `export function long(): void {\n${"  step();\n".repeat(lines - 2)}}\n`;

const CASES: readonly Case[] = [
  {
    rule: "floors",
    path: "transport/session/sender.ts",
    bad: [
      'import { Peer } from "../peer/peer.ts";',
      'import type { Loop } from "../runtime/runtime.ts";',
      'import { helper } from "../../test/helper.ts";',
      'export * from "../api/server.ts";',
      'import "../metrics.ts";',
      'const late = await import("../ferry/world.ts");',
      'import { plan } from "../kv/plan";',
    ],
    good: [
      'import { limits } from "../limits.ts";',
      'import { plan } from "../kv/plan.ts";',
      'import { frame } from "./frame.ts";',
      'import { test } from "node:test";',
      '// import { Peer } from "../peer/peer.ts";',
    ],
  },
  {
    rule: "floors",
    path: "transport/kv/plan.ts",
    bad: ['import { plane } from "../link/link.ts";', 'import { type Plane, plane } from "../link/link.ts";'],
    good: ['import type { Plane } from "../link/link.ts";', 'import { type Plane, type ChunkSpan } from "../link/link.ts";'],
  },
  {
    rule: "floors",
    path: "transport/link/js.ts",
    bad: ['import { Pool } from "../memory/pool.ts";', 'import { Sender } from "../session/sender.ts";'],
    good: ['import { RunCursor } from "../kv/runs.ts";', 'import type { Region } from "../memory/region.ts";'],
  },
  {
    rule: "floors",
    path: "transport/limits.ts",
    bad: ['import { api } from "./api/server.ts";'],
    good: ['import { assert } from "./check.ts";'],
  },
  { rule: "floors", path: "transport/cellar/rat.ts", bad: ["export const rat = 1;"], good: [] },
  {
    rule: "pure-imports",
    path: "transport/kv/identity.ts",
    bad: ['import { readFileSync } from "node:fs";', 'import { Pool } from "../memory/pool.ts";', 'import { z } from "zod";'],
    good: [
      'import { createHash } from "node:crypto";',
      'import type { Region } from "../memory/region.ts";',
      'import { ERRORS } from "../errors.ts";',
    ],
  },
  { rule: "pure-imports", path: "transport/session/frame.ts", bad: ['import { createHash } from "node:crypto";'], good: [] },
  {
    rule: "pure-bans",
    path: "transport/policy/window.ts",
    bad: [
      "const now = Date.now();",
      "const t = performance.now();",
      "const seed = process.pid;",
      "setTimeout(step, 5);",
      "clearInterval(timer);",
      "queueMicrotask(step);",
      "const r = Math.random();",
      "const e = Math.exp(x);",
      "async function go() {}",
      "await settled;",
      "return Promise.resolve();",
      "const id = crypto.randomUUID();",
      "names.sort();",
      "const s = `${Date.now()}`;",
    ],
    good: [
      "const low = Math.min(a, Math.floor(b));",
      "// Date.now() is not for us",
      'const word = "async";',
      "names.sort((a, b) => a - b);",
      "const updated = candidate;",
    ],
  },
  {
    rule: "pure-bans",
    path: "transport/route/core/engines.ts",
    bad: ["const now = Date.now();"],
    good: ["const up = nowMs >= state.downUntilMs;"],
  },
  {
    rule: "pure-imports",
    path: "transport/route/core/plan.ts",
    bad: ['import { request } from "node:http";', 'import { EngineClient } from "../engine-client.ts";'],
    good: ['import { membersOf } from "./members.ts";', 'import type { EngineClient } from "../engine-client.ts";'],
  },
  { rule: "pure-bans", path: "transport/peer/peer.ts", bad: [], good: ["const now = Date.now();", "await settled;"] },
  { rule: "file-lines", path: "native/core/big.cpp", bad: ["int x;\n".repeat(401)], good: ["int x;\n".repeat(400)] },
  { rule: "file-lines", path: "transport/peer/wire/peer.js", bad: [], good: ["let x;\n".repeat(4000)] },
  {
    rule: "function-lines",
    path: "bench/run.ts",
    bad: [functionOf(71)],
    good: [functionOf(70), `describe("all", () => {\n${"\n".repeat(99)}});`],
  },
  { rule: "columns", path: "bench/run.ts", bad: [`// ${"x".repeat(168)}`], good: [`// ${"x".repeat(167)}`] },
  { rule: "columns", path: "README.md", bad: [], good: ["x".repeat(300)] },
  {
    rule: "unfinished",
    path: "native/core/a.h",
    bad: ["// TO" + "DO: later", "/* FIX" + "ME */", "// XX" + "X"],
    good: ["// to do it well", "todos"],
  },
  {
    rule: "loose",
    path: "test/kv/plan.test.ts",
    bad: [
      "test.on" + 'ly("x", f)',
      "describe.sk" + 'ip("x", f)',
      "x as a" + "ny",
      "// @ts-ig" + "nore",
      "export decl" + "are class Pool {}",
    ],
    good: ['test("x", { skip: reason }, f)', "only(x)", "x as anything", '"x as any"', "export class Pool {}"],
  },
  {
    rule: "machine",
    path: "test/kv/plan.test.ts",
    bad: ['open("/wo' + 'rk/main/x")', "cd /ro" + "ot/x", "https://registry.npm" + "js.org/x", "py" + "pi.org"],
    good: ["./work/main", "path/home/x", "join(ROOT, `${base}/work/x`)", "pypi wheel"],
  },
  {
    rule: "environment",
    path: "transport/peer/peer.ts",
    bad: ["const home = process.env.HOME;"],
    good: ['const hint = "process.env.HOME";', "// process.env"],
  },
  { rule: "environment", path: "transport/config-layers.ts", bad: [], good: ["const home = process.env.HOME;"] },
  { rule: "console", path: "transport/peer/peer.ts", bad: ["console.log(1);", "process.stderr.write(x);"], good: ["log.info(1);"] },
  { rule: "console", path: "transport/cli/serve.ts", bad: [], good: ["console.log(1);"] },
  {
    rule: "wall-clock",
    path: "transport/peer/peer.ts",
    bad: ["const now = Date.now();", "const now = new Date();"],
    good: ["const now = performance.now();", "const told = new Date(text);", "// Date.now()"],
  },
  {
    rule: "wall-clock",
    path: "native/core/clock.h",
    bad: ["clock_gettime(CLOCK_REALTIME, &now);", "auto now = std::chrono::system_clock::now();", "srand(time(nullptr));"],
    good: ["clock_gettime(CLOCK_MONOTONIC, &now);", "time(limit);"],
  },
  { rule: "wall-clock", path: "transport/link/js-tls.ts", bad: [], good: ["const now = Date.now();"] },
  { rule: "test-head", path: "test/kv/plan.test.ts", bad: ['import { test } from "node:test";'], good: ["/** Method. */", "// Method."] },
];

for (const { rule, path, bad, good } of CASES) {
  test(`${rule} in ${path}`, () => {
    for (const text of bad) assert.notDeepEqual(ruleNamed(rule).check(makeSource(path, text)), [], `should be found: ${text.slice(0, 80)}`);
    for (const text of good) assert.deepEqual(ruleNamed(rule).check(makeSource(path, text)), [], `should pass: ${text.slice(0, 80)}`);
  });
}

test("masking keeps places and knows strings, templates, regular expressions and C++", () => {
  const cases: readonly (readonly [text: string, bare: string, language: "typescript" | "cpp"])[] = [
    ["a('x'); // y", "a(' ');     ", "typescript"],
    ["`a${b(`c${d}`)}e` + f", "` ${b(` ${d}`)} ` + f", "typescript"],
    ["x = /['\"]/g; y", "x = /    /g; y", "typescript"],
    ["a / b / c", "a / b / c", "typescript"],
    ["/* ' */ z", "        z", "cpp"],
    ["n = 1'000; c = 'x';", "n = 1'000; c = ' ';", "cpp"],
    ['R"(a"b)" + c', 'R"     " + c', "cpp"],
  ];
  for (const [text, bare, language] of cases) assert.equal(mask(text, language).bare, bare);
});

test("functions are found in TypeScript, C++ and Python, and control flow is not one", () => {
  const heads = (path: string, text: string): string[] => functionsOf(makeSource(path, text)).map(({ head }) => head);
  assert.deepEqual(heads("a.ts", "class A {\n  b(c: number): void {\n    if (c) { d(); }\n  }\n}"), ["b(c: number): void"]);
  assert.deepEqual(heads("a.ts", "run(async () => {\n  for (;;) { x(); }\n});"), ["async () =>"]);
  assert.deepEqual(heads("a.ts", "async function f(): Promise<{ a: number }> {\n}"), ["async function f(): Promise<{ a: number }>"]);
  assert.deepEqual(heads("a.cpp", "namespace n {\nstruct S : T { int x; };\nint S::f() const noexcept {\n  while (x) { y(); }\n}\n}"), [
    "int S::f() const noexcept",
  ]);
  assert.deepEqual(heads("a.cpp", "auto f = [this](int x) -> int { return x; };"), ["auto f = [this](int x) -> int"]);
  assert.deepEqual(functionsOf(makeSource("a.py", "def f(a):\n    x()\n\n    y()\n\nz()\n")), [
    { head: "def f(a):", firstLine: 1, lines: 4 },
  ]);
  assert.deepEqual(heads("a.ts", "export function laneTests(suite: Suite): void {\n  suite.test(() => {});\n}"), ["() =>"]);
  assert.equal(functionsOf(makeSource("a.ts", functionOf(12)))[0]?.lines, 12);
});

test("imports are read whatever their form", () => {
  const forms = ['import a, { b } from "./x.ts";', 'import type { C } from "./y.ts";', 'export { type D, e } from "./z.ts";'];
  const text = [...forms, "import {", "  f,", '} from "./w.ts";'].join("\n");
  assert.deepEqual(
    importsOf(makeSource("a.ts", text)).map(({ specifier, typeOnly, line }) => [specifier, typeOnly, line]),
    [
      ["./x.ts", false, 1],
      ["./y.ts", true, 2],
      ["./z.ts", false, 3],
      ["./w.ts", false, 4],
    ],
  );
});

test("circles are found once, whatever their length", () => {
  const file = (path: string, ...targets: string[]) => makeSource(path, targets.map((target) => `import "./${target}";`).join("\n"));
  assert.deepEqual(findCycles([file("a.ts", "b.ts"), file("b.ts", "c.ts"), file("c.ts", "a.ts"), file("d.ts", "a.ts", "b.ts")]), [
    ["a.ts", "b.ts", "c.ts"],
  ]);
  assert.deepEqual(findCycles([file("a.ts", "b.ts", "c.ts"), file("b.ts", "c.ts"), file("c.ts")]), []);
});
