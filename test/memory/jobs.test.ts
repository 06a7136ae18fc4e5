/**
 * Jobs, native and in JavaScript, by the same tests: checksums and copies against bytes counted one by one, bounds, answers,
 * close.
 * Method: both implementations of the interface over the same regions; random shapes (fast-check).
 */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import test from "node:test";
import fc from "fast-check";
import type { KvferryError } from "../../transport/errors.ts";
import { crc32c } from "../../transport/kv/crc32c.ts";
import { limits } from "../../transport/limits.ts";
import type { Plane } from "../../transport/link/link.ts";
import { createJobs, type Jobs, type JobStream, ScriptJobs } from "../../transport/memory/jobs.ts";
import { privateRegion, type Region } from "../../transport/memory/region.ts";
import { native, nativeProblem } from "../../transport/native.ts";

const REGION_BYTES = 1 << 16;
const FLAT = { blockList: 0, offset: 0, tokens: 1, tokenStride: 0, heads: 1, headStride: 0, channels: 1, channelStride: 0, firstToken: 0 };

/** Blocks of 4 tokens x 2 heads x 3 channels x 2 bytes: token before head, head before token, or channels apart; some with gaps. */
const shape = { blockList: 0, tokens: 4, heads: 2, channels: 3, elementBytes: 2, firstToken: 0 };
const planes: fc.Arbitrary<Plane> = fc.oneof(
  fc.nat(64).map((offset) => ({ ...shape, offset, blockStride: 48, tokenStride: 12, headStride: 6, channelStride: 2 })),
  fc.nat(64).map((offset) => ({ ...shape, offset, blockStride: 48, tokenStride: 6, headStride: 24, channelStride: 2 })),
  fc.nat(64).map((offset) => ({ ...shape, offset, blockStride: 48, tokenStride: 2, headStride: 24, channelStride: 8 })),
  fc.nat(64).map((offset) => ({ ...shape, offset, blockStride: 100, tokenStride: 20, headStride: 9, channelStride: 3 })),
);
const blockLists = fc.uniqueArray(fc.nat(40), { minLength: 1, maxLength: 8 }).map((ids) => Uint32Array.from(ids));

function offsetsOf(plane: Plane, blocks: Iterable<number>): number[] {
  const offsets: number[] = [];
  for (const block of blocks)
    for (let token = 0; token < plane.tokens; token++)
      for (let head = 0; head < plane.heads; head++)
        for (let channel = 0; channel < plane.channels; channel++)
          for (let byte = 0; byte < plane.elementBytes; byte++) {
            const inBlock = token * plane.tokenStride + head * plane.headStride + channel * plane.channelStride;
            offsets.push(plane.offset + block * plane.blockStride + inBlock + byte);
          }
  return offsets;
}

const checksum = (jobs: Jobs, region: Region, of: readonly Plane[], blocks: Uint32Array): Promise<Uint32Array> =>
  new Promise((resolve, reject) => {
    assert.ok(jobs.checksum(region, of, blocks, (error, sums) => (error === undefined ? resolve(sums) : reject(error))));
  });
const copy = (jobs: Jobs, from: JobStream, to: JobStream): Promise<void> =>
  new Promise((resolve, reject) => {
    assert.ok(jobs.copy(from, to, (error) => (error === undefined ? resolve() : reject(error))));
  });
const region = (): Region => privateRegion(Uint8Array.from(randomBytes(REGION_BYTES)));

function results(name: string, make: () => Jobs, skip: string | false): void {
  test(`${name}: a checksum for each block, over its planes in order`, { skip }, async () => {
    const jobs = make();
    const memory = region();
    const property = fc.asyncProperty(fc.array(planes, { minLength: 1, maxLength: 3 }), blockLists, async (of, blocks) => {
      const sums = await checksum(jobs, memory, of, blocks);
      const expected = [...blocks].map((block) =>
        crc32c(Uint8Array.from(of.flatMap((plane) => offsetsOf(plane, [block]).map((offset) => memory.view[offset] ?? 0)))),
      );
      assert.deepEqual([...sums], expected);
    });
    await fc.assert(property, { numRuns: 200 });
    await jobs.close();
    memory.close();
  });

  test(`${name}: a copy keeps the order of the stream and touches nothing else`, { skip }, async () => {
    const jobs = make();
    const property = fc.asyncProperty(planes, planes, blockLists, async (source, target, blocks) => {
      const [from, to] = [region(), region()];
      const expected = to.view.slice();
      const [read, written] = [offsetsOf(source, blocks), offsetsOf(target, blocks)];
      for (const [at, offset] of written.entries()) expected[offset] = from.view[read[at] ?? 0] ?? 0;
      await copy(jobs, { region: from, planes: [source], blocks }, { region: to, planes: [target], blocks });
      assert.deepEqual(to.view, expected);
      from.close();
      to.close();
    });
    await fc.assert(property, { numRuns: 100 });
    await jobs.close();
  });
}

function bounds(name: string, make: () => Jobs, skip: string | false): void {
  test(`${name}: what does not fit is refused before anything is done`, { skip }, async () => {
    const jobs = make();
    const memory = region();
    const before = memory.view.slice();
    const whole = { ...FLAT, blockStride: 4_096, elementBytes: 4_096 };
    const refused = (of: readonly Plane[], blocks: number[]): void =>
      assert.throws(() => jobs.checksum(memory, of, Uint32Array.from(blocks), () => assert.fail()), { code: "invalid_argument" });
    refused([whole], [16]);
    refused([whole], []);
    refused([], [0]);
    refused([{ ...whole, offset: 1 }], [15]);
    refused([{ ...whole, tokens: 2, tokenStride: 8, elementBytes: 8, firstToken: 1 }], [0]);
    const stream = (blocks: number[]): JobStream => ({ region: memory, planes: [whole], blocks: Uint32Array.from(blocks) });
    assert.throws(() => jobs.copy(stream([0, 1]), stream([2]), () => assert.fail()), { code: "invalid_argument" });
    assert.throws(() => jobs.copy(stream([0]), stream([16]), () => assert.fail()), { code: "invalid_argument" });
    await jobs.close();
    assert.deepEqual(memory.view, before);
    memory.close();
  });

  test(`${name}: as many as there is room for, answered once each and never within the call; then closed`, { skip }, async () => {
    const jobs = make();
    const memory = region();
    const plane = { ...FLAT, blockStride: REGION_BYTES, elementBytes: REGION_BYTES };
    const answers = new Map<number, KvferryError | undefined>();
    let taken = 0;
    const submit = (job: number): boolean =>
      jobs.checksum(memory, [plane], Uint32Array.of(0), (error) => {
        assert.ok(!answers.has(job));
        answers.set(job, error);
      });
    while (taken <= limits.jobsMax && submit(taken)) taken++;
    assert.equal(taken, limits.jobsMax);
    assert.equal(answers.size, 0);
    const last = new Promise<void>((resolve) => {
      const look = (): void => void (answers.size === taken ? resolve() : setImmediate(look));
      look();
    });
    await last;
    assert.ok([...answers.values()].every((error) => error === undefined));
    assert.ok(submit(taken));
    await jobs.close();
    await new Promise((resolve) => setImmediate(resolve));
    assert.equal(answers.get(taken)?.code, "closed");
    assert.throws(() => submit(taken + 1), { code: "closed" });
    memory.close();
  });
}

for (const suite of [results, bounds]) {
  suite("native", createJobs, native === undefined ? `no addon: ${nativeProblem}` : false);
  suite("script", () => new ScriptJobs(), false);
}
