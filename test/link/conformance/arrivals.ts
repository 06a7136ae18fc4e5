/** What a receiver does with a CHUNK, in the order of wire.md: a bare socket says the frames, byte by byte if need be. */
import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { crc32c } from "../../../transport/kv/crc32c.ts";
import type { PlacementId } from "../../../transport/link/link.ts";
import type { LinkLimits } from "../../../transport/link/native-link.ts";
import { readGolden } from "../../golden/golden.ts";
import { chunkFrame, dialRawControl, dialRawLane, headerOf, type RawPeer, trailerOf } from "../raw.ts";
import { type End, settled } from "./end.ts";
import { Memory } from "./memory.ts";
import { numberOf, openListener, type Suite, TOKEN } from "./pair.ts";
import { plainShape, type Shape } from "./shapes.ts";

const GRANT = 5;
const CHUNK_BYTES = 200_000;

interface Stage {
  readonly b: End;
  readonly lanes: readonly RawPeer[];
  readonly memory: Memory;
  readonly into: PlacementId;
  readonly shape: Shape;
  /** The payload of a chunk as the test's sender has it; committed content the memory is told to expect. */
  readonly payload: (chunk: number, seed?: number) => Uint8Array;
  readonly expect: (chunk: number, payload: Uint8Array) => void;
}

interface StageOptions {
  readonly checksum?: boolean;
  readonly chunkBytes?: number;
  readonly limits?: Partial<LinkLimits>;
}

async function openStage(t: TestContext, suite: Suite, lanes = 1, options: StageOptions = {}): Promise<Stage> {
  const { b, endpoint } = await openListener(t, suite, options.limits);
  await dialRawControl(t, endpoint, suite.tls);
  const { connection } = await b.event("accepted");
  b.link.admitLanes(connection, TOKEN);
  const peers: RawPeer[] = [];
  for (let lane = 0; lane < lanes; lane++) peers.push(await dialRawLane(t, endpoint, TOKEN, lane, suite.tls));
  const { chunkBytes = CHUNK_BYTES, checksum = true } = options;
  const shape = plainShape(4, chunkBytes);
  const memory = new Memory(shape.bytes, 3);
  const into = b.place({
    ...shape.receiver,
    direction: "in",
    connection,
    grant: GRANT,
    generation: 1,
    region: memory.region,
    chunks: shape.chunks,
    checksum,
  });
  return {
    b,
    lanes: peers,
    memory,
    into,
    shape,
    payload: (chunk, seed = 1) => Uint8Array.from({ length: chunkBytes }, (_, at) => (at * 7 + chunk + seed * 31) & 0xff),
    expect: (chunk, payload) => memory.write(64 + chunk * chunkBytes, payload),
  };
}

const fields = (chunk: number, sequence = 1) => ({ grant: GRANT, generation: 1, chunk, sequence });

async function answer(lane: RawPeer): Promise<readonly [string, number, number]> {
  const { header } = await lane.frame();
  return [header.type, header.chunk, header.status];
}

