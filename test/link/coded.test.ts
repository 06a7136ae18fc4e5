/**
 * Chunks that are coded on the way. Method: two native links and a plan for a profile that joins layers, from one layout into another; values of few
 * exponents, which become less, beside noise, which does not; then a peer made of a bare socket, which says coded chunks that are none.
 */
import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { denseLayout } from "../../transport/kv/build.ts";
import { planTransfer, type TransferPlan } from "../../transport/kv/plan.ts";
import { limits } from "../../transport/limits.ts";
import { createFakeLink } from "../../transport/link/fake.ts";
import { createJsLink } from "../../transport/link/js.ts";
import type { PlacementSpec } from "../../transport/link/link.ts";
import { createTcpLink } from "../../transport/link/tcp.ts";
import type { NativeCodec, NativeCodecSpec } from "../../transport/native-codec.ts";
import { native, nativeProblem } from "../../transport/native.ts";
import { privateRegion, type Region } from "../../transport/memory/region.ts";
import { copyChunk } from "../kv/copier.ts";
import { LANE, numberOf, openListener, openPair, type Pair, type Suite, TOKEN } from "./conformance/pair.ts";
import { chunkFrame, dialRawControl, dialRawLane, headerOf, type RawPeer } from "./raw.ts";

const skip = native === undefined ? `no addon: ${nativeProblem}` : false;
const LAYERS = 4;
const JOINED = 2;
const HEADS = 3;
const CHANNELS = 16;
const TOKENS = 150;
const FIRST = 32;
const CHUNK_BYTES = 20_000;
const model = { layers: LAYERS, kvHeads: HEADS, headDim: CHANNELS, element: "bf16", blockCount: 12, form: "layer-major" } as const;
const [there, here] = [
  denseLayout({ ...model, blockTokens: 16, order: "NHD", kv: "split" }),
  denseLayout({ ...model, blockTokens: 32, order: "HND", kv: "joined" }),
];
const MANIFEST = { fingerprint: "", groups: [{ group: 0, tokens: TOKENS }], firstHead: 0, heads: HEADS };
const PLAN = planTransfer(there, here, MANIFEST, CHUNK_BYTES, { layers: JOINED });

const LOSSLESS = { quantizer: { kind: "none" }, codec: { kind: "exponent" } } as const;
const INT8 = {
  quantizer: { kind: "group", levels: new Uint16Array(JOINED * HEADS).fill(256), axis: "token", group: 16, recent: 0 },
  codec: { kind: "pack" },
} as const;

type How = Pick<NativeCodecSpec, "quantizer" | "codec" | "exempt">;

function codecsOf({ coded }: TransferPlan, how: How): (NativeCodec | undefined)[] {
  const made = new native!.NativeCodec({ element: "bf16", parts: JOINED, heads: HEADS, channels: CHANNELS, ...how });
  return coded.map((about) => (about === undefined ? undefined : made));
}

const SUITES: readonly (Suite & { readonly name: string })[] = [
  {
    name: "tcp",
    make: async (options) => createTcpLink(options),
    makeListener: async (options) => createTcpLink(options),
    hasWire: true,
    listenAt: () => ({ host: "127.0.0.1", port: 0 }),
  },
  {
    name: "fake",
    make: async (options) => createFakeLink(options),
    makeListener: async (options) => createFakeLink(options),
    hasWire: false,
    listenAt: () => ({ host: "fake", port: 0 }),
  },
];

/** bf16 values of a few exponents; every eighth region of 4 KiB is noise, if asked for. */
function fill(region: Region, noisy: boolean): void {
  const values = new Uint16Array(region.view.buffer, region.view.byteOffset, region.view.length >> 1);
  let state = 1;
  for (let at = 0; at < values.length; at++) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    const isNoise = noisy && (at >> 11) % 8 === 0;
    // Exponents 124 to 127: 0.125 to 2, of either sign. Noise has no value that is not finite.
    values[at] = isNoise
      ? (state >>> 16) & 0xbfff
      : (((state >>> 31) << 15) | ((124 + ((state >>> 29) & 3)) << 7) | ((state >>> 20) & 0x7f)) & 0xffff;
  }
}

interface Ends {
  readonly source: Region;
  readonly target: Region;
  readonly out: PlacementSpec;
  readonly into: PlacementSpec;
}

