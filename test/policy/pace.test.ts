/** How fast a path may be used, one sentence for each rule, then as a property: never above a cap, and never without a reason. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { PRIORITIES } from "../../transport/policy/priority.ts";
import { type PaceInput, PacePolicy } from "../../transport/policy/pace.ts";
import type { PathEstimate } from "../../transport/policy/path-estimate.ts";

const MB = 1_000_000;
const ESTIMATE: PathEstimate = {
  ...{ goodputBytesPerSecond: 100 * MB, latestBytesPerSecond: 100 * MB, confidence: 0.9 },
  ...{ minRttUs: 50_000, rttUs: 50_000, queueUs: 0, lossRatio: 0, limit: "network", heldRatio: 0, reason: "a test" },
};
const INPUT: PaceInput = { estimate: ESTIMATE, peerCap: 0, tenantCap: 0, tenantSharing: 1, mostUrgent: "normal" };

function after(readings: number, input: Partial<PaceInput>, policy = new PacePolicy()): number {
  for (let reading = 1; reading <= readings; reading++) policy.handleReading(reading * 100_000, { ...INPUT, ...input });
  return policy.answer.bytesPerSecond;
}

const withQueue = (queueUs: number, goodput = 100 * MB): PathEstimate => ({ ...ESTIMATE, queueUs, goodputBytesPerSecond: goodput });

test("without a cap there is none, and that is said", () => {
  const policy = new PacePolicy();
  assert.deepEqual(policy.handleReading(0, INPUT), { bytesPerSecond: 0, reason: "no cap" });
});

test("the least of the caps holds: the peer's, and the tenant's shared by its peers", () => {
  assert.equal(after(1, { peerCap: 50 * MB }), 50 * MB);
  assert.equal(after(1, { peerCap: 50 * MB, tenantCap: 90 * MB, tenantSharing: 3 }), 30 * MB);
  assert.equal(after(1, { peerCap: 20 * MB, tenantCap: 90 * MB, tenantSharing: 3 }), 20 * MB);
  assert.equal(after(1, { tenantCap: 1, tenantSharing: 64 }), 1);
  const policy = new PacePolicy();
  assert.match(policy.handleReading(0, { ...INPUT, tenantCap: 8 * MB, tenantSharing: 2 }).reason, /the tenant's cap, shared by 2 peers/);
});

test("background begins with half of what is known, and grows while there is no queue, to no more than twice what is used", () => {
  assert.equal(after(1, { mostUrgent: "background" }), 50 * MB);
  const [few, many] = [after(5, { mostUrgent: "background" }), after(50, { mostUrgent: "background" })];
  assert.ok(few > 50 * MB && many > few && many <= 200 * MB);
});

test("a queue that stands in three readings takes background down at once, to a fiftieth of what the path gave", () => {
  const policy = new PacePolicy();
  const before = after(30, { mostUrgent: "background" }, policy);
  after(3, { mostUrgent: "background", estimate: withQueue(20_000) }, policy);
  assert.ok(policy.answer.bytesPerSecond < before);
  assert.match(policy.answer.reason, /background yields to a queue of 20000 us/);
  assert.equal(after(60, { mostUrgent: "background", estimate: withQueue(20_000) }, policy), 2 * MB);
});

/** Ten readings a second. */
function play(policy: PacePolicy, fromSeconds: number, toSeconds: number, queueAt: (second: number) => number): number {
  for (let reading = fromSeconds * 10 + 1; reading <= toSeconds * 10; reading++)
    policy.handleReading(reading * 100_000, { ...INPUT, mostUrgent: "background", estimate: withQueue(queueAt(reading / 10)) });
  return policy.answer.bytesPerSecond;
}

test("a route that has grown longer is no queue: background that has left it for fifteen seconds comes back, and yields to a queue beyond it", () => {
  const policy = new PacePolicy();
  const longer = (): number => 20_000;
  assert.equal(play(policy, 0, 15, longer), 2 * MB);
  assert.ok(play(policy, 15, 40, longer) >= 150 * MB);
  assert.equal(
    play(policy, 40, 50, () => 30_000),
    2 * MB,
  );
  // It is the old one again: what was added to it is forgotten at once.
  assert.ok(play(policy, 50, 70, () => 0) > 100 * MB);
  assert.equal(play(policy, 70, 80, longer), 2 * MB);
});

