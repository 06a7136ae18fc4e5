/** The number of lanes, one sentence for each rule: readings of one kind are played until a look is over, and the answer is looked at; then as a property. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { type LaneCountOptions, LaneCountPolicy } from "../../transport/policy/lane-count.ts";
import type { PathEstimate } from "../../transport/policy/path-estimate.ts";

const MB = 1_000_000;
const OPTIONS: LaneCountOptions = { least: 1, most: 64, local: false };
const ESTIMATE: PathEstimate = {
  ...{ goodputBytesPerSecond: 100 * MB, latestBytesPerSecond: 100 * MB, confidence: 0.9 },
  ...{ minRttUs: 50_000, rttUs: 50_000, queueUs: 0, lossRatio: 0, limit: "network", heldRatio: 0, reason: "a test" },
};
const QUEUE = { queueUs: 30_000, rttUs: 80_000 };

class Play {
  readonly policy: LaneCountPolicy;
  readonly congestionControl: string;
  nowUs = 0;
  paceBytesPerSecond = 0;
  isShort = false;

  constructor(congestionControl = "bbr", options: Partial<LaneCountOptions> = {}, rttUs = 50_000) {
    this.policy = new LaneCountPolicy({ ...OPTIONS, ...options });
    this.congestionControl = congestionControl;
    this.policy.handleConnected(rttUs);
  }

  get lanes(): number {
    return this.policy.answer.lanes;
  }

  get reason(): string {
    return this.policy.answer.reason;
  }

  /** Ten readings a second for so long, with a rate that the number of lanes decides. */
  for(
    seconds: number,
    estimate: Partial<PathEstimate> = {},
    rateOf: (lanes: number) => number = () => 100 * MB,
    isBacklogged = true,
  ): this {
    for (const endUs = this.nowUs + seconds * 1_000_000; this.nowUs < endUs; ) {
      this.nowUs += 100_000;
      const rate = rateOf(this.lanes);
      const input = { ...ESTIMATE, goodputBytesPerSecond: rate, latestBytesPerSecond: rate, ...estimate };
      const { lanes: lanesUp, congestionControl, paceBytesPerSecond, isShort } = this;
      this.policy.handleReading(this.nowUs, { estimate: input, lanesUp, isBacklogged, congestionControl, paceBytesPerSecond, isShort });
    }
    return this;
  }
}

test("begins with four lanes, and with sixteen where the first round trip is long; within the bounds", () => {
  assert.equal(new Play("bbr", {}, 200).lanes, 4);
  assert.equal(new Play("bbr", {}, 50_000).lanes, 16);
  assert.equal(new Play("bbr", { most: 3 }).lanes, 3);
  assert.equal(new Play("bbr", { least: 6 }, 200).lanes, 6);
});

test("a number that the operator fixed, and lanes of one host, stay as they are", () => {
  const fixed = new Play("cubic", { least: 8, most: 8 }).for(60, { lossRatio: 0.01 });
  assert.deepEqual([fixed.lanes, fixed.reason], [8, "fixed by the configuration"]);
  assert.equal(new Play("cubic", { local: true }, 100).for(60).lanes, 4);
});

test("where a queue stands the lanes go whose part of what is under way it is, as long as nothing is lost, to the last two", () => {
  const play = new Play();
  const seen: number[] = [];
  for (let look = 0; look < 800; look++) seen.push(play.for(0.1, QUEUE).lanes);
  assert.deepEqual([...new Set(seen)], [16, 10, 7, 5, 4, 3, 2]);
  assert.match(play.reason, /queue of 30000 us stands: the path is full/);
  // Without more than a quarter of them the path would run empty.
  assert.deepEqual([...new Set(lanesOf(new Play(), { queueUs: 17_000, rttUs: 67_000 }))], [16, 12, 9, 7, 6, 5, 4, 3]);
  // However long a queue is, half of the lanes stay.
  assert.deepEqual([...new Set(lanesOf(new Play(), { queueUs: 500_000, rttUs: 550_000 }))].slice(0, 3), [16, 8, 4]);
});

