/** Peers that do what no peer should: garbage, silence, wrong tokens, other versions, a reader that stops. */
import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { encodePreamble } from "../../../transport/link/frame.ts";
import { limits } from "../../../transport/limits.ts";
import { readGolden } from "../../golden/golden.ts";
import { chunkFrame, dialRaw, dialRawControl, dialRawLane, headerOf, listenRaw, type RawPeer } from "../raw.ts";
import { End } from "./end.ts";
import { Memory } from "./memory.ts";
import { LANE, numberOf, openListener, openPair, placeBoth, send, finish, type Suite, TOKEN } from "./pair.ts";
import { flatShape, plainShape } from "./shapes.ts";

export function hostileTests(suite: Suite): void {
  preambleTests(suite);
  controlTests(suite);
  dialTests(suite);
  answerTests(suite);
}

const golden = (name: string): Uint8Array => readGolden().find((one) => one.name === name)?.bytes ?? assert.fail(`no golden ${name}`);

function preambleTests(suite: Suite): void {
  const wrong: readonly (readonly [string, Uint8Array])[] = [
    ["zeros", new Uint8Array(48)],
    ["HTTP", Buffer.from("GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n")],
    ...readGolden("preamble")
      .filter(({ means }) => means === undefined)
      .map(({ name, bytes }) => [`golden ${name}`, bytes] as const),
    ["a lane of another version", encodePreamble({ version: 2, kind: "lane", lane: 0, token: TOKEN })],
    ["a token that nobody admits", encodePreamble({ version: 1, kind: "lane", lane: 0, token: TOKEN.map((byte) => byte + 1) })],
    ["a lane index beyond the limit", encodePreamble({ version: 1, kind: "lane", lane: limits.lanesMax, token: TOKEN })],
    ["a lane that is there already", encodePreamble({ version: 1, kind: "lane", lane: 0, token: TOKEN })],
  ];
  for (const [name, bytes] of wrong) {
    test(`closed without a word: ${name}`, async (t) => {
      const pair = await openPair(t, suite, { lanes: 1, limits: { preambleTimeoutMs: 1_000 } });
      const peer = await dialRaw(t, pair.endpoint, suite.tls);
      peer.say(bytes);
      await peer.closed();
      assert.equal(peer.comeBytes, 0);
      const transfer = placeBoth(pair, flatShape(2, 1_000, 1_000));
      await send(transfer);
      assert.deepEqual([pair.b.all("accepted").length, pair.b.all("laneUp").length, pair.b.all("laneDown").length], [1, 1, 0]);
      await finish(pair, [transfer]);
    });
  }

  test("a later version is told which versions there are", async (t) => {
    const { b, endpoint } = await openListener(t, suite);
    const peer = await dialRaw(t, endpoint, suite.tls);
    peer.say(golden("preamble-version-2"));
    assert.deepEqual(Buffer.from(await peer.message()), Buffer.from(golden("control-refuse-version").subarray(8)));
    await peer.closed();
    assert.equal(b.all("accepted").length, 0);
  });

  test("a preamble in single bytes is a preamble; what follows at once is not lost", async (t) => {
    const { b, endpoint } = await openListener(t, suite);
    const peer = await dialRaw(t, endpoint, suite.tls);
    for (const byte of golden("preamble-control")) peer.say(Uint8Array.of(byte));
    await b.event("accepted");
    const other = await dialRaw(t, endpoint, suite.tls);
    other.say(golden("preamble-control"), golden("control-ping"), golden("control-ping"));
    await b.eventCount(2, "message");
  });

  test("who says nothing, or half a preamble, is let go", async (t) => {
    const { b, endpoint } = await openListener(t, suite, { preambleTimeoutMs: 100 });
    const [silent, half] = [await dialRaw(t, endpoint, suite.tls), await dialRaw(t, endpoint, suite.tls)];
    half.say(golden("preamble-control").subarray(0, 47));
    await Promise.all([silent.closed(), half.closed()]);
    await b.eventCount(2, "refused", { reason: "timeout" });
    assert.equal(b.all("accepted").length, 0);
  });

  test("only so many may be without a preamble, and they keep nobody else out for ever", async (t) => {
    // Time for a handshake, where there is one.
    const preambleTimeoutMs = suite.tls === undefined ? 150 : 2_000;
    const { b, endpoint } = await openListener(t, suite, { greetingsMax: 4, preambleTimeoutMs });
    const crowd: RawPeer[] = [];
    for (let at = 0; at < 8; at++) crowd.push(await dialRaw(t, endpoint, suite.tls));
    await Promise.all(crowd.map((peer) => peer.closed()));
    const a = await End.open("dialler", suite.make);
    t.after(() => a.link.close());
    a.link.dial(endpoint, 5_000);
    await b.event("accepted");
  });
}

