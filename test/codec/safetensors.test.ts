/**
 * Heads of safetensors files. Method: what is written is read again; a table of hostile heads, each refused by a message that names what is wrong; a calibration whose
 * tensors are not those that it promises.
 */
import assert from "node:assert/strict";
import { mkdtempSync, renameSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { METADATA_KEY, openCalibration } from "../../transport/codec/calibration.ts";
import { headBytes, parseHead, writeHead } from "../../transport/codec/safetensors.ts";
import { TensorFile } from "../../transport/config/tensor-file.ts";
import { KvferryError } from "../../transport/errors.ts";
import { limits } from "../../transport/limits.ts";

const good = { a: { dtype: "F32", shape: [2, 3], data_offsets: [0, 24] }, b: { dtype: "BF16", shape: [], data_offsets: [24, 26] } };

/** A file's head and the bytes that the whole of it would have. */
function head(value: unknown): { head: Uint8Array; fileBytes: number } {
  const json = new TextEncoder().encode(typeof value === "string" ? value : JSON.stringify(value));
  const bytes = new Uint8Array(8 + json.length);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(json.length), true);
  bytes.set(json, 8);
  return { head: bytes, fileBytes: bytes.length + 26 };
}

function refused(message: RegExp, run: () => unknown): void {
  assert.throws(run, (error) => error instanceof KvferryError && error.code === "invalid_argument" && message.test(error.message));
}

test("what is written is read again, aligned to eight", () => {
  const shapes = [
    { name: "x", dtype: "F32", shape: [3, 5] },
    { name: "y", dtype: "U8", shape: [0] },
    { name: "z", dtype: "BF16", shape: [7] },
  ] as const;
  const bytes = writeHead(shapes, { model: "m", "€": "é" });
  assert.equal(bytes.length % 8, 0);
  const fileBytes = bytes.length + 60 + 14;
  assert.equal(headBytes(bytes.subarray(0, 8), fileBytes, "f"), bytes.length);
  const { tensors, metadata } = parseHead(bytes, fileBytes, "f");
  assert.deepEqual(
    [...metadata],
    [
      ["model", "m"],
      ["€", "é"],
    ],
  );
  assert.deepEqual(
    [...tensors.values()].map(({ offset, bytes: count }) => [offset - bytes.length, count]),
    [
      [0, 60],
      [60, 0],
      [60, 14],
    ],
  );
});

test("lengths of heads that a file cannot have", () => {
  refused(/a safetensors file for f/, () => headBytes(new Uint8Array(7), 7, "f"));
  refused(/at most 92 bytes for f/, () => headBytes(Uint8Array.of(93, 0, 0, 0, 0, 0, 0, 0), 100, "f"));
  refused(/at most \d+ bytes for f/, () => headBytes(new Uint8Array(8).fill(0xff), 2 ** 50, "f"));
  assert.ok(limits.safetensorsHeaderBytes < 2 ** 31);
});

const HOSTILE: readonly (readonly [string, unknown, RegExp])[] = [
  ["no JSON", "{", /no JSON in UTF-8/],
  ["a list", [], /an object for f/],
  ["an unknown type", { a: { ...good.a, dtype: "F4" } }, /one of U8, .* for dtype of a/],
  ["a type that objects inherit", { a: { ...good.a, dtype: "toString" } }, /for dtype of a/],
  ["no shape", { a: { dtype: "F32", data_offsets: [0, 24] } }, /for shape of a/],
  ["a negative count", { a: { ...good.a, shape: [-2, -3] } }, /shape of a/],
  ["counts whose product is no number", { a: { ...good.a, shape: [2 ** 52, 2 ** 52, 2 ** 52] } }, /data_offsets of a/],
  ["too many axes", { a: { ...good.a, shape: Array.from({ length: 17 }, () => 1) } }, /at most 16 for shape of a/],
  ["an end beyond the file", { a: { ...good.a, data_offsets: [3, 27] } }, /0 to 26 for data_offsets of a/],
  ["an end before the beginning", { a: { ...good.a, data_offsets: [24, 0] } }, /24 apart for data_offsets of a/],
  ["another size than its shape's", { a: { ...good.a, data_offsets: [0, 20] } }, /24 apart for data_offsets of a/],
  [
    "two on one place",
    { ...good, c: { dtype: "U8", shape: [1], data_offsets: [23, 24] } },
    /a place of its own for b|a place of its own for c/,
  ],
  ["metadata that is a text", { ...good, __metadata__: "x" }, /an object for __metadata__/],
];

