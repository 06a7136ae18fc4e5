/** The unix socket's file: private to its user, taken over from a dead owner, never from a living one. */
import { accessSync, constants, lstatSync, unlinkSync } from "node:fs";
import { connect } from "node:net";
import { dirname } from "node:path";
import { isMainThread } from "node:worker_threads";
import { KvferryError } from "../errors.ts";

/** sun_path holds 108 bytes with the closing zero; macOS holds 104. */
const PATH_BYTES_MAX = 103;
const PROBE_MS = 1_000;

/** Throws invalid_argument for a path that no socket can have. */
export function checkSocketPath(path: string): string {
  const bytes = Buffer.byteLength(path);
  if (bytes === 0 || bytes > PATH_BYTES_MAX || path.includes("\0")) {
    throw new KvferryError("invalid_argument", `Expected a path of 1 to ${PATH_BYTES_MAX} bytes for socket but received ${bytes} bytes`);
  }
  return path;
}

/** Removes what a dead owner left. Rejects with address_unavailable if somebody answers there, or if it is no socket. */
export async function clearStaleSocket(path: string): Promise<void> {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (stat === undefined) return;
  if (!stat.isSocket()) throw new KvferryError("address_unavailable", `${path} is there and is no socket`);
  if (await answers(path)) throw new KvferryError("address_unavailable", `another process serves ${path}`);
  unlinkSync(path);
}

/** A server library that says only that it could not bind: what the folder tells. */
export function whyNotAt(path: string): string {
  try {
    accessSync(dirname(path), constants.W_OK | constants.X_OK);
    return path;
  } catch (error) {
    return `${path}: ${(error as Error).message}`;
  }
}

/** Calls `bind` under a mask that gives the file that it makes to nobody else: not even for the moment before a chmod. */
export function bindPrivately(bind: () => void): void {
  // The mask is the process's: a worker thread cannot set it, and need not be the one that serves.
  if (!isMainThread) throw new KvferryError("unsupported", "a unix socket is served by the main thread");
  const before = process.umask(0o177);
  try {
    bind();
  } finally {
    process.umask(before);
  }
}

/** Number of the file, to tell later whether it is still ours. */
export function socketIdentity(path: string): number {
  return lstatSync(path, { throwIfNoEntry: false })?.ino ?? 0;
}

/** Removes the file unless another owner has put its own there. */
export function removeSocket(path: string, identity: number): void {
  if (identity !== 0 && socketIdentity(path) === identity) unlinkSync(path);
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const socket = connect({ path });
    const end = (result: boolean): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve(result);
    };
    // A listener whose backlog is full, or that is stopped, is alive all the same.
    const timer = setTimeout(() => end(true), PROBE_MS);
    socket.once("connect", () => end(true));
    socket.once("error", (cause: NodeJS.ErrnoException) => {
      if (cause.code === "ECONNREFUSED" || cause.code === "ENOENT") return end(false);
      if (cause.code === "EAGAIN") return end(true);
      clearTimeout(timer);
      reject(new KvferryError("address_unavailable", cause.message, { cause }));
    });
  });
}
