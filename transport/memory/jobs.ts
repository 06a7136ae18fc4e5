/**
 * Work on memory that would hold up the loop: checksums over blocks, copies between layouts. Native threads, or JavaScript where there is
 * no addon.
 */
import { KvferryError } from "../errors.ts";
import { crc32c } from "../kv/crc32c.ts";
import { gather, planeFits, RunCursor, scatter, streamBytes } from "../kv/runs.ts";
import { limits } from "../limits.ts";
import type { Plane } from "../link/link.ts";
import { type NativeAddon, native, planeNumbers } from "../native.ts";
import type { Region } from "./region.ts";

export type ChecksumDone = (error: KvferryError | undefined, checksums: Uint32Array) => void;

/** Where a stream lies: planes one after the other, each over the same blocks. */
export interface JobStream {
  readonly region: Region;
  readonly planes: readonly Plane[];
  readonly blocks: Uint32Array;
}

/**
 * `done` is called once, later, never before the call returned; with `closed` if the jobs are closed first (a copy may have
 * written part of its target then). Calls throw KvferryError: closed, or invalid_argument for planes that leave their region
 * and streams that differ in length.
 */
export interface Jobs {
  /** CRC32C of each block over all planes in order; their `firstToken` is 0. False: full. */
  checksum(region: Region, planes: readonly Plane[], blocks: Uint32Array, done: ChecksumDone): boolean;
  /** Copies a stream to another of the same length. False: full. */
  copy(from: JobStream, to: JobStream, done: (error: KvferryError | undefined) => void): boolean;
  /** Resolves when nothing works on any region any more. Idempotent. */
  close(): Promise<void>;
}

export function createJobs(): Jobs {
  return native === undefined ? new ScriptJobs() : new NativeJobQueue(native);
}

const NONE = new Uint32Array(0);

class NativeJobQueue implements Jobs {
  readonly #jobs: InstanceType<NativeAddon["NativeJobs"]>;
  readonly #waiting = new Map<number, ChecksumDone>();
  #next = 1;
  #open = true;

  constructor(addon: NativeAddon) {
    this.#jobs = new addon.NativeJobs(limits.jobThreads, limits.jobsMax, () => this.#collect());
  }

  checksum(region: Region, planes: readonly Plane[], blocks: Uint32Array, done: ChecksumDone): boolean {
    return this.#submit(done, (id) => this.#jobs.checksum(id, region.nativeId, planeNumbers(planes), blocks));
  }

  copy(from: JobStream, to: JobStream, done: (error: KvferryError | undefined) => void): boolean {
    const [source, target] = [planeNumbers(from.planes), planeNumbers(to.planes)];
    return this.#submit(done, (id) =>
      this.#jobs.copy(id, from.region.nativeId, source, from.blocks, to.region.nativeId, target, to.blocks),
    );
  }

  #submit(done: ChecksumDone, start: (id: number) => boolean): boolean {
    if (!this.#open) throw new KvferryError("closed", "jobs");
    const id = this.#next;
    this.#next = id === 0xffffffff ? 1 : id + 1;
    let taken: boolean;
    try {
      taken = start(id);
    } catch (cause) {
      throw new KvferryError("invalid_argument", (cause as Error).message, { cause });
    }
    if (taken) this.#waiting.set(id, done);
    return taken;
  }

  #collect(): void {
    const results = this.#jobs.collect();
    for (let at = 0; at < results.length; at += 2) {
      const done = this.#waiting.get(results[at] as number);
      this.#waiting.delete(results[at] as number);
      done?.(undefined, results[at + 1] as Uint32Array);
    }
  }

  async close(): Promise<void> {
    if (!this.#open) return;
    this.#open = false;
    this.#jobs.close();
    const closed = new KvferryError("closed", "jobs");
    for (const done of this.#waiting.values()) done(closed, NONE);
    this.#waiting.clear();
  }
}

/** Computes at once and tells later: slow, and right. */
export class ScriptJobs implements Jobs {
  #pending = 0;
  #open = true;

  checksum(region: Region, planes: readonly Plane[], blocks: Uint32Array, done: ChecksumDone): boolean {
    if (planes.some((plane) => plane.firstToken !== 0)) throw new KvferryError("invalid_argument", "checksums are of whole blocks");
    lengthOf({ region, planes, blocks });
    return this.#run(done, () => {
      const checksums = new Uint32Array(blocks.length);
      for (let index = 0; index < blocks.length; index++) {
        const bytes = gatherStream({ region, planes, blocks: blocks.subarray(index, index + 1) });
        checksums[index] = crc32c(bytes);
      }
      return checksums;
    });
  }

  copy(from: JobStream, to: JobStream, done: (error: KvferryError | undefined) => void): boolean {
    if (lengthOf(from) !== lengthOf(to)) throw new KvferryError("invalid_argument", "the streams differ in length");
    return this.#run(done, () => {
      scatterStream(to, gatherStream(from));
      return NONE;
    });
  }

  #run(done: ChecksumDone, compute: () => Uint32Array): boolean {
    if (!this.#open) throw new KvferryError("closed", "jobs");
    if (this.#pending >= limits.jobsMax) return false;
    this.#pending += 1;
    const checksums = compute();
    queueMicrotask(() => {
      this.#pending -= 1;
      done(this.#open ? undefined : new KvferryError("closed", "jobs"), checksums);
    });
    return true;
  }

  async close(): Promise<void> {
    this.#open = false;
  }
}

/** Throws if there is no plane, or one leaves its region. */
function lengthOf({ region, planes, blocks }: JobStream): number {
  if (planes.length === 0) throw new KvferryError("invalid_argument", "there is no plane");
  return planes.reduce((sum, plane) => sum + cursorOf(region, plane, blocks).left, 0);
}

function gatherStream(stream: JobStream): Uint8Array {
  const { region, planes, blocks } = stream;
  const bytes = new Uint8Array(lengthOf(stream));
  let at = 0;
  for (const plane of planes) at += gather(bytes, at, region.view, cursorOf(region, plane, blocks), streamBytes(plane, blocks.length));
  return bytes;
}

function scatterStream({ region, planes, blocks }: JobStream, bytes: Uint8Array): void {
  let at = 0;
  for (const plane of planes) at += scatter(region.view, cursorOf(region, plane, blocks), bytes, at, streamBytes(plane, blocks.length));
}

function cursorOf(region: Region, plane: Plane, blocks: Uint32Array): RunCursor {
  if (!planeFits(plane, blocks, region.bytes)) throw new KvferryError("invalid_argument", "planes leave their region");
  return new RunCursor(plane, blocks, 0, streamBytes(plane, blocks.length));
}
