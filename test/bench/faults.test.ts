/** Faults of engines, as the table of npm run bench:engines says them. Method: results made by hand. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { faultFigure, type Outcome, type Result } from "../../bench/engines/faults.ts";

const right: Outcome = { kind: "right", seconds: 0.25 };
const fine: Result = { outcome: right, counted: { done: 1, failed: 0 }, died: [], again: right, next: right, nextCarried: true };

test("a fault is survived with the right tokens, an error, or a client that gave up", () => {
  const { name, measured, met } = faultFigure("nixl-tcp: no fault", fine);
  assert.equal(name, "nixl-tcp: no fault");
  assert.equal(met, true);
  assert.equal(
    measured,
    "right tokens in 0.3 s; loads: 1 done, 0 failed; asked again: right tokens in 0.3 s; next: right tokens in 0.3 s, its KV carried",
  );
  const killed = faultFigure("", { ...fine, outcome: { kind: "error", words: "HTTP 500 a|b\nc", seconds: 2 }, counted: undefined });
  assert.equal(killed.met, true);
  assert.match(killed.measured, /^error "HTTP 500 a\/b c" in 2\.0 s; asked again/);
  assert.equal(faultFigure("", { ...fine, outcome: { kind: "gave_up", seconds: 1 } }).met, true);
});

test("what is wrong, late, dead, or stays behind is not", () => {
  const wrong: Outcome = { kind: "wrong", seconds: 1 };
  const late: Outcome = { kind: "late", seconds: 60 };
  const worse: readonly Partial<Result>[] = [
    { outcome: wrong },
    { outcome: late },
    { died: ["decode"] },
    { again: wrong },
    { next: late },
    { nextCarried: false },
  ];
  for (const change of worse) assert.equal(faultFigure("", { ...fine, ...change }).met, false, JSON.stringify(change));
  assert.match(
    faultFigure("", { ...fine, outcome: late, died: ["decode"] }).measured,
    /^nothing in 60\.0 s; .*the decode engine died of it/,
  );
});
