/** TLS of a bench: certificates of the moment, which the client brings along to the server, or those of files at either end. */
import { readFileSync } from "node:fs";
import { KvferryError } from "../transport/errors.ts";
import { daysFromNow, issueAuthority, issueCertificate } from "../transport/tls/issue.ts";
import type { TlsOptions } from "../transport/tls/options.ts";

export interface TlsFiles {
  readonly certificate: string;
  readonly key: string;
  readonly authorities: string;
}

/** "off", certificates of the moment, or files. */
export type TlsChoice = "off" | "moment" | TlsFiles;

/** What a client asks of a server: no TLS, TLS with the server's own certificate, or with this one. */
export type TlsWish = "off" | "own" | TlsPem;

export interface TlsPem {
  readonly certificate: string;
  readonly key: string;
  readonly authorities: string;
}

/** In a certificate of the moment, whatever the host is called. */
const MOMENT = "urn:kvferry:bench";

export interface ClientTls {
  readonly wish: TlsWish;
  readonly options: TlsOptions | undefined;
  /** Whose certificate the server must have; undefined: the host's. */
  readonly identity: string | undefined;
}

/** Throws KvferryError (invalid_argument) for files that cannot be read. */
export function clientTls(choice: TlsChoice): ClientTls {
  if (choice === "off") return { wish: "off", options: undefined, identity: undefined };
  if (choice !== "moment") return { wish: "own", options: tlsOfFiles(choice), identity: undefined };
  const authority = issueAuthority({ name: "kvferry bench" }, daysFromNow(1));
  const { certificate, key } = issueCertificate(authority, { name: "bench", uri: MOMENT }, daysFromNow(1));
  const pem = { certificate, key, authorities: authority.certificate };
  return { wish: pem, options: tlsOfPem(pem), identity: MOMENT };
}

/** What a server has to offer for a wish. Throws KvferryError (tls_failed). */
export function serverTls(wish: TlsWish, own: TlsOptions | undefined): TlsOptions | undefined {
  if (wish === "off" && own === undefined) return undefined;
  if (wish === "own" && own !== undefined) return own;
  if (typeof wish === "object" && own === undefined) return tlsOfPem(wish);
  throw new KvferryError(
    "tls_failed",
    own === undefined
      ? "this bench server has no certificate of its own: start it with --tls-cert, --tls-key and --tls-ca"
      : "this bench server wants TLS with certificates: give --tls-cert, --tls-key and --tls-ca",
  );
}

export function tlsOfFiles({ certificate, key, authorities }: TlsFiles): TlsOptions {
  return {
    certificate: read(certificate, "--tls-cert"),
    key: read(key, "--tls-key"),
    authorities: read(authorities, "--tls-ca"),
    denied: [],
  };
}

function tlsOfPem({ certificate, key, authorities }: TlsPem): TlsOptions {
  const [cert, secret, ca] = [certificate, key, authorities].map((text) => Buffer.from(text, "utf8")) as [Buffer, Buffer, Buffer];
  return { certificate: cert, key: secret, authorities: ca, denied: [] };
}

function read(file: string, flag: string): Uint8Array {
  try {
    return readFileSync(file);
  } catch (error) {
    throw new KvferryError("invalid_argument", `${flag}: ${(error as Error).message}`, { cause: error });
  }
}