function lanesOf(play: Play, estimate: Partial<PathEstimate>): number[] {
  return Array.from({ length: 2_400 }, () => play.for(0.1, estimate).lanes);
}

test("two stay where the only one would leave a long path empty now and then, and of a loss-based congestion control; elsewhere one", () => {
  const short = { minRttUs: 1_500, rttUs: 4_500, queueUs: 3_000 };
  assert.equal(new Play("cubic", {}, 1_500).for(30, short).lanes, 2);
  assert.equal(new Play("bbr", {}, 1_500).for(30, short).lanes, 1);
  assert.equal(new Play("bbr", {}, 2_000).for(30, { minRttUs: 2_000, rttUs: 6_000, queueUs: 4_000 }).lanes, 2);
});

test("lanes that were needed come back, and that is not tried again for a minute", () => {
  const play = new Play();
  // Ten lanes cannot fill it, and then no queue is left.
  const rate = (lanes: number): number => Math.min(lanes * 8, 100) * MB;
  for (let step = 0; step < 100 && play.lanes === 16; step++) play.for(0.1, QUEUE, rate);
  assert.equal(play.lanes, 10);
  for (let step = 0; step < 100 && play.lanes === 10; step++) play.for(0.1, {}, rate);
  assert.equal(play.lanes, 16);
  assert.match(play.reason, /10 lanes lost 20.0 % against 16: back/);
  assert.equal(play.for(50, QUEUE, rate).lanes, 16);
  assert.ok(play.for(25, QUEUE, rate).lanes < 16);
});

test("what fewer lanes lose while the queue stays goes to others, down to two lanes", () => {
  // One foreign flow beside us, which takes as much as a lane of ours.
  const rate = (lanes: number): number => (100 * MB * lanes) / (lanes + 1);
  assert.equal(new Play().for(80, QUEUE, rate).lanes, 2);
  // A loss-based flow beside one that is not would lose it all.
  assert.equal(new Play("cubic").for(40, QUEUE, (lanes) => lanes * MB).lanes, 16);
});

test("lanes that wait for a window are not given up to a queue that others make", () => {
  const play = new Play().for(20, { ...QUEUE, heldRatio: 0.5, limit: "receiver" });
  assert.equal(play.lanes, 16);
  assert.match(play.reason, /others fill the path/);
});

test("lanes are never added where a queue stands", () => {
  for (const estimate of [QUEUE, { ...QUEUE, lossRatio: 0.05 }, { ...QUEUE, heldRatio: 1, limit: "send buffer" as const }])
    assert.ok(new Play("cubic").for(60, estimate, (lanes) => lanes * MB).lanes <= 16);
});

test("a loss-based congestion control without a queue gets twice the lanes, as long as they help", () => {
  const play = new Play("cubic").for(60, { lossRatio: 0.001 }, (lanes) => lanes * MB);
  assert.equal(play.lanes, 64);
  assert.equal(play.reason, "as many as allowed");
  assert.equal(new Play("cubic", { most: 24 }).for(60, {}, (lanes) => lanes * MB).lanes, 24);
});

test("lanes that wait for a window get company, whatever their congestion control", () => {
  const play = new Play().for(8, { heldRatio: 0.2, limit: "send buffer" }, (lanes) => Math.min(lanes * 4, 200) * MB);
  assert.equal(play.lanes, 64);
});

test("BBR fills a path with few lanes: no more of them unless a processor may be what bounds one", () => {
  const slow = new Play().for(30, {}, () => 100 * MB);
  assert.equal(slow.lanes, 16);
  assert.match(slow.reason, /few lanes/);
  const fast = new Play("bbr", {}, 300).for(30, { minRttUs: 300, rttUs: 300 }, (lanes) => Math.min(lanes * 1_500, 20_000) * MB);
  assert.equal(fast.lanes, 16);
});

test("more that gained nothing goes again, and is not tried again for a minute unless the path gives something else", () => {
  const held = { heldRatio: 0.2, limit: "receiver" as const };
  const play = new Play().for(4, held);
  assert.equal(play.lanes, 16);
  assert.equal(play.reason, "more did not help");
  assert.equal(play.for(40, held).lanes, 16);
  assert.equal(play.for(2, held, (lanes) => lanes * 20 * MB).lanes, 32);
});

