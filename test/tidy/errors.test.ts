/**
 * The closed list of errors, everywhere it stands: transport/errors.ts, schemas/errors.json for other languages,
 * schemas/errors.md for people. Compared entry by entry; and a code that nothing raises is no error of ours.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { ERRORS, type ErrorCode } from "../../transport/errors.ts";
import { readTree } from "./source.ts";

const tree = readTree();
const codes = Object.keys(ERRORS) as ErrorCode[];

test("errors.json is errors.ts", () => {
  const listed = Object.entries(ERRORS).map(([code, { number, fault, retry, text }]) => ({ code, number, fault, retry, text }));
  const json: unknown = JSON.parse(textOf("schemas/errors.json"));
  assert.deepEqual(json, { version: 1, errors: listed });
});

test("numbers are unique, positive and rising; texts are one clause in lower case", () => {
  const numbers = codes.map((code) => ERRORS[code].number);
  assert.ok(numbers.every((number, index) => number > (numbers[index - 1] ?? 0)));
  for (const code of codes) assert.match(ERRORS[code].text, /^[a-z].{8,100}[^.]$/, code);
});

test("errors.md explains every code, with its fault and retry as the list has them", () => {
  const rows = [...textOf("schemas/errors.md").matchAll(/^\| `(\w+)` \| (\d+) \| (\w+) \| (\w+) \| (.+) \|$/gm)];
  assert.deepEqual(
    rows.map(([, code, number, fault, retry]) => ({ code, number: Number(number), fault, retry })),
    codes.map((code) => ({ code, number: ERRORS[code].number, fault: ERRORS[code].fault, retry: ERRORS[code].retry })),
  );
  for (const [, code, , , , remedy] of rows) assert.ok((remedy as string).length > 20, `${code} says what to do`);
});

test("every code is raised somewhere", () => {
  const elsewhere = tree.filter(({ path }) => /^(transport|native)\//.test(path) && path !== "transport/errors.ts").map(({ code }) => code);
  const words = new Set(elsewhere.flatMap((text) => text.match(/\b\w+\b/g) ?? []));
  assert.deepEqual(
    codes.filter((code) => !words.has(code) && !words.has(constantName(code))),
    [],
  );
});

/** The name in C++: `lane_lost` is `kLaneLost`. */
function constantName(code: string): string {
  return `k${code
    .split("_")
    .map((word) => word.slice(0, 1).toUpperCase() + word.slice(1))
    .join("")}`;
}

function textOf(path: string): string {
  const source = tree.find((candidate) => candidate.path === path);
  assert.ok(source, `${path} is in the tree`);
  return source.text;
}
