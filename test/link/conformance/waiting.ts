/** Lanes that come before anybody has admitted their token: they wait, so many and so long. Messages are small as long. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { encodeControl, encodePreamble } from "../../../transport/link/frame.ts";
import { readGolden } from "../../golden/golden.ts";
import { dialRaw, dialRawControl, type RawPeer } from "../raw.ts";
import { End } from "./end.ts";
import { LANE, numberOf, openListener, type Suite, TOKEN } from "./pair.ts";

const PING = readGolden("header").find(({ name }) => name === "header-ping")?.bytes ?? assert.fail("no golden ping");

export function waitingTests(suite: Suite): void {
  const lane = (token: Uint8Array, index = 0): Uint8Array => encodePreamble({ version: 1, kind: "lane", lane: index, token });

  test("what comes behind the preamble of a lane that waits is not lost", async (t) => {
    const { b, endpoint } = await openListener(t, suite);
    await dialRawControl(t, endpoint, suite.tls);
    const { connection } = await b.event("accepted");
    const peer = await dialRaw(t, endpoint, suite.tls);
    peer.say(lane(TOKEN), PING);
    // Whoever comes later is heard: so was the lane.
    await dialRawControl(t, endpoint, suite.tls);
    await b.eventCount(2, "accepted");
    assert.equal(peer.comeBytes, 0);
    b.link.admitLanes(connection, TOKEN);
    await b.event("laneUp", { connection, lane: 0 });
    const answers = [(await peer.frame()).header, (await peer.frame()).header];
    assert.deepEqual(
      answers.map(({ type, grant }) => [type, grant]),
      [
        ["pong", 0],
        ["pong", 9],
      ],
    );
  });

  test("lanes are opened beside a connection to a name as well, though it may stand for several addresses", async (t) => {
    const { b, endpoint } = await openListener(t, suite);
    const a = await End.open("dialler", suite.make);
    t.after(() => a.link.close());
    const connection = a.link.dial({ host: "localhost", port: endpoint.port }, 5_000);
    for (let lane = 0; lane < 2; lane++) a.link.openLane(connection, lane, TOKEN, LANE);
    b.link.admitLanes((await b.event("accepted")).connection, TOKEN);
    await a.eventCount(2, "laneUp", { connection });
    await b.eventCount(2, "laneUp");
  });

  test("lanes beside a connection that cannot be made end with it", async (t) => {
    const { b, endpoint } = await openListener(t, suite);
    await b.link.close();
    const a = await End.open("dialler", suite.make);
    t.after(() => a.link.close());
    const connection = a.link.dial(endpoint, 5_000);
    for (let lane = 0; lane < 2; lane++) a.link.openLane(connection, lane, TOKEN, LANE);
    assert.equal((await a.event("disconnected", { connection })).code, numberOf("connect_failed"));
    // Those that were asked for after it had failed are not told of.
    assert.ok(a.all("laneDown", { connection }).length <= 2);
    a.check();
  });

  test("a connection that failed and is given up while its lanes end is counted once", async (t) => {
    const { b, endpoint } = await openListener(t, suite);
    await b.link.close();
    const a = await End.open("dialler", suite.make, { connectionsMax: 4 });
    t.after(() => a.link.close());
    for (let round = 0; round < 200; round++) {
      const connection = a.link.dial(endpoint, 5_000);
      for (let lane = 0; lane < 4; lane++) a.link.openLane(connection, lane, TOKEN, LANE);
      if (round % 2 === 0) await new Promise((resolve) => setImmediate(resolve));
      a.link.disconnect(connection);
      await a.event("disconnected", { connection });
    }
    a.check();
  });

  test("lanes that wait leave half of the room to others, and their place when they go", async (t) => {
    const { b, endpoint } = await openListener(t, suite, { greetingsMax: 8 });
    const crowd: RawPeer[] = [];
    for (let at = 0; at < 4; at++) {
      const peer = await dialRaw(t, endpoint, suite.tls);
      await peer.secured();
      peer.say(lane(TOKEN, at));
      crowd.push(peer);
    }
    const late = await dialRaw(t, endpoint, suite.tls);
    late.say(lane(TOKEN, 4));
    await late.closed();
    await dialRawControl(t, endpoint, suite.tls);
    const { connection } = await b.event("accepted");
    b.link.admitLanes(connection, TOKEN);
    await b.eventCount(4, "laneUp", { connection });
  });

  messageTests(suite);
}

function messageTests(suite: Suite): void {
  const small = { greetingMessageBytes: 64, controlMessageBytes: 65_536, controlQueueBytes: 262_144 };
  const control = (bytes: number): Uint8Array => encodeControl(new Uint8Array(bytes).fill(7));

  test("who dialled may say nothing large before it is admitted, and may then", async (t) => {
    const { b, endpoint } = await openListener(t, suite, small);
    const peer = await dialRawControl(t, endpoint, suite.tls);
    const { connection } = await b.event("accepted");
    peer.say(control(64));
    await b.event("message", { connection });
    b.link.admitLanes(connection, TOKEN);
    peer.say(control(65), control(65_536));
    await b.eventCount(3, "message", { connection });
    const stranger = await dialRawControl(t, endpoint, suite.tls);
    stranger.say(control(64), control(65).subarray(0, 8));
    await stranger.closed();
    assert.equal((await b.event("disconnected")).code, numberOf("protocol_error"));
    assert.equal(b.all("message").length, 4, "what came before is good");
  });
}