test("what a search has found stays for a minute, whatever queues stand; more only where the path gives something else in three looks in a row", () => {
  const held = { heldRatio: 0.2, limit: "receiver" as const };
  const found = (): Play => new Play().for(8, { ...QUEUE, heldRatio: 0.5 });
  assert.equal(found().for(50, QUEUE).lanes, 16);
  assert.equal(found().for(50, held).lanes, 16);
  const less = (lanes: number): number => lanes * 4 * MB;
  const now = found().for(2, QUEUE);
  for (let pause = 0; pause < 4; pause++) now.for(1, held, less).for(2, QUEUE);
  assert.equal(now.lanes, 16);
  assert.equal(now.for(2, held, less).lanes, 32);
  // What helped is followed at once.
  assert.equal(now.for(2, held, less).lanes, 64);
});

test("a search that has lanes go with each look goes on until one has none go, load or not in between", () => {
  // A queue that leaves one lane of a few to spare: one look after the other, for longer than a search takes else.
  const slow = { queueUs: 7_000, rttUs: 57_000 };
  const play = new Play();
  for (let transfer = 0; transfer < 10; transfer++) play.for(1.3, slow).for(1, {}, () => 0, false);
  assert.ok(play.nowUs > 12_000_000 && play.lanes === 8, `${play.lanes} lanes after ${play.nowUs} us`);
  // Then nothing is spare, and it rests.
  assert.equal(play.for(20, QUEUE).lanes, 8);
});

test("lanes that slow down for losses become too few by and by: an eighth less is something else for them, a quarter for others", () => {
  for (const [control, grows] of [
    ["cubic", true],
    ["bbr", false],
  ] as const) {
    const play = new Play(control).for(8, { ...QUEUE, heldRatio: 0.5 }).for(2, QUEUE);
    assert.equal(play.lanes, 16);
    assert.equal(play.for(2, { heldRatio: 0.2 }, (lanes) => (lanes > 16 ? 170 : 85) * MB).lanes > 16, grows, control);
  }
});

test("a search does not take back what has just helped", () => {
  const play = new Play("cubic").for(1.7, {}, (lanes) => lanes * MB);
  assert.equal(play.lanes, 32);
  assert.equal(play.for(20, QUEUE, () => 32 * MB).lanes, 32);
});

test("while the queue is kept short for what is urgent, a third goes with each look down to two, whatever that costs; a loss-based one keeps all", () => {
  const play = new Play();
  play.isShort = true;
  const lanes = [play.lanes];
  for (let look = 0; look < 8; look++) lanes.push(play.for(1, {}, (count) => count * MB).lanes);
  assert.deepEqual([...new Set(lanes)], [16, 10, 6, 4, 2]);
  assert.match(play.reason, /urgent transfers come: 2 lanes/);
  const cubic = new Play("cubic");
  cubic.isShort = true;
  assert.ok(cubic.for(10).lanes >= 16);
});

test("what failed with fewer lanes is not tried again for a minute, then for two, whatever the path gives", () => {
  const play = new Play();
  const fills = (lanes: number): number => (lanes >= 16 ? 100 : 50) * MB;
  const tries: number[] = [];
  for (let reading = 0; reading < 3_000; reading++) {
    const before = play.lanes;
    // Beside others the rate of the same lanes is another one every few seconds.
    play.for(0.1, play.lanes < 16 ? {} : QUEUE, (lanes) => fills(lanes) * (reading % 100 < 50 ? 1 : 2));
    if (play.lanes < before) tries.push(reading / 10);
  }
  assert.equal(tries.length, 3, tries.join(", "));
  assert.ok(tries[1]! - tries[0]! >= 60 && tries[2]! - tries[1]! >= 120, tries.join(", "));
});

