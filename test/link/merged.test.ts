/**
 * Chunks whose tokens are merged on the way. Method: two native links and a plan whose chunks hold K and V of several layers, from one layout into another; what
 * comes is what the codec makes of each chunk at its place in the sequence. Then a peer made of a bare socket, whose chunks are none.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { NativeCodec, NativeMergingSpec } from "../../transport/native-codec.ts";
import { mapsBytes, MERGED_HEAD_BYTES, reseal } from "../codec/merged.ts";
import { make } from "../codec/tiles.ts";
import { addressOf } from "../kv/copier.ts";
import { CHANNELS, type Ends, endsOf, expectedOf, FIRST, HEADS, JOINED, move, planOf, rawStage, skip, SUITES, TOKENS } from "./coding.ts";
import { numberOf, openPair } from "./conformance/pair.ts";
import { chunkFrame, headerOf } from "./raw.ts";

const PLAN = planOf(true);
const PARTS = 2 * JOINED;
const TOKEN_BYTES = 2 * HEADS * CHANNELS;
const SIDE = { element: "bf16", parts: JOINED, heads: HEADS, channels: CHANNELS } as const;
const SPEC: NativeMergingSpec = {
  merge: { budget: 0.4, sinks: FIRST + 5, recent: 0.1, heavy: 0.05, members: 50, sigma: 0, isSum: false, byLayer: false },
  skipped: Uint8Array.of(0, 1),
  k: { ...SIDE, quantizer: { kind: "none" }, codec: { kind: "exponent" } },
  v: {
    ...SIDE,
    exempt: FIRST + 2,
    quantizer: { kind: "group", levels: new Uint16Array(JOINED * HEADS).fill(256), axis: "token", group: 16, recent: 9 },
    codec: { kind: "pack" },
  },
};

/** What lies at the receiver: of each chunk what the codec alone makes of it. */
function decodedOf({ source, out, into, ...ends }: Ends, codec: NativeCodec): Uint8Array {
  const memory = expectedOf({ source, out, into, ...ends });
  for (const { plane, start, bytes } of PLAN.chunks) {
    const tokens = bytes / PARTS / TOKEN_BYTES;
    const position = FIRST + start / TOKEN_BYTES;
    const parts = Array.from({ length: PARTS }, (_, part) =>
      Uint8Array.from(
        { length: bytes / PARTS },
        (_, at) => source.view[addressOf(out.planes[plane + part]!, out.blockLists[0]!, start + at)]!,
      ),
    );
    const chunk = new Uint8Array(codec.bound(tokens));
    const encoded = codec.encode(parts, tokens, position, chunk, FIRST + TOKENS);
    assert.ok(encoded.bytes < bytes);
    codec.decode(chunk.subarray(0, encoded.bytes), parts, tokens, position);
    parts.forEach((part, index) =>
      part.forEach((byte, at) => (memory[addressOf(into.planes[plane + index]!, into.blockLists[0]!, start + at)] = byte)),
    );
  }
  return memory;
}

for (const suite of SUITES) {
  test(`${suite.name}: what comes is what the codec makes of each chunk at its place`, { skip }, async (t) => {
    assert.ok(PLAN.chunks.length >= 6, "sets could span chunks if anything let them");
    for (const byLayer of [false, true]) {
      const pair = await openPair(t, suite, { lanes: 2 });
      const codec = make({ ...SPEC, merge: { ...SPEC.merge, byLayer } });
      const ends = endsOf(pair, PLAN, codec, false);
      const expected = decodedOf(ends, codec);
      assert.notEqual(Buffer.compare(expected, expectedOf(ends)), 0, "something is lost");
      const committed = await move(pair, ends);
      assert.equal(Buffer.compare(ends.target.view, expected), 0);
      for (const { chunk, bytes } of committed) assert.ok(bytes < PLAN.chunks[chunk]!.bytes);
      assert.equal(codec.counts().decodedChunks, PLAN.chunks.length);
    }
  });

  test(`${suite.name}: where some value is no number, the chunk travels as it is, and is counted`, { skip }, async (t) => {
    const pair = await openPair(t, suite);
    const codec = make(SPEC);
    const ends = endsOf(pair, PLAN, codec, false);
    const [{ plane, start }] = PLAN.chunks as [(typeof PLAN.chunks)[0]];
    const at = addressOf(ends.out.planes[plane]!, ends.out.blockLists[0]!, start);
    ends.source.view.set([0xc0, 0x7f], at);
    const committed = await move(pair, ends);
    const whole = committed.filter(({ chunk, bytes }) => bytes === PLAN.chunks[chunk]!.bytes);
    assert.deepEqual(
      whole.map(({ chunk }) => chunk),
      [0],
    );
    assert.equal(codec.counts().stored.not_finite, 1);
    const exact = expectedOf(ends);
    for (let part = 0; part < PARTS; part++)
      for (let byte = 0; byte < PLAN.chunks[0]!.bytes / PARTS; byte++) {
        const there = addressOf(ends.into.planes[plane + part]!, ends.into.blockLists[0]!, start + byte);
        assert.equal(ends.target.view[there], exact[there]);
      }
  });
}

test("merged chunks that are none are refused, one after the other, and nothing is written", { skip }, async (t) => {
  const codec = make(SPEC);
  const { b, lane, target } = await rawStage(t, PLAN, codec);
  const before = target.view.slice();
  const tokens = PLAN.chunks[0]!.bytes / TOKEN_BYTES / PARTS;
  const parts = Array.from({ length: PARTS }, () => new Uint8Array(tokens * TOKEN_BYTES).fill(0x3f));
  const room = new Uint8Array(codec.bound(tokens));
  const right = room.slice(0, codec.encode(parts, tokens, FIRST, room, FIRST + TOKENS).bytes);
  const maps = mapsBytes(SPEC, tokens);
  const harmed = [right.subarray(0, 1), right.subarray(0, 19), right.subarray(0, right.length - 1), Uint8Array.from([...right, 0])];
  // Another number of rows or of bytes, and a pivot too many or too few, under a right checksum.
  const places = Array.from({ length: MERGED_HEAD_BYTES + maps }, (_, at) => at);
  for (const at of places.filter((place) => place < 16 || (place >= MERGED_HEAD_BYTES && place % 3 === 0))) {
    const chunk = right.map((byte, index) => (index === at ? byte ^ 0x04 : byte));
    reseal(chunk, maps);
    harmed.push(chunk);
  }
  for (const [index, payload] of harmed.entries()) {
    lane.say(chunkFrame({ grant: 77, generation: 1, chunk: 0, sequence: index + 1, coded: true }, payload));
    const { header } = await lane.frame();
    assert.deepEqual([header.type, header.status], ["nack", numberOf("codec_failed")]);
  }
  assert.equal(Buffer.compare(target.view, before), 0);
  lane.say(chunkFrame({ grant: 77, generation: 1, chunk: 0, sequence: harmed.length + 1, coded: true }, right));
  assert.equal((await lane.frame()).header.type, "ack");
  lane.say(headerOf({ type: "ping", sequence: 5 }));
  assert.equal((await lane.frame()).header.type, "pong");
  assert.equal(b.all("laneDown").length, 0);
});
