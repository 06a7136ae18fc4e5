/**
 * Who is let in over TLS, and who is believed: native and JavaScript links opposite each other, and opposite bare peers of node:tls that show what no
 * link would: certificates that have expired, are of an unknown authority, of nobody, or of somebody else. Whoever is turned away is counted, and hears why.
 */
import assert from "node:assert/strict";
import { randomBytes, X509Certificate } from "node:crypto";
import { connect } from "node:net";
import { describe, test, type TestContext } from "node:test";
import { connect as tlsConnect, type ConnectionOptions, createServer, type TLSSocket } from "node:tls";
import { encodePreamble } from "../../transport/link/frame.ts";
import type { Endpoint } from "../../transport/link/link.ts";
import { daysFromNow, issueCertificate } from "../../transport/tls/issue.ts";
import type { RefusalReason } from "../../transport/link/refusals.ts";
import { identityOf, organizationOf, type TlsOptions } from "../../transport/tls/options.ts";
import { authority, bareTls, stranger, tlsMaterial, tlsOf } from "./certificates.ts";
import { LANE, numberOf, TOKEN } from "./conformance/pair.ts";
import { RawPeer } from "./raw.ts";
import { dialInVain, KINDS, meet, openEnd, openListening, PAIRINGS, turnedAway } from "./tls-ends.ts";

const PAST = { notBefore: new Date(Date.now() - 2 * 86_400_000), notAfter: new Date(Date.now() - 86_400_000) };
const CONTROL = encodePreamble({ version: 1, kind: "control", lane: 0, token: new Uint8Array(16) });

const selfSigned = (): TlsOptions => tlsOf(stranger);
const expired = (): TlsOptions => tlsMaterial({ validity: PAST });
const unknown = (): TlsOptions => tlsMaterial({ by: stranger });
const fingerprintOf = ({ certificate }: TlsOptions): string => new X509Certificate(Buffer.from(certificate)).fingerprint256;
const serialOf = ({ certificate }: TlsOptions): string => new X509Certificate(Buffer.from(certificate)).serialNumber;

/** A peer of node:tls, with whatever it likes to show. */
function dialBare(t: TestContext, endpoint: Endpoint, options: ConnectionOptions): RawPeer {
  const socket = tlsConnect({ ...endpoint, ...options });
  t.after(() => socket.destroy());
  return new RawPeer(socket);
}

/** A server of node:tls, with whatever it likes to show; it believes anybody. */
async function listenBare(t: TestContext, shown: TlsOptions): Promise<{ endpoint: Endpoint; show: (other: TlsOptions) => void }> {
  const server = createServer({ ...bareTls(shown), requestCert: true, rejectUnauthorized: false });
  const sockets = new Set<TLSSocket>();
  server.on("secureConnection", (socket) => sockets.add(socket.on("error", () => {})));
  server.on("tlsClientError", () => {});
  await new Promise<void>((resolve) => {
    server.listen({ host: "127.0.0.1", port: 0 }, resolve);
  });
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const endpoint = { host: "127.0.0.1", port: (server.address() as { port: number }).port };
  return { endpoint, show: (other) => server.setSecureContext(bareTls(other)) };
}