function endsOf({ atA, atB }: Pair, how: How, noisy: boolean, positions: readonly [number, number] = [FIRST, FIRST]): Ends {
  const bytes = 2 << 20;
  const [source, target] = [privateRegion(bytes), privateRegion(bytes)];
  fill(source, noisy);
  const { chunks, senderPlanes, receiverPlanes } = PLAN;
  const [from, to] = [Uint32Array.from(PLAN.senderBlocks[0] === 10 ? [3, 1, 4, 0, 5, 9, 2, 6, 8, 7] : []), Uint32Array.of(4, 2, 0, 3, 1)];
  const common = { grant: 77, generation: 1, chunks, checksum: true };
  const codecs = codecsOf(PLAN, how);
  return {
    source,
    target,
    out: {
      ...common,
      direction: "out",
      connection: atA,
      region: source,
      planes: senderPlanes,
      blockLists: [from],
      coding: { codecs, position: positions[0] },
    },
    into: {
      ...common,
      direction: "in",
      connection: atB,
      region: target,
      planes: receiverPlanes,
      blockLists: [to],
      coding: { codecs, position: positions[1] },
    },
  };
}

/** What lies at the receiver if every chunk came as it was. */
function expectedOf({ source, target, out, into }: Ends): Uint8Array {
  const memory = target.view.slice();
  const to = { memory, planes: into.planes, blockLists: into.blockLists };
  const from = { memory: source.view, planes: out.planes, blockLists: out.blockLists };
  for (const { plane, start, bytes } of out.chunks)
    for (let part = 0; part < JOINED; part++) copyChunk(from, to, { plane: plane + part, start, bytes: bytes / JOINED });
  return memory;
}

async function move(pair: Pair, ends: Ends): Promise<readonly { readonly chunk: number; readonly bytes: number }[]> {
  const expected = PLAN.chunks.length;
  const [out, into] = [pair.a.place(ends.out), pair.b.place(ends.into)];
  pair.a.submit(out, [...PLAN.chunks.keys()], 1);
  await pair.a.eventCount(expected, "acked", { placement: out });
  await pair.b.eventCount(expected, "committed", { placement: into });
  const committed = pair.b.all("committed", { placement: into });
  await pair.a.revoke(out);
  await pair.b.revoke(into);
  return committed;
}

for (const suite of SUITES) {
  test(`${suite.name}: a lossless profile brings every value, in fewer bytes; noise travels as it is`, { skip }, async (t) => {
    for (const lanes of [1, 3])
      for (const noisy of [false, true]) {
        const pair = await openPair(t, suite, { lanes });
        const ends = endsOf(pair, LOSSLESS, noisy);
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
    const ends = endsOf(pair, { ...INT8, exempt: FIRST + 4 }, false);
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

  test(`${suite.name}: under a lossy profile what is not finite travels as it is, and is counted`, { skip }, async (t) => {
    const pair = await openPair(t, suite);
    const ends = endsOf(pair, INT8, false);
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
    const ends = endsOf(pair, LOSSLESS, false, [FIRST, FIRST + 16]);
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
    const { out } = endsOf(pair, LOSSLESS, false);
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
  const { out } = endsOf(pair, LOSSLESS, false);
  assert.throws(() => pair.a.link.place(out), /unsupported.*addon/);
});

interface Stage {
  readonly b: Awaited<ReturnType<typeof openListener>>["b"];
  readonly lane: RawPeer;
  readonly target: Region;
}

async function rawStage(t: TestContext, coded: boolean): Promise<Stage> {
  const suite = SUITES[0]!;
  const { b, endpoint } = await openListener(t, suite);
  await dialRawControl(t, endpoint);
  const { connection } = await b.event("accepted");
  b.link.admitLanes(connection, TOKEN);
  const lane = await dialRawLane(t, endpoint, TOKEN, LANE.notSentLowBytes);
  const target = privateRegion(2 << 20);
  const blockLists = [Uint32Array.of(4, 2, 0, 3, 1)];
  const coding = { codecs: codecsOf(PLAN, LOSSLESS), position: FIRST };
  const common = { direction: "in", connection, grant: 77, generation: 1, checksum: true } as const;
  b.place({
    ...common,
    region: target,
    planes: PLAN.receiverPlanes,
    blockLists,
    ...(coded ? { chunks: PLAN.chunks, coding } : { chunks: [{ plane: 0, start: 0, bytes: 4_096 }] }),
  });
  return { b, lane, target };
}

test("coded bytes that are none are refused, one after the other, and the lane goes on", { skip }, async (t) => {
  const { b, lane, target } = await rawStage(t, true);
  const before = target.view.slice();
  const tokens = PLAN.chunks[0]!.bytes / (2 * HEADS * CHANNELS * JOINED);
  const codec = codecsOf(PLAN, LOSSLESS)[0]!;
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
    const { b, lane } = await rawStage(t, coded);
    lane.say(chunkFrame({ grant: 77, generation: 1, chunk: 0, sequence: 1, coded: true }, new Uint8Array(bytes)));
    assert.equal((await b.event("laneDown")).code, numberOf("protocol_error"));
  });
}
