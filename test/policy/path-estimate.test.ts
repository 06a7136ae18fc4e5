/** A path of known rates is played to the estimator, reading by reading; it must find them, say what limits, and never lose its head (property). */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { LaneInfo } from "../../transport/link/link.ts";
import { PathEstimator, READING_US } from "../../transport/policy/path-estimate.ts";
import { CountingLanes, LANE } from "./lanes.ts";

const MB = 1_000_000;
const BACKLOG = 1_000 * MB;

class Play {
  readonly estimator = new PathEstimator();
  readonly lanes: CountingLanes;
  nowUs = 1_000_000;

  constructor(lanes = 4, changes: Partial<LaneInfo> = {}) {
    this.lanes = new CountingLanes(lanes, changes);
    this.estimator.handleReading(this.nowUs, this.lanes.all, BACKLOG);
  }

  /** So many readings at so many bytes a second. */
  at(bytesPerSecond: number, readings: number, changes: Partial<LaneInfo> = {}, backlogBytes = BACKLOG, lossRatio = 0): this {
    for (let reading = 0; reading < readings; reading++) {
      this.nowUs += READING_US;
      const bytes = (bytesPerSecond * READING_US) / 1_000_000;
      this.estimator.handleReading(this.nowUs, this.lanes.pass(READING_US, bytes, changes, bytes * lossRatio), backlogBytes);
    }
    return this;
  }

  get estimate() {
    return this.estimator.estimate(this.nowUs);
  }
}

function near(actual: number, expected: number, part = 0.01): void {
  assert.ok(Math.abs(actual / expected - 1) <= part, `${actual} is near ${expected}`);
}

test("knows nothing at first, and reads at once", () => {
  const estimator = new PathEstimator();
  const { goodputBytesPerSecond, confidence, reason, limit } = estimator.estimate(5);
  assert.deepEqual([goodputBytesPerSecond, confidence, limit], [0, 0, "unknown"]);
  assert.notEqual(reason, "");
  assert.equal(estimator.nextReadingUs(), 0);
});

test("the rate of all lanes together is found with the first interval", () => {
  near(new Play(16).at(100 * MB, 1).estimate.goodputBytesPerSecond, 100 * MB);
});

test("what a wire takes is known from four readings on, or from stored chunks that were over before one; coded ones say nothing of it", () => {
  const play = new Play(4);
  assert.equal(play.at(100 * MB, 3).estimator.wireRate(play.nowUs), 0);
  near(play.at(100 * MB, 1).estimator.wireRate(play.nowUs), 100 * MB);
  // A megabyte each half millisecond, one after the other: 2 GB/s, in less than a reading's time.
  const acknowledge = (count: number, isCoded: boolean): number => {
    for (let chunk = 0; chunk < count; chunk++)
      play.estimator.handleAcked((play.nowUs += isCoded ? 5_000 : 500), MB, isCoded ? 5_000 : 500, isCoded);
    return play.estimator.wireRate(play.nowUs);
  };
  near(acknowledge(100, true), 100 * MB);
  near(acknowledge(39, false), 100 * MB);
  near(acknowledge(200, false), 2_000 * MB);
  near(acknowledge(1_000, true), 2_000 * MB);
});

test("readings are a tenth of a second apart, or a round trip where that is longer, at most three tenths", () => {
  const pauses = [1_000, 50_000, 200_000, 2_000_000].map((rttUs) => {
    const { estimator, nowUs } = new Play(1, { rttUs }).at(MB, 1);
    return estimator.nextReadingUs() - nowUs;
  });
  assert.deepEqual(pauses, [100_000, 100_000, 200_000, 300_000]);
});

test("a step of any size is found in three readings, up and down", () => {
  for (const to of [10, 50, 85, 120, 200, 1_000])
    near(new Play().at(100 * MB, 20).at(to * MB, 3).estimate.goodputBytesPerSecond, to * MB, 0.05);
});

test("while lanes grow the estimate is a reading behind them, and the latest one is told besides", () => {
  const play = new Play();
  for (const rate of [1, 2, 4, 8, 16, 32]) play.at(rate * MB, 1);
  assert.ok(play.estimate.goodputBytesPerSecond >= 16 * MB);
  near(play.estimate.latestBytesPerSecond, 32 * MB);
});

