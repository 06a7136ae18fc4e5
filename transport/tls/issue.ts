/** Makes certificates: an authority for tests and small fleets, and what it issues to nodes. Keys are on P-256, signatures are ECDSA with SHA-256. */
import { createHash, createPrivateKey, generateKeyPairSync, type KeyObject, randomBytes, sign, X509Certificate } from "node:crypto";
import { isIP } from "node:net";
import { KvferryError } from "../errors.ts";
import { addressBytes, bits, objectId, octets, partsOf, sequence, setOf, tagged, time, truth, unsigned, utf8 } from "./der.ts";

/** Both as PEM. */
export interface Issued {
  readonly certificate: string;
  readonly key: string;
}

export interface Validity {
  readonly notBefore: Date;
  readonly notAfter: Date;
}

export interface Subject {
  /** Common name. */
  readonly name: string;
  readonly organization?: string;
}

export interface NodeSubject extends Subject {
  /** DNS names and addresses that the node is dialled by. */
  readonly hosts?: readonly string[];
  /** Its identity, where it is more than a host's name: "spiffe://fleet/prefill-1". */
  readonly uri?: string;
}

const DAY_MS = 86_400_000;
/** Clocks differ. */
const EARLIER_MS = 5 * 60_000;

/** From five minutes ago on. */
export function daysFromNow(days: number): Validity {
  const now = Date.now();
  return { notBefore: new Date(now - EARLIER_MS), notAfter: new Date(now + days * DAY_MS) };
}

export function issueAuthority(subject: Subject, validity: Validity): Issued {
  const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const name = nameOf(subject);
  const extensions = [
    // An authority that issues to nodes, and to no other authority.
    extension("2.5.29.19", sequence(truth(), unsigned(Uint8Array.of(0))), true),
    extension("2.5.29.15", bits(Uint8Array.of(0b0000_0110), 1), true),
    extension("2.5.29.14", octets(keyId(publicKey))),
  ];
  return issued(name, name, validity, publicKey, privateKey, privateKey, extensions);
}

/** For both sides of a connection. Throws KvferryError (invalid_argument) if `authority` is none that can issue. */
export function issueCertificate(authority: Issued, subject: NodeSubject, validity: Validity): Issued {
  const issuer = new X509Certificate(authority.certificate);
  const issuerKey = createPrivateKey(authority.key);
  if (!issuer.ca || issuerKey.asymmetricKeyType !== "ec" || !issuer.checkPrivateKey(issuerKey)) {
    throw new KvferryError("invalid_argument", "the authority is no certificate authority with a key of its own on an elliptic curve");
  }
  const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const extensions = [
    extension("2.5.29.19", sequence(), true),
    extension("2.5.29.15", bits(Uint8Array.of(0b1000_0000), 7), true),
    extension("2.5.29.37", sequence(objectId("1.3.6.1.5.5.7.3.1"), objectId("1.3.6.1.5.5.7.3.2"))),
    extension("2.5.29.14", octets(keyId(publicKey))),
    extension("2.5.29.35", sequence(tagged(0x80, keyId(issuer.publicKey)))),
  ];
  const names = alternativeNames(subject);
  if (names.length > 0) extensions.push(extension("2.5.29.17", sequence(...names)));
  const made = issued(nameOf(subject), subjectOf(issuer), validity, publicKey, privateKey, issuerKey, extensions);
  if (new X509Certificate(made.certificate).checkIssued(issuer)) return made;
  throw new KvferryError("invalid_argument", "the authority names its key in another way than kvferry cert does");
}

function issued(
  subject: Uint8Array,
  issuer: Uint8Array,
  { notBefore, notAfter }: Validity,
  publicKey: KeyObject,
  privateKey: KeyObject,
  issuerKey: KeyObject,
  extensions: readonly Uint8Array[],
): Issued {
  const algorithm = sequence(objectId("1.2.840.10045.4.3.2"));
  const serial = randomBytes(16);
  // Neither negative nor shorter than it looks.
  serial[0] = ((serial[0] as number) & 0x7f) | 0x40;
  const content = sequence(
    tagged(0xa0, unsigned(Uint8Array.of(2))),
    unsigned(serial),
    algorithm,
    issuer,
    sequence(time(notBefore), time(notAfter)),
    subject,
    publicKey.export({ type: "spki", format: "der" }),
    tagged(0xa3, sequence(...extensions)),
  );
  const der = sequence(content, algorithm, bits(sign("sha256", content, issuerKey)));
  return { certificate: pem("CERTIFICATE", der), key: privateKey.export({ type: "pkcs8", format: "pem" }) as string };
}

function nameOf({ name, organization }: Subject): Buffer {
  const field = (id: string, text: string): Buffer => setOf(sequence(objectId(id), utf8(text)));
  return sequence(...(organization === undefined ? [] : [field("2.5.4.10", organization)]), field("2.5.4.3", name));
}

/** The subject of a certificate as it stands there. */
function subjectOf(certificate: X509Certificate): Uint8Array {
  const [content] = partsOf(certificate.raw);
  // version, serial, algorithm, issuer, validity, subject
  return partsOf(content as Uint8Array)[5] as Uint8Array;
}

function alternativeNames({ hosts = [], uri }: NodeSubject): Buffer[] {
  const names = hosts.map((host) => (isIP(host) === 0 ? tagged(0x82, Buffer.from(host, "latin1")) : tagged(0x87, addressBytes(host))));
  return uri === undefined ? names : [tagged(0x86, Buffer.from(uri, "latin1")), ...names];
}

function extension(id: string, value: Uint8Array, isCritical = false): Buffer {
  return sequence(objectId(id), ...(isCritical ? [truth()] : []), octets(value));
}

/** SHA-1 of the key's bits, as everybody names keys; nothing rests on it. */
function keyId(key: KeyObject): Buffer {
  const [, publicBits] = partsOf(key.export({ type: "spki", format: "der" }));
  // Behind tag, length and the count of unused bits.
  return createHash("sha1")
    .update((publicBits as Uint8Array).subarray(3))
    .digest();
}

function pem(label: string, der: Uint8Array): string {
  const lines =
    Buffer.from(der)
      .toString("base64")
      .match(/.{1,64}/g) ?? [];
  return `-----BEGIN ${label}-----\n${lines.join("\n")}\n-----END ${label}-----\n`;
}