function controlTests(suite: Suite): void {
  for (const { name, bytes, means } of readGolden("control")) {
    if (means !== undefined) continue;
    test(`a control connection is closed: golden ${name}`, async (t) => {
      const { b, endpoint } = await openListener(t, suite);
      const peer = await dialRawControl(t, endpoint, suite.tls);
      const { connection } = await b.event("accepted");
      peer.say(golden("control-ping"), bytes, golden("control-ping"));
      await peer.closed();
      assert.equal((await b.event("disconnected", { connection })).code, numberOf("protocol_error"));
      assert.equal(b.all("message").length, 1, "what came before is good, what came behind is not read");
    });
  }

  test("a control connection that ends in the middle of a message is lost, and the message with it", async (t) => {
    const { b, endpoint } = await openListener(t, suite);
    const peer = await dialRawControl(t, endpoint, suite.tls);
    peer.say(golden("control-ping"), golden("control-ping").subarray(0, 10));
    peer.socket.end();
    assert.equal((await b.event("disconnected")).code, numberOf("connection_lost"));
    assert.equal(b.all("message").length, 1);
  });
}

function dialTests(suite: Suite): void {
  test("disconnect flushes what the peer had not read yet", async (t) => {
    const listener = await listenRaw(t, suite.tls);
    const a = await End.open("dialler", suite.make, { controlMessageBytes: 65_536, controlQueueBytes: 262_144 });
    t.after(() => a.link.close());
    const connection = a.link.dial(listener.endpoint, 5_000);
    const { peer } = await listener.accept();
    await a.event("connected");
    peer.socket.pause();
    let sentBytes = 0;
    for (let refused = 0; refused < 20; ) {
      if (a.link.send(connection, new Uint8Array(65_536))) {
        sentBytes += 65_536 + 8;
        refused = 0;
      } else {
        refused += 1;
        await new Promise((resolve) => setTimeout(resolve, 2));
      }
    }
    a.link.disconnect(connection);
    peer.socket.resume();
    await peer.closed();
    assert.equal(peer.comeBytes, limits.preambleBytes + sentBytes);
    assert.equal((await a.event("disconnected")).code, numberOf("closed"));
  });

  test("a listener that never answers: the connection is there, its lanes do not come up", async (t) => {
    const listener = await listenRaw(t, suite.tls);
    // Over TLS the lane has a handshake to make before it says what it is.
    const a = await End.open("dialler", suite.make, { connectTimeoutMs: suite.tls === undefined ? 100 : 3_000 });
    t.after(() => a.link.close());
    const connection = a.link.dial(listener.endpoint, 5_000);
    await a.event("connected", { connection });
    const { preamble } = await listener.accept();
    assert.deepEqual([preamble.kind, preamble.version], ["control", 1]);
    a.link.openLane(connection, 0, TOKEN, LANE);
    assert.equal((await a.event("laneDown", { connection, lane: 0 })).code, numberOf("connect_timeout"));
    const lane = await listener.accept();
    assert.deepEqual([lane.preamble.kind, lane.preamble.lane, Buffer.from(lane.preamble.token)], ["lane", 0, Buffer.from(TOKEN)]);
    assert.equal(a.all("laneUp").length, 0);
  });

  test("a lane that is confirmed with anything but PONG goes down", async (t) => {
    const listener = await listenRaw(t, suite.tls);
    const a = await End.open("dialler", suite.make);
    t.after(() => a.link.close());
    const connection = a.link.dial(listener.endpoint, 5_000);
    await listener.accept();
    await a.event("connected");
    const greetings = [
      headerOf({ type: "ping" }),
      headerOf({ type: "pong", chunk: 1 }),
      new Uint8Array(48),
      chunkFrame({ grant: 1 }, new Uint8Array(9)),
    ];
    for (const [lane, greeting] of greetings.entries()) {
      a.link.openLane(connection, lane, TOKEN, LANE);
      const { peer } = await listener.accept();
      peer.say(greeting);
      assert.equal((await a.event("laneDown", { lane })).code, numberOf("protocol_error"));
      await peer.closed();
    }
    assert.equal(a.all("laneUp").length, 0);
  });

  test("a host that does not answer is given up in time", async (t) => {
    const a = await End.open("dialler", suite.make);
    t.after(() => a.link.close());
    // TEST-NET-1: no such host answers, wherever this runs; some networks refuse it at once.
    const connection = a.link.dial({ host: "192.0.2.1", port: 9 }, 150);
    const { code } = await a.event("disconnected", { connection });
    assert.ok([numberOf("connect_timeout"), numberOf("connect_failed")].includes(code), `code ${code}`);
  });
}

