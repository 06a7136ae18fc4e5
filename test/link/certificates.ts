/** Certificates for tests, made when they are needed: one authority, and whatever it issues. */
import { type SecureContextOptions } from "node:tls";
import { daysFromNow, type Issued, issueAuthority, issueCertificate, type NodeSubject, type Validity } from "../../transport/tls/issue.ts";
import { ALPN, type TlsOptions } from "../../transport/tls/options.ts";

export const authority: Issued = issueAuthority({ name: "test authority" }, daysFromNow(10));
/** Nobody believes it but who is told to. */
export const stranger: Issued = issueAuthority({ name: "another authority" }, daysFromNow(10));

const HOSTS = ["127.0.0.1", "::1", "localhost"];

export interface MaterialOptions extends Partial<NodeSubject> {
  readonly by?: Issued;
  readonly validity?: Validity;
  readonly denied?: readonly string[];
  /** Whom it believes; the test authority. */
  readonly believes?: Issued;
}

/** A certificate of this host under some name, and whom its node believes. */
export function tlsMaterial(options: MaterialOptions = {}): TlsOptions {
  const { by = authority, validity = daysFromNow(1), denied = [], believes = authority, ...subject } = options;
  return tlsOf(issueCertificate(by, { name: "node", hosts: HOSTS, ...subject }, validity), believes, denied);
}

export function tlsOf(issued: Issued, believes: Issued = authority, denied: readonly string[] = []): TlsOptions {
  const pem = (text: string): Uint8Array => Buffer.from(text);
  return { certificate: pem(issued.certificate), key: pem(issued.key), authorities: pem(believes.certificate), denied };
}

/** For bare peers made of node:tls. */
export function bareTls({ certificate, key, authorities }: TlsOptions): SecureContextOptions & { ALPNProtocols: string[] } {
  return {
    cert: Buffer.from(certificate),
    key: Buffer.from(key),
    ca: Buffer.from(authorities),
    minVersion: "TLSv1.3",
    ALPNProtocols: [ALPN],
  };
}
