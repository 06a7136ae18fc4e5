/**
 * Sessions that are resumed, and certificates that change under way: a second lane has a short handshake, and that is no way around the deny-list or
 * an expiry; a reload is for connections to come. Native and JavaScript links, each opposite the other.
 */
import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { describe, test } from "node:test";
import { KvferryError } from "../../transport/errors.ts";
import type { TlsOptions } from "../../transport/tls/options.ts";
import { daysFromNow } from "../../transport/tls/issue.ts";
import { stranger, tlsMaterial } from "./certificates.ts";
import { type End, settled } from "./conformance/end.ts";
import { LANE, numberOf, TOKEN } from "./conformance/pair.ts";
import { dialInVain, type Met, meet, openEnd, openListening, type Pairing, PAIRINGS, turnedAway } from "./tls-ends.ts";

/** A message from the listener: whatever it said before, tickets too, has been read. */
async function hear(a: End, b: End, { atA, atB }: Met): Promise<void> {
  const before = a.all("message", { connection: atA }).length;
  assert.ok(b.link.send(atB, Uint8Array.of(1)));
  await a.eventCount(before + 1, "message", { connection: atA });
}

async function openLane(a: End, { atA }: Met, lane: number): Promise<boolean> {
  a.link.openLane(atA, lane, TOKEN, LANE);
  await a.event("laneUp", { connection: atA, lane });
  const info = a.link.laneInfo(atA).find((one) => one.lane === lane);
  assert.ok(info?.tls !== undefined, "the lane tells of its TLS");
  return info.tls.resumed;
}

const fingerprintOf = ({ certificate }: TlsOptions): string => new X509Certificate(Buffer.from(certificate)).fingerprint256;

for (const pairing of PAIRINGS) {
  describe(`sessions, ${pairing.name}`, () => {
    resumeTests(pairing);
    staleTests(pairing);
    reloadTests(pairing);
  });
}

function resumeTests({ dialler, listener }: Pairing): void {
  test("lanes resume what their connection has agreed, and so do later connections", async (t) => {
    const { b, endpoint } = await openListening(t, listener, tlsMaterial());
    const a = await openEnd(t, dialler, tlsMaterial({ name: "prefill", hosts: [] }));
    const met = await meet(a, b, endpoint);
    assert.equal(met.connected.peer?.resumed, false);
    await hear(a, b, met);
    for (const lane of [0, 1, 2]) assert.equal(await openLane(a, met, lane), true);
    const again = await meet(
      a,
      b,
      endpoint,
      undefined,
      TOKEN.map((byte) => byte + 1),
    );
    assert.deepEqual([again.connected.peer?.resumed, again.accepted.peer?.resumed], [true, true]);
    assert.equal(again.accepted.peer?.identity, "prefill", "who it is is known without a certificate being shown");
    const asked = await meet(
      a,
      b,
      endpoint,
      "localhost",
      TOKEN.map((byte) => byte + 2),
    );
    assert.equal(asked.connected.peer?.resumed, false, "what was agreed with one name says nothing of another");
  });

  test("a session that was broken off is resumed", async (t) => {
    const { b, endpoint } = await openListening(t, listener, tlsMaterial());
    const a = await openEnd(t, dialler, tlsMaterial());
    const met = await meet(a, b, endpoint);
    await hear(a, b, met);
    b.link.disconnect(met.atB);
    await a.event("disconnected", { connection: met.atA });
    const again = await meet(
      a,
      b,
      endpoint,
      undefined,
      TOKEN.map((byte) => byte + 1),
    );
    assert.equal(again.connected.peer?.resumed, true);
  });
}