interface Sending {
  readonly a: End;
  readonly lane: RawPeer;
  readonly source: Memory;
  readonly place: (grant: number, chunks: number, chunkBytes: number, standing?: boolean) => number;
}

/** A link that dialled a bare socket and has one lane to it. */
async function openSending(t: TestContext, suite: Suite, bytes: number): Promise<Sending> {
  const listener = await listenRaw(t, suite.tls);
  const a = await End.open("dialler", suite.make);
  t.after(() => a.link.close());
  const connection = a.link.dial(listener.endpoint, 5_000);
  await listener.accept();
  await a.event("connected");
  a.link.openLane(connection, 0, TOKEN, LANE);
  const { peer: lane } = await listener.accept();
  lane.say(headerOf({ type: "pong" }));
  await a.event("laneUp");
  const source = new Memory(bytes, 11);
  const place = (grant: number, chunks: number, chunkBytes: number): number => {
    const shape = plainShape(chunks, chunkBytes);
    const { sender } = shape;
    return a.place({
      ...sender,
      direction: "out",
      connection,
      grant,
      generation: 1,
      region: source.region,
      chunks: shape.chunks,
      checksum: true,
    });
  };
  return { a, lane, source, place };
}

function answerTests(suite: Suite): void {
  test("a frame on the wire is as wire.md has it", async (t) => {
    const { a, lane, source, place } = await openSending(t, suite, 1_000_000);
    const placement = place(2 ** 53 - 1, 1, 70_000);
    a.submit(placement, [0], 2 ** 32 - 1);
    const { header, payload, trailer } = await lane.frame();
    const payloadSent = source.view.slice(64, 70_064);
    assert.deepEqual(header, {
      type: "chunk",
      checksum: true,
      grant: 2 ** 53 - 1,
      generation: 1,
      chunk: 0,
      bytes: 70_000,
      sequence: 2 ** 32 - 1,
      status: 0,
    });
    assert.equal(Buffer.compare(payload, payloadSent), 0);
    assert.equal(trailer?.verdict, 0);
    const { crc32c } = await import("../../../transport/kv/crc32c.ts");
    assert.equal(trailer.crc, crc32c(payloadSent));
    lane.say(headerOf({ ...header, type: "ack", checksum: false, bytes: 0 }));
    await a.event("acked", { placement, sequence: 2 ** 32 - 1 });
  });

  const wrong = [
    ["the chunk twice", { type: "ack" }, 2],
    ["another chunk", { type: "ack", chunk: 1 }, 1],
    ["another generation", { type: "ack", generation: 2 }, 1],
    ["another grant", { type: "ack", grant: 78 }, 1],
    ["another sequence", { type: "nack", sequence: 2, status: 40 }, 1],
    ["a NACK that means nothing", { type: "nack", status: 0 }, 1],
  ] as const;
  for (const [name, fields, times] of wrong) {
    test(`an answer to what was not sent closes the lane: ${name}`, async (t) => {
      const { a, lane, place } = await openSending(t, suite, 10_000);
      const placement = place(77, 2, 1_000);
      a.submit(placement, [0]);
      const { header } = await lane.frame();
      const answer = headerOf({ ...header, checksum: false, bytes: 0, ...fields });
      for (let time = 0; time < times; time++) lane.say(answer);
      await lane.closed();
      assert.equal((await a.event("laneDown")).code, numberOf("protocol_error"));
      assert.equal(a.all("acked").length + a.all("failed").length, 1);
      await a.revoke(placement);
      a.check();
    });
  }

  test("answers may come in any order", async (t) => {
    const { a, lane, place } = await openSending(t, suite, 100_000);
    const placement = place(77, 6, 1_000);
    a.submit(placement, [0, 1, 2, 3, 4, 5]);
    const headers = [];
    for (let chunk = 0; chunk < 6; chunk++) headers.push((await lane.frame()).header);
    for (const at of [3, 0, 5, 1, 4, 2]) {
      const header = headers[at] as (typeof headers)[number];
      lane.say(headerOf({ ...header, type: at % 2 === 0 ? "ack" : "nack", checksum: false, bytes: 0, status: at % 2 === 0 ? 0 : 40 }));
    }
    await a.eventCount(3, "failed", { code: 40 });
    await a.eventCount(3, "acked");
    await a.revoke(placement);
    a.check();
  });

  test("a chunk that was submitted twice has two events", async (t) => {
    const { a, lane, place } = await openSending(t, suite, 100_000);
    const placement = place(77, 1, 1_000);
    a.submit(placement, [0, 0]);
    const { header } = await lane.frame();
    await lane.frame();
    lane.say(headerOf({ ...header, type: "ack", checksum: false, bytes: 0, status: 41 }));
    lane.say(headerOf({ ...header, type: "nack", checksum: false, bytes: 0, status: 42 }));
    await a.event("failed", { placement, chunk: 0, code: 42 });
    assert.equal(a.all("acked", { placement, chunk: 0 }).length, 1);
    await a.revoke(placement);
    a.check();
  });

  test("a lane leaves at most 4,096 chunks without an answer", async (t) => {
    const { a, lane, place } = await openSending(t, suite, 200_000);
    const placement = place(77, 4_200, 16);
    const chunks = Array.from({ length: 4_200 }, (_, chunk) => chunk);
    a.submit(placement, chunks.slice(0, 4_096));
    const headers = [];
    for (let at = 0; at < 4_096; at++) headers.push((await lane.frame()).header);
    a.submit(placement, chunks.slice(4_096));
    lane.say(headerOf({ type: "ping", chunk: 5 }));
    assert.equal((await lane.frame()).header.type, "pong", "no chunk comes before there is an answer");
    lane.say(...headers.map((header) => headerOf({ ...header, type: "ack", checksum: false, bytes: 0 })));
    for (let at = 4_096; at < 4_200; at++) assert.equal((await lane.frame()).header.chunk, at);
    await a.eventCount(4_096, "acked", { placement });
    await a.revoke(placement);
    a.check();
  });

  test("the sender takes memory back from a peer that reads no more: zeros and a verdict end what was begun", async (t) => {
    const chunkBytes = 8 * 1024 * 1024;
    const { a, lane, source, place } = await openSending(t, suite, 6 * chunkBytes + 128);
    const original = source.view.slice();
    const placement = place(77, 6, chunkBytes);
    lane.socket.pause();
    a.submit(placement, [0, 1, 2, 3, 4, 5]);
    // As much as the kernel's buffers take; then nothing moves, and revoking must not wait for it.
    await new Promise((resolve) => setTimeout(resolve, 200));
    await a.revoke(placement);
    assert.deepEqual(
      a.all("failed").map(({ code }) => code),
      Array.from({ length: 6 }, () => numberOf("cancelled")),
    );
    source.view.fill(0x77);
    lane.socket.resume();
    const next = place(78, 1, 1_000);
    a.submit(next, [0]);
    let frames = 0;
    for (; ; frames++) {
      const { header, payload, trailer } = await lane.frame();
      const { type: _, ...identity } = header;
      if (header.grant === 78) {
        lane.say(headerOf({ ...identity, type: "ack", checksum: false, bytes: 0 }));
        break;
      }
      const sent = original.subarray(64 + header.chunk * chunkBytes, 64 + (header.chunk + 1) * chunkBytes);
      const differs = payload.findIndex((byte, at) => byte !== sent[at]);
      if (trailer?.verdict === 0) assert.equal(differs, -1, "a whole chunk is whole");
      else assert.ok(differs === -1 || payload.subarray(differs).every((byte) => byte === 0), "memory is not read after revoked");
      lane.say(headerOf({ ...identity, type: "nack", checksum: false, bytes: 0, status: numberOf("cancelled") }));
    }
    assert.ok(frames < 6, "chunks that were not begun are never sent");
    await a.event("acked", { placement: next });
    a.check();
  });

  test("a peer that asks and asks and reads no answer is not read from for ever", async (t) => {
    const { b, endpoint } = await openListener(t, suite);
    await dialRawControl(t, endpoint, suite.tls);
    const { connection } = await b.event("accepted");
    b.link.admitLanes(connection, TOKEN);
    const lane = await dialRawLane(t, endpoint, TOKEN, 0, suite.tls);
    lane.socket.pause();
    const pings = Buffer.concat(Array.from({ length: 4_096 }, (_, chunk) => headerOf({ type: "ping", chunk })));
    // More than both kernels' buffers and any fair queue hold.
    const most = 1_200;
    let written = 0;
    for (let stalls = 0; written < most && stalls < 40; ) {
      if (lane.socket.writableLength === 0) {
        lane.say(pings);
        written += 1;
        stalls = 0;
      } else stalls += 1;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    assert.ok(written < most, `${written * pings.length} bytes of questions were read without an answer being taken`);
    lane.socket.resume();
    for (let chunk = 0; chunk < 4_096; chunk++) assert.equal((await lane.frame()).header.type, "pong");
    assert.equal(b.all("laneDown").length, 0);
  });
}
