/**
 * Chunks that are coded on the way. Method: two native links and a plan for a profile that joins layers, from one layout into another; values of few
 * exponents, which become less, beside noise, which does not; then a peer made of a bare socket, which says coded chunks that are none.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { limits } from "../../transport/limits.ts";
import { createJsLink } from "../../transport/link/js.ts";
import type { PlacementSpec } from "../../transport/link/link.ts";
import type { NativeCodec, NativeCodecSpec } from "../../transport/native-codec.ts";
import { native } from "../../transport/native.ts";
import { CHANNELS, endsOf, expectedOf, FIRST, HEADS, JOINED, move, planOf, rawStage, sameTokens, skip, SUITES, TOKENS } from "./coding.ts";
import { numberOf, openPair, type Suite } from "./conformance/pair.ts";
import { chunkFrame, headerOf } from "./raw.ts";

const PLAN = planOf(false);

const LOSSLESS = { quantizer: { kind: "none" }, codec: { kind: "exponent" } } as const;
const INT8 = {
  quantizer: { kind: "group", levels: new Uint16Array(JOINED * HEADS).fill(256), axis: "token", group: 16, recent: 0 },
  codec: { kind: "pack" },
} as const;

type How = Pick<NativeCodecSpec, "quantizer" | "codec" | "exempt">;

const codecOf = (how: How): NativeCodec =>
  new native!.NativeCodec({ element: "bf16", parts: JOINED, heads: HEADS, channels: CHANNELS, ...how });

for (const suite of SUITES) {
  test(`${suite.name}: a lossless profile brings every value, in fewer bytes; noise travels as it is`, { skip }, async (t) => {
    for (const lanes of [1, 3])
      for (const noisy of [false, true]) {
        const pair = await openPair(t, suite, { lanes });
        const ends = endsOf(pair, PLAN, codecOf(LOSSLESS), noisy);
        const expected = expectedOf(ends);
        const committed = await move(pair, ends);
        assert.equal(Buffer.compare(ends.target.view, expected), 0);
        const whole = committed.filter(({ chunk, bytes }) => bytes === PLAN.chunks[chunk]!.bytes).length;
        const less = committed.filter(({ chunk, bytes }) => bytes < 0.75 * PLAN.chunks[chunk]!.bytes).length;
        assert.ok(
          noisy ? whole + less > 0 && less < committed.length : less === committed.length,
          `${less} less, ${whole} whole of ${committed.length}`,
        );
        // One codec codes at both ends here.
        const counts = ends.out.coding!.codecs[0]!.counts();
        const bytesOf = (spans: readonly { readonly bytes: number }[]): number => spans.reduce((sum, { bytes }) => sum + bytes, 0);
        const coded = committed.filter(({ chunk, bytes }) => bytes < PLAN.chunks[chunk]!.bytes);
        assert.deepEqual(
          [counts.encodedChunks, counts.encodedBytes, counts.sentBytes],
          [committed.length, bytesOf(PLAN.chunks), bytesOf(committed)],
        );
        assert.deepEqual(counts.stored, { incompressible: whole, not_finite: 0, out_of_range: 0 });
        assert.deepEqual(
          [counts.decodedChunks, counts.decodedBytes, counts.arrivedBytes, counts.failedChunks],
          [coded.length, bytesOf(coded.map(({ chunk }) => PLAN.chunks[chunk]!)), bytesOf(coded), 0],
        );
        assert.ok(counts.encodeNs > 0 && counts.decodeNs > 0);
      }
  });

  test(`${suite.name}: a lossy profile brings what its codec alone would give, the first tokens as they are`, { skip }, async (t) => {
    const pair = await openPair(t, suite);
    const ends = endsOf(pair, PLAN, codecOf({ ...INT8, exempt: FIRST + 4 }), false);
    const exact = expectedOf(ends);
    await move(pair, ends);
    const [got, wanted] = [ends.target.view, exact].map((memory) => new Uint16Array(memory.buffer, memory.byteOffset, memory.length >> 1));
    const toFloat = (bits: number): number => new Float32Array(Uint32Array.of(bits << 16).buffer)[0]!;
    let [differ, worst] = [0, 0];
    wanted!.forEach((value, at) => {
      if (value === got![at]) return;
      differ += 1;
      worst = Math.max(worst, Math.abs(toFloat(value) - toFloat(got![at]!)));
    });
    // Of 256 levels over at most 4, half a level, and a rounding to bf16 of at most 2.
    assert.ok(differ > 1_000 && worst <= 4 / 255 / 2 + 2 ** -8, `${differ} differ, by ${worst} at most`);
  });

  test(`${suite.name}: the last tokens of what is moved come as they are, however chunks lie, where a profile keeps recent ones`, {
    skip,
  }, async (t) => {
    const [longest] = PLAN.chunks.map(({ bytes }) => bytes / (2 * HEADS * CHANNELS * JOINED)).sort((one, other) => other - one);
    for (const recent of [1, 20, TOKENS - longest! + 10, 2 * TOKENS]) {
      const pair = await openPair(t, suite);
      const ends = endsOf(pair, PLAN, codecOf({ ...INT8, quantizer: { ...INT8.quantizer, recent } }), false);
      const exact = expectedOf(ends);
      await move(pair, ends);
      for (const same of sameTokens(ends, ends.target.view, exact)) {
        assert.ok(same.slice(-recent).every(Boolean), `the last ${recent} came as they were`);
        assert.ok(
          same.slice(0, -recent).every((one) => !one),
          "the others did not",
        );
      }
    }
  });

  test(`${suite.name}: under a lossy profile what is not finite travels as it is, and is counted`, { skip }, async (t) => {
    const pair = await openPair(t, suite);
    const ends = endsOf(pair, PLAN, codecOf(INT8), false);
    ends.source.view.fill(0xff);
    const expected = expectedOf(ends);
    await move(pair, ends);
    assert.equal(Buffer.compare(ends.target.view, expected), 0);
    const { stored, encodedBytes, sentBytes, decodedChunks } = ends.out.coding!.codecs[0]!.counts();
    assert.deepEqual(stored, { incompressible: 0, not_finite: PLAN.chunks.length, out_of_range: 0 });
    assert.deepEqual([sentBytes, decodedChunks], [encodedBytes, 0]);
  });

  test(`${suite.name}: ends that do not agree on the position refuse every coded chunk`, { skip }, async (t) => {
    const pair = await openPair(t, suite);
    const ends = endsOf(pair, PLAN, codecOf(LOSSLESS), false, [FIRST, FIRST + 16]);
    const before = ends.target.view.slice();
    const [out, into] = [pair.a.place(ends.out), pair.b.place(ends.into)];
    pair.a.submit(out, [0], 1);
    assert.equal((await pair.a.event("failed", { placement: out })).code, numberOf("codec_failed"));
    assert.equal((await pair.b.event("rejected", { placement: into })).code, numberOf("codec_failed"));
    assert.equal(Buffer.compare(ends.target.view, before), 0, "nothing was written");
    assert.equal(ends.into.coding!.codecs[0]!.counts().failedChunks, 1);
  });

  test(`${suite.name}: placements whose codecs do not fit their planes are refused`, { skip }, async (t) => {
    const pair = await openPair(t, suite);
    const { out } = endsOf(pair, PLAN, codecOf(LOSSLESS), false);
    const codecs = out.coding!.codecs;
    const other = new native!.NativeCodec({ element: "bf16", parts: JOINED, heads: HEADS, channels: 8, ...LOSSLESS });
    const wrong: readonly [Partial<PlacementSpec>, RegExp][] = [
      [{ coding: { codecs: codecs.slice(1), position: 0 } }, /codecs/],
      [{ coding: { codecs: codecs.map(() => other), position: 0 } }, /another shape/],
      [{ coding: { codecs, position: -1 } }, /position/],
      [{ coding: { codecs: codecs.map(() => ({})) as unknown as NativeCodec[], position: 0 } }, /codecs/],
      [{ chunks: [{ plane: 0, start: 0, bytes: 10 }] }, /whole tokens/],
      [{ chunks: [{ plane: 0, start: 4, bytes: 2 * HEADS * CHANNELS * JOINED }] }, /whole tokens/],
      [
        {
          chunks: [{ plane: out.planes.length - 1, start: 0, bytes: 2 * HEADS * CHANNELS * JOINED }],
          coding: { codecs: codecs.map(() => codecs[0]), position: 0 },
        },
        /another shape/,
      ],
      [{ chunks: [{ plane: 0, start: 0, bytes: limits.codedChunkBytesMax + 2 * HEADS * CHANNELS * JOINED }] }, /too long|above/],
    ];
    for (const [change, sentence] of wrong) assert.throws(() => pair.a.link.place({ ...out, ...change }), sentence);
  });
}

test("the JavaScript link has no codecs, and says so", { skip }, async (t) => {
  const make: Suite["make"] = async (options) => createJsLink(options);
  const pair = await openPair(t, { ...SUITES[0]!, make, makeListener: make });
  const { out } = endsOf(pair, PLAN, codecOf(LOSSLESS), false);
  assert.throws(() => pair.a.link.place(out), /unsupported.*addon/);
});

test("coded bytes that are none are refused, one after the other, and the lane goes on", { skip }, async (t) => {
  const { b, lane, target } = await rawStage(t, PLAN, codecOf(LOSSLESS));
  const before = target.view.slice();
  const tokens = PLAN.chunks[0]!.bytes / (2 * HEADS * CHANNELS * JOINED);
  const codec = codecOf(LOSSLESS);
  const parts = Array.from({ length: JOINED }, () => new Uint8Array(tokens * 2 * HEADS * CHANNELS).fill(0x3f));
  const block = new Uint8Array(codec.bound(tokens));
  const { bytes } = codec.encode(parts, tokens, FIRST, block);
  const right = block.subarray(0, bytes);
  const harmed = [right.subarray(0, 1), right.subarray(0, bytes - 1), Uint8Array.from([...right, 0]), new Uint8Array(100)];
  for (let at = 0; at < right.length; at += 7) harmed.push(right.map((byte, index) => (index === at ? byte ^ 0x40 : byte)));
  let refused = 0;
  for (const [index, payload] of harmed.entries()) {
    lane.say(chunkFrame({ grant: 77, generation: 1, chunk: 0, sequence: index + 1, coded: true }, payload));
    const { header } = await lane.frame();
    // A flipped bit of a value decodes to another value: that is what the CRC is for, and here it is right.
    if (header.type === "ack") continue;
    refused += 1;
    assert.deepEqual([header.type, header.status], ["nack", numberOf("codec_failed")]);
  }
  assert.ok(refused >= 4, `${refused} of ${harmed.length} refused`);
  if (refused === harmed.length) assert.equal(Buffer.compare(target.view, before), 0);
  lane.say(headerOf({ type: "ping", sequence: 5 }));
  assert.equal((await lane.frame()).header.type, "pong");
  assert.equal(b.all("laneDown").length, 0);
});

for (const [what, coded, bytes] of [
  ["for a plane without a codec", false, 100],
  ["that is no shorter than the chunk", true, PLAN.chunks[0]!.bytes],
] as const) {
  test(`a coded chunk ${what} closes the lane`, { skip }, async (t) => {
    const { b, lane } = await rawStage(t, PLAN, coded ? codecOf(LOSSLESS) : undefined);
    lane.say(chunkFrame({ grant: 77, generation: 1, chunk: 0, sequence: 1, coded: true }, new Uint8Array(bytes)));
    assert.equal((await b.event("laneDown")).code, numberOf("protocol_error"));
  });
}
