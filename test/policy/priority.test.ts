/** What goes before what: classes as native ranks them, and a transfer that only makes its deadline if it goes first. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { PRIORITIES, rankOf, type UrgencyInput, urgencyOf } from "../../transport/policy/priority.ts";

const MB = 1_000_000;
/** 100 MB at 100 MB/s beside one other: a second alone, two with an even share. */
const INPUT: UrgencyInput = { priority: "normal", leftBytes: 100 * MB, leftUs: 3_000_000, goodputBytesPerSecond: 100 * MB, sharing: 2 };
const urgency = (changes: Partial<UrgencyInput>) => urgencyOf({ ...INPUT, ...changes });

test("urgent goes before normal, and normal before background", () => {
  assert.deepEqual(PRIORITIES.map(rankOf), [0, 1, 2]);
  assert.ok(rankOf("urgent") < rankOf("normal") && rankOf("normal") < rankOf("background"));
});

test("a transfer that makes its deadline with an even share stays as it is", () => {
  assert.deepEqual(urgency({}), { priority: "normal", reason: "in time with an even share" });
});

test("one that would be late with an even share, and in time with the whole path, becomes urgent", () => {
  const { priority, reason } = urgency({ leftUs: 1_500_000 });
  assert.equal(priority, "urgent");
  assert.match(reason, /1000 ms of the whole path left, and 1500 ms until its deadline/);
});

test("one that is late in any case takes nothing from others", () => {
  for (const leftUs of [900_000, 0, -5])
    assert.deepEqual(urgency({ leftUs }), { priority: "normal", reason: "late even with the whole path" });
});

test("what was asked for as urgent or background stays so, as does what has the path to itself or an unknown one", () => {
  for (const priority of ["urgent", "background"] as const) assert.equal(urgency({ priority, leftUs: 1_500_000 }).priority, priority);
  assert.equal(urgency({ sharing: 1, leftUs: 1_500_000 }).priority, "normal");
  assert.equal(urgency({ goodputBytesPerSecond: 0, leftUs: 1_500_000 }).priority, "normal");
});

test("property: only a normal transfer changes, to urgent alone, and always with a reason", () => {
  const input: fc.Arbitrary<UrgencyInput> = fc.record({
    priority: fc.constantFrom(...PRIORITIES),
    leftBytes: fc.nat(2 ** 31 - 1),
    leftUs: fc.integer(),
    goodputBytesPerSecond: fc.double({ min: 0, max: 1e11, noNaN: true }),
    sharing: fc.integer({ min: 1, max: 1_000 }),
  });
  fc.assert(
    fc.property(input, (of) => {
      const { priority, reason } = urgencyOf(of);
      assert.ok(reason !== "");
      assert.ok(priority === of.priority || (of.priority === "normal" && priority === "urgent"));
    }),
  );
});