export function arrivalTests(suite: Suite): void {
  test("golden frames get their answers", async (t) => {
    for (const { name, means, bytes } of readGolden("frame")) {
      const { b, lanes, memory } = await openStage(t, suite, 1, { chunkBytes: 256, checksum: name !== "frame-unchecked" });
      lanes[0]?.say(bytes);
      const { header } = await (lanes[0] as RawPeer).frame();
      const { type, status } = (means as { answer: { type: string; status: number } }).answer;
      assert.deepEqual([header.type, header.status, header.grant, header.generation, header.sequence], [type, status, GRANT, 1, 1], name);
      if (type === "ack") {
        await b.event("committed");
        memory.write(64, Buffer.from(means?.["payload"] as string, "hex"));
        memory.check(name);
      } else assert.equal((await b.event("rejected")).code, status, name);
    }
  });

  test("frames in single bytes, and many frames in one write", async (t) => {
    const { b, lanes, memory, payload, expect } = await openStage(t, suite, 1, { chunkBytes: 60 });
    const [lane] = lanes as [RawPeer];
    for (const byte of chunkFrame(fields(0), payload(0))) lane.say(Uint8Array.of(byte));
    assert.deepEqual(await answer(lane), ["ack", 0, 0]);
    lane.say(
      ...[1, 2, 3].map((chunk) => chunkFrame(fields(chunk), payload(chunk))),
      headerOf({ type: "ping", grant: 9, chunk: 8, sequence: 7 }),
    );
    for (const chunk of [1, 2, 3]) assert.deepEqual(await answer(lane), ["ack", chunk, 0]);
    const { header } = await lane.frame();
    assert.deepEqual([header.type, header.grant, header.chunk, header.sequence], ["pong", 9, 8, 7]);
    await b.eventCount(4, "committed");
    for (const chunk of [0, 1, 2, 3]) expect(chunk, payload(chunk));
    memory.check("all four");
  });

  test("a wrong checksum is refused, and the chunk can come again", async (t) => {
    const { b, lanes, memory, payload, expect } = await openStage(t, suite);
    const [lane] = lanes as [RawPeer];
    const frame = chunkFrame(fields(1), payload(1));
    for (const at of [48, 48 + CHUNK_BYTES - 1, frame.length - 8]) {
      const flipped = Buffer.from(frame);
      flipped[at] = (flipped[at] as number) ^ 0x10;
      lane.say(flipped);
      assert.deepEqual(await answer(lane), ["nack", 1, numberOf("checksum_mismatch")]);
    }
    await b.eventCount(3, "rejected", { chunk: 1, code: numberOf("checksum_mismatch") });
    lane.say(chunkFrame(fields(1, 4), payload(1)));
    assert.deepEqual(await answer(lane), ["ack", 1, 0]);
    await b.event("committed", { chunk: 1 });
    expect(1, payload(1));
    memory.check("chunk 1 only");
  });

  test("a chunk that is being written is busy, and another lane's copy leaves no byte", async (t) => {
    const { b, lanes, memory, payload, expect, into } = await openStage(t, suite, 2);
    const [first, second] = lanes as [RawPeer, RawPeer];
    const frame = chunkFrame(fields(0), payload(0));
    first.say(frame.subarray(0, 100_000));
    await settled(() => memory.view[64 + 90_000] === payload(0)[90_000], "the first lane writes");
    second.say(chunkFrame(fields(0, 2), payload(0, 5)));
    assert.deepEqual(await answer(second), ["nack", 0, numberOf("chunk_busy")]);
    second.say(chunkFrame(fields(1), payload(1)));
    assert.deepEqual(await answer(second), ["ack", 1, 0]);
    first.say(frame.subarray(100_000));
    assert.deepEqual(await answer(first), ["ack", 0, 0]);
    second.say(chunkFrame(fields(0, 9), payload(0, 6)));
    assert.deepEqual(await answer(second), ["ack", 0, numberOf("duplicate_chunk")]);
    await b.eventCount(2, "committed", { placement: into });
    for (const chunk of [0, 1]) expect(chunk, payload(chunk));
    memory.check("two chunks, once each");
  });

  test("a lane that dies in the middle of a chunk frees its slot", async (t) => {
    const { b, lanes, memory, payload, expect, into } = await openStage(t, suite, 2);
    const [first, second] = lanes as [RawPeer, RawPeer];
    first.say(chunkFrame(fields(2), payload(2, 9)).subarray(0, 50_000));
    await settled(() => memory.view[64 + 2 * CHUNK_BYTES + 40_000] === payload(2, 9)[40_000], "the first lane writes");
    first.reset();
    await b.event("laneDown", { lane: 0 });
    second.say(chunkFrame(fields(2, 2), payload(2)));
    assert.deepEqual(await answer(second), ["ack", 2, 0]);
    await b.event("committed", { placement: into, chunk: 2 });
    expect(2, payload(2));
    memory.check("the second lane's copy");
  });

  test("lanes that die in the middle of chunks leave room for others' events", async (t) => {
    const { b, lanes, memory, payload, expect } = await openStage(t, suite, 8, { limits: { completionsMax: 4 } });
    const last = lanes[7] as RawPeer;
    for (const [lane, peer] of lanes.slice(0, 7).entries()) {
      const chunk = lane % 4;
      const seed = 10 + lane;
      peer.say(chunkFrame(fields(chunk), payload(chunk, seed)).subarray(0, 50_000));
      await settled(() => memory.view[64 + chunk * CHUNK_BYTES + 40_000] === payload(chunk, seed)[40_000], `lane ${lane} writes`);
      peer.reset();
      await b.event("laneDown", { lane });
    }
    for (const chunk of [0, 1, 2, 3]) {
      last.say(chunkFrame(fields(chunk, 2), payload(chunk)));
      assert.deepEqual(await answer(last), ["ack", chunk, 0]);
      expect(chunk, payload(chunk));
    }
    memory.check("the last lane's chunks");
  });

  test("a grant that is revoked in the middle of a chunk: the rest is thrown away", async (t) => {
    const { b, lanes, memory, payload, into } = await openStage(t, suite, 2);
    const [first, second] = lanes as [RawPeer, RawPeer];
    const frame = chunkFrame(fields(3), payload(3));
    first.say(frame.subarray(0, 60_000));
    await settled(() => memory.view[64 + 3 * CHUNK_BYTES + 50_000] === payload(3)[50_000], "the lane writes");
    // The peer says nothing more: revoking waits for nobody.
    await b.revoke(into);
    memory.write(0, new Uint8Array(memory.region.bytes).fill(0x77));
    first.say(frame.subarray(60_000));
    assert.deepEqual(await answer(first), ["nack", 3, numberOf("grant_unknown")]);
    second.say(chunkFrame(fields(0), payload(0)));
    assert.deepEqual(await answer(second), ["nack", 0, numberOf("grant_unknown")]);
    memory.check("nothing lands after revoked");
    assert.equal(b.all("committed").length + b.all("rejected").length, 0);
    assert.equal(b.all("laneDown").length, 0);
    b.check();
  });

  test("a chunk that was abandoned is refused and frees its slot", async (t) => {
    const { b, lanes, memory, payload, expect } = await openStage(t, suite);
    const [lane] = lanes as [RawPeer];
    const header = headerOf({ type: "chunk", checksum: true, ...fields(0), bytes: CHUNK_BYTES });
    // Even if the checksum happens to be right.
    lane.say(header, payload(0, 2), trailerOf(crc32c(payload(0, 2)), 1));
    assert.deepEqual(await answer(lane), ["nack", 0, numberOf("cancelled")]);
    await b.event("rejected", { code: numberOf("cancelled") });
    lane.say(chunkFrame(fields(0, 2), payload(0)));
    assert.deepEqual(await answer(lane), ["ack", 0, 0]);
    await b.event("committed");
    expect(0, payload(0));
    memory.check("the second attempt");
  });

  violationTests(suite);
}