for (const [what, value, message] of HOSTILE) {
  test(`refused: ${what}`, () => {
    const made = head(value);
    refused(message, () => parseHead(made.head, made.fileBytes, "f"));
  });
}

test("names that objects inherit are names of tensors like others", () => {
  const made = head(`{"__proto__":${JSON.stringify(good.a)},"constructor":${JSON.stringify(good.b)}}`);
  assert.deepEqual([...parseHead(made.head, made.fileBytes, "f").tensors.keys()], ["__proto__", "constructor"]);
});

test("a calibration that is none, or does not hold what it says", () => {
  const says = { version: 1, model: "m", layers: 1, heads: 1, channels: 2, pairing: "", klt: [], tokens: 9 };
  const open = (value: unknown, tensors: Record<string, unknown> = good): unknown => {
    const metadata = value === undefined ? {} : { [METADATA_KEY]: typeof value === "string" ? value : JSON.stringify(value) };
    const made = head({ ...tensors, __metadata__: metadata });
    return openCalibration(parseHead(made.head, made.fileBytes, "f"), (_tensor, _from, bytes) => new Uint8Array(bytes), "", "f");
  };
  refused(/f is no calibration/, () => open(undefined));
  refused(/is no JSON/, () => open("{"));
  refused(/an object for/, () => open("null"));
  refused(/version of f/, () => open({ ...says, version: 2 }));
  refused(/layers of f/, () => open({ ...says, layers: 0 }));
  refused(/pairing of f/, () => open({ ...says, pairing: "both" }));
  refused(/klt of f/, () => open({ ...says, klt: [-1] }));
  refused(/f has no tensor k\.mean/, () => open(says));
  const tensor = { dtype: "F32", shape: [1, 1, 2], data_offsets: [0, 8] };
  refused(/F32 \[1, 1, 2\] for k\.mean .*received "U8 \[8\]"/, () => open(says, { "k.mean": { ...tensor, dtype: "U8", shape: [8] } }));
});

test("a file that another one replaces is read on; one that is written to is not", (t) => {
  const folder = mkdtempSync(join(tmpdir(), "kvferry-tensors-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const write = (name: string, value: number): string => {
    const bytes = Uint8Array.of(...writeHead([{ name: "x", dtype: "U8", shape: [1] }], {}), value);
    writeFileSync(join(folder, name), bytes);
    return join(folder, name);
  };
  const file = new TensorFile(write("used", 1));
  t.after(() => file.close());
  renameSync(write("newer", 2), join(folder, "used"));
  assert.deepEqual(file.read("x"), Uint8Array.of(1));
  const other = new TensorFile(join(folder, "used"));
  t.after(() => other.close());
  assert.deepEqual(other.read("x"), Uint8Array.of(2));
  // Times of files are coarse.
  utimesSync(write("used", 3), 1, 1);
  refused(/used was written to while it was in use/, () => other.read("x"));
});

test("a large file is hashed and read in pieces, between which other things go on", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "kvferry-tensors-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const path = join(folder, "large");
  const bytes = 20 * 2 ** 20;
  const from = 4 * 2 ** 20;
  const content = Buffer.alloc(bytes, "what a tensor holds");
  writeFileSync(path, Buffer.concat([writeHead([{ name: "x", dtype: "U8", shape: [bytes] }], {}), content]));
  const file = new TensorFile(path);
  t.after(() => file.close());
  let [turns, isOver] = [0, false];
  t.after(() => (isOver = true));
  const turn = (): void => {
    turns += 1;
    if (!isOver) setImmediate(turn);
  };
  setImmediate(turn);
  assert.equal(await file.hashLater(), file.hash());
  assert.ok(turns >= 20, `hashed in ${turns} turns of the event loop`);
  turns = 0;
  const into = new Uint8Array(bytes - from);
  await file.readLater("x", from, into);
  assert.ok(turns >= 2, `read in ${turns} turns of the event loop`);
  assert.equal(Buffer.compare(into, content.subarray(from)), 0);
  await assert.rejects(file.readLater("y", 0, into), { code: "invalid_argument" });
  utimesSync(path, 1, 1);
  await assert.rejects(file.readLater("x", 0, into), { code: "invalid_argument" });
});
