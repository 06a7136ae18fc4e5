/**
 * What TLS makes of a stream on its way: sockets with tiny buffers, networks that split, change or cut what they carry, keys that wear out, bytes that
 * wait decrypted while the socket is empty. Native and JavaScript links; every byte of both memories is compared.
 */
import assert from "node:assert/strict";
import { describe, test, type TestContext } from "node:test";
import { connect } from "node:tls";
import type { LaneOptions, PlacementId } from "../../transport/link/link.ts";
import { crc32c } from "../../transport/kv/crc32c.ts";
import { encodeControl, encodePreamble } from "../../transport/link/frame.ts";
import type { LinkLimits } from "../../transport/link/native-link.ts";
import { CIPHERS } from "../../transport/tls/options.ts";
import { readGolden } from "../golden/golden.ts";
import { bareTls, tlsMaterial } from "./certificates.ts";
import { Memory } from "./conformance/memory.ts";
import { everyChunk, expectChunks, finish, LANE, numberOf, openLane, type Pair, placeBoth, send, TOKEN } from "./conformance/pair.ts";
import { flatShape, plainShape, SHAPES } from "./conformance/shapes.ts";
import { chunkFrame, dialRawControl, dialRawLane, RawPeer } from "./raw.ts";
import { type Kind, KINDS, meet, openEnd, openListening, PAIRINGS } from "./tls-ends.ts";
import { startWire, type Wire } from "./wire.ts";

interface StageOptions {
  readonly dialler: Kind;
  readonly listener: Kind;
  readonly limits?: Partial<LinkLimits>;
  readonly lane?: LaneOptions;
  readonly lanes?: number;
}

/** A pair whose sockets, the control connection's first, go through a wire. */
async function openStage(
  t: TestContext,
  { dialler, listener, limits, lane = LANE, lanes = 1 }: StageOptions,
): Promise<Pair & { wire: Wire }> {
  const { b, endpoint } = await openListening(t, listener, tlsMaterial(), limits);
  const wire = await startWire(t, endpoint);
  const a = await openEnd(t, dialler, tlsMaterial(), limits);
  const { atA, atB } = await meet(a, b, wire.endpoint);
  const pair = { a, b, atA, atB, endpoint, proxy: undefined as never, wire };
  for (let index = 0; index < lanes; index++) await openLane(pair, index, lane);
  return pair;
}

/** A KeyUpdate: four bytes of a message and one of its length, its type, its tag, and nothing else is as short. */
const isKeyUpdate = ({ type, bytes }: Wire["records"][number]): boolean => type === 23 && bytes === 22;

for (const { dialler, listener, name } of PAIRINGS) {
  describe(`streams over TLS, ${name}`, () => {
    test("bytes that come in any pieces", async (t) => {
      const stage = await openStage(t, { dialler, listener, lanes: 2 });
      stage.wire.split = [1, 3, 2, 500, 5, 17, 1_400];
      const transfers = SHAPES.flatMap((shape) => [placeBoth(stage, shape), placeBoth(stage, shape, { backwards: true })]);
      await Promise.all(transfers.map((transfer) => send(transfer)));
      assert.ok(stage.a.link.send(stage.atA, new Uint8Array(70_000).fill(9)));
      assert.ok(stage.b.link.send(stage.atB, new Uint8Array(70_000).fill(8)));
      assert.equal((await stage.b.event("message")).bytes.length, 70_000);
      assert.equal((await stage.a.event("message")).bytes.length, 70_000);
      await finish(stage, transfers);
    });

    test("a byte that changes on its way ends the lane; nothing of it counts", async (t) => {
      const stage = await openStage(t, { dialler, listener, lanes: 0 });
      // In the first chunk's payload, behind the handshake.
      stage.wire.harm = { connection: 1, at: 60_000 };
      await openLane(stage, 0);
      const transfer = placeBoth(stage, plainShape(3, 100_000));
      stage.a.submit(transfer.out, [0, 1, 2]);
      await stage.b.event("laneDown", { lane: 0 });
      await stage.a.eventCount(3, "failed", { code: numberOf("lane_lost") });
      assert.equal(stage.b.all("committed").length, 0);
      await openLane(stage, 1);
      await send(transfer, [0, 1, 2], 2);
      await finish(stage, [transfer]);
    });

    test("a lane that is cut within a record fails what was under way", async (t) => {
      const stage = await openStage(t, { dialler, listener, lanes: 0 });
      stage.wire.harm = { connection: 1, at: 150_000, cut: true };
      await openLane(stage, 0);
      const transfer = placeBoth(stage, plainShape(4, 100_000));
      stage.a.submit(transfer.out, [0, 1, 2, 3]);
      await stage.a.event("laneDown", { lane: 0 });
      await stage.b.event("laneDown", { lane: 0 });
      await stage.a.until(() => stage.a.all("acked").length + stage.a.all("failed").length === 4, "an event for every chunk");
      const missing = stage.a.all("failed").map(({ chunk }) => chunk);
      assert.ok(missing.length >= 3);
      await openLane(stage, 1);
      // Some of them may be in place: then it was the answer that was lost.
      stage.a.submit(transfer.out, missing, 2);
      await stage.a.eventCount(missing.length, "acked", { sequence: 2 });
      await stage.b.eventCount(4, "committed");
      expectChunks(transfer, [0, 1, 2, 3]);
      await finish(stage, [transfer]);
    });
  });
}

