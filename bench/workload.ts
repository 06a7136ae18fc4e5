/**
 * What a case moves: requests cut in chunks, and where their bytes lie on either side. Both ends build it from the same parameters,
 * so only those travel. A *slot* is one request's place in both pools; requests walk the slots, so that a cache is not the thing measured.
 */
import type { ChunkSpan, Plane } from "../transport/link/link.ts";
import { expected, integer } from "../transport/check.ts";
import { limits } from "../transport/limits.ts";
import { layoutPlaces } from "./layouts.ts";
import type { KvSlice } from "./models.ts";
import { shuffled } from "./random.ts";

export type Side = "local" | "remote";

/** How a side lays tokens out inside a block: NHD or HND order, and tokens of a block ("nhd16"). */
export interface LayoutOrder {
  readonly order: "nhd" | "hnd";
  readonly blockTokens: number;
}

export interface WorkloadParameters {
  /** Bytes of a run that lies together, and how many make a request. */
  readonly blockBytes: number;
  readonly batch: number;
  readonly chunkBytes: number;
  readonly poolBytes: number;
  readonly seed: number;
  /** Given: real planes of this slice in these two orders, instead of runs scattered over the pool. */
  readonly layouts?: { readonly slice: KvSlice; readonly local: LayoutOrder; readonly remote: LayoutOrder } | undefined;
  /** Given: one slot more, of a single block of this size that lies behind the pool. It is timed while the others are busy. */
  readonly probeBytes?: number | undefined;
}

/** One side of one slot. */
export interface Place {
  readonly planes: readonly Plane[];
  readonly blockLists: readonly Uint32Array[];
}

export interface Workload {
  readonly parameters: WorkloadParameters;
  readonly requestBytes: number;
  readonly chunks: readonly ChunkSpan[];
  readonly slots: number;
  /** The slot of one small block; undefined without probeBytes. */
  readonly probe: Probe | undefined;
  place(side: Side, slot: number): Place;
}

export interface Probe {
  readonly slot: number;
  readonly bytes: number;
  readonly chunks: readonly ChunkSpan[];
  readonly place: Place;
}

/** A workload without its probe. */
export type Requests = Omit<Workload, "probe">;

export const SLOTS_MAX = 64;
/** Blocks that a pool may be cut in: each costs a word on either side. */
export const PLACES_MAX = 16_777_216;

/** Throws KvferryError (invalid_argument) where the request does not fit the pool, or would fill memory with descriptions of itself. */
export function buildWorkload(parameters: WorkloadParameters): Workload {
  const requests = parameters.layouts === undefined ? scattered(parameters) : layoutPlaces(parameters, parameters.layouts);
  checkChunks(requests.slots, requests.chunks.length);
  const probe = probeOf(parameters, requests.slots);
  return { ...requests, probe, place: (side, slot) => (slot === probe?.slot ? probe.place : requests.place(side, slot)) };
}

/** Chunks of a slot's request, the probe's included. */
export function chunksOf({ chunks, probe }: Workload, slot: number): readonly ChunkSpan[] {
  return slot === probe?.slot ? probe.chunks : chunks;
}

export function bytesOf({ requestBytes, probe }: Workload, slots: readonly number[]): number {
  return slots.reduce((sum, slot) => sum + (slot === probe?.slot ? probe.bytes : requestBytes), 0);
}

/** The same with the probe's slot behind those of one way: it is pushed if anything is. */
export function withProbe({ probe }: Workload, { write, read }: SlotSplit): SlotSplit {
  if (probe === undefined) return { write, read };
  return write.length > 0 ? { write: [...write, probe.slot], read } : { write, read: [...read, probe.slot] };
}

/** Slots whose requests the client pushes, and those it pulls. */
export interface SlotSplit {
  readonly write: readonly number[];
  readonly read: readonly number[];
}

/** Both ways at once share no slot. */
export function splitSlots(slots: number, write: boolean, read: boolean): SlotSplit {
  const all = Array.from({ length: slots }, (_, slot) => slot);
  if (!write || !read) return { write: write ? all : [], read: read ? all : [] };
  if (slots < 2) throw expected("a pool with room for two requests (--bidir)", "--pool", slots);
  return { write: all.slice(0, slots >> 1), read: all.slice(slots >> 1) };
}

/** How many requests fit the pool side by side, bounded. */
export function slotsFor(poolBytes: number, requestBytes: number): number {
  const fit = Math.floor(poolBytes / requestBytes);
  if (fit < 1) throw expected(`a pool of at least ${requestBytes} bytes (one request)`, "--pool", poolBytes);
  return Math.min(fit, SLOTS_MAX);
}

/** Behind everything else, at either end. */
function probeOf({ poolBytes, chunkBytes, probeBytes }: WorkloadParameters, slot: number): Probe | undefined {
  if (probeBytes === undefined) return undefined;
  const place = { planes: [flatPlane(poolBytes, probeBytes)], blockLists: [Uint32Array.of(0)] };
  return { slot, bytes: probeBytes, chunks: cut([probeBytes], chunkBytes), place };
}

/** Blocks of one size, each of them a run. */
function flatPlane(offset: number, blockBytes: number): Plane {
  return {
    blockList: 0,
    offset,
    blockStride: blockBytes,
    tokens: 1,
    tokenStride: blockBytes,
    heads: 1,
    headStride: blockBytes,
    channels: 1,
    channelStride: blockBytes,
    elementBytes: blockBytes,
    firstToken: 0,
  };
}

/** Runs of one size at places that differ on each end: what a paged cache looks like after a day. */
function scattered(parameters: WorkloadParameters): Requests {
  const { blockBytes, batch, chunkBytes, poolBytes, seed } = parameters;
  const requestBytes = blockBytes * batch;
  const slots = slotsFor(poolBytes, requestBytes);
  const places = integer(Math.floor(poolBytes / blockBytes), "blocks that the pool is cut in (--pool, --block-size)", 1, PLACES_MAX);
  checkChunks(slots, Math.ceil(requestBytes / chunkBytes));
  const ids: Record<Side, Uint32Array> = {
    local: shuffled(places, slots * batch, seed),
    remote: shuffled(places, slots * batch, seed + 1),
  };
  const plane = flatPlane(0, blockBytes);
  return {
    parameters,
    requestBytes,
    chunks: cut([requestBytes], chunkBytes),
    slots,
    place: (side, slot) => ({ planes: [plane], blockLists: [ids[side].slice(slot * batch, (slot + 1) * batch)] }),
  };
}

function checkChunks(slots: number, chunks: number): void {
  integer(slots * chunks, "chunks of all requests that fit the pool (--chunk)", 1, limits.chunksPerTransferMax);
}

function cut(planeBytes: readonly number[], chunkBytes: number): ChunkSpan[] {
  const chunks: ChunkSpan[] = [];
  planeBytes.forEach((bytes, plane) => {
    for (let start = 0; start < bytes; start += chunkBytes) chunks.push({ plane, start, bytes: Math.min(chunkBytes, bytes - start) });
  });
  return chunks;
}
