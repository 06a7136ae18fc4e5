/**
 * Content and its verification, and the workloads that say where it lies. Method: fill, disturb on purpose, count: every flipped byte,
 * swapped block and stale slot must be found, in plain runs and in every layout; places of one side never overlap.
 */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import * as fc from "fast-check";
import { chunkDigests, countWrong, eachRun, fileContent, fillSlot, poisonSlot, randomContent } from "../../bench/content.ts";
import { shuffled } from "../../bench/random.ts";
import { buildWorkload, type Side, splitSlots, type Workload, type WorkloadParameters } from "../../bench/workload.ts";

const PLAIN: WorkloadParameters = { blockBytes: 1_000, batch: 7, chunkBytes: 4_096, poolBytes: 64 * 1024, seed: 5 };
const SLICE = { model: "smollm2-135m", tokens: 40, tensorParallel: 1, blockTokens: 16 } as const;
const LAYOUTS: WorkloadParameters = {
  ...PLAIN,
  poolBytes: 4 * 2 ** 20,
  layouts: { slice: SLICE, local: { order: "nhd", blockTokens: 16 }, remote: { order: "hnd", blockTokens: 32 } },
};

/** What a perfect link would do: the stream of one side's planes written along the other's. */
function carry(workload: Workload, slot: number, from: Uint8Array, to: Uint8Array): void {
  const stream = gather(workload, "local", slot, from);
  let at = 0;
  each(workload, "remote", slot, (offset, bytes) => {
    to.set(stream.subarray(at, at + bytes), offset);
    at += bytes;
  });
}

function each(workload: Workload, side: Side, slot: number, visit: (offset: number, bytes: number) => void): void {
  const place = workload.place(side, slot);
  eachRun(place, workload.chunks, visit);
}

function gather(workload: Workload, side: Side, slot: number, memory: Uint8Array): Uint8Array {
  const parts: Uint8Array[] = [];
  each(workload, side, slot, (offset, bytes) => parts.push(memory.slice(offset, offset + bytes)));
  return Buffer.concat(parts);
}

for (const [name, parameters] of [
  ["scattered runs", PLAIN],
  ["two layouts", LAYOUTS],
] as const) {
  test(`${name}: what is carried verifies, what is disturbed does not`, () => {
    const workload = buildWorkload(parameters);
    const [here, there] = [new Uint8Array(parameters.poolBytes), new Uint8Array(parameters.poolBytes).fill(1)];
    const slot = workload.slots - 1;
    const content = randomContent(11);
    fillSlot(here, workload.place("local", slot), workload.chunks, slot, content);
    poisonSlot(there, workload.place("remote", slot), workload.chunks, 0xa5);
    const place = workload.place("remote", slot);
    assert.ok(countWrong(there, place, workload.chunks, slot, content) > workload.requestBytes * 0.9, "poison is not content");
    carry(workload, slot, here, there);
    assert.equal(countWrong(there, place, workload.chunks, slot, content), 0);
    assert.ok(countWrong(there, place, workload.chunks, slot, randomContent(12)) > 0, "another seed's content is stale");
    assert.ok(countWrong(there, place, workload.chunks, slot + 1, content) > 0, "another slot's content is in the wrong place");
    let touched = 0;
    each(workload, "remote", slot, (offset) => {
      if (touched++ === 2) there[offset]! ^= 1;
    });
    assert.equal(countWrong(there, place, workload.chunks, slot, content), 1);
  });

  test(`${name}: chunks cover the request once, places do not overlap`, () => {
    const workload = buildWorkload(parameters);
    assert.equal(
      workload.chunks.reduce((sum, { bytes }) => sum + bytes, 0),
      workload.requestBytes,
    );
    for (const side of ["local", "remote"] as const) {
      const used = new Uint8Array(parameters.poolBytes);
      for (let slot = 0; slot < workload.slots; slot++) {
        each(workload, side, slot, (offset, bytes) => {
          assert.ok(offset >= 0 && offset + bytes <= parameters.poolBytes);
          for (let at = offset; at < offset + bytes; at++) assert.equal(used[at]!++, 0, `${side} ${slot}`);
        });
      }
    }
  });
}

test("a file's content: digests of the sender find what the receiver has wrong", (t) => {
  const folder = mkdtempSync(join(tmpdir(), "kvferry-bench-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const file = join(folder, "kv.bin");
  writeFileSync(file, Buffer.from(Array.from({ length: 997 }, (_, index) => (index * 31) & 255)));
  const workload = buildWorkload(PLAIN);
  const [here, there] = [new Uint8Array(PLAIN.poolBytes), new Uint8Array(PLAIN.poolBytes)];
  const digests = fillSlot(here, workload.place("local", 1), workload.chunks, 1, fileContent(file, 3));
  assert.equal(digests.length, workload.chunks.length);
  carry(workload, 1, here, there);
  const place = workload.place("remote", 1);
  assert.deepEqual(chunkDigests(there, place, workload.chunks), digests);
  each(workload, "remote", 1, (offset) => {
    there[offset] = 0x77;
  });
  assert.notDeepEqual(chunkDigests(there, place, workload.chunks), digests);
  assert.throws(() => fileContent(join(folder, "absent"), 1));
});

test("property: content is a function of its position, however it is cut", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 2 ** 32 - 1 }),
      fc.nat(50),
      fc.nat(5_000),
      fc.integer({ min: 1, max: 300 }),
      (seed, slot, start, bytes) => {
        const content = randomContent(seed);
        const whole = new Uint8Array(start + bytes);
        content.write(whole, slot, 0);
        const part = new Uint8Array(bytes);
        content.write(part, slot, start);
        assert.deepEqual(part, whole.subarray(start));
      },
    ),
  );
});

test("a shuffle has each place once, and another seed another order", () => {
  const places = shuffled(1_000, 1_000, 1);
  assert.equal(new Set(places).size, 1_000);
  assert.notDeepEqual(places, shuffled(1_000, 1_000, 2));
  assert.deepEqual(shuffled(1_000, 10, 1), places.slice(0, 10));
});

test("both directions at once share no slot", () => {
  assert.deepEqual(splitSlots(4, true, true), { write: [0, 1], read: [2, 3] });
  assert.deepEqual(splitSlots(2, false, true), { write: [], read: [0, 1] });
  assert.throws(() => splitSlots(1, true, true), /room for two requests/);
});
