/** Where the bench's words go. Method: standard error is made to look like a terminal or not, and what is written to it is kept. */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { parseOptions, type RawOptions } from "../../bench/options.ts";
import { Output } from "../../bench/output.ts";

/** What standard error is told while `use` runs. */
function wordsOf(t: TestContext, terminals: { stdout: boolean; stderr: boolean }, raw: RawOptions, use: (output: Output) => void): string {
  const words: string[] = [];
  const before = { stdout: process.stdout.isTTY, stderr: process.stderr.isTTY };
  const mock = t.mock.method(process.stderr, "write", (text: string) => words.push(text) > 0);
  process.stdout.isTTY = terminals.stdout;
  process.stderr.isTTY = terminals.stderr;
  try {
    const output = new Output(parseOptions(raw));
    use(output);
    output.close();
  } finally {
    mock.mock.restore();
    process.stdout.isTTY = before.stdout;
    process.stderr.isTTY = before.stderr;
  }
  return words.join("");
}

test("progress goes to a terminal that nothing else is written to, in every form of output", (t) => {
  const stage = (output: Output): void => output.stage("measuring");
  const pipe = { stdout: false, stderr: true };
  for (const raw of [{}, { json: true }, { jsonStream: true }]) assert.equal(wordsOf(t, pipe, raw, stage), "\r\x1b[Kmeasuring\r\x1b[K");
  const both = { stdout: true, stderr: true };
  assert.match(wordsOf(t, both, {}, stage), /measuring/);
  assert.match(wordsOf(t, both, { json: true, logfile: "/dev/null" }, stage), /measuring/);
  assert.equal(wordsOf(t, both, { json: true }, stage), "", "the document stands there alone");
  assert.equal(wordsOf(t, { stdout: true, stderr: false }, {}, stage), "");
});

test("a warning is told whatever the form, on a line of its own", (t) => {
  const warn = (output: Output): void => {
    output.stage("measuring");
    output.warn("LANE LOST");
  };
  assert.equal(wordsOf(t, { stdout: false, stderr: false }, { json: true }, warn), "kvferry: LANE LOST\n");
  assert.equal(wordsOf(t, { stdout: false, stderr: true }, {}, warn), "\r\x1b[Kmeasuring\r\x1b[Kkvferry: LANE LOST\n");
});
