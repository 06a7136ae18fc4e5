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
    for (const { lane, reason } of health.handleReading(tenth * 100_000, lanes(seconds), isHeard(seconds))) {
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
