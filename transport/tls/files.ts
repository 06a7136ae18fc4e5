/** A node's certificate, key, authorities and deny-list as files: read and checked together. */
import type { X509Certificate } from "node:crypto";
import { readFileSync, statSync } from "node:fs";
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

/**
 * A file of settings, at most 4 MiB; throws Error. A device has no end, and a pipe that is read once more, when files are looked at again, holds up the whole node.
 * @param takesPipe it is read once: a shell's <(command) will do
 */
export function readSmallFile(file: string, takesPipe = false): Buffer {
  const found = statSync(file);
  // Of a folder the read says what it is.
  const isTaken = found.isFile() || found.isDirectory() || (takesPipe && found.isFIFO());
  if (!isTaken) throw new Error(`${file} is no plain file`);
  if (found.size > FILE_BYTES_MAX) throw new Error(`${file} is longer than ${FILE_BYTES_MAX} bytes`);
  return readFileSync(file);
}

/** What a person would know the certificate by. */
export function describeCertificate(certificate: X509Certificate): { identity: string; notAfter: string } {
  return { identity: identityOf(certificate), notAfter: new Date(certificate.validTo).toISOString() };
}

function read(setting: keyof TlsFiles, file: string): Uint8Array {
  try {
    return readSmallFile(file);
  } catch (error) {
    throw new KvferryError("invalid_config", `tls.${setting}: ${(error as Error).message}`, { cause: error });
  }
}

/** One a line; what stands behind # is for people. */
function entriesOf(bytes: Uint8Array): string[] {
  const lines = Buffer.from(bytes).toString("utf8").split("\n");
  return lines.map((line) => (line.split("#", 1)[0] as string).trim()).filter((line) => line !== "");
}