for (const kind of KINDS) {
  describe(`a ${kind} receiver over TLS`, () => {
    test("a burst is taken to its end, though the socket has nothing more to tell of", async (t) => {
      const tls = tlsMaterial();
      const { b, endpoint } = await openListening(t, kind, tls);
      await dialRawControl(t, endpoint, tls);
      const { connection } = await b.event("accepted");
      b.link.admitLanes(connection, TOKEN);
      const lane = await dialRawLane(t, endpoint, TOKEN, 0, tls);
      // Around what a lane takes in one turn, and what one look into the socket brings.
      for (const [index, bytes] of [1_040_000, 1_048_576, 1_200_000, 1_310_720, 2_100_000, 2_621_440].entries()) {
        const into = placeFor(b, connection, 100 + index, bytes);
        const payload = new Uint8Array(bytes).fill(index);
        lane.say(chunkFrame({ grant: 100 + index, generation: 1, chunk: 0 }, payload));
        await b.event("committed", { placement: into });
        assert.equal((await lane.frame()).header.type, "ack");
        await b.revoke(into);
      }
    });

    for (const cipher of CIPHERS.split(":")) {
      test(`speaks ${cipher}`, async (t) => {
        const tls = tlsMaterial();
        const { b, endpoint } = await openListening(t, kind, tls);
        const socket = connect({ ...endpoint, ...bareTls(tls), ciphers: cipher });
        t.after(() => socket.destroy());
        const peer = new RawPeer(socket);
        peer.say(encodePreamble({ version: 1, kind: "control", lane: 0, token: new Uint8Array(16) }));
        const { connection, peer: known } = await b.event("accepted");
        assert.equal(known?.cipher, cipher);
        const content = Uint8Array.from({ length: 100_000 }, (_, at) => at % 251);
        peer.say(encodeControl(content, crc32c));
        assert.equal(Buffer.compare((await b.event("message")).bytes, content), 0);
        assert.ok(b.link.send(connection, content));
        assert.equal(Buffer.compare(await peer.message(), content), 0);
      });
    }

    test("a preamble, messages and the end of the handshake in one segment", async (t) => {
      const tls = tlsMaterial();
      const { b, endpoint } = await openListening(t, kind, tls);
      const peer = await dialRawControl(t, endpoint, tls);
      const ping = readGolden().find((one) => one.name === "control-ping")?.bytes ?? assert.fail("no golden ping");
      for (let count = 0; count < 50; count++) peer.say(ping);
      await b.eventCount(50, "message");
    });
  });
}

function placeFor(b: Parameters<typeof finish>[0]["b"], connection: number, grant: number, bytes: number): PlacementId {
  const shape = plainShape(1, bytes);
  const memory = new Memory(shape.bytes, grant);
  const { receiver, chunks } = shape;
  return b.place({ ...receiver, direction: "in", connection, grant, generation: 1, region: memory.region, chunks, checksum: true });
}

