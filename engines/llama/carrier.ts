/**
 * State files: llama.cpp gives a sequence's state to a file and takes it from one, and has no other door. The file never reaches a disk
 * where the host has a memory file system with room for it, and nothing of it is left when it has been used.
 */
import { closeSync, existsSync, fstatSync, mkdtempSync, openSync, readSync, rmSync, statfsSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { KvferryError } from "./kvferry.ts";

/** For choosing a folder: a state of a long prompt. */
const STATE_BYTES_EXPECTED = 256 * 1024 * 1024;
/** At once: the system calls take at most 2 GiB. */
const COPY_BYTES = 1024 * 1024 * 1024;

/** A path of its own for one state, in a folder that goes with it. */
export async function withStateFile<T>(use: (path: string) => Promise<T>): Promise<T> {
  const folder = makeStateFolder();
  try {
    return await use(join(folder, "sequence.state"));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

export function readStateFile(path: string): Uint8Array {
  return withFile(path, "r", (file) => {
    const bytes = Buffer.allocUnsafeSlow(fstatSync(file).size);
    for (let at = 0; at < bytes.length; ) {
      const count = readSync(file, bytes, at, Math.min(bytes.length - at, COPY_BYTES), at);
      if (count === 0) throw new KvferryError("memory_unavailable", `${path} ends at ${at}`);
      at += count;
    }
    return bytes;
  });
}

/** The file must be new. */
export function writeStateFile(path: string, bytes: Uint8Array): void {
  withFile(path, "wx", (file) => {
    for (let at = 0; at < bytes.length; ) at += writeSync(file, bytes, at, Math.min(bytes.length - at, COPY_BYTES), at);
  });
}

function makeStateFolder(): string {
  const shared = "/dev/shm";
  const inMemory = existsSync(shared) && freeBytes(shared) > STATE_BYTES_EXPECTED;
  try {
    return mkdtempSync(join(inMemory ? shared : tmpdir(), "kvferry-llama-"));
  } catch (cause) {
    throw new KvferryError("memory_unavailable", "no folder for state files", { cause });
  }
}

function withFile<T>(path: string, flags: string, use: (file: number) => T): T {
  let file: number | undefined;
  try {
    file = openSync(path, flags, 0o600);
    return use(file);
  } catch (cause) {
    if (cause instanceof KvferryError) throw cause;
    throw new KvferryError("memory_unavailable", `cannot copy through ${path}`, { cause });
  } finally {
    if (file !== undefined) closeSync(file);
  }
}

function freeBytes(folder: string): number {
  const { bavail, bsize } = statfsSync(folder);
  return bavail * bsize;
}
