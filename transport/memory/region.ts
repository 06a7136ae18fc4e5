/**
 * A region is memory that a link can move bytes from and to. Two kinds: *pool* regions are named shared memory that engines attach;
 * *private* regions are this process's own (library users, hosts without the addon, the simulator).
 */
import { existsSync, rmSync } from "node:fs";
import { isAbsolute, resolve } from "node:path";
import { markAsUntransferable } from "node:worker_threads";
import { expected, integer } from "../check.ts";
import { KvferryError } from "../errors.ts";
import { limits } from "../limits.ts";
import { type NativeAddon, type NativeRegion, native, nativeProblem } from "../native.ts";
import { poolDirectories } from "./places.ts";

export interface Region {
  readonly bytes: number;
  /** Path that another process of the same user can map, or "" for a private region. */
  readonly path: string;
  /** Index in the native table of regions; -1 when only JavaScript can reach it. */
  readonly nativeId: number;
  /** The memory itself. It stays readable after close() for as long as somebody holds it; nothing moves bytes there any more. */
  readonly view: Uint8Array;
  /** Idempotent. Links and jobs that still use the memory keep it until they are done; new work on it is refused. */
  close(): void;
}

export interface PoolRegion extends Region {
  /** What was got: most of the region lies in huge pages. */
  readonly hugePages: boolean;
  /** -1 = as the kernel likes. */
  readonly numaNode: number;
}

export interface PoolRegionOptions {
  /** Part of the file's name: the same name finds the same pool again. */
  readonly name: string;
  readonly bytes: number;
  /**
   * A tmpfs or hugetlbfs; "" = where this pool lies already, or the first that has room of: a hugetlbfs (unless huge pages are
   * off), /dev/shm, /run/user/UID, the temporary folder.
   */
  readonly directory: string;
  /** "auto" takes them where there are any; "on" fails where there are none. */
  readonly hugePages: "off" | "auto" | "on";
  /** Preferred NUMA node; -1 = as the kernel likes. */
  readonly numaNode: number;
  /** Remove the file when the region is closed. */
  readonly temporary?: boolean;
}

/** How native says that the file has another owner. */
const IN_USE = "is in use by another owner";

const HUGE_PAGES = { off: 0, auto: 1, on: 2 };

/**
 * The pool's memory, every page of it backed (in libuv's threads). Without the addon it is private: nobody can attach it.
 * Throws KvferryError memory_unavailable, naming each place that was tried and what was wrong there. `placesOf`: where to look if no directory
 * is named.
 */
export async function createPoolRegion(options: PoolRegionOptions, placesOf = poolDirectories): Promise<PoolRegion> {
  const { directory, hugePages } = options;
  const bytes = integer(options.bytes, "pool bytes", limits.poolBytesMin, limits.poolBytesMax);
  const numaNode = integer(options.numaNode, "NUMA node", -1, 1_023);
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/.test(options.name)) {
    throw expected("letters, digits, dots and dashes", "pool name", options.name);
  }
  if (native === undefined) return { ...privateRegion(bytes), hugePages: false, numaNode: -1 };
  const places = directory === "" ? placesOf(hugePages !== "off") : [directory];
  const paths = places.map((place) => resolve(place, `kvferry-${process.getuid?.() ?? 0}-${options.name}.pool`));
  const problems: string[] = [];
  // A pool that lies somewhere already is taken up there, whichever place has room today.
  for (const path of [...paths.filter(existsSync), ...paths.filter((path) => !existsSync(path))]) {
    const existed = existsSync(path);
    try {
      const made = await native.makePoolRegion(path, bytes, HUGE_PAGES[hugePages], numaNode);
      const region = poolRegion(made, options.temporary === true);
      const lacks = hugePages === "on" && !made.hugePages ? "huge pages" : made.numaNode !== numaNode ? `NUMA node ${numaNode}` : "";
      if (lacks === "") return region;
      problems.push(`${path}: no ${lacks} there`);
      if (existed) region.close();
      else removeAndClose(region);
    } catch (error) {
      const problem = (error as Error).message;
      // Somewhere else there would be a second pool under one name, which neither owner would expect.
      if (existed && problem.endsWith(IN_USE))
        throw new KvferryError("memory_unavailable", `${problem}: another node has this pool's name`);
      problems.push(problem);
    }
  }
  throw new KvferryError("memory_unavailable", problems.join("; "));
}

