/**
 * The entropy coders of native/codec by themselves. Method: the scalar code is the oracle; every implementation that this CPU has must give its
 * bytes and read them again, for sizes around every edge of a vector; then bytes that no encoder made.
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import fc from "fast-check";
import type { NativeCoders } from "../../transport/native-codec.ts";
import { native, nativeProblem } from "../../transport/native.ts";
import { Random } from "../fuzz/random.ts";
import { draw, encodeExponents, encodeRans, pack, tableOf } from "./coders.ts";

const skip = native === undefined ? `no addon: ${nativeProblem}` : false;
const coders = native?.codecCoders as NativeCoders;
const isas = coders?.isas ?? [];

/** Sizes at the edges of 8, 16 and 32 lanes, and any other. */
const size = fc.oneof(fc.constantFrom(0, 1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128), fc.nat(600));

test("rANS: every implementation gives the same bytes and reads them again", { skip }, (t) => {
  t.diagnostic(`implementations here: ${isas.join(", ")}`);
  assert.ok(isas.includes("scalar"));
  const property = fc.property(fc.nat(), size, fc.integer({ min: 1, max: 70 }), (seed, rows, width) => {
    const random = new Random(seed);
    const tables = random.chance(1, 2) ? coders.gaussians().frequencies : randomTables(random, random.between(1, 5));
    const columns = Uint8Array.from({ length: width }, () => random.below(tables.length / 256));
    const symbols = draw(random, rows, tables, columns);
    const stream = encodeRans(symbols, tables, columns);
    for (const isa of isas) assert.deepEqual(coders.decodeRans(stream, rows, tables, columns, isa), symbols, isa);
  });
  fc.assert(property, { numRuns: 300 });
});

test("rANS: a long stream costs what its probabilities say", { skip }, () => {
  const random = new Random(5);
  const { frequencies } = coders.gaussians();
  for (const table of [0, 6, 12, 18, 24, 40]) {
    const one = frequencies.slice(256 * table, 256 * table + 256);
    const symbols = draw(random, 200_000, one, Uint8Array.of(0));
    const bits = symbols.reduce((sum, symbol) => sum - Math.log2((one[symbol] as number) / 4096), 0);
    const stream = encodeRans(symbols, one, Uint8Array.of(0));
    // 32 states of 31 bits, of which half say something; each symbol may lose a little, because states are whole numbers.
    assert.ok(stream.length <= (bits * 1.001) / 8 + 140, `table ${table}: ${stream.length} bytes, ${Math.ceil(bits / 8)} ideal`);
    assert.ok(stream.length >= bits / 8, "no code is shorter than that");
  }
});

test("rANS: a certain symbol costs nothing, an impossible one is refused", { skip }, () => {
  const certain = tableOf({ 7: 4096 });
  const stream = encodeRans(new Uint8Array(10_000).fill(7), certain, Uint8Array.of(0));
  assert.equal(stream.length, 128, "the states alone");
  const skewed = tableOf({ 0: 4095, 255: 1 });
  for (const isa of isas) {
    for (const at of [0, 1, 40, 9_998, 9_999]) {
      const symbols = new Uint8Array(10_000);
      symbols[at] = 255;
      assert.deepEqual(
        coders.decodeRans(coders.encodeRans(symbols, skewed, Uint8Array.of(0), isa)!, 10_000, skewed, Uint8Array.of(0), isa),
        symbols,
      );
      symbols[at] = 3;
      assert.equal(coders.encodeRans(symbols, skewed, Uint8Array.of(0), isa), undefined, `${isa}: symbol 3 at ${at}`);
    }
  }
});

