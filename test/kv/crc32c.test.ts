/** CRC32C against published check values, a bit-by-bit oracle, and itself cut in two at every kind of alignment. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { crc32c } from "../../transport/kv/crc32c.ts";

function oracle(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  }
  return ~crc >>> 0;
}

test("published values (RFC 3720 appendix B.4 and the usual nine digits)", () => {
  assert.equal(crc32c(new TextEncoder().encode("123456789")), 0xe3069283);
  assert.equal(crc32c(new Uint8Array(32)), 0x8a9136aa);
  assert.equal(crc32c(new Uint8Array(32).fill(0xff)), 0x62a8ab43);
  assert.equal(crc32c(Uint8Array.from({ length: 32 }, (_, at) => at)), 0x46dd794e);
  assert.equal(crc32c(new Uint8Array(0)), 0);
});

test("equals the oracle at every alignment and length", () => {
  const bytes = fc.uint8Array({ maxLength: 200 });
  fc.assert(
    fc.property(bytes, fc.nat(7), (content, shift) => {
      const shifted = new Uint8Array(content.length + shift);
      shifted.set(content, shift);
      assert.equal(crc32c(shifted.subarray(shift)), oracle(content));
    }),
  );
});

test("goes on from where a head ended", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat(200), (content, cut) => {
      const at = Math.min(cut, content.length);
      assert.equal(crc32c(content.subarray(at), crc32c(content.subarray(0, at))), crc32c(content));
    }),
  );
});
