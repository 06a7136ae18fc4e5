/** What TLS needs, checked before a link takes it: the pair must fit, be valid now, and parse. Names in certificates, read as native/tcp/tls_names.cpp does. */
import { createPrivateKey, type KeyObject, X509Certificate } from "node:crypto";
import { isIP } from "node:net";
import { KvferryError } from "../errors.ts";
import { limits } from "../limits.ts";

export interface TlsOptions {
  /** PEM: the certificate, and the intermediate ones that lead to its authority. */
  readonly certificate: Uint8Array;
  /** PEM, without a password. */
  readonly key: Uint8Array;
  /** PEM: whose certificates are believed, for whoever dials us and whoever is dialled. */
  readonly authorities: Uint8Array;
  /** Certificates that are not, as SHA-256 fingerprints or serial numbers in hexadecimal; colons and case do not count. */
  readonly denied: readonly string[];
}

/** Who the other end is by its certificate, and what was agreed with it. */
export interface TlsPeer {
  /** The first URI of its certificate, else the first DNS name, else the common name. */
  readonly identity: string;
  /** "" if it names none. */
  readonly organization: string;
  /** "TLSv1.3". */
  readonly protocol: string;
  /** "TLS_AES_128_GCM_SHA256". */
  readonly cipher: string;
  /** The handshake was a short one, because the two had met before. */
  readonly resumed: boolean;
}

/** The end of ALPN: both ends of a connection speak this over TLS, and nothing else. */
export const ALPN = "kvferry/1";
/** In the order of preference. */
export const CIPHERS = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";

const DELETE = "\u007f";
const PEM_CERTIFICATE = /-----BEGIN (?:TRUSTED |X509 )?CERTIFICATE-----[^-]*-----END (?:TRUSTED |X509 )?CERTIFICATE-----/g;

/** Throws KvferryError (invalid_argument) and says what to mend; returns the checked certificate and the deny-list in one form. */
export function checkTls(options: TlsOptions, nowMs: number): { certificate: X509Certificate; denied: string[] } {
  const [certificate] = certificatesIn(options.certificate, "the certificate");
  const key = keyIn(options.key);
  if (!certificate.checkPrivateKey(key)) throw wrong("the key is not the certificate's");
  if (nowMs < Date.parse(certificate.validFrom)) throw wrong(`the certificate is not valid before ${certificate.validFrom}`);
  if (nowMs > Date.parse(certificate.validTo)) throw wrong(`the certificate has expired: ${certificate.validTo}`);
  certificatesIn(options.authorities, "the authorities");
  if (options.denied.length > limits.tlsDeniedMax) throw wrong(`more than ${limits.tlsDeniedMax} denied certificates`);
  return { certificate, denied: options.denied.map(deniedEntry) };
}

/** A fingerprint or serial number as it is compared: lower case, no colons, no zeros in front of a serial number. Throws invalid_argument. */
export function deniedEntry(text: string): string {
  const digits = text.replaceAll(":", "").trim().toLowerCase();
  if (!/^[0-9a-f]{1,64}$/.test(digits)) throw wrong(`${JSON.stringify(text.slice(0, 80))} is no SHA-256 fingerprint and no serial number`);
  return digits.length === 64 ? digits : digits.replace(/^0+(?=.)/, "");
}

export function isDenied(certificate: X509Certificate, denied: ReadonlySet<string>): boolean {
  return denied.size > 0 && (denied.has(deniedEntry(certificate.fingerprint256)) || denied.has(deniedEntry(certificate.serialNumber)));
}

/** Who a certificate is of: its first URI, else its first DNS name, else its common name. */
export function identityOf(certificate: X509Certificate): string {
  const names = alternativeNames(certificate);
  for (const kind of ["URI", "DNS"]) {
    const named = names.find((name) => name.kind === kind && isPlain(name.text));
    if (named !== undefined) return named.text;
  }
  return subjectField(certificate, "CN");
}

export function organizationOf(certificate: X509Certificate): string {
  return subjectField(certificate, "O");
}

/** Whether it is the certificate of `expected`: its identity, one of its URIs, or a host name or an address that it is valid for. */
export function isNamed(certificate: X509Certificate, expected: string): boolean {
  if (expected === "") return false;
  if (identityOf(certificate) === expected) return true;
  if (isIP(expected) !== 0) return certificate.checkIP(expected) !== undefined;
  if (certificate.checkHost(expected, { subject: "never" }) !== undefined) return true;
  return alternativeNames(certificate).some(({ kind, text }) => kind === "URI" && text === expected);
}

/** Whose certificate to expect where nobody says: the host's that is dialled, without the zone of a link-local address. */
export function expectedOf(host: string): string {
  return host.split("%", 1)[0] as string;
}

function certificatesIn(pem: Uint8Array, what: string): [X509Certificate, ...X509Certificate[]] {
  const blocks = Buffer.from(pem).toString("latin1").match(PEM_CERTIFICATE) ?? [];
  const found = blocks.map((block) => {
    try {
      return new X509Certificate(block);
    } catch (error) {
      throw wrong(`${what}: ${(error as Error).message}`, error);
    }
  });
  if (found[0] === undefined) throw wrong(`${what}: no PEM certificate is in there`);
  return found as [X509Certificate, ...X509Certificate[]];
}

function keyIn(pem: Uint8Array): KeyObject {
  try {
    return createPrivateKey({ key: Buffer.from(pem), format: "pem" });
  } catch (error) {
    // OpenSSL's own words for this are "DECODER routines::unsupported".
    throw wrong(`the key: no PEM private key without a password is in there (${(error as Error).message})`, error);
  }
}

function wrong(what: string, cause?: unknown): KvferryError {
  return new KvferryError("invalid_argument", what, { cause });
}

/** Node writes names with anything special in them as JSON strings. */
function alternativeNames({ subjectAltName }: X509Certificate): { kind: string; text: string }[] {
  const names = (subjectAltName ?? "").matchAll(/(?:^|, )([A-Za-z ]+):("(?:[^"\\]|\\.)*"|[^,]*)/g);
  return [...names].map(([, kind, text]) => ({
    kind: kind as string,
    text: text?.startsWith('"') ? (JSON.parse(text) as string) : (text ?? ""),
  }));
}

/** What native takes for a name: nothing that could be read in two ways. */
function isPlain(text: string): boolean {
  return text !== "" && Buffer.byteLength(text) <= 1_024 && [...text].every((one) => one > " " && one !== DELETE);
}

function subjectField(certificate: X509Certificate, field: "CN" | "O"): string {
  const value = certificate.toLegacyObject().subject[field] as string | string[] | undefined;
  const text = (Array.isArray(value) ? value[0] : value) ?? "";
  // Blanks are usual here, control characters are not.
  return Buffer.byteLength(text) <= 1_024 && [...text].every((one) => one >= " " && one !== DELETE) ? text : "";
}
