/**
 * A sequence's state between llama.cpp, which reads and writes files, and the blocks of a sidecar's pool, which is mapped here.
 * llama.cpp gives no pointer to its cells, so that the state is copied twice on each side: into a file in memory, and from there into
 * the pool. The file never reaches a disk where the host has a memory file system with room for it.
 */
import { closeSync, existsSync, mkdtempSync, openSync, readSync, rmSync, statfsSync, statSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Blocks, KvferryError, type PoolInfo } from "./kvferry.ts";

/** Where one block of a state lies in the pool's memory, and how much of the state is in it. */
export interface Piece {
  readonly stateOffset: number;
  readonly poolOffset: number;
  readonly bytes: number;
}

export function blocksFor(bytes: number, blockBytes: number): number {
  return Math.ceil(bytes / blockBytes);
}

/** Throws KvferryError invalid_argument where the blocks are not as many as the state needs, or do not lie in the pool. */
export function piecesOf(pool: PoolInfo, blocks: Blocks, bytes: number): Piece[] {
  const wanted = blocksFor(bytes, pool.blockBytes);
  if (blocks.ids.length !== wanted) {
    throw new KvferryError(
      "invalid_argument",
      `a state of ${bytes} bytes fills ${wanted} blocks of ${pool.blockBytes}, not ${blocks.ids.length}`,
    );
  }
  return Array.from(blocks.ids, (block, index) => {
    if (block >= pool.blockCount) throw new KvferryError("invalid_argument", `block ${block} is not one of the pool's ${pool.blockCount}`);
    const stateOffset = index * pool.blockBytes;
    const bytesHere = Math.min(pool.blockBytes, bytes - stateOffset);
    return { stateOffset, poolOffset: pool.dataOffset + block * pool.blockBytes, bytes: bytesHere };
  });
}

/** A folder of one's own for state files, in memory if there is room for `bytes`. */
export function makeStateFolder(bytes: number): string {
  const shared = "/dev/shm";
  const inMemory = existsSync(shared) && freeBytes(shared) > bytes;
  try {
    return mkdtempSync(join(inMemory ? shared : tmpdir(), "kvferry-llama-"));
  } catch (cause) {
    throw new KvferryError("memory_unavailable", "no folder for state files", { cause });
  }
}

export function removeStateFolder(folder: string): void {
  rmSync(folder, { recursive: true, force: true });
}

export function stateBytes(path: string): number {
  return statSync(path).size;
}

/** The state file's bytes into the blocks. */
export function copyIn(statePath: string, memory: Uint8Array, pieces: readonly Piece[]): void {
  withFile(statePath, "r", (file) => {
    for (const { stateOffset, poolOffset, bytes } of pieces) {
      for (let at = 0; at < bytes; ) {
        const count = readSync(file, memory, poolOffset + at, bytes - at, stateOffset + at);
        if (count === 0) throw new KvferryError("memory_unavailable", `${statePath} ends at ${stateOffset + at}`);
        at += count;
      }
    }
  });
}

/** The blocks' bytes into a new state file. */
export function copyOut(statePath: string, memory: Uint8Array, pieces: readonly Piece[]): void {
  withFile(statePath, "wx", (file) => {
    for (const { stateOffset, poolOffset, bytes } of pieces) {
      for (let at = 0; at < bytes; ) at += writeSync(file, memory, poolOffset + at, bytes - at, stateOffset + at);
    }
  });
}

function withFile(path: string, flags: string, use: (file: number) => void): void {
  let file: number | undefined;
  try {
    file = openSync(path, flags, 0o600);
    use(file);
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
