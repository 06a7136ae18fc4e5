/**
 * Certificates that are made here, read by two others: node:crypto (OpenSSL) and this Node's own TLS. Names of every kind go in and come out, structures
 * of DER are cut as they were put together, and what is no authority issues nothing.
 */
import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { test } from "node:test";
import * as fc from "fast-check";
import { KvferryError } from "../../transport/errors.ts";
import { addressBytes, objectId, partsOf, sequence, time, unsigned, utf8 } from "../../transport/tls/der.ts";
import { daysFromNow, issueAuthority, issueCertificate } from "../../transport/tls/issue.ts";
import { identityOf, isNamed, organizationOf } from "../../transport/tls/options.ts";

const authority = issueAuthority({ name: "authority", organization: "Fleet" }, daysFromNow(10));

test("an authority is one, and signs itself", () => {
  const read = new X509Certificate(authority.certificate);
  assert.ok(read.ca && read.checkIssued(read) && read.verify(read.publicKey));
  assert.equal(read.subject, "O=Fleet\nCN=authority");
});

test("a certificate says what was asked for", () => {
  const subject = {
    name: "node é, with a comma",
    organization: 'Team "A"',
    hosts: ["a.example", "10.1.2.3", "::1", "2001:db8::5"],
    uri: "spiffe://fleet/a",
  };
  const validity = { notBefore: new Date("2026-01-02T03:04:05Z"), notAfter: new Date("2051-06-07T08:09:10Z") };
  const issued = issueCertificate(authority, subject, validity);
  const read = new X509Certificate(issued.certificate);
  const issuer = new X509Certificate(authority.certificate);
  assert.ok(!read.ca && read.checkIssued(issuer) && read.verify(issuer.publicKey));
  assert.equal(new Date(read.validFrom).toISOString(), "2026-01-02T03:04:05.000Z");
  assert.equal(new Date(read.validTo).toISOString(), "2051-06-07T08:09:10.000Z", "beyond 2049 time is written otherwise");
  assert.deepEqual([identityOf(read), organizationOf(read)], ["spiffe://fleet/a", 'Team "A"']);
  for (const name of ["a.example", "A.EXAMPLE", "10.1.2.3", "::1", "2001:db8::5", "2001:DB8:0::5", "spiffe://fleet/a"])
    assert.ok(isNamed(read, name), name);
  for (const name of ["b.example", "x.a.example", "10.1.2.4", "::2", "spiffe://fleet", "spiffe://fleet/a/", "", "node é, with a comma"])
    assert.ok(!isNamed(read, name), name);
  assert.deepEqual(read.keyUsage, ["1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"], "for servers and for clients");
  assert.notEqual(read.serialNumber, new X509Certificate(issueCertificate(authority, subject, validity).certificate).serialNumber);
});

test("who it is: the first URI, else the first host name, else the common name", () => {
  const of = (subject: Parameters<typeof issueCertificate>[1]): string =>
    identityOf(new X509Certificate(issueCertificate(authority, subject, daysFromNow(1)).certificate));
  assert.equal(of({ name: "cn", hosts: ["1.2.3.4", "host.example"], uri: "urn:x:y" }), "urn:x:y");
  assert.equal(of({ name: "cn", hosts: ["1.2.3.4", "host.example", "other.example"] }), "host.example");
  assert.equal(of({ name: "cn", hosts: ["1.2.3.4"] }), "cn");
  assert.equal(of({ name: "cn" }), "cn");
  // Node shows these as JSON, so that nobody takes one name for two.
  assert.equal(of({ name: "cn", uri: "urn:a,DNS:b" }), "urn:a,DNS:b");
  assert.equal(of({ name: "cn", hosts: ["with space"] }), "cn", "what is no plain text is no identity");
});

test("what is no authority issues nothing", () => {
  const isInvalid = (error: unknown): boolean => error instanceof KvferryError && error.code === "invalid_argument";
  const node = issueCertificate(authority, { name: "node" }, daysFromNow(1));
  assert.throws(() => issueCertificate(node, { name: "other" }, daysFromNow(1)), isInvalid);
  assert.throws(() => issueCertificate({ ...authority, key: node.key }, { name: "other" }, daysFromNow(1)), isInvalid);
});

test("DER: what was put together is cut where it was", () => {
  const piece = fc.oneof(
    fc.uint8Array({ maxLength: 70_000 }).map((bytes) => utf8(Buffer.from(bytes).toString("hex"))),
    fc.uint8Array({ minLength: 1, maxLength: 20 }).map((bytes) => unsigned(bytes)),
    fc.array(fc.nat(2 ** 31 - 1), { maxLength: 5 }).map((arcs) => objectId(["1", "2", ...arcs].join("."))),
    fc.date({ min: new Date(0), max: new Date("2099-12-31"), noInvalidDate: true }).map((date) => time(date)),
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 6 }), (pieces) => {
      const parts = partsOf(sequence(...pieces));
      assert.deepEqual(
        parts.map((part) => Buffer.from(part)),
        pieces.map((one) => Buffer.from(one)),
      );
    }),
    { numRuns: 200 },
  );
});

test("addresses in bytes", () => {
  assert.deepEqual([...addressBytes("10.0.255.1")], [10, 0, 255, 1]);
  assert.deepEqual(
    [...addressBytes("::")],
    Array.from({ length: 16 }, () => 0),
  );
  const expand = (address: string): string => Buffer.from(addressBytes(address)).toString("hex");
  assert.equal(expand("2001:db8::8:800:200c:417a"), "20010db80000000000080800200c417a");
  assert.equal(expand("1::"), `0001${"0000".repeat(7)}`);
  assert.equal(expand("::ffff:1.2.3.4"), `${"0000".repeat(5)}ffff01020304`);
  fc.assert(
    fc.property(fc.ipV6(), (address) => assert.equal(expand(address).length, 32)),
    { numRuns: 200 },
  );
});
