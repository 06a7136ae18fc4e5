/**
 * More strangers than a listener has room for. Method: they come from an address of their own, 127.0.0.2, or from the one of whoever is well; nothing is let
 * go by the clock, so whoever is closed had to give way.
 */
import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { encodePreamble } from "../../../transport/link/frame.ts";
import type { Endpoint } from "../../../transport/link/link.ts";
import { dialRaw, dialRawControl, type RawPeer } from "../raw.ts";
import { End, settled } from "./end.ts";
import { openListener, type Suite } from "./pair.ts";

const PREAMBLE = encodePreamble({ version: 1, kind: "control", lane: 0, token: new Uint8Array(16) });
const CROWD = 40;
const LIMITS = { greetingsMax: 8, preambleTimeoutMs: 60_000 };

/** They say nothing. */
async function crowdFrom(t: TestContext, endpoint: Endpoint, from: string): Promise<RawPeer[]> {
  const crowd: RawPeer[] = [];
  for (let at = 0; at < CROWD; at++) crowd.push(await dialRaw(t, endpoint, undefined, from));
  return crowd;
}

export function crowdTests(suite: Suite): void {
  test("a crowd of one address puts out its own, the oldest first, and nobody else", async (t) => {
    const { b, endpoint } = await openListener(t, suite, LIMITS);
    const slow = await dialRaw(t, endpoint, suite.tls);
    slow.say(PREAMBLE.subarray(0, 20));
    const crowd = await crowdFrom(t, endpoint, "127.0.0.2");
    const closed = CROWD - (LIMITS.greetingsMax - 1);
    await settled(() => crowd.slice(0, closed).every((peer) => peer.isClosed), "the oldest of them to be closed");
    assert.deepEqual([b.link.refusals().full, b.link.refusals().timeout], [closed, 0]);
    assert.equal((await b.event("refused")).reason, "full");
    slow.say(PREAMBLE.subarray(20));
    await b.event("accepted");
    const a = await End.open("dialler", suite.make);
    t.after(() => a.link.close());
    a.link.dial(endpoint, 10_000);
    await b.eventCount(2, "accepted");
    assert.equal(crowd.filter((peer) => peer.isClosed).length, closed);
  });

  test("of one address whoever has said least gives way", async (t) => {
    const { b, endpoint } = await openListener(t, suite, LIMITS);
    const half: RawPeer[] = [];
    for (let at = 0; at < 4; at++) {
      half.push(await dialRaw(t, endpoint, suite.tls));
      half.at(-1)?.say(PREAMBLE.subarray(0, 47));
    }
    // Whoever came later is in: so what the others said has been heard.
    await dialRawControl(t, endpoint, suite.tls);
    await b.event("accepted");
    await crowdFrom(t, endpoint, "127.0.0.1");
    await settled(() => b.link.refusals().full === CROWD - 4, "the crowd to give way");
    for (const peer of half) peer.say(PREAMBLE.subarray(47));
    await b.eventCount(5, "accepted");
  });

  test("those that come into a full room have time to speak, and do not put each other out", async (t) => {
    const { b, endpoint } = await openListener(t, suite, { ...LIMITS, greetingsMax: 64 });
    const half: RawPeer[] = [];
    for (let at = 0; at < 64; at++) {
      half.push(await dialRaw(t, endpoint, suite.tls, `127.0.0.${2 + (at % 16)}`));
      half.at(-1)?.say(PREAMBLE.subarray(0, 47));
    }
    const late: RawPeer[] = [];
    for (let at = 0; at < 4; at++) late.push(await dialRaw(t, endpoint, suite.tls));
    await settled(() => half.filter((peer) => peer.isClosed).length === 4, "four of those who came first to give way");
    for (const peer of late) peer.say(PREAMBLE);
    await b.eventCount(4, "accepted");
  });
}
