/** The whole tree obeys each rule of rules.ts, and a few that need more than one file. Each rule is itself tested in rules.test.ts. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { findCycles } from "./imports.ts";
import { RULE_NAMES, ruleNamed } from "./rules.ts";
import { readTree, show, type Source } from "./source.ts";

const tree = readTree();
const transport = tree.filter(({ path }) => path.startsWith("transport/"));

for (const name of RULE_NAMES) {
  test(`the tree obeys: ${name}`, () => {
    const findings = tree.flatMap((source) => ruleNamed(name).check(source));
    assert.equal(findings.length, 0, `\n${show(findings)}`);
  });
}

test("no circle of imports", () => {
  const cycles = findCycles(transport).map((cycle) => cycle.join(" -> "));
  assert.deepEqual(cycles, []);
});

test("every folder of transport/ stands in ARCHITECTURE.md", () => {
  const folders = [...new Set(transport.map(({ path }) => path.match(/^transport\/([^/]+)\//)?.[1]).filter((name) => name !== undefined))];
  const architecture = textOf("ARCHITECTURE.md");
  const missing = folders.filter((folder) => !new RegExp(`\\btransport/${folder}\\b`).test(architecture));
  assert.deepEqual(missing, []);
});

test("STYLE.md names every rule, and no other", () => {
  const named = [...textOf("STYLE.md").matchAll(/`tidy: ([a-z-]+)`/g)].map((match) => match[1] as string);
  assert.deepEqual([...new Set(named)].sort(), [...RULE_NAMES, "architecture", "circles", "errors", "lock"].sort());
});

function textOf(path: string): string {
  const source = tree.find((candidate: Source) => candidate.path === path);
  assert.ok(source, `${path} is in the tree`);
  return source.text;
}
