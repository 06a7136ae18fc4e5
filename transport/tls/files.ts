/** A node's certificate, key, authorities and deny-list as files: read and checked together. */
import type { X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { KvferryError } from "../errors.ts";
import { checkTls, identityOf, type TlsOptions } from "./options.ts";

export interface TlsFiles {
  readonly certificate: string;
  readonly key: string;
  readonly authorities: string;
  /** "": nobody is denied. */
  readonly denied: string;
}

export interface LoadedTls {
  readonly options: TlsOptions;
  readonly certificate: X509Certificate;
}

const FILE_BYTES_MAX = 4 * 2 ** 20;

/** Throws KvferryError (invalid_config) that names the setting and its file. */
export function loadTls(files: TlsFiles, nowMs: number): LoadedTls {
  const options = {
    certificate: read("certificate", files.certificate),
    key: read("key", files.key),
    authorities: read("authorities", files.authorities),
    denied: files.denied === "" ? [] : entriesOf(read("denied", files.denied)),
  };
  try {
    return { options, certificate: checkTls(options, nowMs).certificate };
  } catch (error) {
    if (!(error instanceof KvferryError)) throw error;
    const { certificate, key, authorities, denied } = files;
    const named = `tls.certificate ${certificate}, tls.key ${key}, tls.authorities ${authorities}${denied === "" ? "" : `, tls.denied ${denied}`}`;
    throw new KvferryError("invalid_config", `${error.detail} (${named})`, { cause: error });
  }
}

/** What a person would know the certificate by. */
export function describeCertificate(certificate: X509Certificate): { identity: string; notAfter: string } {
  return { identity: identityOf(certificate), notAfter: new Date(certificate.validTo).toISOString() };
}

function read(setting: keyof TlsFiles, file: string): Uint8Array {
  let bytes: Uint8Array;
  try {
    bytes = readFileSync(file);
  } catch (error) {
    throw new KvferryError("invalid_config", `tls.${setting}: ${(error as Error).message}`, { cause: error });
  }
  if (bytes.length <= FILE_BYTES_MAX) return bytes;
  throw new KvferryError("invalid_config", `tls.${setting}: ${file} is longer than ${FILE_BYTES_MAX} bytes`);
}

/** One a line; what stands behind # is for people. */
function entriesOf(bytes: Uint8Array): string[] {
  const lines = Buffer.from(bytes).toString("utf8").split("\n");
  return lines.map((line) => (line.split("#", 1)[0] as string).trim()).filter((line) => line !== "");
}