test("a queue of others that is gone for a moment every ten seconds is no longer route, however long it stands", () => {
  const policy = new PacePolicy();
  play(policy, 0, 20, () => 20_000);
  const others = new PacePolicy();
  for (let second = 0; second < 120; second += 10)
    assert.ok(play(others, second, second + 10, (at) => (at % 10 < 0.3 ? 0 : 20_000)) <= 4 * MB, `after ${second + 10} s`);
});

test("a queue for a moment, as a flow makes that looks for more, does not", () => {
  const policy = new PacePolicy();
  const before = after(10, { mostUrgent: "background" }, policy);
  after(2, { mostUrgent: "background", estimate: withQueue(20_000) }, policy);
  assert.ok(policy.answer.bytesPerSecond >= before);
});

test("a short path's queue counts from one and a half milliseconds, a long one's from an eighth of its round trip", () => {
  const short = { ...ESTIMATE, minRttUs: 1_000 };
  assert.match(yieldTo({ ...short, queueUs: 1_400 }), /no queue/);
  assert.match(yieldTo({ ...short, queueUs: 1_600 }), /yields/);
  assert.match(yieldTo({ ...ESTIMATE, minRttUs: 80_000, queueUs: 9_000 }), /no queue/);
  assert.match(yieldTo({ ...ESTIMATE, minRttUs: 80_000, queueUs: 11_000 }), /yields/);
});

function yieldTo(estimate: PathEstimate): string {
  const policy = new PacePolicy();
  after(4, { mostUrgent: "background", estimate }, policy);
  return policy.answer.reason;
}

test("a path of which nothing is known is not bounded for background, and anything else that is under way ends the yielding", () => {
  assert.equal(after(1, { mostUrgent: "background", estimate: { ...ESTIMATE, goodputBytesPerSecond: 0 } }), 0);
  const policy = new PacePolicy();
  after(20, { mostUrgent: "background", estimate: withQueue(20_000) }, policy);
  assert.equal(after(1, {}, policy), 0);
});

test("property: at most the caps, at least one byte where there is one, whatever is read", () => {
  const cap = fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 2 ** 40 }));
  const reading = fc.record({
    estimate: fc.record({ goodput: fc.double({ min: 0, max: 1e11, noNaN: true }), queueUs: fc.nat(1_000_000), minRttUs: fc.nat(500_000) }),
    ...{ peerCap: cap, tenantCap: cap, tenantSharing: fc.nat(100), mostUrgent: fc.constantFrom(...PRIORITIES) },
  });
  fc.assert(
    fc.property(fc.array(reading, { maxLength: 60 }), (readings) => {
      const policy = new PacePolicy();
      readings.forEach(({ estimate: { goodput, queueUs, minRttUs }, ...input }, at) => {
        const estimate = { ...withQueue(queueUs, goodput), minRttUs };
        const { bytesPerSecond, reason } = policy.handleReading(at * 100_000, { ...input, estimate });
        assert.ok(Number.isInteger(bytesPerSecond) && bytesPerSecond >= 0 && reason !== "");
        if (input.peerCap > 0) assert.ok(bytesPerSecond > 0 && bytesPerSecond <= input.peerCap);
        if (input.tenantCap > 0) assert.ok(bytesPerSecond > 0 && bytesPerSecond <= Math.max(input.tenantCap, 1));
      });
    }),
  );
});

test("while urgent transfers come a standing queue bounds everything below what the path gives, and the reason says so", () => {
  const policy = new PacePolicy();
  after(3, { mostUrgent: "urgent", estimate: withQueue(20_000) }, policy);
  assert.ok(policy.isShort && policy.answer.bytesPerSecond === 90 * MB);
  assert.match(policy.answer.reason, /urgent transfers come/);
  assert.equal(after(1, { estimate: withQueue(20_000) }, policy), 0);
});
