/** Lanes: opened with a token, confirmed, closed by either side, watched. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { isError } from "./connections.ts";
import { End } from "./end.ts";
import { expectChunks, LANE, numberOf, openLane, openListener, openPair, placeBoth, send, finish, type Suite, TOKEN } from "./pair.ts";
import { flatShape } from "./shapes.ts";

export function laneTests(suite: Suite): void {
  test("lanes come up at both ends and go down at both", async (t) => {
    const { a, b, atA, atB } = await openPair(t, suite, { lanes: 3 });
    a.link.closeLane(atA, 1);
    assert.equal((await a.event("laneDown", { connection: atA, lane: 1 })).code, numberOf("closed"));
    assert.equal((await b.event("laneDown", { connection: atB, lane: 1 })).code, numberOf("lane_lost"));
    b.link.closeLane(atB, 2);
    assert.equal((await b.event("laneDown", { connection: atB, lane: 2 })).code, numberOf("closed"));
    assert.equal((await a.event("laneDown", { connection: atA, lane: 2 })).code, numberOf("lane_lost"));
    assert.equal(a.all("disconnected").length, 0, "the connection stays");
  });

  test("a lane that went down can be opened again", async (t) => {
    const pair = await openPair(t, suite, { lanes: 1 });
    pair.a.link.closeLane(pair.atA, 0);
    await pair.b.event("laneDown", { lane: 0 });
    await pair.a.event("laneDown", { lane: 0 });
    await openLane(pair, 0);
    const transfer = placeBoth(pair, flatShape(3, 1_000, 1_000));
    await send(transfer);
    await finish(pair, [transfer]);
  });

  test("a lane with a token that nobody admitted does not come up", async (t) => {
    const { a, b, atA } = await openPair(t, suite, { lanes: 0, limits: { preambleTimeoutMs: 1_000 } });
    a.link.openLane(
      atA,
      0,
      TOKEN.map((byte) => byte ^ 1),
      LANE,
    );
    const { code } = await a.event("laneDown", { connection: atA, lane: 0 });
    assert.ok([numberOf("connect_failed"), numberOf("lane_lost")].includes(code), `code ${code}`);
    assert.equal(a.all("laneUp").length + b.all("laneUp").length, 0);
    assert.equal(a.all("disconnected").length, 0);
  });

  test("lanes may be asked for with the connection, and come up when their token is admitted", async (t) => {
    const { b, endpoint } = await openListener(t, suite);
    const a = await End.open("dialler", suite.make);
    t.after(() => a.link.close());
    const atA = a.link.dial(endpoint, 5_000);
    for (let lane = 0; lane < 3; lane++) a.link.openLane(atA, lane, TOKEN, LANE);
    await a.event("connected", { connection: atA });
    const { connection: atB } = await b.event("accepted");
    assert.equal(a.all("laneUp").length + b.all("laneUp").length, 0);
    b.link.admitLanes(atB, TOKEN);
    for (const [end, connection] of [
      [a, atA],
      [b, atB],
    ] as const)
      await end.eventCount(3, "laneUp", { connection });
    const pair = { a, b, atA, atB, endpoint, proxy: undefined as never };
    const transfer = placeBoth(pair, flatShape(9, 1_000, 1_000), { backwards: true });
    await send(transfer);
    await finish(pair, [transfer]);
  });

  test("a lane that waits goes with its connection, and one that is asked for again takes its place", async (t) => {
    const { b, endpoint } = await openListener(t, suite);
    const a = await End.open("dialler", suite.make);
    t.after(() => a.link.close());
    const first = a.link.dial(endpoint, 5_000);
    a.link.openLane(first, 0, TOKEN, LANE);
    await b.event("accepted");
    a.link.closeLane(first, 0);
    await a.event("laneDown", { connection: first, lane: 0 });
    a.link.openLane(first, 0, TOKEN, LANE);
    a.link.disconnect(first);
    await a.event("disconnected", { connection: first });
    assert.equal(a.all("laneDown").length, 2);
    await b.event("disconnected");
    const second = a.link.dial(endpoint, 5_000);
    a.link.openLane(second, 0, TOKEN, LANE);
    await b.eventCount(2, "accepted");
    b.link.admitLanes(b.all("accepted")[1]?.connection ?? 0, TOKEN);
    await a.event("laneUp", { connection: second });
    await b.event("laneUp");
    assert.deepEqual([a.all("laneUp").length, b.all("laneUp").length], [1, 1]);
  });

  test("arguments are checked", async (t) => {
    const { a, atA } = await openPair(t, suite, { lanes: 1, limits: { lanesMax: 4 } });
    assert.throws(() => a.link.openLane(atA, 4, TOKEN, LANE), isError("invalid_argument"));
    assert.throws(() => a.link.openLane(atA, -1, TOKEN, LANE), isError("invalid_argument"));
    assert.throws(() => a.link.openLane(atA, 1, TOKEN.subarray(1), LANE), isError("invalid_argument"));
    assert.throws(() => a.link.openLane(atA, 0, TOKEN, LANE), isError("invalid_argument"), "lane 0 is open");
    assert.throws(() => a.link.openLane(atA, 1, TOKEN, { ...LANE, paceBytesPerSecond: -1 }), isError("invalid_argument"));
    assert.throws(() => a.link.admitLanes(atA, new Uint8Array(15)), isError("invalid_argument"));
  });

  test("the end of a connection takes its lanes with it, first", async (t) => {
    const { a, b, atA, atB } = await openPair(t, suite, { lanes: 2 });
    a.link.disconnect(atA);
    await a.event("disconnected", { connection: atA });
    await b.event("disconnected", { connection: atB });
    // The peer may be quicker to close a lane than we are.
    const codes = a.all("laneDown").map(({ code }) => code);
    assert.ok(codes.length === 2 && codes.every((code) => [numberOf("closed"), numberOf("lane_lost")].includes(code)), String(codes));
    assert.deepEqual(
      b.all("laneDown").map(({ code }) => code),
      [numberOf("lane_lost"), numberOf("lane_lost")],
    );
  });

  test("laneInfo tells of the lanes that are up, and counts their bytes", async (t) => {
    const pair = await openPair(t, suite, { lanes: 2 });
    const transfer = placeBoth(pair, flatShape(8, 10_000, 10_000));
    await send(transfer);
    const [info, other] = [pair.a.link.laneInfo(pair.atA), pair.b.link.laneInfo(pair.atB)];
    assert.deepEqual(
      info.map(({ lane }) => lane).sort((x, y) => x - y),
      [0, 1],
    );
    const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);
    assert.ok(sum(info.map(({ bytesSent }) => bytesSent)) >= 80_000);
    assert.ok(sum(other.map(({ bytesReceived }) => bytesReceived)) >= 80_000);
    for (const lane of [...info, ...other]) {
      for (const [name, value] of Object.entries(lane)) {
        if (typeof value === "number") assert.ok(Number.isFinite(value) && (value as number) >= 0, `${name} is ${value}`);
      }
    }
    for (const { lane, local, remote } of info) {
      const twin = other.find((one) => one.lane === lane);
      assert.deepEqual([twin?.remote, twin?.local], [local, remote], "one end's local address is the other's remote one");
    }
    pair.a.link.closeLane(pair.atA, 0);
    await pair.a.event("laneDown", { lane: 0 });
    assert.deepEqual(
      pair.a.link.laneInfo(pair.atA).map(({ lane }) => lane),
      [1],
    );
    await finish(pair, [transfer]);
  });

  test("a paced lane delivers all, and pace may change on the way", async (t) => {
    const lane = { paceBytesPerSecond: 2_000_000, notSentLowBytes: 16_384, congestionControl: "" };
    const pair = await openPair(t, suite, { lanes: 1, lane });
    const shape = flatShape(40, 10_000, 10_000);
    const transfer = placeBoth(pair, shape);
    const all = shape.chunks.map((_, chunk) => chunk);
    pair.a.submit(transfer.out, all);
    await pair.a.event("acked", { placement: transfer.out });
    pair.a.link.tuneLane(pair.atA, 0, { ...lane, paceBytesPerSecond: 500_000_000 });
    await pair.a.eventCount(40, "acked", { placement: transfer.out });
    await pair.b.eventCount(40, "committed", { placement: transfer.into });
    for (const span of shape.chunks) transfer.target.expectChunk(span, shape.receiver, transfer.source, shape.sender);
    await finish(pair, [transfer]);
  });

  test("a resting lane takes no chunks, at either end, until it rests no more", async (t) => {
    const pair = await openPair(t, suite, { lanes: 2 });
    const { a, b, atA, atB } = pair;
    a.link.restLane(atA, 0, true);
    b.link.restLane(atB, 1, true);
    a.link.restLane(atA, 7, true);
    const [there, back] = [
      placeBoth(pair, flatShape(12, 20_000, 20_000)),
      placeBoth(pair, flatShape(12, 20_000, 20_000), { backwards: true }),
    ];
    await send(there);
    await send(back);
    assert.deepEqual([...new Set(a.all("acked").map(({ lane }) => lane))], [1]);
    assert.deepEqual([...new Set(b.all("acked").map(({ lane }) => lane))], [0]);
    const late = placeBoth(pair, flatShape(5, 30_000, 30_000));
    a.link.restLane(atA, 1, true);
    a.submit(late.out, [0, 1, 2, 3, 4]);
    // Both lanes carry the other direction meanwhile, and the answers to it.
    b.link.restLane(atB, 1, false);
    await send(placeBoth(pair, flatShape(6, 9_000, 9_000), { backwards: true }));
    assert.equal(a.all("acked", { placement: late.out }).length, 0);
    a.link.restLane(atA, 0, false);
    await a.eventCount(5, "acked", { placement: late.out, lane: 0 });
    await b.eventCount(5, "committed", { placement: late.into });
    expectChunks(late, [0, 1, 2, 3, 4]);
    await finish(pair, [there, back, late]);
  });

  test("padding comes before chunks and between them, and is nothing to either end", async (t) => {
    const pair = await openPair(t, suite, { lanes: 1 });
    const { a, b, atA, atB } = pair;
    a.link.padLane(atA, 0, 3_000_000);
    b.link.padLane(atB, 0, 500_000);
    a.link.padLane(atA, 9, 1);
    const [there, back] = [placeBoth(pair, flatShape(12, 20_000, 20_000)), placeBoth(pair, flatShape(12, 700, 700), { backwards: true })];
    await Promise.all([send(there), send(back)]);
    a.link.padLane(atA, 0, 200_000);
    const late = placeBoth(pair, flatShape(3, 100_000, 100_000));
    await send(late);
    assert.equal(b.all("rejected").length + a.all("failed").length, 0);
    await finish(pair, [there, back, late]);
  });
}
