/** Chunks that arrive: of every shape, both ways, over many lanes, again, of standing grants. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { everyChunk, expectChunks, finish, numberOf, openPair, placeBoth, send, type Suite } from "./pair.ts";
import { flatShape, plainShape, SHAPES } from "./shapes.ts";

export function chunkTests(suite: Suite): void {
  test("one chunk", async (t) => {
    const pair = await openPair(t, suite);
    const transfer = placeBoth(pair, plainShape(1, 100_000));
    pair.a.submit(transfer.out, [0], 7);
    await pair.a.event("acked", { placement: transfer.out });
    await pair.b.event("committed", { placement: transfer.into });
    expectChunks(transfer, [0]);
    const [acked, committed] = [pair.a.all("acked"), pair.b.all("committed")];
    assert.deepEqual(committed, [{ kind: "committed", placement: transfer.into, chunk: 0, sequence: 7, lane: 0, bytes: 100_000 }]);
    assert.ok(acked.length === 1 && acked[0]?.lane === 0 && acked[0].durationUs >= 0);
    await finish(pair, [transfer]);
  });

  for (const shape of SHAPES) {
    for (const backwards of [false, true]) {
      test(`${shape.name}${backwards ? ", from the listener" : ""}`, async (t) => {
        const pair = await openPair(t, suite, { lanes: 2 });
        const transfer = placeBoth(pair, shape, { backwards });
        await send(transfer);
        await finish(pair, [transfer]);
      });
    }
  }

  test("without checksums", async (t) => {
    const pair = await openPair(t, suite);
    const transfer = placeBoth(pair, flatShape(6, 9_000, 5_000), { checksum: false });
    await send(transfer);
    await finish(pair, [transfer]);
  });

  test("the largest chunk", async (t) => {
    const pair = await openPair(t, suite);
    const transfer = placeBoth(pair, plainShape(1, 16 * 1024 * 1024));
    pair.a.submit(transfer.out, [0]);
    await pair.a.event("acked", { placement: transfer.out });
    const [sent, come] = [transfer.source.view, transfer.target.view];
    assert.equal(Buffer.compare(sent.subarray(64, -64), come.subarray(64, -64)), 0);
  });

  test("many chunks of several transfers, both ways at once, over four lanes", async (t) => {
    const pair = await openPair(t, suite, { lanes: 4 });
    const shapes = [flatShape(64, 9_000, 40_000), flatShape(300, 100, 100), flatShape(9, 300_000, 250_000)];
    const transfers = shapes.flatMap((shape) => [placeBoth(pair, shape), placeBoth(pair, shape, { backwards: true })]);
    await Promise.all(transfers.map((transfer) => send(transfer)));
    const used = new Set(pair.a.all("acked").map(({ lane }) => lane));
    assert.ok(used.size > 1, "more than one lane carried chunks");
    await finish(pair, transfers);
  });

  test("a chunk that is in place already is acknowledged and not written again", async (t) => {
    const pair = await openPair(t, suite, { lanes: 2 });
    const transfer = placeBoth(pair, flatShape(2, 1_000, 1_000));
    await send(transfer);
    transfer.source.write(128, new Uint8Array(1_000).fill(1));
    for (const sequence of [1, 2, 1]) {
      const before = pair.a.all("acked").length;
      pair.a.submit(transfer.out, [0], sequence);
      await pair.a.eventCount(before + 1, "acked", { placement: transfer.out });
    }
    assert.equal(pair.b.all("committed").length, 2, "two chunks were committed, once each");
    await finish(pair, [transfer]);
  });

  test("chunks that a former generation committed are duplicates", async (t) => {
    const pair = await openPair(t, suite);
    const shape = flatShape(3, 1_000, 1_000);
    const transfer = placeBoth(pair, shape, { committed: [0, 2], generation: 4 });
    pair.a.submit(transfer.out, everyChunk(shape));
    await pair.a.eventCount(3, "acked", { placement: transfer.out });
    await pair.b.event("committed", { placement: transfer.into });
    assert.deepEqual(
      pair.b.all("committed").map(({ chunk }) => chunk),
      [1],
    );
    expectChunks(transfer, [1]);
    await finish(pair, [transfer]);
  });

  test("a standing grant's chunk is written again with each higher sequence", async (t) => {
    const pair = await openPair(t, suite, { lanes: 2 });
    const transfer = placeBoth(pair, flatShape(2, 4_096, 4_096), { standing: true });
    for (const sequence of [1, 2, 3, 7]) {
      transfer.source.write(128, new Uint8Array(4_096).fill(sequence));
      await send(transfer, [0], sequence);
      transfer.target.check(`sequence ${sequence}`);
    }
    transfer.source.write(128, new Uint8Array(4_096).fill(99));
    for (const sequence of [7, 6]) {
      const before = pair.a.all("acked").length;
      pair.a.submit(transfer.out, [0], sequence);
      await pair.a.eventCount(before + 1, "acked");
    }
    assert.equal(pair.b.all("committed").length, 4, "an old sequence writes nothing");
    await send(transfer, [1], 1);
    await finish(pair, [transfer]);
  });

  test("a grant of another connection or generation writes nothing", async (t) => {
    const pair = await openPair(t, suite);
    const other = await openPair(t, suite);
    const shape = flatShape(2, 1_000, 1_000);
    const transfer = placeBoth(pair, shape);
    // The dialler's idea of the grant differs from the listener's by connection or by generation.
    const wrong = [
      { end: pair.a, spec: { ...transfer.outSpec, generation: 2 } },
      { end: pair.a, spec: { ...transfer.outSpec, grant: transfer.outSpec.grant + 100_000 } },
      { end: other.a, spec: { ...transfer.outSpec, connection: other.atA } },
    ];
    for (const { end, spec } of wrong) {
      const placement = end.place(spec);
      end.submit(placement, [0, 1]);
      const failed = await end.eventCount(2, "failed", { placement });
      assert.deepEqual(
        failed.map(({ code }) => code),
        [numberOf("grant_unknown"), numberOf("grant_unknown")],
      );
      await end.revoke(placement);
    }
    assert.equal(pair.b.all("committed").length + pair.b.all("rejected").length, 0);
    await send(transfer);
    await finish(pair, [transfer]);
  });

  test("two connections between the same links have grants of their own", async (t) => {
    const { a, b, endpoint, ...pair } = await openPair(t, suite);
    const second = a.link.dial(endpoint, 5_000);
    await a.event("connected", { connection: second });
    const accepted = await b.eventCount(2, "accepted");
    const atB = accepted.map(({ connection }) => connection).find((connection) => connection !== pair.atB) as number;
    const token = new Uint8Array(16).fill(9);
    b.link.admitLanes(atB, token);
    a.link.openLane(second, 0, token, { paceBytesPerSecond: 0, notSentLowBytes: 0, congestionControl: "" });
    await a.event("laneUp", { connection: second });
    await b.event("laneUp", { connection: atB });
    const pairs = [
      { a, b, endpoint, ...pair },
      { a, b, endpoint, proxy: pair.proxy, atA: second, atB },
    ];
    const transfers = pairs.map((one) => placeBoth(one, flatShape(5, 3_000, 2_000), { grant: 42 }));
    await Promise.all(transfers.map((transfer) => send(transfer)));
    await finish(pairs[0] as (typeof pairs)[number], transfers);
  });
}
