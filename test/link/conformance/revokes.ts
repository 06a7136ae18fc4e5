/** Memory that is taken back, at either end, before, during and after it is used. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { everyChunk, expectChunks, finish, numberOf, openPair, openLane, placeBoth, send, type Suite, type Transfer } from "./pair.ts";
import { flatShape, plainShape } from "./shapes.ts";

/** Every chunk has one of these, and no other. */
function outcomes({ from, out }: Transfer): { readonly acked: number; readonly failed: number } {
  return { acked: from.all("acked", { placement: out }).length, failed: from.all("failed", { placement: out }).length };
}

export function revokeTests(suite: Suite): void {
  test("chunks that no lane has taken are cancelled before `revoked`", async (t) => {
    const pair = await openPair(t, suite, { lanes: 0 });
    const shape = flatShape(5, 1_000, 1_000);
    const transfers = [placeBoth(pair, shape), placeBoth(pair, shape)] as const;
    for (const transfer of transfers) pair.a.submit(transfer.out, everyChunk(shape));
    await pair.a.revoke(transfers[0].out);
    const failed = pair.a.all("failed", { placement: transfers[0].out });
    assert.deepEqual(
      failed.map(({ chunk, code }) => [chunk, code]),
      everyChunk(shape).map((chunk) => [chunk, numberOf("cancelled")]),
    );
    assert.ok(pair.a.all("failed").every(({ lane }) => lane === -1));
    await openLane(pair, 0);
    await pair.a.eventCount(5, "acked", { placement: transfers[1].out });
    await pair.b.eventCount(5, "committed", { placement: transfers[1].into });
    expectChunks(transfers[1], everyChunk(shape));
    await pair.b.revoke(transfers[0].into);
    transfers[0].target.check("memory that nothing was sent to");
    await finish(pair, [transfers[1]]);
  });

  test("revoke after all is done", async (t) => {
    const pair = await openPair(t, suite);
    const transfer = placeBoth(pair, flatShape(3, 1_000, 1_000));
    await send(transfer);
    await finish(pair, [transfer]);
    assert.equal(pair.a.all("failed").length, 0);
  });

  for (const side of ["sender", "receiver"] as const) {
    test(`the ${side} takes memory back while chunks are under way`, async (t) => {
      const pair = await openPair(t, suite, { lanes: 3 });
      const shape = flatShape(48, 100_000, 64_000);
      for (let round = 0; round < 6; round++) {
        const transfer = placeBoth(pair, shape, { backwards: round % 2 === 1 });
        const bystander = placeBoth(pair, flatShape(10, 5_000, 5_000));
        transfer.from.submit(transfer.out, everyChunk(shape));
        const others = send(bystander);
        await transfer.from.eventCount(1 + round, "acked", { placement: transfer.out });
        if (side === "sender") await transfer.from.revoke(transfer.out);
        await transfer.to.revoke(transfer.into);
        // From here on the memory is the test's: a late byte would show.
        const snapshot = transfer.target.view.slice();
        await transfer.from.revoke(transfer.out);
        const { acked, failed } = outcomes(transfer);
        assert.equal(acked + failed, shape.chunks.length);
        const codes = new Set(transfer.from.all("failed", { placement: transfer.out }).map(({ code }) => code));
        for (const code of codes) assert.ok([numberOf("cancelled"), numberOf("grant_unknown")].includes(code), `code ${code}`);
        await others;
        await finish(pair, [bystander]);
        assert.equal(Buffer.compare(transfer.target.view, snapshot), 0, "nothing lands after revoked");
        const committed = transfer.to.all("committed", { placement: transfer.into }).map(({ chunk }) => chunk);
        expectChunks(transfer, committed);
        transfer.target.checkOutside(
          shape.receiver,
          shape.chunks.filter((_, chunk) => !committed.includes(chunk)),
          "outside the chunks",
        );
        transfer.source.check("the sender's memory");
      }
      assert.equal(pair.a.all("laneDown").length + pair.b.all("laneDown").length, 0, "lanes outlive what was cancelled");
    });
  }

  test("memory that was taken back can be granted again at once, while chunks of older generations still arrive", async (t) => {
    const pair = await openPair(t, suite, { lanes: 2 });
    const shape = plainShape(32, 32_768);
    const first = placeBoth(pair, shape);
    let { out, into } = first;
    for (let generation = 2; generation < 8; generation++) {
      pair.a.submit(out, everyChunk(shape), generation);
      await pair.a.event("acked", { placement: out });
      await pair.b.revoke(into);
      out = pair.a.place({ ...first.outSpec, generation });
      into = pair.b.place({ ...first.inSpec, generation });
    }
    const last = { ...first, out, into };
    await send(last);
    await finish(pair, [last]);
  });

  test("a placement of a connection that is gone comes back", async (t) => {
    const pair = await openPair(t, suite, { lanes: 2 });
    const shape = flatShape(40, 50_000, 50_000);
    const transfer = placeBoth(pair, shape);
    pair.a.submit(transfer.out, everyChunk(shape));
    await pair.a.event("acked");
    pair.b.link.disconnect(pair.atB);
    await pair.a.event("disconnected");
    const { acked, failed } = outcomes(transfer);
    assert.equal(acked + failed, shape.chunks.length, "every chunk had its event before disconnected");
    assert.ok(pair.a.all("failed").every(({ code }) => code === numberOf("lane_lost")));
    await pair.b.event("disconnected");
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

  test("chunks that wait for a lane fail with their connection, before `disconnected`", async (t) => {
    const pair = await openPair(t, suite, { lanes: 0 });
    const shape = flatShape(5, 1_000, 1_000);
    const transfer = placeBoth(pair, shape);
    pair.a.submit(transfer.out, everyChunk(shape));
    pair.a.link.disconnect(pair.atA);
    await pair.a.event("disconnected");
    assert.deepEqual(
      pair.a.all("failed").map(({ chunk, code }) => [chunk, code]),
      everyChunk(shape).map((chunk) => [chunk, numberOf("lane_lost")]),
    );
    await pair.b.event("disconnected");
    await finish(pair, [transfer]);
  });
}
