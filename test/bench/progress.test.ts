/** The progress line on a terminal that only takes notes, with a clock that is set by hand. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Progress } from "../../bench/progress.ts";

const ERASE = "\r\x1b[K";

function terminal(isTTY: boolean): { readonly isTTY: boolean; readonly written: string[]; write(text: string): void } {
  const written: string[] = [];
  return { isTTY, written, write: (text) => void written.push(text) };
}

test("lines overwrite one another, and what comes too soon is left out", () => {
  const screen = terminal(true);
  let nowMs = 5;
  const progress = new Progress(100, screen, () => nowMs);
  progress.show(() => "one");
  nowMs += 99;
  progress.show(() => assert.fail("too soon to be made"));
  nowMs += 1;
  progress.show(() => "two");
  progress.clear();
  progress.clear();
  assert.deepEqual(screen.written, [`${ERASE}one`, `${ERASE}two`, ERASE]);
});

test("nothing is written where there is no terminal", () => {
  const pipe = terminal(false);
  const progress = new Progress(0, pipe);
  progress.show(() => assert.fail("nobody would see it"));
  progress.clear();
  assert.deepEqual(pipe.written, []);
});
