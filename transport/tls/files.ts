/** A node's certificate, key, authorities and deny-list as files: read and checked together, and read again when they change. */
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

export interface TlsWatchOptions {
  readonly files: TlsFiles;
  readonly pollMs: number;
  readonly onLoaded: (loaded: LoadedTls) => void;
  /** The old one stays in use. */
  readonly onBroken: (error: KvferryError) => void;
}

/** Looks at the files now and then, because a watch of the kernel does not survive what renames and links do to them; and when it is told to. */
export class TlsWatch {
  readonly #options: TlsWatchOptions;
  readonly #timer: NodeJS.Timeout;
  /** What is in use, or was found broken; and what was there at the last look. */
  #taken: string;
  #seen: string;

  /** `options.files` have just been loaded. */
  constructor(options: TlsWatchOptions) {
    this.#options = options;
    this.#taken = this.#seen = stateOf(options.files);
    this.#timer = setInterval(() => this.#look(), options.pollMs);
    this.#timer.unref();
  }

  /** Now, changed or not. */
  reload(): void {
    this.#taken = this.#seen = stateOf(this.#options.files);
    let loaded: LoadedTls;
    try {
      loaded = loadTls(this.#options.files, Date.now());
    } catch (error) {
      if (!(error instanceof KvferryError)) throw error;
      return this.#options.onBroken(error);
    }
    this.#options.onLoaded(loaded);
  }

  close(): void {
    clearInterval(this.#timer);
  }

  /** A certificate and its key are two files: they are taken when both have stayed as they are from one look to the next. */
  #look(): void {
    const state = stateOf(this.#options.files);
    const isSettled = state === this.#seen;
    this.#seen = state;
    if (isSettled && state !== this.#taken) this.reload();
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

/** What tells one state of the files from another; a file that is not there is a state, too. */
function stateOf({ certificate, key, authorities, denied }: TlsFiles): string {
  return [certificate, key, authorities, denied]
    .filter((file) => file !== "")
    .map(stampOf)
    .join(" ");
}

function stampOf(file: string): string {
  try {
    const { ino, size, mtimeMs } = statSync(file);
    return `${ino}.${size}.${mtimeMs}`;
  } catch {
    return "-";
  }
}