test("more lanes of a loss-based congestion control stay though they gained nothing, until a search sees a queue; no more are tried for a minute", () => {
  const play = new Play("cubic").for(5, {});
  assert.equal(play.lanes, 32);
  assert.equal(play.reason, "more did not help");
  assert.equal(play.for(40, {}).lanes, 32);
  assert.equal(play.for(10, QUEUE).lanes, 32);
  assert.ok(play.for(15, QUEUE).lanes < 32);
  const loses = new Play("cubic").for(2, {}, (lanes) => (lanes > 16 ? 80 : 100) * MB);
  assert.equal(loses.lanes, 16);
  assert.match(loses.reason, /32 lanes lost 20.0 % against 16: back/);
});

test("a path that is held to little has no lanes that would be slower than a megabyte a second, and gets none of them", () => {
  const play = new Play("cubic");
  play.paceBytesPerSecond = 2.5 * MB;
  assert.equal(play.for(0.1).lanes, 3);
  assert.match(play.reason, /a pace of 2500 kB\/s is enough for 3 lanes/);
  assert.equal(play.for(60, {}, (lanes) => lanes * MB).lanes, 3);
  play.paceBytesPerSecond = 1;
  assert.equal(play.for(0.1).lanes, 1);
  play.paceBytesPerSecond = 0;
  assert.ok(play.for(60, {}, (lanes) => lanes * MB).lanes > 32);
});

test("without load, or with lanes still on their way, nothing is decided", () => {
  const play = new Play("cubic").for(30, {}, (lanes) => lanes * MB, false);
  assert.equal(play.lanes, 16);
  for (let nowUs = 40_000_000; nowUs < 60_000_000; nowUs += 100_000)
    play.policy.handleReading(nowUs, {
      estimate: ESTIMATE,
      lanesUp: 10,
      isBacklogged: true,
      congestionControl: "cubic",
      paceBytesPerSecond: 0,
      isShort: false,
    });
  assert.equal(play.lanes, 16);
});

test("a look in which the lanes paused says nothing", () => {
  const play = new Play("cubic");
  for (let second = 0; second < 40; second++)
    play.for(0.3, {}, (lanes) => lanes * MB).for(0.1, { latestBytesPerSecond: MB / 10 }, () => 16 * MB);
  assert.equal(play.lanes, 16);
});

const number = (max: number) => fc.double({ min: 0, max, noNaN: true });
const anyEstimate: fc.Arbitrary<PathEstimate> = fc.record({
  ...{ goodputBytesPerSecond: number(1e11), latestBytesPerSecond: number(1e11), confidence: number(1), minRttUs: fc.nat(500_000) },
  ...{ rttUs: fc.nat(1_000_000), queueUs: fc.nat(500_000), lossRatio: number(1), heldRatio: number(1), reason: fc.constant("any") },
  limit: fc.constantFrom("network" as const, "receiver" as const, "send buffer" as const, "nothing to send" as const, "unknown" as const),
});

test("property: whatever is read, the number stays in its bounds and has a reason", () => {
  const bounds = fc.tuple(fc.integer({ min: 1, max: 64 }), fc.integer({ min: 1, max: 64 }));
  const reading = fc.record({
    us: fc.nat(3_000_000),
    estimate: anyEstimate,
    lanesUp: fc.nat(64),
    isBacklogged: fc.boolean(),
    pace: number(1e9),
  });
  const control = fc.constantFrom("bbr", "cubic", "reno", "");
  fc.assert(
    fc.property(bounds, control, fc.nat(400_000), fc.array(reading, { maxLength: 80 }), ([a, b], congestionControl, rttUs, readings) => {
      const [least, most] = [Math.min(a, b), Math.max(a, b)];
      const policy = new LaneCountPolicy({ least, most, local: false });
      policy.handleConnected(rttUs);
      let nowUs = 0;
      for (const { us, estimate, lanesUp, isBacklogged, pace } of readings) {
        nowUs += us;
        policy.handleReading(nowUs, {
          estimate,
          lanesUp,
          isBacklogged,
          congestionControl,
          paceBytesPerSecond: us % 3 === 0 ? pace : 0,
          isShort: us % 5 === 0,
        });
        const { lanes, reason } = policy.answer;
        assert.ok(Number.isInteger(lanes) && lanes >= least && lanes <= most && reason !== "", `${lanes} of ${least}..${most}: ${reason}`);
        if (us % 50 === 0) policy.handleConnected(us);
      }
    }),
  );
});
