/** A PlacementSpec as native takes it: plain numbers in typed arrays (transport/native.ts has the layout). */
import { expected, integer } from "../check.ts";
import { limits } from "../limits.ts";
import { planeNumbers } from "../native.ts";
import type { PlacementSpec } from "./link.ts";

const INCOMING = 1;
const STANDING = 2;
const CHECKSUM = 4;
const RANK = 8;
const CHUNK_NUMBERS = 3;

export interface PackedPlacement {
  readonly flags: number;
  readonly planes: Float64Array;
  readonly chunks: Float64Array;
  readonly committed: Uint32Array;
}

/** Checks what native does not name well; native checks the planes and chunks against the region. */
export function packPlacement(spec: PlacementSpec): PackedPlacement {
  if (spec.direction !== "in" && spec.direction !== "out") throw expected('"in" or "out"', "direction", spec.direction);
  integer(spec.grant, "grant", 1, limits.grantMax);
  integer(spec.generation, "generation", 0, 2 ** 32 - 1);
  integer(spec.planes.length, "planes", 1, limits.planesMax);
  integer(spec.blockLists.length, "blockLists", 1, limits.groupsMax);
  integer(spec.chunks.length, "chunks", 1, limits.chunksPerTransferMax);
  integer(spec.rank ?? 1, "rank", 0, 2);
  if (spec.coding !== undefined) {
    integer(spec.coding.codecs.length, "codecs", spec.planes.length, spec.planes.length);
    integer(spec.coding.position, "position", 0, limits.keyTokensMax);
  }
  for (const blocks of spec.blockLists) integer(blocks.length, "blocks of a list", 0, limits.blocksPerTransferMax);
  if (spec.region.nativeId < 0) throw expected("a region of the addon", "region", spec.region.nativeId);
  return {
    flags: flagsOf(spec),
    planes: planeNumbers(spec.planes),
    chunks: packChunks(spec),
    committed: Uint32Array.from(spec.committed ?? []),
  };
}

function flagsOf({ direction, standing, checksum, rank = 1 }: PlacementSpec): number {
  return (direction === "in" ? INCOMING : 0) | (standing === true ? STANDING : 0) | (checksum ? CHECKSUM : 0) | (rank * RANK);
}

function packChunks({ chunks }: PlacementSpec): Float64Array {
  const numbers = new Float64Array(chunks.length * CHUNK_NUMBERS);
  let at = 0;
  for (const chunk of chunks) {
    numbers[at++] = chunk.plane;
    numbers[at++] = chunk.start;
    numbers[at++] = chunk.bytes;
  }
  return numbers;
}
