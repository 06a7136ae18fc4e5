/**
 * The soak's content tells runs apart: whole orders are filled, and no run may agree with another of its order in any word, nor with one of another
 * order as a whole. Otherwise swapped runs would pass for right ones.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { fill } from "./content.ts";

const WORDS = 8;
/** As many as the largest order has: 231 blocks of 16 planes. */
const RUNS = 231 * 16;

function runOf(seed: number, place: number): Uint32Array {
  const run = new Uint8Array(4 * WORDS);
  fill(run, seed, place);
  return new Uint32Array(run.buffer);
}

test("no two runs of one order agree in any word", () => {
  for (const seed of [1, 2, 3, 1_000]) {
    const runs = Array.from({ length: RUNS }, (_, place) => runOf(seed, place));
    for (let word = 0; word < WORDS; word++) assert.equal(new Set(runs.map((run) => run[word])).size, RUNS, `seed ${seed}, word ${word}`);
  }
});

test("no run of an order is one of another order", () => {
  const seen = new Set<string>();
  for (let seed = 1; seed <= 20; seed++) for (let place = 0; place < RUNS; place++) seen.add(runOf(seed, place).join());
  assert.equal(seen.size, 20 * RUNS);
});

test("a run is the same whenever it is made", () => {
  assert.deepEqual(runOf(7, 11), runOf(7, 11));
});
