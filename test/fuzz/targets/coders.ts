/**
 * The decoders of native/codec, each by every implementation: the same symbols or the same refusal, and what decodes is what their encoder writes.
 * The first bytes of an input say how many symbols are expected, and of what kind; the rest is what arrived.
 */
import assert from "node:assert/strict";
import type { NativeCoders } from "../../../transport/native-codec.ts";
import { native, nativeProblem } from "../../../transport/native.ts";
import { draw, encodeExponents, encodeRans, pack, tableOf } from "../../codec/coders.ts";
import { mutate } from "../mutate.ts";
import { Random } from "../random.ts";
import type { Target } from "../target.ts";

const HEAD_BYTES = 3;

/** One symbol, two, few of a Gaussian; together they are what columns choose from. */
const TABLES = Uint16Array.from([
  ...tableOf({ 9: 4096 }),
  ...tableOf({ 0: 4095, 255: 1 }),
  ...tableOf({ 0: 1500, 1: 900, 2: 900, 3: 350, 4: 350, 5: 40, 6: 40, 255: 16 }),
]);

function coderTarget(
  name: string,
  about: string,
  seeds: (random: Random) => Uint8Array[],
  run: (coders: NativeCoders, head: DataView, rest: Uint8Array) => void,
): Target {
  return {
    name,
    corpus: name,
    about,
    skip: native === undefined ? `no addon: ${nativeProblem}` : "",
    native: true,
    seeds: () => (native === undefined ? [] : seeds(new Random(1))),
    // The head is left alone in most inputs, so that what is behind it fits.
    generate(random, pool) {
      const input = random.pick(pool);
      if (random.chance(1, 8)) return mutate(input, random);
      return Buffer.concat([input.subarray(0, HEAD_BYTES), mutate(input.subarray(HEAD_BYTES), random)]);
    },
    open: async () => ({
      run(input) {
        if (input.length < HEAD_BYTES) return;
        run((native as NonNullable<typeof native>).codecCoders, new DataView(input.buffer, input.byteOffset), input.subarray(HEAD_BYTES));
      },
      close() {},
    }),
  };
}

/** What every implementation says. */
function agreed(coders: NativeCoders, decode: (isa: string) => Uint8Array | undefined): Uint8Array | undefined {
  const expected = decode("scalar");
  for (const isa of coders.isas) assert.deepEqual(decode(isa), expected, `${isa} says what the scalar code says`);
  return expected;
}

function same(written: Uint8Array, read: Uint8Array, what: string): void {
  assert.ok(Buffer.compare(written, read) === 0, `${what}: the one encoding of what it decodes to`);
}

const columnsOf = (width: number): Uint8Array => Uint8Array.from({ length: (width % 40) + 1 }, (_, column) => (column * 7 + width) % 3);

const rans = coderTarget(
  "codec-rans",
  "rANS with static tables: the one stream of its symbols, or refused",
  (random) =>
    [0, 1, 2, 5, 33, 64, 255].map((rows) => {
      const width = random.below(256);
      return Buffer.concat([
        Uint8Array.of(rows, width, 0),
        encodeRans(draw(random, rows, TABLES, columnsOf(width)), TABLES, columnsOf(width)),
      ]);
    }),
  (coders, head, stream) => {
    const [rows, columns] = [head.getUint8(0), columnsOf(head.getUint8(1))];
    const symbols = agreed(coders, (isa) => coders.decodeRans(stream, rows, TABLES, columns, isa));
    if (symbols !== undefined) same(encodeRans(symbols, TABLES, columns), stream, "a stream");
  },
);

const exponents = coderTarget(
  "codec-exponents",
  "exponent split: values that are encoded and decoded again, or refused",
  (random) =>
    [0, 1, 2, 31, 32, 33, 100, 255].flatMap((rows) =>
      [1, 3, 40].map((width) => {
        const values = random.bytes(2 * rows * width);
        for (let at = 1; at < values.length; at += 2) values[at] = 0x3a + (((at >> 1) % width) >> 3) + random.below(2);
        return Buffer.concat([Uint8Array.of(rows, width - 1, 0), encodeExponents(values, width)]);
      }),
    ),
  (coders, head, block) => {
    const [rows, width] = [head.getUint8(0), (head.getUint8(1) % 40) + 1];
    const values = agreed(coders, (isa) => coders.decodeExponents(block, rows, width, isa));
    if (values === undefined) return;
    assert.equal(values.length, 2 * rows * width);
    const again = encodeExponents(values, width);
    assert.ok(Buffer.compare(coders.decodeExponents(again, rows, width, "scalar") ?? new Uint8Array(0), values) === 0, "they come back");
    same(again.subarray(0, rows * width), block.subarray(0, rows * width), "the raw half");
  },
);

const tables = coderTarget(
  "codec-tables",
  "a table of frequencies: 4096 in all and written as it was read, or refused",
  (random) =>
    [1, 2, 30, 256].map((used) => {
      const counts = Uint32Array.from({ length: 256 }, (_, symbol) =>
        symbol < used || random.chance(1, 40) ? 1 + random.below(1_000) : 0,
      );
      const written = native?.codecCoders.writeTable(native.codecCoders.fitTable(counts) ?? TABLES.subarray(0, 256));
      return Buffer.concat([new Uint8Array(HEAD_BYTES), written ?? new Uint8Array(0)]);
    }),
  (coders, _head, bytes) => {
    const read = coders.readTable(bytes);
    if (read === undefined) return;
    assert.equal(
      read.frequencies.reduce((sum, frequency) => sum + frequency, 0),
      4096,
    );
    same(coders.writeTable(read.frequencies) ?? new Uint8Array(0), bytes.subarray(0, read.bytes), "a table");
  },
);

const packing = coderTarget(
  "codec-pack",
  "packed codes: the one packing of codes below their levels, or refused",
  (random) =>
    [2, 3, 5, 8, 12, 16, 100, 256].map((levels) => {
      const codes = Uint8Array.from({ length: random.below(200) }, () => random.below(levels));
      return Buffer.concat([Uint8Array.of(codes.length, levels - 1, 0), pack(levels, codes)]);
    }),
  (coders, head, bytes) => {
    const [count, levels] = [head.getUint8(0), Math.max(2, head.getUint8(1) + 1)];
    const codes = agreed(coders, (isa) => coders.unpack(levels, bytes, count, isa));
    if (codes === undefined) return;
    assert.ok(
      codes.every((code) => code < levels),
      "codes are below their levels",
    );
    same(pack(levels, codes), bytes, "packed codes");
  },
);

const zstd = coderTarget(
  "codec-zstd",
  "zstd of the system: exactly as many bytes as expected, or refused",
  (random) =>
    [0, 1, 300].map((count) => {
      const frame = native?.codecCoders.encodeZstd(random.bytes(count).fill(3, 0, count >> 1), 1);
      return Buffer.concat([Uint8Array.of(count & 255, count >> 8, 0), frame ?? new Uint8Array(0)]);
    }),
  (coders, head, frame) => {
    const count = head.getUint16(0, true);
    const bytes = coders.decodeZstd(frame, count);
    if (bytes !== undefined) assert.equal(bytes.length, count);
  },
);

export const coderTargets: readonly Target[] = [rans, exponents, tables, packing, zstd];