test("rANS: whatever decodes is the one stream of its symbols", { skip }, () => {
  const random = new Random(11);
  const tables = randomTables(random, 3);
  let decoded = 0;
  for (let run = 0; run < 4_000; run++) {
    const [rows, width] = [random.below(12), random.between(1, 40)];
    const columns = Uint8Array.from({ length: width }, () => random.below(3));
    const stream = Uint8Array.from(encodeRans(draw(random, rows, tables, columns), tables, columns));
    const [kind, at] = [random.below(4), random.below(stream.length + 1)];
    if (kind === 0 && at < stream.length) stream[at] = (stream[at] as number) ^ (1 << random.below(8));
    const hostile = kind === 1 ? stream.slice(0, at) : kind === 2 ? Buffer.concat([stream, random.bytes(random.between(1, 80))]) : stream;
    const expected = coders.decodeRans(hostile, rows, tables, columns, "scalar");
    for (const isa of isas) assert.deepEqual(coders.decodeRans(hostile, rows, tables, columns, isa), expected, isa);
    if (expected === undefined) continue;
    decoded += 1;
    assert.deepEqual(encodeRans(expected, tables, columns), Uint8Array.from(hostile));
  }
  assert.ok(decoded > 500 && decoded < 3_500, `${decoded} of 4000 decoded`);
});

test("tables: fitted to any counts, written and read again, and nothing else is read", { skip }, () => {
  const counts = fc.array(fc.oneof(fc.constant(0), fc.nat(3), fc.nat(2 ** 32 - 1)), { minLength: 1, maxLength: 256 });
  const property = fc.property(counts, fc.nat(), (counted, seed) => {
    const table = coders.fitTable(Uint32Array.from(counted));
    assert.equal(
      table === undefined,
      counted.every((count) => count === 0),
    );
    if (table === undefined) return;
    assert.equal(
      table.reduce((sum, frequency) => sum + frequency, 0),
      4096,
    );
    for (const [symbol, frequency] of table.entries()) assert.equal(frequency > 0, (counted[symbol] ?? 0) > 0);
    const written = coders.writeTable(table)!;
    assert.deepEqual(coders.readTable(Buffer.concat([written, Uint8Array.of(1, 2, 3)])), { frequencies: table, bytes: written.length });
    for (let bytes = 0; bytes < written.length; bytes++) assert.equal(coders.readTable(written.subarray(0, bytes)), undefined);
    const changed = Uint8Array.from(written);
    changed[seed % changed.length] = seed >>> 8;
    const read = coders.readTable(changed);
    if (read !== undefined) assert.deepEqual(coders.writeTable(read.frequencies), changed.slice(0, read.bytes));
  });
  fc.assert(property, { numRuns: 500 });
});

test("Gaussian tables are the same on every machine", { skip }, () => {
  const { frequencies, symbols } = coders.gaussians();
  assert.equal(symbols.length * 256, frequencies.length);
  for (const [table, kept] of symbols.entries()) {
    const one = frequencies.subarray(256 * table, 256 * table + 256);
    for (let symbol = 0; symbol < 256; symbol++) assert.equal((one[symbol] as number) > 0, symbol < kept || symbol === 255);
    assert.equal(kept % 2, 1, "as many negative codes as positive ones");
  }
  const digest = createHash("sha256").update(frequencies).update(symbols).digest("hex");
  assert.equal(digest.slice(0, 16), "03e45be69fb2e561");
});

test("exponents: any values of 2 bytes come back, from every implementation", { skip }, () => {
  const property = fc.property(fc.nat(), size, fc.integer({ min: 1, max: 40 }), fc.nat(3), (seed, rows, width, kind) => {
    const random = new Random(seed);
    const values = random.bytes(2 * rows * width);
    // Of one sign and exponent; all alike; like real ones, each column of a size of its own; any.
    const highs = [() => 0x3f, () => 0x3f, (at: number) => 0x3b + ((at % width) >> 2) + random.below(2), () => random.below(256)];
    for (let at = 0; at < rows * width; at++) values[2 * at + 1] = highs[kind]!(at);
    if (kind === 1) values.fill(0x3f);
    const block = encodeExponents(values, width);
    for (const isa of isas) assert.deepEqual(coders.decodeExponents(block, rows, width, isa), values);
    const cut = block.length > 0 ? coders.decodeExponents(block.subarray(0, random.below(block.length)), rows, width, "scalar") : undefined;
    assert.equal(cut, undefined);
  });
  fc.assert(property, { numRuns: 300 });
});

