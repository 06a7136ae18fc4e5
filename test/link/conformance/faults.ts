/** Bad networks: a proxy flips, cuts, splits, delays, swallows. Whatever it does, bytes are right or missing, and every chunk has its event. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { settled } from "./end.ts";
import { everyChunk, expectChunks, finish, numberOf, openLane, openPair, placeBoth, send, type Suite } from "./pair.ts";
import { flatShape, plainShape } from "./shapes.ts";

const HEADER_BYTES = 48;
/** Preamble and header come before the payload of a lane's first chunk. */
const FIRST_PAYLOAD = 48 + HEADER_BYTES;

export function faultTests(suite: Suite): void {
  for (const offset of [0, 1, 50_000, 99_999]) {
    test(`a bit of payload byte ${offset} flips: the chunk is refused, and right at the second attempt`, async (t) => {
      const pair = await openPair(t, suite, { lanes: 0, proxy: true });
      pair.proxy.planLane(0, "out", { flip: { offset: FIRST_PAYLOAD + offset, bit: offset % 8 } });
      await openLane(pair, 0);
      const transfer = placeBoth(pair, plainShape(2, 100_000));
      pair.a.submit(transfer.out, [0, 1]);
      const failed = await pair.a.event("failed", { placement: transfer.out });
      assert.deepEqual([failed.chunk, failed.sequence, failed.code], [0, 1, numberOf("checksum_mismatch")]);
      assert.equal((await pair.b.event("rejected", { placement: transfer.into })).code, numberOf("checksum_mismatch"));
      await pair.a.event("acked", { chunk: 1 });
      await pair.b.event("committed", { chunk: 1 });
      await send(transfer, [0], 2);
      expectChunks(transfer, [1]);
      await finish(pair, [transfer]);
    });
  }

  for (const [name, offset] of [
    ["header", 48 + 20],
    ["trailer", FIRST_PAYLOAD + 100_000],
  ] as const) {
    test(`a bit of a ${name} flips`, async (t) => {
      const pair = await openPair(t, suite, { lanes: 0, proxy: true });
      pair.proxy.planLane(0, "out", { flip: { offset, bit: 3 } });
      await openLane(pair, 0);
      const transfer = placeBoth(pair, plainShape(6, 100_000));
      pair.a.submit(transfer.out, everyChunk(transfer.shape));
      await pair.a.event("failed", { chunk: 0 });
      await openLane(pair, 1);
      await pair.a.until(() => pair.a.all("acked").length + pair.a.all("failed").length === 6, "an event for every chunk");
      const failed = pair.a.all("failed");
      const code = name === "header" ? "lane_lost" : "checksum_mismatch";
      assert.ok(failed.length > 0 && failed.every((event) => event.code === numberOf(code)), pair.a.describe());
      if (name === "header") assert.equal((await pair.b.event("laneDown", { lane: 0 })).code, numberOf("protocol_error"));
      const missing = failed.map(({ chunk }) => chunk);
      await send(transfer, missing, 2);
      await pair.b.eventCount(6, "committed");
      expectChunks(transfer, everyChunk(transfer.shape));
      await finish(pair, [transfer]);
    });
  }

  test("a lane is cut in the middle of a chunk: the chunk fails and goes over another lane", async (t) => {
    const pair = await openPair(t, suite, { lanes: 0, proxy: true });
    pair.proxy.planLane(0, "out", { cutAt: FIRST_PAYLOAD + 70_000 });
    await openLane(pair, 0);
    const transfer = placeBoth(pair, plainShape(4, 100_000));
    pair.a.submit(transfer.out, everyChunk(transfer.shape));
    await pair.a.event("laneDown", { lane: 0 });
    await pair.b.event("laneDown", { lane: 0 });
    await openLane(pair, 1);
    await pair.a.until(() => pair.a.all("acked").length + pair.a.all("failed").length === 4, "an event for every chunk");
    const failed = pair.a.all("failed");
    assert.ok(failed.some(({ chunk }) => chunk === 0) && failed.every(({ code, lane }) => code === numberOf("lane_lost") && lane === 0));
    await send(
      transfer,
      failed.map(({ chunk }) => chunk),
      2,
    );
    await pair.b.eventCount(4, "committed");
    expectChunks(transfer, everyChunk(transfer.shape));
    await finish(pair, [transfer]);
  });

  test("an acknowledgement that is lost makes a duplicate, not a second commit", async (t) => {
    const pair = await openPair(t, suite, { lanes: 0, proxy: true });
    // The confirmation passes, the first answer does not.
    pair.proxy.planLane(0, "in", { cutAt: HEADER_BYTES });
    await openLane(pair, 0);
    await openLane(pair, 1);
    pair.a.link.closeLane(pair.atA, 1);
    await pair.b.event("laneDown", { lane: 1 });
    const transfer = placeBoth(pair, plainShape(1, 50_000));
    pair.a.submit(transfer.out, [0]);
    await pair.a.event("failed", { code: numberOf("lane_lost") });
    await pair.b.event("committed");
    await openLane(pair, 2);
    pair.a.submit(transfer.out, [0], 2);
    await pair.a.event("acked", { sequence: 2 });
    assert.equal(pair.b.all("committed").length, 1);
    expectChunks(transfer, [0]);
    await finish(pair, [transfer]);
  });

  test("the control connection is cut: lanes and chunks end with it", async (t) => {
    const pair = await openPair(t, suite, { lanes: 2, proxy: true });
    const shape = flatShape(60, 60_000, 60_000);
    const transfer = placeBoth(pair, shape);
    pair.a.submit(transfer.out, everyChunk(shape));
    await pair.a.event("acked");
    pair.proxy.control.cut();
    assert.equal((await pair.a.event("disconnected")).code, numberOf("connection_lost"));
    assert.equal((await pair.b.event("disconnected")).code, numberOf("connection_lost"));
    assert.equal(pair.a.all("laneDown", { code: numberOf("lane_lost") }).length, 2);
    assert.equal(pair.a.all("acked").length + pair.a.all("failed").length, 60);
    await pair.a.revoke(transfer.out);
    await pair.b.revoke(transfer.into);
    const committed = pair.b.all("committed").map(({ chunk }) => chunk);
    expectChunks(transfer, committed);
    transfer.target.checkOutside(
      shape.receiver,
      shape.chunks.filter((_, chunk) => !committed.includes(chunk)),
      "outside the chunks",
    );
  });

  test("writes of one to a few bytes, and delay", async (t) => {
    const pair = await openPair(t, suite, { lanes: 0, proxy: true });
    pair.proxy.planLane(0, "out", { split: [1, 2, 47, 3, 8, 1, 1000] });
    pair.proxy.planLane(0, "in", { split: [1, 5, 46] });
    pair.proxy.planLane(1, "out", { delayMs: 3, split: [7] });
    pair.proxy.control.setFault("out", { split: [1] });
    await openLane(pair, 0);
    await openLane(pair, 1);
    const transfers = [placeBoth(pair, flatShape(20, 700, 500)), placeBoth(pair, flatShape(10, 900, 1_100), { backwards: true })];
    assert.equal(pair.a.link.send(pair.atA, new Uint8Array(2_000).fill(5)), true);
    await Promise.all(transfers.map((transfer) => send(transfer)));
    assert.equal((await pair.b.event("message")).bytes.length, 2_000);
    await finish(pair, transfers);
  });

  test("a lane whose bytes are swallowed: revoke and closeLane wait for nobody", async (t) => {
    const pair = await openPair(t, suite, { lanes: 0, proxy: true });
    pair.proxy.planLane(0, "out", { dropFrom: FIRST_PAYLOAD + 10_000 });
    await openLane(pair, 0);
    const transfer = placeBoth(pair, plainShape(3, 100_000));
    pair.a.submit(transfer.out, [0, 1, 2]);
    await settled(() => pair.proxy.lane(0).passed.out > FIRST_PAYLOAD + 20_000, "bytes to leave");
    await pair.a.revoke(transfer.out);
    assert.deepEqual(
      pair.a.all("failed").map(({ code }) => code),
      [8, 8, 8],
    );
    await pair.b.revoke(transfer.into);
    pair.a.link.closeLane(pair.atA, 0);
    await pair.a.event("laneDown", { lane: 0, code: numberOf("closed") });
    transfer.target.checkOutside(
      transfer.shape.receiver,
      [transfer.shape.chunks[0] as { plane: 0; start: 0; bytes: 1 }],
      "outside the first chunk",
    );
    pair.a.check();
    pair.b.check();
  });
}
