/** Checksums and copies as if threads did them: the result comes later, of what lies in memory then. */
import type { Plane } from "../../transport/link/link.ts";
import { KvferryError } from "../../transport/errors.ts";
import type { ChecksumDone, Jobs, JobStream } from "../../transport/memory/jobs.ts";
import type { Region } from "../../transport/memory/region.ts";
import type { Random } from "./random.ts";
import { chunkRuns, gather, scatter } from "./runs.ts";
import type { World } from "./world.ts";

export class VirtualJobs implements Jobs {
  readonly #world: World;
  readonly #random: Random;
  readonly #queueMax: number;
  #running = 0;
  #closed = false;

  constructor(world: World, random: Random, queueMax: number) {
    this.#world = world;
    this.#random = random;
    this.#queueMax = queueMax;
  }

  checksum(region: Region, planes: readonly Plane[], blocks: Uint32Array, done: ChecksumDone): boolean {
    return this.#later((error) => done(error, error === undefined ? sumBlocks(region, planes, blocks) : new Uint32Array(0)));
  }

  copy(from: JobStream, to: JobStream, done: (error: KvferryError | undefined) => void): boolean {
    return this.#later((error) => {
      if (error === undefined) scatterStream(to, gatherStream(from));
      done(error);
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
  }

  /** The process is gone. */
  die(): void {
    this.#closed = true;
    this.#running = Number.NaN;
  }

  #later(run: (error: KvferryError | undefined) => void): boolean {
    if (this.#running >= this.#queueMax) return false;
    this.#running += 1;
    const slow = this.#random.chance(1, 8);
    this.#world.after(this.#random.between(1, slow ? 30_000 : 300), () => {
      if (Number.isNaN(this.#running)) return;
      this.#running -= 1;
      run(this.#closed ? new KvferryError("closed", "the jobs are closed") : undefined);
    });
    return true;
  }
}

function sumBlocks(region: Region, planes: readonly Plane[], blocks: Uint32Array): Uint32Array {
  return Uint32Array.from(blocks, (block) => fnv(gatherStream({ region, planes, blocks: Uint32Array.of(block) })));
}

function streamRuns({ region, planes, blocks }: JobStream): { readonly runs: number[]; readonly bytes: number } {
  const runs: number[] = [];
  let bytes = 0;
  for (const plane of planes) {
    const planeBytes = blocks.length * plane.tokens * plane.heads * plane.channels * plane.elementBytes;
    const spec = {
      direction: "out" as const,
      connection: 0,
      grant: 1,
      generation: 1,
      region,
      planes: [{ ...plane, blockList: 0 }],
      blockLists: [blocks],
      chunks: [{ plane: 0, start: 0, bytes: planeBytes }],
      checksum: false,
    };
    runs.push(...chunkRuns(spec, 0));
    bytes += planeBytes;
  }
  return { runs, bytes };
}

function gatherStream(stream: JobStream): Uint8Array {
  const { runs, bytes } = streamRuns(stream);
  return gather(stream.region.view, runs, bytes);
}

function scatterStream(stream: JobStream, bytes: Uint8Array): void {
  scatter(stream.region.view, streamRuns(stream).runs, bytes);
}

function fnv(bytes: Uint8Array): number {
  let hash = 0x811c9dc5;
  for (const byte of bytes) hash = Math.imul(hash ^ byte, 0x01000193);
  return hash >>> 0;
}
