/** A node's certificate: read at the start, and again when its files change; connections that are there go on with the old one. */
import { asKvferryError, type KvferryError } from "../errors.ts";
import { limits } from "../limits.ts";
import type { Link } from "../link/link.ts";
import { describeCertificate, type LoadedTls, loadTls, type TlsFiles, TlsWatch } from "../tls/files.ts";
import type { TlsOptions } from "../tls/options.ts";
import type { NodeObserver } from "./context.ts";

export class NodeTls {
  readonly #files: TlsFiles;
  readonly #observer: NodeObserver;
  #loaded: LoadedTls;
  #watch: TlsWatch | undefined;

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

  watch(link: Link, pollMs: number = limits.tlsPollMs): void {
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
    this.#watch = new TlsWatch({ files: this.#files, pollMs, onLoaded, onBroken });
  }

  /** Reads the files now. */
  reload(): void {
    this.#watch?.reload();
  }

  close(): void {
    this.#watch?.close();
  }
}
