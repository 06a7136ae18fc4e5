/**
 * A slice of the links at random (npm run paths plays as many as one likes): nearly all get nine tenths of their fair share, and decisions seldom move
 * goodput once a path is settled. Then the links on which a policy was wrong once (seeds.txt).
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { seedsIn } from "../sim/seeds.ts";
import { randomLink } from "./links.ts";
import { describeScore, reportOf } from "./report.ts";
import { scoreLink, SWING_MOST } from "./score.ts";

const LINKS = 120;
const MOVED_MOST = 0.1;

test(`${LINKS} links: 95 of 100 get nine tenths of a fair share, and few are moved by decisions once settled`, () => {
  const scores = Array.from({ length: LINKS }, (_, index) => scoreLink(randomLink(10_001 + index)));
  for (const score of scores)
    assert.ok(Number.isFinite(score.share) && score.lanes >= 1 && score.lanes <= 64 && score.reason !== "", describeScore(score));
  const report = reportOf(scores);
  assert.ok(report.holds, report.text);
  const moved = scores.filter(({ ownSwing }) => ownSwing > SWING_MOST);
  assert.ok(moved.length <= MOVED_MOST * LINKS, report.text);
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
