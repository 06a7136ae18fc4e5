/**
 * Records that no library would make, at the native link: padded, empty, in the wrong order, under keys that change, of types that have no place after a
 * handshake, forged. Method: the handshake is node:tls's, what follows is made by hand with its keys (records.ts).
 */
import assert from "node:assert/strict";
import { describe, test, type TestContext } from "node:test";
import { encodeControl, encodePreamble } from "../../transport/link/frame.ts";
import { crc32c } from "../../transport/kv/crc32c.ts";
import { native } from "../../transport/native.ts";
import { tlsMaterial } from "./certificates.ts";
import { type End, type EventOf, settled } from "./conformance/end.ts";
import { numberOf } from "./conformance/pair.ts";
import { ALERT, DATA, dialRecords, HANDSHAKE, headOf, keyUpdate, listenRecords, type RecordPeer } from "./records.ts";
import { openEnd, openListening } from "./tls-ends.ts";

const tls = tlsMaterial();
const PREAMBLE = encodePreamble({ version: 1, kind: "control", lane: 0, token: new Uint8Array(16) });
const skip = native === undefined ? "no addon" : false;

const message = (byte: number, bytes = 10): Uint8Array => encodeControl(new Uint8Array(bytes).fill(byte), crc32c);
const heard = (end: End): number[] => end.all("message").map(({ bytes }) => bytes[0] as number);

/** A listener of ours, and a control connection to it by hand. */
async function knock(t: TestContext): Promise<{ b: End; peer: RecordPeer; accepted: EventOf<"accepted"> }> {
  const { b, endpoint } = await openListening(t, "tcp", tls);
  const peer = await dialRecords(t, endpoint, tls);
  peer.say(PREAMBLE);
  return { b, peer, accepted: await b.event("accepted") };
}

