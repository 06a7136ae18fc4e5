/**
 * The wire's frames by three methods: golden files both ways, properties (what is encoded is decoded; one flipped bit is refused; too few
 * bytes ask for more; a control stream may be cut anywhere), and arbitrary bytes, which give a value, undefined or KvferryError.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { KvferryError } from "../../transport/errors.ts";
import { crc32c } from "../../transport/kv/crc32c.ts";
import { limits } from "../../transport/limits.ts";
import {
  ControlParser,
  decodeHeader,
  decodePreamble,
  decodeTrailer,
  encodeControl,
  encodeHeader,
  encodePreamble,
  type FrameHeader,
  type FrameType,
  type Preamble,
  writeTrailer,
} from "../../transport/link/frame.ts";
import { readGolden } from "../golden/golden.ts";

const header = (bytes: Uint8Array): FrameHeader | undefined => decodeHeader(bytes, limits.chunkBytesMax);
const refusal = (word: string) => (error: unknown) =>
  error instanceof KvferryError && error.code === "protocol_error" && error.message.includes(word);
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

for (const golden of readGolden()) {
  test(`golden ${golden.name}`, () => {
    const { kind, means, bytes, refused } = golden;
    if (kind === "preamble") {
      if (means === undefined) return assert.throws(() => decodePreamble(bytes), refusal(refused));
      const preamble = decodePreamble(bytes) as Preamble;
      assert.deepEqual({ ...preamble, token: hex(preamble.token) }, means);
      return assert.deepEqual(encodePreamble(preamble), bytes);
    }
    if (kind === "header") {
      if (means === undefined) return assert.throws(() => header(bytes), refusal(refused));
      assert.deepEqual(header(bytes), means);
      return assert.deepEqual(encodeHeader(header(bytes) as FrameHeader), bytes);
    }
    if (kind === "frame") {
      const { bytes: count } = header(bytes) as FrameHeader;
      assert.equal(hex(bytes.subarray(48, 48 + count)), means?.["payload"]);
      return assert.deepEqual(decodeTrailer(bytes.subarray(48 + count)), { crc: means?.["crc"], verdict: means?.["verdict"] });
    }
    const parser = new ControlParser();
    parser.push(bytes);
    if (means === undefined) return assert.throws(() => parser.next(), refusal(refused));
    const message = parser.next() as Uint8Array;
    assert.equal(hex(message), means["message"]);
    assert.deepEqual(encodeControl(message), bytes);
  });
}

const u32 = fc.nat(2 ** 32 - 1);
const headers: fc.Arbitrary<FrameHeader> = fc
  .record({
    type: fc.constantFrom<FrameType>("chunk", "ack", "nack", "ping", "pong"),
    checksum: fc.boolean(),
    grant: fc.maxSafeNat(),
    generation: u32,
    chunk: u32,
    bytes: fc.integer({ min: 1, max: limits.chunkBytesMax }),
    sequence: u32,
    status: u32,
  })
  .map((drawn) => ({
    ...drawn,
    bytes: drawn.type === "chunk" ? drawn.bytes : 0,
    status: drawn.type === "ack" || drawn.type === "nack" ? drawn.status : 0,
  }));
const preambles: fc.Arbitrary<Preamble> = fc
  .tuple(fc.nat(255), fc.nat(65_535), fc.uint8Array({ minLength: 16, maxLength: 16 }))
  .map(([version, lane, token]) => ({ version, kind: "lane", lane, token }));

function flip(bytes: Uint8Array, bit: number): Uint8Array {
  const flipped = bytes.slice();
  flipped[bit >> 3] = (flipped[bit >> 3] as number) ^ (1 << (bit & 7));
  return flipped;
}

test("what is encoded is decoded, whatever stands behind it", () => {
  const tail = fc.uint8Array({ maxLength: 8 });
  fc.assert(
    fc.property(headers, tail, (drawn, behind) => {
      const bytes = Uint8Array.from([...encodeHeader(drawn), ...behind]);
      assert.deepEqual(header(bytes), drawn);
    }),
  );
  fc.assert(
    fc.property(preambles, tail, (drawn, behind) => {
      const bytes = Uint8Array.from([...encodePreamble(drawn), ...behind]);
      assert.deepEqual(decodePreamble(bytes), drawn);
    }),
  );
  fc.assert(
    fc.property(u32, u32, (crc, verdict) => {
      const bytes = new Uint8Array(8);
      writeTrailer({ crc, verdict }, bytes, 0);
      assert.deepEqual(decodeTrailer(bytes), { crc, verdict });
    }),
  );
});

test("one flipped bit is refused, wherever it is", () => {
  fc.assert(
    fc.property(headers, preambles, (drawn, preamble) => {
      for (let bit = 0; bit < 48 * 8; bit++) {
        assert.throws(() => header(flip(encodeHeader(drawn), bit)), KvferryError);
        assert.throws(() => decodePreamble(flip(encodePreamble(preamble), bit)), KvferryError);
      }
    }),
    { numRuns: 10 },
  );
});

test("too few bytes ask for more", () => {
  const frame = encodeHeader({ type: "ping", checksum: false, grant: 1, generation: 1, chunk: 1, bytes: 0, sequence: 1, status: 0 });
  const preamble = encodePreamble({ version: 1, kind: "control", lane: 0, token: new Uint8Array(16) });
  for (let count = 0; count < 48; count++) {
    assert.equal(header(frame.subarray(0, count)), undefined);
    assert.equal(decodePreamble(preamble.subarray(0, count)), undefined);
  }
  for (let count = 0; count < 8; count++) assert.equal(decodeTrailer(new Uint8Array(count)), undefined);
});

test("a header with a right checksum over wrong fields is refused or means what it says", () => {
  const fields = fc.uint8Array({ minLength: 40, maxLength: 40 });
  fc.assert(
    fc.property(fields, fc.integer({ min: 0, max: 6 }), (drawn, type) => {
      const bytes = new Uint8Array(48);
      bytes.set([0x4b, 0x56, 0x46, 0x43]);
      bytes.set(drawn, 4);
      bytes[4] = 1;
      bytes[5] = type;
      if (drawn[1] !== 0) bytes.fill(0, 36, 44);
      if (drawn[2] !== 0) bytes.fill(0, 7, 8);
      new DataView(bytes.buffer).setUint32(44, crc32c(bytes.subarray(0, 44)), true);
      let decoded: FrameHeader | undefined;
      try {
        decoded = header(bytes);
      } catch (error) {
        assert.ok(error instanceof KvferryError);
        return;
      }
      assert.deepEqual(encodeHeader(decoded as FrameHeader), bytes);
    }),
    { numRuns: 2000 },
  );
});

test("a control stream may be cut anywhere", () => {
  const messages = fc.array(fc.uint8Array({ minLength: 1, maxLength: 300 }), { maxLength: 6 });
  fc.assert(
    fc.property(messages, fc.array(fc.integer({ min: 1, max: 64 }), { minLength: 1, maxLength: 8 }), (drawn, cuts) => {
      const stream = Uint8Array.from(drawn.flatMap((message) => [...encodeControl(message)]));
      const parser = new ControlParser();
      const parsed: Uint8Array[] = [];
      for (let at = 0, turn = 0; at < stream.length; turn++) {
        const piece = stream.subarray(at, at + (cuts[turn % cuts.length] as number));
        parser.push(piece);
        at += piece.length;
        for (let message = parser.next(); message !== undefined; message = parser.next()) parsed.push(message);
      }
      assert.deepEqual(parsed, drawn);
      assert.equal(parser.heldBytes, 0);
    }),
  );
});

test("a control parser that has refused refuses for ever", () => {
  const parser = new ControlParser(16);
  parser.push(encodeControl(new Uint8Array(17).fill(1)));
  assert.throws(() => parser.next(), refusal("17 bytes"));
  parser.push(encodeControl(Uint8Array.of(1)));
  assert.throws(() => parser.next(), refusal("17 bytes"));
});

test("a message that was given out is not overwritten by later ones", () => {
  const parser = new ControlParser();
  parser.push(encodeControl(Uint8Array.of(1, 2, 3)));
  const first = parser.next();
  parser.push(encodeControl(Uint8Array.of(9, 9, 9)));
  parser.next();
  assert.deepEqual(first, Uint8Array.of(1, 2, 3));
});

test("arbitrary bytes give a value, nothing yet, or KvferryError", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 120 }), (bytes) => {
      const parser = new ControlParser();
      parser.push(bytes);
      for (const decode of [() => header(bytes), () => decodePreamble(bytes), () => decodeTrailer(bytes), () => parser.next()]) {
        try {
          decode();
        } catch (error) {
          assert.ok(error instanceof KvferryError, String(error));
        }
      }
    }),
  );
});
