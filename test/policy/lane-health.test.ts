/** Lanes are played to the watch reading by reading; it must name those that carry next to nothing although they could, and no others. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { LaneInfo } from "../../transport/link/link.ts";
import { LaneHealth } from "../../transport/policy/lane-health.ts";
import { laneInfo } from "./lane-info.ts";

/** Readings every 100 ms for five seconds; the lanes that were named, and when. */
function play(
  lanes: (seconds: number) => readonly LaneInfo[],
  isHeard = (_seconds: number): boolean => true,
): { readonly lane: number; readonly seconds: number }[] {
  const health = new LaneHealth();
  const named: { lane: number; seconds: number }[] = [];
  for (let tenth = 0; tenth <= 50; tenth++) {
    const seconds = tenth / 10;
    for (const { lane, reason } of health.handleReading(tenth * 100_000, lanes(seconds), isHeard(seconds) ? tenth * 100_000 : -1_000_000)) {
      assert.notEqual(reason, "");
      named.push({ lane, seconds });
    }
  }
  return named;
}

test("a lane that delivers nothing although it has more to send is named once in three seconds", () => {
  const named = play((seconds) => [
    laneInfo({ lane: 0, bytesDelivered: seconds * 1e6, notSentBytes: 1e5 }),
    laneInfo({ lane: 1, bytesDelivered: 777, notSentBytes: 1e5 }),
  ]);
  assert.deepEqual(named, [{ lane: 1, seconds: 3 }]);
});

test("a lane that trickles in the middle of a chunk is named", () => {
  const named = play((seconds) => [laneInfo({ lane: 3, isReceiving: true, bytesReceived: 48 + Math.floor(seconds) })]);
  assert.deepEqual(named, [{ lane: 3, seconds: 3 }]);
});

test("a lane with nothing to carry, and one that carries little because there is little, are left alone", () => {
  assert.deepEqual(
    play(() => [laneInfo({ lane: 0 })]),
    [],
  );
  // Answers to the other direction.
  assert.deepEqual(
    play((seconds) => [laneInfo({ lane: 0, bytesReceived: 48 * seconds })]),
    [],
  );
});

test("a slow lane is no dead one", () => {
  assert.deepEqual(
    play((seconds) => [laneInfo({ lane: 0, bytesDelivered: 2_000 * seconds, notSentBytes: 1e5 })]),
    [],
  );
});

test("a pause in between, a new lane under the number, and another chunk begin anew", () => {
  assert.deepEqual(
    play((seconds) => [laneInfo({ lane: 0, notSentBytes: seconds === 2.5 ? 0 : 1e5 })]),
    [],
  );
  assert.deepEqual(
    play((seconds) => [laneInfo({ lane: 0, notSentBytes: 1e5, bytesDelivered: seconds < 2.5 ? 9_000 : 0 })]),
    [],
  );
});

test("a lane that has handed everything to the network and gets no answer is named, one that gets answers is not", () => {
  const named = play((seconds) => [
    laneInfo({ lane: 0, bytesDelivered: 5e5, unansweredBytes: 5e5 }),
    laneInfo({ lane: 1, bytesDelivered: 5e5, unansweredBytes: 5e6 - 1e5 * Math.floor(seconds) }),
  ]);
  assert.deepEqual(named, [{ lane: 0, seconds: 3 }]);
});

test("where nothing is heard of the remote, no lane is to blame, and the time does not count", () => {
  const stuck = (): LaneInfo[] => [laneInfo({ lane: 0, notSentBytes: 1e5 })];
  assert.deepEqual(
    play(stuck, () => false),
    [],
  );
  assert.deepEqual(
    play(stuck, (seconds) => seconds < 1 || seconds > 2.5),
    [],
  );
});

/** A lane with a chunk under way on a path of 20 ms, whose kernel has neither sent nor heard anything for so long. */
function waiting(silentUs: number, changed: Partial<LaneInfo> = {}): LaneInfo {
  const socket = { rttVariationUs: 0, silentUs, pathMtuBytes: 1_500, dscp: 0, sendBufferBytes: 0, receiveBufferBytes: 0 };
  return laneInfo({ lane: 1, unansweredBytes: 1e6, rttUs: 20_000, deliveryRateBytesPerSecond: 3e7, socket, ...changed });
}

/** From the silence on, looked at when the watch asks for it, and every 100 ms; a word of the remote comes a round trip after each doubt. */
function listen(lanes: (us: number) => readonly LaneInfo[], answers = true): { readonly named: number[]; readonly atUs: number } {
  const health = new LaneHealth();
  let [nowUs, readUs, heardUs, answerUs] = [0, 0, 0, Number.POSITIVE_INFINITY];
  while (nowUs < 2_000_000) {
    if (answerUs <= nowUs) [heardUs, answerUs] = [answerUs, Number.POSITIVE_INFINITY];
    const named = health.handleReading(nowUs, lanes(nowUs), heardUs).map(({ lane }) => lane);
    if (named.length > 0) return { named, atUs: nowUs };
    if (health.isDoubtful && answers) answerUs = Math.min(answerUs, nowUs + 20_000);
    if (nowUs >= readUs + 100_000) readUs = nowUs;
    assert.ok(health.nextLookUs > nowUs, "a look leads on");
    nowUs = Math.min(health.nextLookUs, readUs + 100_000);
  }
  return { named: [], atUs: nowUs };
}

const IDLE = laneInfo({ lane: 0 });

test("a lane that waits for TCP's timeout beside one with nothing to carry is given up before that comes", () => {
  const { named, atUs } = listen((us) => [IDLE, waiting(us)]);
  assert.deepEqual(named, [1]);
  assert.ok(atUs > 2 * 20_000 + 40_000 && atUs < 200_000, `after ${atUs} us`);
});

test("a silent path, or one of which nothing is heard, is no lane's fault", () => {
  assert.deepEqual(listen((us) => [IDLE, waiting(us)], false).named, []);
  assert.deepEqual(listen((us) => [IDLE, waiting(us), waiting(us, { lane: 2 })]).named, []);
});

test("a silent lane is left alone as long as the others have something to carry", () => {
  assert.deepEqual(listen((us) => [laneInfo({ lane: 0, unansweredBytes: 1 + us }), waiting(us)]).named, []);
});

test("whoever is slow is not silent: a receiver, a long way, a lane with four packets under way, a low rate", () => {
  const received = waiting(0);
  assert.deepEqual(listen(() => [IDLE, received]).named, []);
  assert.deepEqual(listen((us) => [IDLE, waiting(us % 150_000, { rttUs: 100_000 })]).named, []);
  assert.deepEqual(listen((us) => [IDLE, waiting(us % 30_000)]).named, []);
  assert.deepEqual(listen((us) => [IDLE, waiting(us % 200_000, { deliveryRateBytesPerSecond: 5e4 })]).named, []);
});

test("nothing is known of a lane that never delivered, nor where no kernel is asked", () => {
  assert.deepEqual(listen((us) => [IDLE, waiting(us, { deliveryRateBytesPerSecond: 0 })]).named, []);
  assert.deepEqual(
    listen(() => [IDLE, laneInfo({ lane: 1, unansweredBytes: 1e6, rttUs: 20_000, deliveryRateBytesPerSecond: 3e7 })]).named,
    [],
  );
});