function staleTests({ dialler, listener }: Pairing): void {
  test("a certificate that is denied after a ticket was given is refused with the ticket", async (t) => {
    const [ours, theirs] = [tlsMaterial(), tlsMaterial({ name: "theirs" })];
    const { b, endpoint } = await openListening(t, listener, ours);
    const a = await openEnd(t, dialler, theirs);
    const met = await meet(a, b, endpoint);
    await hear(a, b, met);
    b.link.setTls({ ...ours, denied: [fingerprintOf(theirs)] });
    a.link.openLane(met.atA, 0, TOKEN, LANE);
    await a.event("laneDown", { connection: met.atA, lane: 0 });
    assert.equal((await dialInVain(a, endpoint)).code, "certificate_rejected");
    await turnedAway(b, "denied", 2);
    assert.equal(b.all("laneUp").length, 0);

    const other = await openEnd(t, dialler, theirs);
    other.link.setTls({ ...theirs, denied: [fingerprintOf(ours)] });
    assert.equal((await dialInVain(other, endpoint)).code, "certificate_rejected");
    await hear(a, b, met);
  });
}

function reloadTests({ dialler, listener }: Pairing): void {
  test("another certificate is for connections to come; those that are there go on", async (t) => {
    const { b, endpoint } = await openListening(t, listener, tlsMaterial({ uri: "spiffe://fleet/old" }));
    const a = await openEnd(t, dialler, tlsMaterial());
    const met = await meet(a, b, endpoint);
    assert.equal(met.connected.peer?.identity, "spiffe://fleet/old");
    await hear(a, b, met);
    assert.equal(await openLane(a, met, 0), true);
    b.link.setTls(tlsMaterial({ uri: "spiffe://fleet/new" }));
    const later = await meet(
      a,
      b,
      endpoint,
      undefined,
      TOKEN.map((byte) => byte + 1),
    );
    assert.deepEqual([later.connected.peer?.identity, later.connected.peer?.resumed], ["spiffe://fleet/new", false]);
    await hear(a, b, met);
    a.link.openLane(met.atA, 1, TOKEN, LANE);
    const { code } = await a.event("laneDown", { connection: met.atA, lane: 1 });
    assert.equal(code, numberOf("certificate_rejected"), "a lane is of whom its connection is");
    assert.equal(a.all("laneDown", { lane: 0 }).length, 0);
  });

  test("other authorities are for connections to come, too", async (t) => {
    const ours = tlsMaterial();
    const { b, endpoint } = await openListening(t, listener, ours);
    const visitor = await openEnd(t, dialler, tlsMaterial({ by: stranger }));
    await dialInVain(visitor, endpoint);
    b.link.setTls({ ...ours, authorities: Buffer.concat([ours.authorities, Buffer.from(stranger.certificate)]) });
    await meet(visitor, b, endpoint);
  });

  test("a broken reload changes nothing", async (t) => {
    const ours = tlsMaterial();
    const { b, endpoint } = await openListening(t, listener, ours);
    const a = await openEnd(t, dialler, tlsMaterial());
    const isInvalid = (error: unknown): boolean => error instanceof KvferryError && error.code === "invalid_argument";
    assert.throws(() => b.link.setTls({ ...ours, key: tlsMaterial().key }), isInvalid);
    assert.throws(() => b.link.setTls(tlsMaterial({ validity: daysFromNow(-1) })), isInvalid);
    await meet(a, b, endpoint);
    const plain = await openEnd(t, dialler, undefined);
    assert.throws(() => plain.link.setTls(ours), isInvalid);
  });
}

test("a certificate that has expired since is refused, ticket or not", async (t) => {
  const validity = { notBefore: new Date(Date.now() - 60_000), notAfter: new Date(Date.now() + 5_000) };
  const expiring = tlsMaterial({ validity });
  const stages = await Promise.all(
    PAIRINGS.map(async ({ dialler, listener }) => {
      const { b, endpoint } = await openListening(t, listener, tlsMaterial());
      const a = await openEnd(t, dialler, expiring);
      const met = await meet(a, b, endpoint);
      await hear(a, b, met);
      assert.equal(await openLane(a, met, 0), true);
      return { a, b, met };
    }),
  );
  // Certificates count in seconds.
  await settled(() => Date.now() > validity.notAfter.getTime() + 2_000, "the certificate to expire");
  for (const { a, b, met } of stages) {
    a.link.openLane(met.atA, 1, TOKEN, LANE);
    await a.event("laneDown", { connection: met.atA, lane: 1 });
    await turnedAway(b, "expired");
    assert.equal(b.all("laneDown").length, 0, "the lane that was there goes on");
  }
});