for (const { dialler, listener, name } of PAIRINGS) {
  describe(`certificates, ${name}`, () => {
    test("names are read alike on both links, and by who looks at the certificate", async (t) => {
      const subjects = [
        { uri: "urn:a,DNS:b", hosts: ["127.0.0.1"] },
        { uri: 'urn:with"quotes"', hosts: ["127.0.0.1"] },
        { hosts: ["127.0.0.1", "with space", "right.example"] },
        { hosts: ["127.0.0.1"], name: "Ünïcode and blanks", organization: "O, and = more" },
      ];
      for (const subject of subjects) {
        const shown = tlsMaterial(subject);
        const { b, endpoint } = await openListening(t, listener, shown);
        const a = await openEnd(t, dialler, shown);
        const { connected, accepted } = await meet(a, b, endpoint);
        const certificate = new X509Certificate(Buffer.from(shown.certificate));
        for (const peer of [connected.peer, accepted.peer]) {
          assert.deepEqual([peer?.identity, peer?.organization], [identityOf(certificate), organizationOf(certificate)]);
        }
      }
    });

    test("each end learns who the other is", async (t) => {
      const { b, endpoint } = await openListening(t, listener, tlsMaterial({ name: "decode", organization: "Fleet B" }));
      const a = await openEnd(t, dialler, tlsMaterial({ name: "prefill", organization: "Fleet A", uri: "spiffe://fleet/prefill" }));
      const { connected, accepted, atA } = await meet(a, b, endpoint);
      const agreed = { protocol: "TLSv1.3", cipher: "TLS_AES_128_GCM_SHA256", resumed: false };
      assert.deepEqual(accepted.peer, { identity: "spiffe://fleet/prefill", organization: "Fleet A", ...agreed });
      assert.deepEqual(connected.peer, { identity: "localhost", organization: "Fleet B", ...agreed });
      a.link.openLane(atA, 0, TOKEN, LANE);
      await a.event("laneUp");
      await b.event("laneUp");
      assert.equal(a.link.laneInfo(atA)[0]?.tls?.identity, "localhost");
      assert.equal(b.link.laneInfo(accepted.connection)[0]?.tls?.identity, "spiffe://fleet/prefill");
    });

    test("whoever is dialled must have the name that was dialled, or the one that was asked for", async (t) => {
      const shown = tlsMaterial({ hosts: ["node-7.example", "127.0.0.2"], uri: "spiffe://fleet/node-7" });
      const { b, endpoint } = await openListening(t, listener, shown);
      const a = await openEnd(t, dialler, tlsMaterial());
      for (const wrong of [undefined, "other.example", "spiffe://fleet/node-8", "127.0.0.3", ""]) {
        const { code, detail } = await dialInVain(a, endpoint, wrong);
        assert.equal(code, "certificate_rejected");
        assert.ok(detail.includes("spiffe://fleet/node-7") && detail.includes(`is not of ${wrong ?? endpoint.host}`), detail);
      }
      assert.equal(a.all("connected").length, 0);
      for (const right of ["node-7.example", "127.0.0.2", "spiffe://fleet/node-7"]) await meet(a, b, endpoint, right, randomBytes(16));
    });
  });

  describe(`refusals, ${name}`, () => {
    test("a certificate that is denied, by its fingerprint or its number, lets nobody in and is not believed", async (t) => {
      const [good, bad] = [tlsMaterial({ name: "good" }), tlsMaterial({ name: "bad" })];
      for (const denied of [fingerprintOf(bad), serialOf(bad)]) {
        const { b, endpoint } = await openListening(t, listener, { ...good, denied: [denied] });
        const visitor = await openEnd(t, dialler, bad);
        const { code, detail } = await dialInVain(visitor, endpoint);
        assert.equal(code, "certificate_rejected", detail);
        assert.match((await turnedAway(b, "denied")).detail, /is denied here/);
        assert.equal(b.all("accepted").length, 0);
        assert.equal(b.link.refusals().denied, 1);

        const host = await openListening(t, listener, bad);
        const careful = await openEnd(t, dialler, { ...good, denied: [denied] });
        assert.equal((await dialInVain(careful, host.endpoint)).code, "certificate_rejected");
        assert.equal(careful.all("connected").length, 0);
      }
    });

    test("a certificate of an authority that only one end knows", async (t) => {
      const { b, endpoint } = await openListening(t, listener, tlsMaterial());
      const visitor = await openEnd(t, dialler, tlsMaterial({ by: stranger }));
      assert.equal((await dialInVain(visitor, endpoint)).code, "certificate_rejected");
      await turnedAway(b, "unknown_ca");
      const doubter = await openEnd(t, dialler, tlsMaterial({ believes: stranger }));
      const { code, detail } = await dialInVain(doubter, endpoint);
      assert.equal(code, "certificate_rejected");
      assert.match(detail, /the peer's certificate/);
      assert.equal(doubter.all("connected").length, 0);
    });

    test("no downgrade: who speaks TLS does not fall back, and who does not is not let in", async (t) => {
      const secure = await openListening(t, listener, tlsMaterial());
      const plainDialler = await openEnd(t, dialler, undefined);
      const told = await dialInVain(plainDialler, secure.endpoint);
      assert.deepEqual(told, { code: "tls_failed", detail: "the peer wants TLS" });
      assert.equal(secure.b.all("accepted").length, 0);
      await turnedAway(secure.b, "plain");

      const plain = await openListening(t, listener, undefined);
      const secureDialler = await openEnd(t, dialler, tlsMaterial());
      assert.deepEqual(await dialInVain(secureDialler, plain.endpoint), { code: "tls_failed", detail: "the peer does not speak TLS" });
      assert.equal(plain.b.all("accepted").length, 0);
      await turnedAway(plain.b, "tls");
    });
  });
}

for (const kind of KINDS) {
  describe(`a ${kind} listener over TLS`, () => {
    // Node tells of the last thing that OpenSSL found wrong: an authority has another purpose than a node, too.
    const own = kind === "js" ? "bad_certificate" : "unknown_ca";
    const visitors: readonly (readonly [string, RefusalReason, () => ConnectionOptions])[] = [
      ["has expired", "expired", () => bareTls(expired())],
      ["is of an unknown authority", "unknown_ca", () => bareTls(unknown())],
      ["is its own authority", own, () => bareTls(selfSigned())],
      ["is not there", "no_certificate", () => ({ ...bareTls(tlsMaterial()), cert: undefined, key: undefined })],
      ["is right, but for another protocol", "handshake", () => ({ ...bareTls(tlsMaterial()), ALPNProtocols: ["http/1.1"] })],
      ["is right, but for no protocol", "handshake", () => ({ ...bareTls(tlsMaterial()), ALPNProtocols: undefined })],
      ["is right, but for TLS 1.2", "handshake", () => ({ ...bareTls(tlsMaterial()), minVersion: "TLSv1.2", maxVersion: "TLSv1.2" })],
    ];
    for (const [what, reason, options] of visitors) {
      test(`turns away a certificate that ${what}`, async (t) => {
        const { b, endpoint } = await openListening(t, kind, tlsMaterial());
        const peer = dialBare(t, endpoint, options());
        peer.say(CONTROL);
        await peer.closed();
        await turnedAway(b, reason);
        assert.equal(b.all("accepted").length, 0);
        assert.equal(b.link.refusals()[reason], 1);
      });
    }
  });

  describe(`a ${kind} listener over TLS, further`, () => {
    test("closes on garbage, and counts it", async (t) => {
      const { b, endpoint } = await openListening(t, kind, tlsMaterial());
      const garbage = [Buffer.from("GET / HTTP/1.1\r\nHost: here, and some more of it to fill the first\r\n\r\n"), new Uint8Array(64)];
      for (const bytes of garbage) {
        const socket = connect(endpoint);
        t.after(() => socket.destroy());
        const peer = new RawPeer(socket);
        peer.say(bytes);
        await peer.closed();
      }
      await turnedAway(b, "garbage", 2);
      const socket = connect(endpoint);
      t.after(() => socket.destroy());
      const peer = new RawPeer(socket);
      peer.say(Uint8Array.of(22, 3, 1, 0, 60), new Uint8Array(60).fill(0xff));
      await peer.closed();
      await b.event("refused", { reason: "handshake" });
      assert.equal(b.all("accepted").length, 0);
    });

    test("a handshake that trickles is ended in time", async (t) => {
      const { b, endpoint } = await openListening(t, kind, tlsMaterial(), { preambleTimeoutMs: 300 });
      const socket = connect(endpoint);
      t.after(() => socket.destroy());
      const peer = new RawPeer(socket);
      const hello = await clientHello(t);
      let said = 0;
      const drip = setInterval(() => peer.say(hello.subarray(said, ++said)), 5);
      t.after(() => clearInterval(drip));
      await peer.closed();
      assert.ok(said < hello.length, "it was not heard to the end");
      assert.match((await turnedAway(b, "timeout")).detail, /handshake/);
    });

    test("a lane of another than its connection is of is not let in, with the right token or without", async (t) => {
      const { b, endpoint } = await openListening(t, kind, tlsMaterial());
      const a = await openEnd(t, kind, tlsMaterial({ uri: "spiffe://fleet/one" }));
      const { atA } = await meet(a, b, endpoint);
      const other = dialBare(t, endpoint, bareTls(tlsMaterial({ uri: "spiffe://fleet/two" })));
      other.say(encodePreamble({ version: 1, kind: "lane", lane: 0, token: TOKEN }));
      await other.closed();
      await turnedAway(b, "wrong_identity");
      assert.equal(b.all("laneUp").length, 0);
      a.link.openLane(atA, 0, TOKEN, LANE);
      await b.event("laneUp");
    });

    test("nor is one that waited for its token to be admitted", async (t) => {
      const { b, endpoint } = await openListening(t, kind, tlsMaterial());
      const a = await openEnd(t, kind, tlsMaterial({ uri: "spiffe://fleet/one" }));
      const other = dialBare(t, endpoint, bareTls(tlsMaterial({ uri: "spiffe://fleet/two" })));
      other.say(encodePreamble({ version: 1, kind: "lane", lane: 0, token: TOKEN }));
      const atA = a.link.dial(endpoint, 10_000);
      a.link.openLane(atA, 1, TOKEN, LANE);
      const { connection } = await b.event("accepted");
      b.link.admitLanes(connection, TOKEN);
      await other.closed();
      await turnedAway(b, "wrong_identity");
      await b.event("laneUp", { connection, lane: 1 });
      assert.equal(b.all("laneUp").length, 1);
    });
  });

  describe(`a ${kind} dialler over TLS`, () => {
    const hosts: readonly (readonly [string, RegExp, () => TlsOptions])[] = [
      ["has expired", /expired/, expired],
      ["is of an unknown authority", /issuer|unable|authority/i, unknown],
      ["is its own authority", /self.signed|purpose/, selfSigned],
    ];
    for (const [what, words, shown] of hosts) {
      test(`does not believe a certificate that ${what}`, async (t) => {
        const { endpoint } = await listenBare(t, shown());
        const a = await openEnd(t, kind, tlsMaterial());
        const { code, detail } = await dialInVain(a, endpoint);
        assert.equal(code, "certificate_rejected");
        assert.match(detail, words);
        assert.equal(a.all("connected").length, 0);
      });
    }

    test("does not take a lane whose other end is not its connection's", async (t) => {
      const [first, second] = [tlsMaterial({ uri: "spiffe://fleet/one" }), tlsMaterial({ uri: "spiffe://fleet/two" })];
      const { endpoint, show } = await listenBare(t, first);
      const a = await openEnd(t, kind, tlsMaterial());
      const connection = a.link.dial(endpoint, 10_000);
      await a.event("connected");
      show(second);
      a.link.openLane(connection, 0, TOKEN, LANE);
      assert.equal((await a.event("laneDown", { connection, lane: 0 })).code, numberOf("certificate_rejected"));
    });

    test("does not start with what does not fit, and says what it is", async (t) => {
      const good = tlsMaterial();
      const other = issueCertificate(authority, { name: "other" }, daysFromNow(1));
      const wrong: readonly (readonly [RegExp, TlsOptions])[] = [
        [/the key is not the certificate's/, { ...good, key: Buffer.from(other.key) }],
        [/has expired/, expired()],
        [
          /not valid before/,
          tlsMaterial({ validity: { notBefore: new Date(Date.now() + 86_400_000), notAfter: new Date(Date.now() + 2 * 86_400_000) } }),
        ],
        [/no PEM certificate/, { ...good, certificate: good.key }],
        [/the key: /, { ...good, key: good.certificate }],
        [/the authorities: /, { ...good, authorities: Buffer.from("nothing") }],
        [/no SHA-256 fingerprint/, { ...good, denied: ["xyz"] }],
      ];
      for (const [words, tls] of wrong) await assert.rejects(openEnd(t, kind, tls), words);
    });
  });
}

/** What a client of node:tls says first. */
async function clientHello(t: TestContext): Promise<Buffer> {
  const { createServer: listen } = await import("node:net");
  const server = listen();
  await new Promise<void>((resolve) => {
    server.listen({ host: "127.0.0.1", port: 0 }, resolve);
  });
  const said = new Promise<Buffer>((resolve) => {
    server.once("connection", (socket) => socket.once("data", resolve).on("error", () => {}));
  });
  const client = tlsConnect({ host: "127.0.0.1", port: (server.address() as { port: number }).port, ...bareTls(tlsMaterial()) });
  client.on("error", () => {});
  const hello = await said;
  client.destroy();
  server.close();
  t.after(() => server.close());
  return hello;
}