describe("native streams over TLS", { skip: KINDS.includes("tcp") ? false : "no addon" }, () => {
  test("sockets with small buffers take little at a time, both ways at once", async (t) => {
    const lane = { ...LANE, socketBufferBytes: 32_768 };
    const stage = await openStage(t, { dialler: "tcp", listener: "tcp", lane, lanes: 2 });
    const shapes = [plainShape(6, 400_000), flatShape(40, 3_000, 7_000)];
    const transfers = shapes.flatMap((shape) => [placeBoth(stage, shape), placeBoth(stage, shape, { backwards: true })]);
    await Promise.all(transfers.map((transfer) => send(transfer)));
    await finish(stage, transfers);
  });

  for (const listener of KINDS) {
    test(`keys are changed before they wear out, ${listener} listens`, async (t) => {
      const { b, endpoint } = await openListening(t, listener, tlsMaterial());
      const wire = await startWire(t, endpoint);
      const a = await openEnd(t, "tcp", tlsMaterial(), { tlsRecordsPerKey: 3 });
      const { atA, atB } = await meet(a, b, wire.endpoint);
      const pair = { a, b, atA, atB, endpoint, proxy: undefined as never };
      for (const lane of [0, 1]) await openLane(pair, lane);
      const shapes = [plainShape(4, 300_000), flatShape(30, 5_000, 8_000)];
      const transfers = shapes.flatMap((shape) => [placeBoth(pair, shape), placeBoth(pair, shape, { backwards: true })]);
      await Promise.all(transfers.map((transfer) => send(transfer)));
      for (let count = 0; count < 10; count++) assert.ok(a.link.send(atA, Uint8Array.of(count)));
      await b.eventCount(10, "message");
      await finish(pair, transfers);
      const [all, updates] = [wire.records.filter(({ type }) => type === 23), wire.records.filter(isKeyUpdate)];
      assert.ok(updates.length >= all.length / 5, `${updates.length} changes in ${all.length} records`);
    });
  }

  test("no key is changed where none wears out", async (t) => {
    const stage = await openStage(t, { dialler: "tcp", listener: "tcp" });
    const transfer = placeBoth(stage, plainShape(4, 300_000));
    await send(transfer);
    await finish(stage, [transfer]);
    assert.equal(stage.wire.records.filter(isKeyUpdate).length, 0);
    const full = stage.wire.records.filter(({ bytes }) => bytes === 16_384 + 17).length;
    assert.ok(full >= 4 * Math.floor(300_000 / 16_384), "payload goes in whole records");
  });
});

test("a JavaScript lane whose key wears out ends, and its chunks go over the next", async (t) => {
  const { b, endpoint } = await openListening(t, "js", tlsMaterial());
  const a = await openEnd(t, "js", tlsMaterial(), { tlsRecordsPerKey: 40 });
  const { atA, atB } = await meet(a, b, endpoint);
  const pair = { a, b, atA, atB, endpoint, proxy: undefined as never };
  const transfer = placeBoth(pair, plainShape(12, 100_000));
  const isAcked = (chunk: number): boolean => a.all("acked", { chunk }).length > 0;
  const missing = (): number[] => transfer.shape.chunks.map((_, chunk) => chunk).filter((chunk) => !isAcked(chunk));
  const isDown = (lane: number): boolean => a.all("laneDown", { lane }).length > 0;
  let lanes = 0;
  for (let sequence = 1; missing().length > 0; sequence++) {
    if (lanes === 0 || isDown(lanes - 1)) await openLane(pair, lanes++);
    const some = missing().slice(0, 3);
    a.submit(transfer.out, some, sequence);
    await a.until(() => some.every(isAcked) || isDown(lanes - 1), "the lane to end, or these to be done");
  }
  assert.ok(lanes > 1 && a.all("laneDown").every(({ code }) => code === numberOf("lane_lost")));
  await b.eventCount(12, "committed");
  expectChunks(transfer, everyChunk(transfer.shape));
  await finish(pair, [transfer]);
});