/**
 * Memory that other processes of this user can map as a buffer, by its path, while the region is open. It lies in no file system (a memfd) and is
 * sealed, so that nobody can cut it under a mapping. Throws KvferryError memory_unavailable or unsupported.
 */
export async function createBufferRegion(bytes: number): Promise<Region> {
  integer(bytes, "bytes", 1, limits.poolBytesMax);
  try {
    return mappedRegion(await addon().makeBufferRegion(bytes));
  } catch (cause) {
    throw unavailable(cause);
  }
}

/** Maps a pool of another process of this user. Throws KvferryError memory_unavailable or unsupported. */
export function attachRegion(path: string, bytes: number, options: { readonly readOnly?: boolean } = {}): Region {
  return attached(path, bytes, (from) => from.attachRegion(path, bytes, options.readOnly === true));
}

/**
 * Maps a buffer of another process of this user: a memfd, which is sealed against being cut if its maker has not done so. Any other file is refused,
 * because touching what was cut off ends the process that does. Throws KvferryError memory_unavailable or unsupported.
 */
export function attachBufferRegion(path: string, bytes: number): Region {
  return attached(path, bytes, (from) => from.attachBufferRegion(path, bytes));
}

function attached(path: string, bytes: number, attach: (from: NativeAddon) => NativeRegion): Region {
  integer(bytes, "bytes", 1, limits.poolBytesMax);
  if (!isAbsolute(path) || path.includes("\0")) throw expected("an absolute path", "path", path);
  try {
    return mappedRegion(attach(addon()));
  } catch (cause) {
    throw unavailable(cause);
  }
}

function addon(): NativeAddon {
  if (native === undefined) throw new KvferryError("unsupported", `mapping memory needs the addon: ${nativeProblem}`);
  return native;
}

function unavailable(cause: unknown): KvferryError {
  return cause instanceof KvferryError ? cause : new KvferryError("memory_unavailable", (cause as Error).message, { cause });
}

/**
 * This process's own memory: of that size, or the caller's. The caller's buffer cannot be posted to another thread any more,
 * and must not be transferred otherwise: native threads know its address. Throws KvferryError memory_unavailable.
 */
export function privateRegion(memory: Uint8Array | number): Region {
  const view = typeof memory === "number" ? newMemory(memory) : memory;
  if (view.byteLength === 0) throw expected("at least one byte", "memory", view);
  if ((view.buffer as { resizable?: boolean }).resizable === true) throw expected("memory of a fixed size", "memory", view);
  if (native === undefined) return { bytes: view.byteLength, path: "", nativeId: -1, view, close: () => {} };
  if (view.buffer instanceof ArrayBuffer) markAsUntransferable(view.buffer);
  const borrowed = native.borrowRegion(view);
  return { bytes: view.byteLength, path: "", nativeId: borrowed.id, view, close: () => borrowed.close() };
}

/** This process's own memory, zeroed. Throws memory_unavailable for more than V8 gives in one piece. */
export function newMemory(bytes: number): Uint8Array {
  integer(bytes, "bytes", 1, limits.poolBytesMax);
  try {
    return new Uint8Array(bytes);
  } catch (cause) {
    throw new KvferryError("memory_unavailable", `${bytes} bytes in one piece`, { cause });
  }
}

function mappedRegion(made: NativeRegion): Region {
  return {
    bytes: made.bytes,
    path: made.path,
    nativeId: made.id,
    view: new Uint8Array(made.memory as ArrayBuffer),
    close: () => made.close(),
  };
}

function poolRegion(made: NativeRegion, temporary: boolean): PoolRegion {
  const region = { ...mappedRegion(made), hugePages: made.hugePages, numaNode: made.numaNode };
  let open = true;
  const remove = (): void => {
    if (open) removeAndClose({ path: made.path, close: () => made.close() });
    open = false;
  };
  return temporary ? { ...region, close: remove } : region;
}

/** In this order: as long as the region is open, no other owner can have the file. */
function removeAndClose(region: Pick<Region, "path" | "close">): void {
  rmSync(region.path, { force: true });
  region.close();
}
