/** Bounds: what does not fit is "full", what waits is held back, and turns are taken. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Rank } from "../../../transport/link/link.ts";
import { isError } from "./connections.ts";
import { everyChunk, expectChunks, finish, openLane, openPair, placeBoth, type Suite } from "./pair.ts";
import { flatShape } from "./shapes.ts";

export function queueTests(suite: Suite): void {
  test("submit takes what the queue holds, and the rest later", async (t) => {
    const pair = await openPair(t, suite, { lanes: 0, limits: { sendQueueChunks: 8 } });
    const shape = flatShape(20, 1_000, 1_000);
    const transfer = placeBoth(pair, shape);
    const batch = everyChunk(shape).map((chunk) => ({ placement: transfer.out, chunk, sequence: 1 }));
    assert.equal(pair.a.trySubmit(batch), 8);
    assert.equal(pair.a.trySubmit(batch.slice(8)), 0);
    assert.equal(pair.a.trySubmit([]), 0);
    await openLane(pair, 0);
    await pair.a.eventCount(8, "acked", { placement: transfer.out });
    for (let at = 8; at < 20; ) {
      at += pair.a.trySubmit(batch.slice(at));
      await pair.a.eventCount(at, "acked", { placement: transfer.out });
    }
    await pair.b.eventCount(20, "committed", { placement: transfer.into });
    expectChunks(transfer, everyChunk(shape));
    await finish(pair, [transfer]);
  });

  test("a batch with a chunk that cannot be is refused whole", async (t) => {
    const pair = await openPair(t, suite, { lanes: 1 });
    const transfer = placeBoth(pair, flatShape(4, 1_000, 1_000));
    const good = { placement: transfer.out, chunk: 0, sequence: 1 };
    const revoked = placeBoth(pair, flatShape(4, 1_000, 1_000));
    await pair.a.revoke(revoked.out);
    const bad = [
      { ...good, chunk: 4 },
      { ...good, sequence: 0 },
      { ...good, placement: revoked.out },
      { ...good, placement: 987_654_321 },
    ];
    for (const send of bad) assert.throws(() => pair.a.link.submit([good, send]), isError("invalid_argument"), JSON.stringify(send));
    assert.throws(() => pair.b.link.submit([{ ...good, placement: transfer.into }]), isError("invalid_argument"));
    await pair.b.revoke(revoked.into);
    assert.equal(pair.a.all("acked").length, 0);
    await finish(pair, [transfer]);
  });

  test("events that nobody takes hold everything back, and lose nothing", async (t) => {
    const pair = await openPair(t, suite, { lanes: 2, limits: { completionsMax: 8, sendQueueChunks: 64 } });
    const shape = flatShape(200, 500, 500);
    const transfer = placeBoth(pair, shape);
    pair.a.polls = pair.b.polls = false;
    let taken = 0;
    for (let turn = 0; pair.a.all("acked").length < 200; turn++) {
      assert.ok(turn < 20_000, `the transfer goes on\n${pair.a.describe()}\n${pair.b.describe()}`);
      const batch = everyChunk(shape).slice(taken, taken + 5);
      taken += pair.a.trySubmit(batch.map((chunk) => ({ placement: transfer.out, chunk, sequence: 1 })));
      assert.ok(taken - pair.a.all("acked").length <= 8, "no more chunks are taken than there is room for their events");
      assert.ok(pair.a.poll(2) <= 2);
      assert.ok(pair.b.poll(1) <= 1);
      if (turn % 2 === 0) await new Promise((resolve) => setTimeout(resolve, 1));
    }
    pair.a.polls = pair.b.polls = true;
    pair.b.poll();
    await pair.b.eventCount(200, "committed", { placement: transfer.into });
    expectChunks(transfer, everyChunk(shape));
    await finish(pair, [transfer]);
  });

  test("poll hands over no more than asked for, in order, and wakes for the rest", async (t) => {
    const pair = await openPair(t, suite, { lanes: 1 });
    const shape = flatShape(30, 100, 100);
    const transfer = placeBoth(pair, shape);
    pair.a.polls = false;
    pair.a.submit(transfer.out, everyChunk(shape));
    await pair.b.eventCount(30, "committed");
    assert.equal(pair.a.poll(0), 0);
    while (pair.a.all("acked").length < 30) {
      assert.ok(pair.a.poll(7) <= 7);
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    assert.deepEqual(
      pair.a.all("acked").map(({ chunk }) => chunk),
      everyChunk(shape),
      "one lane answers in order",
    );
    pair.a.polls = true;
    expectChunks(transfer, everyChunk(shape));
    await finish(pair, [transfer]);
  });

  test("transfers take turns", async (t) => {
    const pair = await openPair(t, suite, { lanes: 0 });
    const shape = flatShape(16, 256 * 1024, 256 * 1024);
    const transfers = [placeBoth(pair, shape), placeBoth(pair, shape)];
    for (const transfer of transfers) pair.a.submit(transfer.out, everyChunk(shape));
    await openLane(pair, 0);
    await pair.b.eventCount(32, "committed");
    const order = pair.b.all("committed").map(({ placement }) => placement);
    const firstHalf = order.slice(0, 16).filter((placement) => placement === transfers[1]?.into).length;
    assert.ok(firstHalf >= 4, `of the first 16 chunks ${firstHalf} are the second transfer's`);
    for (const transfer of transfers) expectChunks(transfer, everyChunk(shape));
    await finish(pair, transfers);
  });

  test("a more urgent transfer goes before what waits, and a less urgent one is not stuck", async (t) => {
    const pair = await openPair(t, suite, { lanes: 0 });
    const shape = flatShape(40, 2 ** 20, 2 ** 20);
    const [slow, normal] = [placeBoth(pair, shape, { rank: 2 }), placeBoth(pair, shape)];
    const urgent = placeBoth(pair, flatShape(4, 2 ** 20, 2 ** 20), { rank: 0 });
    pair.a.submit(slow.out, everyChunk(shape));
    pair.a.submit(normal.out, everyChunk(shape));
    pair.a.submit(urgent.out, [0, 1, 2, 3]);
    await openLane(pair, 0);
    await pair.b.eventCount(84, "committed");
    const order = pair.b.all("committed").map(({ placement }) => placement);
    assert.deepEqual(new Set(order.slice(0, 4)), new Set([urgent.into]));
    const firstSlow = order.indexOf(slow.into);
    assert.ok(firstSlow >= 30 && firstSlow < 43, `the least urgent one has its first turn at ${firstSlow}`);
    expectChunks(slow, everyChunk(shape));
    expectChunks(normal, everyChunk(shape));
    expectChunks(urgent, [0, 1, 2, 3]);
    await finish(pair, [slow, normal, urgent]);
  });

  test("a transfer that becomes urgent takes what is queued of it along", async (t) => {
    const pair = await openPair(t, suite, { lanes: 0 });
    const shape = flatShape(10, 1_000_000, 1_000_000);
    const [first, second] = [placeBoth(pair, shape), placeBoth(pair, shape, { rank: 2 })];
    pair.a.submit(first.out, everyChunk(shape));
    pair.a.submit(second.out, everyChunk(shape));
    pair.a.link.setRank(second.out, 0);
    assert.throws(() => pair.a.link.setRank(second.out, 3 as Rank), isError("invalid_argument"));
    pair.a.link.setRank(987_654_321, 0);
    await openLane(pair, 0);
    await pair.b.eventCount(20, "committed");
    const order = pair.b.all("committed").map(({ placement }) => placement);
    assert.deepEqual(new Set(order.slice(0, 10)), new Set([second.into]));
    for (const transfer of [first, second]) expectChunks(transfer, everyChunk(shape));
    await finish(pair, [first, second]);
  });

  test("a transfer that has sent much more than another takes half turns until that has caught up", async (t) => {
    const pair = await openPair(t, suite, { lanes: 1 });
    const shape = flatShape(28, 2 ** 20, 2 ** 20);
    const [early, late] = [placeBoth(pair, shape), placeBoth(pair, shape)];
    const chunks = everyChunk(shape);
    pair.a.submit(early.out, chunks.slice(0, 16));
    await pair.a.eventCount(16, "acked");
    pair.a.link.closeLane(pair.atA, 0);
    await pair.a.event("laneDown");
    await pair.b.event("laneDown");
    pair.a.submit(early.out, chunks.slice(16));
    pair.a.submit(late.out, chunks);
    await openLane(pair, 1);
    await pair.b.eventCount(56, "committed");
    const order = pair.b.all("committed").map(({ placement }) => placement);
    const firstHalf = order.slice(16, 28).filter((placement) => placement === late.into).length;
    assert.ok(firstHalf >= 7 && firstHalf <= 9, `of the first 12 chunks together ${firstHalf} are the late one's, 8 expected`);
    for (const transfer of [early, late]) expectChunks(transfer, chunks);
    await finish(pair, [early, late]);
  });
}