test("exponents: columns of like size share a table where that pays", { skip }, () => {
  const random = new Random(3);
  const [rows, width] = [400, 64];
  const values = random.bytes(2 * rows * width);
  for (let at = 1; at < values.length; at += 2) values[at] = 0x38 + (((at >> 1) % width) >> 3);
  const apart = encodeExponents(values, width);
  const together = encodeExponents(values, 1);
  assert.equal(apart[rows * width], 7, "eight tables");
  assert.equal(together[rows * width], 0, "one");
  assert.ok(apart.length < together.length - rows * width * 0.2, `${apart.length} and ${together.length} bytes`);
  for (const isa of isas) assert.deepEqual(coders.decodeExponents(apart, rows, width, isa), values);
  for (let column = 0; column < width; column++) {
    const hostile = Uint8Array.from(apart);
    hostile[rows * width + 1 + column] = 8;
    assert.equal(coders.decodeExponents(hostile, rows, width, "scalar"), undefined, "a table that is not there");
  }
});

test("packing: all levels, all sizes; a code that is none and a bit too many are refused", { skip }, () => {
  const property = fc.property(fc.nat(), size, fc.integer({ min: 2, max: 256 }), (seed, count, levels) => {
    const random = new Random(seed);
    const codes = Uint8Array.from({ length: count }, () => random.below(levels));
    const packed = pack(levels, codes);
    assert.ok(packed.length <= Math.ceil((count * Math.ceil(Math.log2(levels))) / 8), "never more than bit by bit");
    const changed = Uint8Array.from(packed);
    if (changed.length > 0) changed[random.below(changed.length)] = random.below(256);
    for (const isa of isas) {
      assert.deepEqual(coders.unpack(levels, packed, count, isa), codes);
      const unpacked = coders.unpack(levels, changed, count, isa);
      if (unpacked !== undefined) assert.deepEqual(pack(levels, unpacked), changed);
      assert.equal(coders.unpack(levels, Buffer.concat([packed, Uint8Array.of(0)]), count, isa), undefined);
    }
  });
  fc.assert(property, { numRuns: 500 });
});

test("byte planes go there and back", { skip }, () => {
  assert.deepEqual(coders.splitPlanes(Uint8Array.of(1, 2, 3, 4, 5, 6), 2), Uint8Array.of(1, 3, 5, 2, 4, 6));
  const property = fc.property(size, fc.integer({ min: 1, max: 8 }), fc.nat(), (count, elementBytes, seed) => {
    const bytes = new Random(seed).bytes(count * elementBytes);
    assert.deepEqual(coders.joinPlanes(coders.splitPlanes(bytes, elementBytes)!, elementBytes), bytes);
  });
  fc.assert(property, { numRuns: 200 });
});

test("zstd: there and back, or missing by its name", { skip }, (t) => {
  const { version, problem } = coders.zstd();
  t.diagnostic(problem === "" ? `zstd ${version}` : problem);
  if (problem !== "") {
    assert.match(problem, /libzstd\.so\.1/);
    assert.equal(coders.encodeZstd(Uint8Array.of(1), 1), undefined);
    assert.equal(coders.decodeZstd(Uint8Array.of(1), 1), undefined);
    return;
  }
  const property = fc.property(fc.uint8Array({ maxLength: 3_000 }), fc.nat(), (bytes, seed) => {
    const frame = coders.encodeZstd(bytes, 1)!;
    assert.deepEqual(coders.decodeZstd(frame, bytes.length), bytes);
    assert.equal(coders.decodeZstd(frame, bytes.length + 1), undefined);
    assert.equal(coders.decodeZstd(frame.subarray(0, seed % frame.length), bytes.length + 1), undefined);
  });
  fc.assert(property, { numRuns: 200 });
});

/** Tables of any shape: one symbol, two, few, all. */
function randomTables(random: Random, count: number): Uint16Array {
  const tables = new Uint16Array(256 * count);
  for (let table = 0; table < count; table++) {
    const used = random.pick([1, 2, 3, 20, 256]);
    const counts = new Uint32Array(256);
    for (let symbol = 0; symbol < used; symbol++) counts[used === 256 ? symbol : random.below(256)] = random.pick([1, 10, 1_000_000]);
    tables.set(coders.fitTable(counts)!, 256 * table);
  }
  return tables;
}