test("the last lanes of a transfer, which wait to send again what was lost, say nothing of the path", () => {
  const play = new Play(16).at(100 * MB, 20);
  const rest = play.lanes.all.map((lane) => ({ ...lane, notSentBytes: lane.lane < 2 ? 500_000 : 0 }));
  for (let tail = 1; tail <= 10; tail++) {
    const lanes = rest.map((one) =>
      one.lane < 2 ? { ...one, bytesSent: one.bytesSent + tail * 50, bytesDelivered: one.bytesDelivered + tail * 50 } : one,
    );
    play.estimator.handleReading((play.nowUs += READING_US), lanes, 0);
  }
  near(play.estimate.goodputBytesPerSecond, 100 * MB);
  // Where those two are all that take chunks, they are the path.
  for (let reading = 1; reading <= 5; reading++) {
    const lanes = rest.map((one) => ({ ...one, bytesSent: 2e9 + reading * MB, bytesDelivered: 2e9 + reading * MB, busyUs: 9e9 }));
    play.estimator.handleReading((play.nowUs += READING_US), lanes, 0, 2);
  }
  near(play.estimate.goodputBytesPerSecond, 160 * MB);
});

test("two readings of a pause, as BBR makes one every ten seconds, change nothing", () => {
  const play = new Play()
    .at(100 * MB, 20)
    .at(60 * MB, 1)
    .at(2 * MB, 2)
    .at(80 * MB, 1);
  near(play.estimate.goodputBytesPerSecond, 100 * MB, 0.1);
  near(play.at(100 * MB, 3).estimate.goodputBytesPerSecond, 100 * MB, 0.1);
});

test("a sender with nothing to say proves no less than was known, and may prove more", () => {
  const play = new Play(4, { notSentBytes: 0 }).at(100 * MB, 10);
  const idle = play.at(5 * MB, 10, { notSentBytes: 0 }, 0).estimate;
  near(idle.goodputBytesPerSecond, 100 * MB);
  assert.equal(idle.limit, "nothing to send");
  near(play.at(150 * MB, 3, { notSentBytes: 0 }, 0).estimate.goodputBytesPerSecond, 150 * MB);
});

test("says what limits: the network, the other end's window, the own buffer", () => {
  assert.equal(new Play().at(MB, 2).estimate.limit, "network");
  const receiver = new Play(1).at(MB, 1, { receiveWindowLimitedUs: 90_000 }).estimate;
  assert.deepEqual([receiver.limit, receiver.heldRatio], ["receiver", 0.9]);
  const buffer = new Play(1).at(MB, 1, { sendBufferLimitedUs: 60_000 }).estimate;
  assert.deepEqual([buffer.limit, buffer.heldRatio], ["send buffer", 0.6]);
  assert.equal(new Play(1).at(MB, 1, { sendBufferLimitedUs: 20_000 }).estimate.limit, "network");
});

test("queue is what the round trip has more than its least; loss is the share that went out again", () => {
  const { queueUs, minRttUs, lossRatio } = new Play(2).at(10 * MB, 60, { rttUs: 62_000, minRttUs: 50_000 }, BACKLOG, 0.02).estimate;
  assert.deepEqual([queueUs, minRttUs], [12_000, 50_000]);
  near(lossRatio, 0.02, 0.05);
});

test("a lane that was opened anew under its number counts from nothing, and one that came adds what it did", () => {
  const estimator = new PathEstimator();
  estimator.handleReading(0, [{ ...LANE, bytesSent: 900 * MB, bytesDelivered: 900 * MB, busyUs: 9_000_000 }], BACKLOG);
  const anew = { ...LANE, bytesSent: 10 * MB, bytesDelivered: 10 * MB, busyUs: 90_000 };
  estimator.handleReading(100_000, [anew, { ...anew, lane: 1 }], BACKLOG);
  near(estimator.estimate(100_000).goodputBytesPerSecond, 200 * MB);
});

