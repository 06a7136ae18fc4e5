/** The retry's rule for every code of the list, and the pauses as numbers. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { ERRORS, type ErrorCode } from "../../transport/errors.ts";
import { limits } from "../../transport/limits.ts";
import { createRetry } from "../../transport/policy/retry.ts";

const codes = Object.keys(ERRORS) as ErrorCode[];

test("a code that no retry can mend ends the transfer; others are tried again", () => {
  const ending = codes.filter((code) => !createRetry().decide(0, 1, code).again);
  const never = codes.filter((code) => ERRORS[code].retry === "never");
  assert.deepEqual(
    ending.filter((code) => !never.includes(code)),
    ["draining", "deadline_exceeded", "peer_restarted"],
  );
  assert.deepEqual(
    never.filter((code) => !ending.includes(code)),
    [],
  );
});

test("every answer keeps the code, has a reason and is never in the past", () => {
  for (const code of codes) {
    for (const attempt of [1, 3, 200]) {
      const answer = createRetry().decide(500, attempt, code);
      assert.equal(answer.code, code);
      assert.ok(answer.atUs >= 500 && answer.reason.length > 5);
    }
  }
});

test("a wrong checksum is tried again at once, a lost lane after pauses that double up to a cap", () => {
  const retry = createRetry({ attempts: 1_000 });
  assert.equal(retry.decide(7, 1, "checksum_mismatch").atUs, 7);
  assert.deepEqual(
    [1, 2, 3, 4, 100].map((attempt) => retry.decide(0, attempt, "lane_lost").atUs),
    [10_000, 20_000, 40_000, 80_000, limits.retryPauseMaxUs],
  );
});

test("gives up after so many failures without progress, with the last code", () => {
  const retry = createRetry();
  assert.ok(retry.decide(0, limits.attemptsWithoutProgress - 1, "lane_lost").again);
  const last = retry.decide(0, limits.attemptsWithoutProgress, "checksum_mismatch");
  assert.deepEqual([last.again, last.code], [false, "checksum_mismatch"]);
  assert.match(last.reason, /none ever/);
  retry.handleProgress(40);
  assert.match(retry.decide(100, 9, "lane_lost").reason, /none for 60 us/);
});

test("full and busy are waited for without end, in short pauses", () => {
  const retry = createRetry({ attempts: 1 });
  for (const code of ["full", "chunk_busy"] as const) {
    assert.equal(retry.decide(0, 1, code).atUs, limits.fullPauseMinUs);
    assert.equal(retry.decide(0, 1_000, code).atUs, limits.fullPauseMaxUs);
  }
});

test("refuses a number of attempts that makes no sense", () => {
  for (const attempts of [0, 1.5, 1_001]) assert.throws(() => createRetry({ attempts }), { code: "invalid_argument" });
});
