/**
 * CRC32C: the value of RFC 3720's check string, and every implementation that this CPU has against the scalar one.
 * Method: random bytes, lengths around every fold width, alignments, seeds and splits (fast-check).
 */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import test from "node:test";
import fc from "fast-check";
import { crc32c as scriptCrc32c } from "../../transport/kv/crc32c.ts";
import { native, nativeProblem } from "../../transport/native.ts";

const addon = native;
const skip = addon === undefined ? `no addon: ${nativeProblem}` : false;

test("the check value of 123456789", { skip }, () => {
  assert.equal(addon?.crc32c(Buffer.from("123456789")), 0xe3069283);
  assert.equal(scriptCrc32c(Buffer.from("123456789")), 0xe3069283);
});

test("every implementation agrees with the scalar one", { skip }, (t) => {
  const pool = randomBytes(16_384);
  const found = addon?.crc32cNames ?? [];
  t.diagnostic(`implementations here: ${found.join(", ")}; chosen: ${addon?.crc32cName}`);
  assert.ok(found.includes("scalar"));
  const property = fc.property(fc.nat(12_000), fc.nat(100), fc.nat(0xffffffff), (bytes, from, seed) => {
    const part = pool.subarray(from, from + bytes);
    const expected = scriptCrc32c(part, seed);
    for (const name of found) assert.equal(addon?.crc32c(part, seed, name), expected, `${name} of ${bytes} bytes`);
  });
  fc.assert(property, { numRuns: 2_000 });
});

test("head and tail combine to the whole", { skip }, () => {
  const property = fc.property(fc.uint8Array({ maxLength: 3_000 }), fc.nat(), (bytes, at) => {
    const cut = at % (bytes.length + 1);
    const [head, tail] = [scriptCrc32c(bytes.subarray(0, cut)), scriptCrc32c(bytes.subarray(cut))];
    assert.equal(addon?.crc32cCombine(head, tail, bytes.length - cut), scriptCrc32c(bytes));
  });
  fc.assert(property, { numRuns: 500 });
});

test("lengths add up, however long", { skip }, () => {
  const length = fc.nat(2 ** 44);
  const property = fc.property(fc.nat(0xffffffff), length, length, (head, first, second) => {
    const once = addon?.crc32cCombine(head, 0, first + second);
    assert.equal(addon?.crc32cCombine(addon.crc32cCombine(head, 0, first), 0, second), once);
  });
  fc.assert(property, { numRuns: 500 });
});