test("segments that change their size do not make bytes that nobody sent", () => {
  const estimator = new PathEstimator();
  const before = { ...LANE, bytesSent: 1_000 * MB, bytesDelivered: 999 * MB, busyUs: 9_000_000 };
  for (const bytesDelivered of [1_400 * MB, 700 * MB]) {
    estimator.handleReading(0, [before], BACKLOG);
    estimator.handleReading(100_000, [{ ...before, bytesSent: 1_010 * MB, bytesDelivered, busyUs: 9_100_000 }], BACKLOG);
    assert.ok(estimator.estimate(100_000).goodputBytesPerSecond <= 110 * MB);
    estimator.handleReconnected();
  }
});

test("without counters of the kernel acknowledgements tell the rate", () => {
  const estimator = new PathEstimator();
  const mute = { ...LANE, rttUs: 0, minRttUs: 0 };
  for (let reading = 1; reading <= 10; reading++) {
    estimator.handleReading(reading * 100_000, [mute], BACKLOG);
    for (let chunk = 0; chunk < 10; chunk++) estimator.handleAcked(reading * 100_000 + chunk * 10_000, MB, 10_000);
  }
  near(estimator.estimate(1_100_000).goodputBytesPerSecond, 100 * MB, 0.05);
});

test("confidence grows with readings, fades with silence, and a new connection starts it over while the rate stays as a guess", () => {
  const play = new Play().at(100 * MB, 1);
  const little = play.estimate.confidence;
  const much = play.at(100 * MB, 30).estimate.confidence;
  assert.ok(0 < little && little < much && much < 1);
  assert.equal(play.estimator.estimate(play.nowUs + 60_000_000).confidence, much / 4);
  play.estimator.handleReconnected();
  near(play.estimate.goodputBytesPerSecond, 100 * MB);
  assert.ok(play.estimate.confidence <= little);
});

const counter = fc.integer({ min: 0, max: 2 ** 40 });
const anyLane: fc.Arbitrary<LaneInfo> = fc.record({
  ...{ lane: fc.nat(63), bytesSent: counter, bytesReceived: counter, bytesDelivered: counter, bytesRetransmitted: counter },
  ...{ deliveryRateBytesPerSecond: counter, rttUs: fc.nat(5_000_000), minRttUs: fc.nat(5_000_000), retransmits: counter, lost: counter },
  ...{ congestionWindowBytes: counter, notSentBytes: counter, busyUs: counter, receiveWindowLimitedUs: counter },
  ...{ sendBufferLimitedUs: counter, congestionControl: fc.constantFrom("bbr", "cubic", "") },
  ...{ unansweredBytes: counter, isReceiving: fc.boolean() },
});

test("property: whatever lanes count, and whenever they are read, an estimate is finite, in its bounds, and has a reason", () => {
  const reading = fc.record({
    us: fc.nat(2_000_000),
    lanes: fc.array(anyLane, { maxLength: 5 }),
    backlogBytes: counter,
    acked: fc.nat(10_000_000),
  });
  fc.assert(
    fc.property(fc.array(reading, { maxLength: 30 }), (readings) => {
      const estimator = new PathEstimator();
      let nowUs = 0;
      for (const { us, lanes, backlogBytes, acked } of readings) {
        nowUs += us;
        if (acked % 3 === 0) estimator.handleAcked(nowUs, acked, us);
        estimator.handleReading(nowUs, lanes, backlogBytes);
        if (acked % 17 === 0) estimator.handleReconnected();
        const { reason, limit, ...numbers } = estimator.estimate(nowUs);
        assert.ok(reason !== "" && limit.length > 0);
        for (const [name, value] of Object.entries(numbers)) assert.ok(Number.isFinite(value) && value >= 0, `${name} is ${value}`);
        assert.ok(numbers.confidence <= 1 && numbers.heldRatio <= 1);
        assert.ok(estimator.nextReadingUs() <= nowUs + 300_000);
      }
    }),
  );
});

test("the round trip is that of lanes that move: what one that rests has seen last says nothing of the queue", () => {
  const play = new Play(2, { rttUs: 100_000 });
  const [moving, resting] = play.lanes.all;
  for (let reading = 1; reading <= 3; reading++) {
    const moved = { ...moving!, rttUs: 50_000, bytesSent: reading * MB, bytesDelivered: reading * MB };
    play.estimator.handleReading(play.nowUs + reading * READING_US, [moved, resting!], BACKLOG);
  }
  assert.deepEqual([play.estimate.rttUs, play.estimate.queueUs], [50_000, 0]);
});
