/** Which congestion control lanes ask for, one sentence for each rule. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { chooseCongestion, isLossBased } from "../../transport/policy/congestion.ts";

test("what the operator names is asked for, whatever the kernel says", () => {
  assert.deepEqual(chooseCongestion("dctcp", ["bbr"], true), { name: "dctcp", reason: "configured" });
});

test("between two ends of one host the host's own stays", () => {
  assert.deepEqual(chooseCongestion("", ["bbr", "cubic"], true), { name: "", reason: "both ends are on one host" });
});

test("the newest BBR that the kernel allows", () => {
  assert.equal(chooseCongestion("", ["reno", "cubic", "bbr"], false).name, "bbr");
  assert.equal(chooseCongestion("", ["bbr", "bbr3", "cubic"], false).name, "bbr3");
  assert.match(chooseCongestion("", ["bbr"], false).reason, /loss/);
});

test("without BBR the host's own, and the reason says what there is and what follows", () => {
  const { name, reason } = chooseCongestion("", ["reno", "cubic"], false);
  assert.equal(name, "");
  assert.match(reason, /no bbr among reno, cubic: more lanes/);
  assert.match(chooseCongestion("", [], false).reason, /does not say/);
});

test("a loss slows down all but BBR; of an unknown one that is not assumed", () => {
  assert.deepEqual(["cubic", "reno", "htcp", "dctcp", "bbr", "bbr2", "bbr3", ""].map(isLossBased), [
    true,
    true,
    true,
    true,
    false,
    false,
    false,
    false,
  ]);
});
