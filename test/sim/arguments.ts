/** What the virtual link refuses at once, as link.ts and the conformance suite want it. */
import { KvferryError } from "../../transport/errors.ts";
import type { ChunkSend, LaneOptions, PlacementSpec } from "../../transport/link/link.ts";
import { codecOf } from "./codecs.ts";
import { limits } from "./limits.ts";

function refuseUnless(isRight: boolean, what: string, code: "invalid_argument" | "range_invalid" = "invalid_argument"): void {
  if (!isRight) throw new KvferryError(code, what);
}

function isInteger(value: number, low: number, high: number): boolean {
  return Number.isSafeInteger(value) && value >= low && value <= high;
}

export function checkToken(token: Uint8Array): void {
  refuseUnless(token.length === 16, "a token has 16 bytes");
}

export function checkLane(lane: number, lanesMax: number, isOpen: boolean, { paceBytesPerSecond }: LaneOptions): void {
  refuseUnless(isInteger(lane, 0, lanesMax - 1), `lane ${lane}`);
  refuseUnless(!isOpen, `lane ${lane} is open`);
  refuseUnless(paceBytesPerSecond >= 0, "pace");
}

export function checkMessage(message: Uint8Array): void {
  refuseUnless(message.length > 0, "an empty message");
  if (message.length > limits.controlMessageBytes) throw new KvferryError("message_too_large", `${message.length} bytes`);
}

export function checkSpec(spec: PlacementSpec): void {
  const { grant, generation, planes, chunks, blockLists, committed = [] } = spec;
  refuseUnless(isInteger(grant, 1, Number.MAX_SAFE_INTEGER), "grant");
  refuseUnless(isInteger(generation, 1, 0xffff_ffff), "generation");
  refuseUnless(planes.length > 0 && chunks.length > 0, "no planes or no chunks");
  for (const { blockList, tokens, heads, channels, elementBytes } of planes) {
    refuseUnless(blockLists[blockList] !== undefined, "a plane over a list that is not there");
    refuseUnless(
      [tokens, heads, channels, elementBytes].every((count) => count >= 1),
      "an axis of nothing",
    );
  }
  chunks.forEach(({ plane: index, bytes, start }, chunk) => {
    const plane = planes[index];
    refuseUnless(plane !== undefined && isInteger(bytes, 1, limits.chunkBytesMax), `chunk ${chunk}`);
    if (plane === undefined) return;
    const { tokens, heads, channels, elementBytes, blockList, firstToken } = plane;
    const streamBytes = ((blockLists[blockList]?.length ?? 0) * tokens - firstToken) * heads * channels * elementBytes;
    const parts = codecOf(spec, chunk)?.parts ?? 1;
    refuseUnless(
      start + bytes / parts <= streamBytes && planes[index + parts - 1] !== undefined,
      `chunk ${chunk} leaves its stream`,
      "range_invalid",
    );
    refuseUnless(reach(spec, index) <= spec.region.bytes, `plane ${index} leaves the region`, "range_invalid");
  });
  for (const chunk of committed) refuseUnless(isInteger(chunk, 0, chunks.length - 1), `committed chunk ${chunk}`);
}

/** `placement`: what the chunk is of, if it is there. */
export function checkSend(
  placement: { readonly revoked: boolean; readonly spec: PlacementSpec } | undefined,
  { chunk, sequence }: ChunkSend,
): void {
  const isRight = placement !== undefined && !placement.revoked && placement.spec.direction === "out" && sequence >= 1;
  refuseUnless(
    isRight && chunk < placement.spec.chunks.length,
    "a chunk that is not there, or of a placement that is incoming, revoked or not there",
  );
}

/** Bytes behind the last one that the plane has. */
function reach({ planes, blockLists }: PlacementSpec, index: number): number {
  const plane = planes[index];
  if (plane === undefined) return 0;
  let last = 0;
  for (const block of blockLists[plane.blockList] ?? []) last = Math.max(last, block);
  const inside = (plane.tokens - 1) * plane.tokenStride + (plane.heads - 1) * plane.headStride + (plane.channels - 1) * plane.channelStride;
  return plane.offset + last * plane.blockStride + inside + plane.elementBytes;
}