describe("records by hand, at a listener", { skip }, () => {
  test("padded ones, empty ones, and one byte at a time", async (t) => {
    const { b, peer } = await knock(t);
    peer.say(message(1), { padding: 200 });
    for (let count = 0; count < 20; count++) peer.say(new Uint8Array(0), { padding: count });
    for (const byte of message(2)) peer.say(Uint8Array.of(byte), { padding: 1 });
    peer.say(message(3, 16_376));
    await b.eventCount(3, "message");
    assert.deepEqual(heard(b), [1, 2, 3]);
  });

  test("keys that change, asked for and not, again and again", async (t) => {
    const { b, peer, accepted } = await knock(t);
    for (let round = 0; round < 5; round++) {
      peer.changeKey(false);
      peer.say(message(round));
    }
    await b.eventCount(5, "message");
    // The first that comes from a server is its ticket, which nobody here can use.
    assert.equal((await peer.record()).type, HANDSHAKE);
    peer.changeKey(true);
    peer.say(message(9));
    await b.eventCount(6, "message");
    assert.ok(b.link.send(accepted.connection, Uint8Array.of(7)));
    const answer = await peer.record();
    assert.deepEqual([answer.type, [...answer.content]], [HANDSHAKE, [...keyUpdate(false)]]);
    peer.followKey();
    const said = await peer.record();
    assert.deepEqual([said.type, said.content.at(-1)], [DATA, 7]);
    assert.deepEqual(heard(b), [0, 1, 2, 3, 4, 9]);
  });

  test("as many changes of keys as records, without end", async (t) => {
    const { b, peer } = await knock(t);
    for (let round = 0; round < 20; round++) {
      for (const byte of message(round)) {
        peer.changeKey(false);
        peer.say(Uint8Array.of(byte));
      }
    }
    await b.eventCount(20, "message");
    assert.equal(b.all("disconnected").length, 0);
  });

  test("what is there ends in order: close_notify, and alerts by their names", async (t) => {
    const { b, peer } = await knock(t);
    peer.say(message(1));
    peer.say(Uint8Array.of(1, 0), { type: ALERT });
    assert.equal((await b.event("disconnected")).code, numberOf("connection_lost"));
    assert.deepEqual(heard(b), [1]);
    const other = await knock(t);
    other.peer.say(Uint8Array.of(2, 44), { type: ALERT });
    const { code, detail } = await other.b.event("disconnected");
    assert.equal(code, numberOf("certificate_rejected"));
    assert.match(detail, /refused this node's certificate: certificate revoked/);
  });
});

describe("wrong records at a listener", { skip }, () => {
  const wrong: readonly (readonly [string, (peer: RecordPeer) => void])[] = [
    ["a byte that was changed", (peer) => peer.sayRaw(peer.seal(message(2)).map((byte, at) => (at === 9 ? byte ^ 1 : byte)))],
    [
      "a tag that was changed",
      (peer) => peer.sayRaw(peer.seal(message(2)).map((byte, at, all) => (at === all.length - 1 ? byte ^ 1 : byte))),
    ],
    [
      "a record twice",
      (peer) =>
        [peer.seal(message(1)), peer.seal(message(2))].map((one, _, all) => [one, all[0] as Buffer].forEach((each) => peer.sayRaw(each))),
    ],
    ["a record that was left out", (peer) => peer.seal(message(1)) && peer.say(message(2))],
    ["a head of another length", (peer) => peer.sayRaw(Buffer.concat([headOf(40), peer.seal(message(2)).subarray(5)]))],
    ["a record in plain bytes", (peer) => peer.sayRaw(Buffer.concat([headOf(40), Buffer.alloc(40)]))],
    ["a type that there is not", (peer) => peer.say(message(2), { type: 20 })],
    ["nothing but padding", (peer) => peer.say(new Uint8Array(0), { type: 0, padding: 3 })],
    ["more content than a record may have", (peer) => peer.say(new Uint8Array(16_385))],
    ["a record longer than any", (peer) => peer.sayRaw(headOf(16_384 + 257))],
    ["a record without room for a tag", (peer) => peer.sayRaw(Buffer.concat([headOf(16), Buffer.alloc(16)]))],
    ["a handshake message of one byte", (peer) => peer.say(Uint8Array.of(24), { type: HANDSHAKE })],
    ["a change of keys to what is not said", (peer) => peer.say(Uint8Array.of(24, 0, 0, 1, 2), { type: HANDSHAKE })],
    [
      "a change of keys with something behind it",
      (peer) => peer.say(Uint8Array.of(...keyUpdate(false), ...keyUpdate(false)), { type: HANDSHAKE }),
    ],
    ["a ticket from a client", (peer) => peer.say(Uint8Array.of(4, 0, 0, 0), { type: HANDSHAKE })],
    ["a hello after the handshake", (peer) => peer.say(Uint8Array.of(1, 0, 0, 0), { type: HANDSHAKE })],
    ["an alert of one byte", (peer) => peer.say(Uint8Array.of(2), { type: ALERT })],
    ["forty records without content", (peer) => Array.from({ length: 40 }, () => peer.say(new Uint8Array(0)))],
    ["forty changes of keys, and nothing under them", (peer) => Array.from({ length: 40 }, () => peer.changeKey(true))],
    [
      "three changes of keys for every byte",
      (peer) =>
        [...message(3)].forEach((byte) => {
          for (let count = 0; count < 3; count++) peer.changeKey(false);
          peer.say(Uint8Array.of(byte));
        }),
    ],
  ];
  for (const [name, say] of wrong) {
    test(`ends the connection, and nothing of it counts: ${name}`, async (t) => {
      const { b, peer } = await knock(t);
      peer.say(message(1));
      await b.event("message");
      say(peer);
      peer.say(message(3));
      const { code, detail } = await b.event("disconnected");
      assert.equal(code, numberOf("connection_lost"));
      assert.match(detail, /^the peer broke TLS: /);
      assert.ok(!heard(b).includes(2) || name === "a record twice");
      assert.ok(!heard(b).includes(3));
      await peer.closed();
    });
  }
});

describe("records by hand, at a dialler", { skip }, () => {
  const ticket = (bytes: number): Uint8Array => Buffer.concat([Uint8Array.of(4, 0, bytes >> 8, bytes & 255), Buffer.alloc(bytes)]);
  const cases: readonly (readonly [string, (peer: RecordPeer) => void])[] = [
    ["tickets that are none", (peer) => [20, 0, 300].forEach((bytes) => peer.say(ticket(bytes), { type: HANDSHAKE }))],
    [
      "a ticket in pieces",
      (peer) => {
        const whole = ticket(20_000);
        for (let at = 0; at < whole.length; at += 7_000) peer.say(whole.subarray(at, at + 7_000), { type: HANDSHAKE });
      },
    ],
    [
      "a ticket behind data",
      (peer) => {
        peer.say(message(5));
        peer.say(ticket(200), { type: HANDSHAKE });
      },
    ],
    ["a change of keys before any data", (peer) => peer.changeKey(true)],
  ];
  test("a listener that sends tickets for ever is left", async (t) => {
    const { endpoint, accept } = await listenRecords(t, tls);
    const a = await openEnd(t, "tcp", tls);
    a.link.dial(endpoint, 10_000);
    const peer = await accept();
    await a.event("connected");
    for (let count = 0; count < 40; count++) peer.say(ticket(100), { type: HANDSHAKE });
    assert.match((await a.event("disconnected")).detail, /^the peer broke TLS: too many records without content/);
    await peer.closed();
  });

  for (const [name, say] of cases) {
    test(`goes on: ${name}`, async (t) => {
      const { endpoint, accept } = await listenRecords(t, tls);
      const a = await openEnd(t, "tcp", tls);
      const connection = a.link.dial(endpoint, 10_000);
      const peer = await accept();
      await a.event("connected");
      say(peer);
      peer.say(message(6));
      await a.event("message", {});
      await a.until(() => heard(a).at(-1) === 6, "the last message");
      const before = peer.comeBytes;
      assert.ok(a.link.send(connection, Uint8Array.of(1)));
      await settled(() => peer.comeBytes > before, "an answer");
      assert.equal(a.all("disconnected").length, 0);
    });
  }
});
