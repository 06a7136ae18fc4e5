/** The queue of a path that urgent transfers use: a path of a known rate is played, whose queue grows with what is paced above it. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { PathEstimate } from "../../transport/policy/path-estimate.ts";
import { ShortQueue } from "../../transport/policy/short-queue.ts";

const MB = 1_000_000;
const READING_US = 100_000;
const BOUND_US = 6_000;

class Play {
  readonly policy = new ShortQueue();
  rate = 120 * MB;
  queueUs = 40_000;
  /** Of somebody else; never gets shorter. */
  foreignUs = 0;
  nowUs = 0;
  pace: number | undefined;
  mostQueueUs = 0;
  leastPace = Number.POSITIVE_INFINITY;

  for(seconds: number): this {
    this.mostQueueUs = 0;
    this.leastPace = Number.POSITIVE_INFINITY;
    for (const endUs = this.nowUs + seconds * 1_000_000; this.nowUs < endUs; ) {
      this.nowUs += READING_US;
      const sent = this.pace ?? 1.1 * this.rate;
      this.queueUs = Math.min(Math.max(this.queueUs + READING_US * (sent / this.rate - 1), 0), 50_000);
      const goodputBytesPerSecond = this.queueUs > 0 ? this.rate : Math.min(sent, this.rate);
      const queueUs = Math.max(this.queueUs, this.foreignUs);
      this.pace = this.policy.handleReading(this.nowUs, {
        estimate: { goodputBytesPerSecond } as PathEstimate,
        queueUs,
        boundUs: BOUND_US,
      });
      this.mostQueueUs = Math.max(this.mostQueueUs, queueUs);
      this.leastPace = Math.min(this.leastPace, this.pace ?? Number.POSITIVE_INFINITY);
    }
    return this;
  }
}

test("nothing is bounded before a queue stands", () => {
  const play = new Play();
  play.rate = 1_000_000 * MB;
  play.queueUs = 0;
  play.policy.handleReading(1, { estimate: { goodputBytesPerSecond: 100 * MB } as PathEstimate, queueUs: 5_000, boundUs: BOUND_US });
  assert.equal(play.policy.isBounding, false);
});

test("a queue that stands is gone within a second, and stays short while nearly all of the path is used", () => {
  const play = new Play().for(1).for(30);
  assert.ok(play.mostQueueUs < 20_000, `${play.mostQueueUs} us`);
  assert.ok(play.leastPace > 0.85 * play.rate, `${play.leastPace}`);
});

test("a path that gives twice as much is followed in seconds, and one that gives half at once", () => {
  const play = new Play().for(5);
  play.rate *= 2;
  play.for(8);
  assert.ok(play.pace! > 0.85 * play.rate, `${play.pace}`);
  play.rate /= 4;
  play.for(3).for(10);
  assert.ok(play.mostQueueUs < 20_000, `${play.mostQueueUs} us`);
});

test("a queue of others is left to them after three seconds, for a minute", () => {
  const play = new Play();
  play.foreignUs = 30_000;
  play.for(3.5);
  assert.equal(play.pace, undefined);
  play.for(50);
  assert.equal(play.leastPace, Number.POSITIVE_INFINITY);
  assert.ok(play.for(15).leastPace < play.rate);
});

test("without urgent transfers there is no bound", () => {
  const play = new Play().for(2);
  assert.equal(play.policy.isBounding, true);
  play.policy.end();
  assert.equal(play.policy.isBounding, false);
});
