/** The pure parsers of the wire: preamble, frame header, control stream. Most inputs get a right checksum, so that what is behind it is reached. */
import assert from "node:assert/strict";
import { crc32c } from "../../../transport/kv/crc32c.ts";
import { limits } from "../../../transport/limits.ts";
import { ControlParser, decodeHeader, decodePreamble, encodeControl, encodeHeader, encodePreamble } from "../../../transport/link/frame.ts";
import { readGolden } from "../../golden/golden.ts";
import { mutate } from "../mutate.ts";
import type { Random } from "../random.ts";
import { pureTarget, type Target } from "../target.ts";

const goldens = (kind: "preamble" | "header" | "control") => () => readGolden(kind).map(({ bytes }) => bytes);

/** Makes bytes 44..47 the checksum of what is before them, in three of four cases. */
function sealed(random: Random, pool: readonly Uint8Array[]): Uint8Array {
  const input = mutate(random.pick(pool), random, 3);
  if (input.length < 48 || random.chance(1, 4)) return input;
  new DataView(input.buffer, input.byteOffset).setUint32(44, crc32c(input.subarray(0, 44)), true);
  return input;
}

const preamble: Target = {
  ...pureTarget(
    "preamble",
    "decodePreamble: a value that encodes to the same bytes, undefined, or KvferryError",
    goldens("preamble"),
    (input) => {
      const decoded = decodePreamble(input);
      assert.equal(decoded === undefined, input.length < 48);
      if (decoded !== undefined) assert.deepEqual(Buffer.from(encodePreamble(decoded)), Buffer.from(input.subarray(0, 48)));
    },
  ),
  generate: sealed,
};

const header: Target = {
  ...pureTarget(
    "header",
    "decodeHeader: a value that encodes to the same bytes, undefined, or KvferryError",
    goldens("header"),
    (input) => {
      const decoded = decodeHeader(input, limits.chunkBytesMax);
      assert.equal(decoded === undefined, input.length < 48);
      if (decoded === undefined) return;
      assert.deepEqual(Buffer.from(encodeHeader(decoded)), Buffer.from(input.subarray(0, 48)));
      assert.ok(decoded.bytes <= limits.chunkBytesMax && decoded.grant < 2 ** 53, "its numbers are bounded");
    },
  ),
  generate: sealed,
};

/** The first byte says in what pieces the rest comes. */
const control: Target = {
  ...pureTarget(
    "control-frames",
    "ControlParser: the same messages however the stream is cut, and no more held than came",
    () => goldens("control")().map((bytes) => Uint8Array.of(5, ...bytes)),
    (input) => {
      const stream = input.subarray(1);
      const whole = parseAll(stream, stream.length + 1);
      const cut = parseAll(stream, (input[0] ?? 0) % 64 || 1);
      assert.deepEqual(cut, whole);
    },
  ),
  generate: (random, pool) => Buffer.concat([Uint8Array.of(random.below(256)), ...controlStream(random, pool)]),
};

export function* controlStream(random: Random, pool: readonly Uint8Array[]): Generator<Uint8Array> {
  for (let left = random.between(0, 4); left > 0; left--) {
    const framed = encodeControl(random.bytes(random.between(1, random.pick([4, 100, 3_000]))));
    yield random.chance(1, 6) ? mutate(framed, random, 2) : framed;
  }
  if (random.chance(1, 3)) yield mutate(random.pick(pool).subarray(1), random);
}

interface Parsed {
  readonly messages: string[];
  readonly error: string;
}

function parseAll(stream: Uint8Array, pieceBytes: number): Parsed {
  const parser = new ControlParser();
  const parsed: string[] = [];
  let takenBytes = 0;
  for (let at = 0; at < stream.length; at += pieceBytes) {
    parser.push(stream.subarray(at, at + pieceBytes));
    try {
      for (let message = parser.next(); message !== undefined; message = parser.next()) {
        parsed.push(Buffer.from(message).toString("hex"));
        takenBytes += message.length + 8;
      }
    } catch (error) {
      return { messages: parsed, error: (error as Error).message };
    }
    assert.equal(parser.heldBytes, Math.min(at + pieceBytes, stream.length) - takenBytes);
  }
  return { messages: parsed, error: "" };
}

export const frameTargets: readonly Target[] = [preamble, header, control];
