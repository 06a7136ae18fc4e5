/**
 * A slice of the links at random (npm run paths plays as many as one likes): nearly all get nine tenths of their fair share, and decisions seldom move
 * goodput once a path is settled. Then the links on which a policy was wrong once (seeds.txt).
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { seedsIn } from "../sim/seeds.ts";
import { randomLink } from "./links.ts";
import { describeScore, isLikely, reportOf } from "./report.ts";
import { scoreLink, SWING_MOST } from "./score.ts";

/** These links are always the same ones, so chance has no say in what they give. */
const LINKS = 120;
const GOOD_LEAST = 0.95;
const MOVED_MOST = 0.01;

test(`${LINKS} links: 95 of 100 get nine tenths of a fair share, and few are moved by decisions once settled`, () => {
  const scores = Array.from({ length: LINKS }, (_, index) => scoreLink(randomLink(10_001 + index)));
  for (const score of scores)
    assert.ok(Number.isFinite(score.share) && score.lanes >= 1 && score.lanes <= 64 && score.reason !== "", describeScore(score));
  const report = reportOf(scores);
  assert.ok(scores.filter(({ share }) => share >= 0.9).length >= GOOD_LEAST * LINKS, report.text);
  const moved = scores.filter(({ ownSwing }) => ownSwing > SWING_MOST);
  assert.ok(moved.length <= MOVED_MOST * LINKS, report.text);
});

test("the command fails where so few good links are no chance any more: fewer of many than of few", () => {
  const least = (count: number): number => Array.from({ length: count + 1 }, (_, good) => good).find((good) => isLikely(good, count))!;
  assert.deepEqual([20, 1_000, 10_000].map(least), [17, 930, 9_435]);
});

test("the same link gives the same score, and says what it is", () => {
  const [one, again] = [scoreLink(randomLink(17)), scoreLink(randomLink(17))];
  assert.deepEqual(one, again);
  assert.match(describeScore(one), /link 17: .*bit\/s, .* lanes/s);
});

for (const { seed, cause } of seedsIn(join(import.meta.dirname, "seeds.txt"))) {
  test(`link ${seed}, on which a policy was wrong once, gets its share: ${cause}`, () => {
    const score = scoreLink(randomLink(seed));
    assert.ok(score.share >= 0.9, `${describeScore(score)}\nagain: npm run paths -- --link=${seed} --trace`);
  });
}
