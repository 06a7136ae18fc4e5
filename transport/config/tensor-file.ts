/** Safetensors files on disk: parts of tensors are read as they are needed, since dumps and calibrations can be larger than what a Buffer holds. */
import { createHash } from "node:crypto";
import {
  type BigIntStats,
  closeSync,
  constants,
  fstatSync,
  openSync,
  read,
  readSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from "node:fs";
import { promisify } from "node:util";
import { expected, finiteFrom, LOWEST } from "../check.ts";
import { KvferryError } from "../errors.ts";
import { headBytes, parseHead, type SafetensorsHead, type Tensor, type TensorShape, writeHead } from "../codec/safetensors.ts";

const PIECE_BYTES = 64 * 1024 * 1024;
const HASHED_BYTES = 1024 * 1024;
/** What is read while other things go on. */
const LATER_BYTES = 8 * 1024 * 1024;

const readLater = promisify(read);

export class TensorFile {
  readonly path: string;
  readonly head: SafetensorsHead;
  readonly #file: number;
  readonly #changedMs: number;

  /** Throws invalid_argument on what is no safetensors file. */
  constructor(path: string) {
    this.path = path;
    // A pipe is no file, and would be waited for.
    this.#file = openFile(path, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      const stat = fstatSync(this.#file);
      if (!stat.isFile()) throw new KvferryError("invalid_argument", `${path} is no file`);
      this.#changedMs = stat.mtimeMs;
      const head = this.#read(0, headBytes(this.#read(0, Math.min(8, stat.size)), stat.size, path));
      this.head = parseHead(head, stat.size, path);
    } catch (error) {
      closeSync(this.#file);
      throw error;
    }
  }

  /** Throws invalid_argument. */
  tensor(name: string): Tensor {
    const tensor = this.head.tensors.get(name);
    if (tensor === undefined) throw new KvferryError("invalid_argument", `${this.path} has no tensor ${name}`);
    return tensor;
  }

  /** Of a tensor's bytes; memory of its own, aligned to 8. Throws invalid_argument on a file that was written to since: its hash and its head are another's. */
  read(name: string, from = 0, bytes = this.tensor(name).bytes - from): Uint8Array {
    this.#checkUnchanged();
    return this.#read(this.tensor(name).offset + from, bytes);
  }

  /** Fills `into` with the same in pieces, none of them by this thread. Rejects as `read` throws. */
  async readLater(name: string, from: number, into: Uint8Array): Promise<void> {
    this.#checkUnchanged();
    const offset = this.tensor(name).offset + from;
    for (let at = 0; at < into.length; ) {
      const { bytesRead } = await readLater(this.#file, into, at, Math.min(LATER_BYTES, into.length - at), offset + at);
      if (bytesRead === 0) throw this.#cut();
      at += bytesRead;
    }
    // Also what was written meanwhile.
    this.#checkUnchanged();
  }

  /** Hex SHA-256 of the whole file. */
  hash(): string {
    const hash = createHash("sha256");
    const piece = new Uint8Array(HASHED_BYTES);
    for (let at = 0, got = 1; got > 0; at += got) {
      got = readSync(this.#file, piece, 0, piece.length, at);
      hash.update(piece.subarray(0, got));
    }
    return hash.digest("hex");
  }

  /** The same, a piece in each turn of the event loop. */
  async hashLater(): Promise<string> {
    const hash = createHash("sha256");
    const piece = new Uint8Array(HASHED_BYTES);
    for (let at = 0, got = 1; got > 0; at += got) {
      ({ bytesRead: got } = await readLater(this.#file, piece, 0, piece.length, at));
      hash.update(piece.subarray(0, got));
    }
    return hash.digest("hex");
  }

  close(): void {
    closeSync(this.#file);
  }

  #checkUnchanged(): void {
    if (fstatSync(this.#file).mtimeMs !== this.#changedMs)
      throw new KvferryError("invalid_argument", `${this.path} was written to while it was in use`);
  }

  #cut(): KvferryError {
    return new KvferryError("invalid_argument", `${this.path} was cut while it was read`);
  }

  #read(offset: number, bytes: number): Uint8Array {
    const into = new Uint8Array(bytes);
    for (let at = 0; at < bytes; ) {
      const got = readSync(this.#file, into, at, Math.min(PIECE_BYTES, bytes - at), offset + at);
      if (got === 0) throw this.#cut();
      at += got;
    }
    return into;
  }
}

/**
 * Throws invalid_argument on a name that something else than a file has (a folder, or a device, in whose place a file would come), and on one of `inputs`, by
 * whatever name, whose content would be gone.
 */
export function checkOutput(path: string, inputs: readonly string[] = []): void {
  const there = statOf(path);
  if (there === undefined) return;
  if (!there.isFile()) throw new KvferryError("invalid_argument", `${path} is no file`);
  const input = inputs.find((name) => {
    const { dev, ino } = statOf(name) ?? {};
    return dev === there.dev && ino === there.ino;
  });
  if (input !== undefined) throw new KvferryError("invalid_argument", `${path} is an input${input === path ? "" : ` (${input})`}`);
}

/** Writes tensors in the order of their shapes. Returns the hex SHA-256 of the file. */
export function writeTensors(
  path: string,
  shapes: readonly TensorShape[],
  metadata: Readonly<Record<string, string>>,
  values: Iterable<ArrayBufferView>,
): string {
  const hash = createHash("sha256");
  writeOutput(path, (append) => {
    const write = (bytes: Uint8Array): void => {
      hash.update(bytes);
      append(bytes);
    };
    write(writeHead(shapes, metadata));
    for (const value of values) write(new Uint8Array(value.buffer, value.byteOffset, value.byteLength));
  });
  return hash.digest("hex");
}

/** A file that has another name until all is there. Throws invalid_argument. */
export function writeOutput(path: string, fill: (append: (bytes: Uint8Array) => void) => void): void {
  checkOutput(path);
  const fresh = `${path}.${process.pid}`;
  const wrong = (error: unknown): unknown => asInput(error, (message) => message.replaceAll(fresh, path));
  let file: number;
  try {
    file = openSync(fresh, "wx");
  } catch (error) {
    throw wrong(error);
  }
  try {
    try {
      fill((bytes) => {
        for (let at = 0; at < bytes.length; ) at += writeSync(file, bytes, at, Math.min(PIECE_BYTES, bytes.length - at));
      });
    } finally {
      closeSync(file);
    }
    renameSync(fresh, path);
  } catch (error) {
    rmSync(fresh, { force: true });
    throw wrong(error);
  }
}

function openFile(path: string, flags: number): number {
  try {
    return openSync(path, flags);
  } catch (error) {
    throw asInput(error);
  }
}

/** Undefined: there is nothing of that name. Throws invalid_argument. */
export function statOf(path: string): BigIntStats | undefined {
  try {
    return statSync(path, { throwIfNoEntry: false, bigint: true });
  } catch (error) {
    throw asInput(error);
  }
}

/** What the file system says of a name that the user gave. */
function asInput(error: unknown, reword = (message: string): string => message): unknown {
  if (error instanceof Error && "syscall" in error) return new KvferryError("invalid_argument", reword(error.message), { cause: error });
  return error;
}

/** Throws invalid_argument, also on numbers that are not finite, or below `least`. */
export function floats(file: TensorFile, name: string, shape: readonly number[], least = LOWEST): Float32Array {
  const tensor = file.tensor(name);
  if (tensor.dtype !== "F32" || tensor.shape.join() !== shape.join()) {
    throw expected(`F32 [${shape.join(", ")}]`, `${name} (of ${file.path})`, `${tensor.dtype} [${tensor.shape.join(", ")}]`);
  }
  const bytes = file.read(name);
  return finiteFrom(least, new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4), `${name} (of ${file.path})`);
}
