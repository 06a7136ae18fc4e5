/**
 * The pool's file byte by byte: a pool is used, then read with nothing but the offsets that stand in schemas/pool.md,
 * as a reader in another
 * language would. The checksums are computed here by the slow definition.
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import * as fc from "fast-check";
import { crc32cWords } from "../../transport/memory/crc32c.ts";
import { tableShape } from "../../transport/memory/pool-table.ts";
import { KvferryError } from "../../transport/errors.ts";
import { limits } from "../../transport/limits.ts";
import { FakeProcesses, keyOf, openPool, plainRegion } from "./regions.ts";

const MiB = 1024 * 1024;

/** CRC32C bit by bit. */
function crc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  }
  return ~crc >>> 0;
}

test("the checksum of words is CRC32C", () => {
  assert.equal(crc32c(Buffer.from("123456789")), 0xe3069283);
  fc.assert(
    fc.property(fc.uint32Array({ maxLength: 50 }), (words) => {
      assert.equal(crc32cWords(words, 0, words.length), crc32c(new Uint8Array(words.buffer, words.byteOffset, words.byteLength)));
    }),
  );
});

test("a used pool reads as the page says", () => {
  const region = plainRegion(2 * MiB);
  const { pool } = openPool(region, 1000, new FakeProcesses());
  pool.setLayout(keyOf(4));
  pool.addHolder(5, 77);
  const blocks = pool.alloc(5, 3);
  const sealed = { ids: blocks.ids.slice(0, 1), generations: blocks.generations.slice(0, 1) };
  pool.beginSeal(5, sealed);
  pool.seal(sealed, keyOf(9), Uint32Array.of(0xdeadbeef), 2, 16);
  pool.lease(5, keyOf(9), 2, false);
  pool.beginSeal(5, { ids: blocks.ids.slice(1, 2), generations: blocks.generations.slice(1, 2) });

  const bytes = region.view;
  const view = new DataView(bytes.buffer);
  const u32 = (at: number): number => view.getUint32(at, true);
  const u64 = (at: number): number => Number(view.getBigUint64(at, true));
  const hex = (at: number, count: number): string => Buffer.from(bytes.subarray(at, at + count)).toString("hex");

  const header = u64(48) > u64(256 + 48) ? 0 : 256;
  assert.equal(Buffer.from(bytes.subarray(header, header + 8)).toString(), "KVFYPOOL");
  const numbers = [8, 12, 16, 20, 24, 28].map((at) => u32(header + at));
  assert.deepEqual(numbers, [1, 1000, pool.blockCount, 2048, 4096, 69_632]);
  assert.equal(u64(header + 32), pool.dataOffset);
  assert.equal(u64(header + 40), 2 * MiB);
  assert.equal(u64(header + 56), process.pid + 1_000_000_000_000);
  assert.equal(u32(header + 64), process.pid);
  assert.equal(u32(header + 68), 6);
  assert.equal(hex(header + 72, 16), pool.incarnation);
  assert.equal(hex(header + 88, 32), createHash("sha256").update(keyOf(4)).digest("hex"));
  assert.equal(u32(header + 140), crc32c(bytes.subarray(header, header + 140)));

  assert.deepEqual([u32(4096), u32(4100), u64(4104)], [5, 77, 1_000_000_000_077]);
  assert.equal(u32(4096 + 28), crc32c(bytes.subarray(4096, 4096 + 28)));

  const entry = (block: number): number[] => [0, 4, 8, 12, 16, 20, 56].map((field) => u32(69_632 + block * 64 + field));
  assert.deepEqual(entry(0), [1, 3, 0, 2, 16, 0xdeadbeef, 1]);
  assert.equal(hex(69_632 + 24, 32), Buffer.from(keyOf(9)).toString("hex"));
  assert.deepEqual(entry(1), [1, 2, 5, 0, 0, 0, 0]);
  assert.deepEqual(entry(2), [1, 1, 5, 0, 0, 0, 0]);
  assert.deepEqual(entry(3), [1, 0, 0, 0, 0, 0, 0]);
  assert.equal(hex(69_632 + 2 * 64 + 24, 32), "0".repeat(64));
  for (const block of [0, 1, 2, 3, pool.blockCount - 1]) {
    const at = 69_632 + block * 64;
    assert.equal(u32(at + 60), (crc32c(bytes.subarray(at, at + 56)) ^ block) >>> 0);
  }
  pool.removeHolder(5);
  assert.equal(hex(4096, 32), "0".repeat(64));
  assert.deepEqual(entry(1), [2, 0, 0, 0, 0, 0, 0]);
});

test("block count and data offset: as many blocks as fit, where the page puts them", () => {
  const size = fc.oneof(
    fc.integer({ min: MiB, max: 300 * MiB }),
    fc.integer({ min: 1, max: 64 }).map((count) => count * 1024 * MiB),
  );
  fc.assert(
    fc.property(size, fc.integer({ min: 1, max: limits.poolBlockBytesMax }), (regionBytes, blockBytes) => {
      let shape: ReturnType<typeof tableShape>;
      try {
        shape = tableShape(regionBytes, blockBytes);
      } catch (error) {
        assert.ok(error instanceof KvferryError && error.code === "memory_unavailable");
        assert.ok(blockBytes + 69_632 + 64 > regionBytes - 2 * MiB);
        return;
      }
      const align = regionBytes >= 256 * MiB ? 2 * MiB : 4096;
      const offsetOf = (count: number): number => Math.ceil((69_632 + 64 * count) / align) * align;
      assert.equal(shape.dataOffset, offsetOf(shape.blockCount));
      assert.ok(shape.dataOffset + shape.blockCount * blockBytes <= regionBytes);
      const more = shape.blockCount + 1;
      assert.ok(more > limits.poolBlocksMax || offsetOf(more) + more * blockBytes > regionBytes, "one more would not fit");
    }),
  );
});

test("the page names the numbers that the code uses", () => {
  const page = readFileSync(new URL("../../schemas/pool.md", import.meta.url), "utf8");
  for (const line of ["| 4,096 | 2,048 x 32 | holder table |", "| 69,632 | block count x 64 |", "| 140 | 4 | CRC32C of bytes 0..139 |"]) {
    assert.ok(page.includes(line), line);
  }
});
