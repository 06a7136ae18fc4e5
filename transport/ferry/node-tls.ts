/** A node's certificate: read at the start, and again when its files change; connections that are there go on with the old one. */
import { asKvferryError, type KvferryError } from "../errors.ts";
import { limits } from "../limits.ts";
import type { Link } from "../link/link.ts";
import { FileWatch } from "../config/watch.ts";
import { describeCertificate, type LoadedTls, loadTls, type TlsFiles } from "../tls/files.ts";
import type { TlsOptions } from "../tls/options.ts";
import type { NodeObserver } from "./context.ts";

export class NodeTls {
  readonly #files: TlsFiles;
  readonly #observer: NodeObserver;
  #loaded: LoadedTls;
  #watch: FileWatch<LoadedTls> | undefined;

  /** Throws KvferryError (invalid_config). */
  constructor(files: TlsFiles, observer: NodeObserver) {
    this.#files = files;
    this.#observer = observer;
    this.#loaded = loadTls(files, Date.now());
  }

  get options(): TlsOptions {
    return this.#loaded.options;
  }

  /** Of the certificate in use. */
  get certificate(): { readonly identity: string; readonly notAfter: string } {
    return describeCertificate(this.#loaded.certificate);
  }

  watch(link: Link, pollMs: number = limits.filesPollMs): void {
    const onBroken = (error: KvferryError): void => this.#observer.certificate?.(error);
    const onLoaded = (loaded: LoadedTls): void => {
      try {
        link.setTls(loaded.options);
      } catch (error) {
        return onBroken(asKvferryError(error));
      }
      this.#loaded = loaded;
      this.#observer.certificate?.(this.certificate);
    };
    const { certificate, key, authorities, denied } = this.#files;
    const load = (): LoadedTls => loadTls(this.#files, Date.now());
    this.#watch = new FileWatch({ paths: [certificate, key, authorities, denied], pollMs, load, onLoaded, onBroken });
  }

  /** Reads the files now. */
  reload(): void {
    this.#watch?.reload();
  }

  close(): void {
    this.#watch?.close();
  }
}
