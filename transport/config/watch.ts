/** Files that are read again when they change: looked at now and then, because a watch of the kernel does not survive what renames and links do; and when told to. */
import { statSync } from "node:fs";
import { KvferryError } from "../errors.ts";

export interface FileWatchOptions<Loaded> {
  /** They belong together; "" is none. */
  readonly paths: readonly string[];
  readonly pollMs: number;
  /** Reads all of them. Throws KvferryError. */
  readonly load: () => Loaded;
  readonly onLoaded: (loaded: Loaded) => void;
  /** The old ones stay in use. */
  readonly onBroken: (error: KvferryError) => void;
}

export class FileWatch<Loaded> {
  readonly #options: FileWatchOptions<Loaded>;
  readonly #timer: NodeJS.Timeout;
  /** What is in use, or was found broken; and what was there at the last look. */
  #taken: string;
  #seen: string;

  /** The files have just been loaded. */
  constructor(options: FileWatchOptions<Loaded>) {
    this.#options = options;
    this.#taken = this.#seen = stateOf(options.paths);
    this.#timer = setInterval(() => this.#look(), options.pollMs);
    this.#timer.unref();
  }

  /** Now, changed or not. */
  reload(): void {
    this.#taken = this.#seen = stateOf(this.#options.paths);
    let loaded: Loaded;
    try {
      loaded = this.#options.load();
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
    const state = stateOf(this.#options.paths);
    const isSettled = state === this.#seen;
    this.#seen = state;
    if (isSettled && state !== this.#taken) this.reload();
  }
}

/** What tells one state of the files from another; a file that is not there is a state, too. */
function stateOf(paths: readonly string[]): string {
  return paths
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