function violationTests(suite: Suite): void {
  const wrong: readonly (readonly [string, Uint8Array])[] = [
    ["a chunk index beyond the grant", chunkFrame(fields(4), new Uint8Array(CHUNK_BYTES))],
    ["a chunk of fewer bytes", chunkFrame(fields(0), new Uint8Array(CHUNK_BYTES - 1))],
    ["a chunk of more bytes", chunkFrame(fields(0), new Uint8Array(CHUNK_BYTES + 1))],
    ["a chunk of sequence 0", chunkFrame(fields(0, 0), new Uint8Array(CHUNK_BYTES))],
    ["a chunk without the checksum that was agreed", chunkFrame({ ...fields(0), checksum: false }, new Uint8Array(CHUNK_BYTES))],
    ["an ACK of a chunk that was never sent", headerOf({ type: "ack", ...fields(0) })],
    ["a NACK of a chunk that was never sent", headerOf({ type: "nack", ...fields(0), status: 43 })],
    ...readGolden("header")
      .filter(({ means }) => means === undefined)
      .map(({ name, bytes }) => [`golden ${name}`, bytes] as const),
    ["the preamble again", Uint8Array.from(readGolden("preamble").find(({ name }) => name === "preamble-lane")?.bytes ?? [])],
  ];
  for (const [name, bytes] of wrong) {
    test(`closes the lane, writes nothing: ${name}`, async (t) => {
      const { b, lanes, memory, payload, expect } = await openStage(t, suite, 2);
      const [bad, good] = lanes as [RawPeer, RawPeer];
      bad.say(bytes);
      await bad.closed();
      assert.equal((await b.event("laneDown", { lane: 0 })).code, numberOf("protocol_error"));
      good.say(chunkFrame(fields(0), payload(0)));
      assert.deepEqual(await answer(good), ["ack", 0, 0]);
      await b.event("committed");
      expect(0, payload(0));
      memory.check(name);
      assert.equal(b.all("disconnected").length, 0, "the connection and its other lanes stay");
    });
  }
}
