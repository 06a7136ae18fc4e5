/**
 * What a transfer reads or writes on this side, and how it is cut: KV blocks of the pool, or ranges of a registered buffer.
 * Both ends plan on their own and come to the same chunks (schemas/wire.md).
 */
import { KvferryError } from "../errors.ts";
import type { Layout } from "../kv/layout.ts";
import { type CodedPlane, type Coding as Cut, type Order, planTransfer, type TransferPlan } from "../kv/plan.ts";
import { limits } from "../limits.ts";
import type { ChunkSpan, PlacementCoding, Plane } from "../link/link.ts";
import type { Region } from "../memory/region.ts";
import type { ByteRange, Coding, Fetch } from "./messages.ts";

/** KV heads, in the model's numbering. */
export interface HeadRange {
  readonly first: number;
  readonly count: number;
}

/** What KV of a model can be coded with on this side; for one profile both ends come to the same codecs. */
export interface KvCodecs {
  isLossy(profile: string): boolean;
  /** How chunks are cut. Throws profile_refused: there is no such profile here, or not for this model. */
  cutOf(profile: string): Cut;
  /** One for each plane of a plan that is so cut. Throws profile_refused for planes that it cannot code. */
  codecsOf(profile: string, coded: readonly (CodedPlane | undefined)[]): PlacementCoding["codecs"];
}

export interface KvContent {
  readonly kind: "kv";
  readonly region: Region;
  /** Where the layout's offsets count from. */
  readonly dataOffset: number;
  readonly fingerprint: string;
  readonly layout: Layout;
  /** The same as it travels. */
  readonly layoutBytes: Uint8Array;
  readonly groups: readonly { readonly group: number; readonly ids: Uint32Array; readonly tokens: number }[];
  /** undefined: it travels as it is. */
  readonly codecs?: KvCodecs | undefined;
  /** KV heads that a fetch must bring, all of them; undefined: those that both ends hold. */
  readonly heads?: HeadRange;
}

export interface RangeContent {
  readonly kind: "ranges";
  readonly region: Region;
  readonly ranges: readonly ByteRange[];
}

export type Content = KvContent | RangeContent;

/** What the other side said of its own: enough to plan with. */
export interface RemoteContent {
  readonly layout: Layout | undefined;
  readonly firstHead: number;
  readonly heads: number;
  readonly chunkBytes: number;
  readonly coding: Coding | undefined;
}

export interface LocalPlan {
  readonly order: Order;
  readonly bytes: number;
  readonly chunks: readonly ChunkSpan[];
  readonly chunkBytes: Uint32Array;
  readonly chunkLayer: Uint32Array;
  readonly layers: readonly number[];
  readonly planes: readonly Plane[];
  readonly blockLists: readonly Uint32Array[];
  readonly coding?: PlacementCoding;
}

/** Throws layout_unconvertible, range_invalid, invalid_argument or profile_refused. */
export function planContent(side: "sender" | "receiver", content: Content, remote: RemoteContent): LocalPlan {
  const { coding } = remote;
  if (content.kind === "ranges") {
    if (coding !== undefined) throw new KvferryError("profile_refused", "ranges of a buffer have no profile");
    return planRanges(content, remote.chunkBytes);
  }
  if (remote.layout === undefined) throw new KvferryError("layout_unconvertible", "one side holds KV, the other a buffer");
  const [sender, receiver] = side === "sender" ? [content.layout, remote.layout] : [remote.layout, content.layout];
  const manifest = {
    fingerprint: content.fingerprint,
    groups: content.groups.map(({ group, tokens }) => ({ group, tokens })),
    firstHead: remote.firstHead,
    heads: remote.heads,
  };
  const joined = coding === undefined ? undefined : codecsIn(content).cutOf(coding.profile);
  const plan = planTransfer(sender, receiver, manifest, remote.chunkBytes, joined);
  const needed = side === "sender" ? plan.senderBlocks : plan.receiverBlocks;
  const blockLists = content.groups.map(({ group, ids }, index) => {
    const count = needed[index] ?? 0;
    if (ids.length < count) throw new KvferryError("invalid_argument", `group ${group} needs ${count} blocks, ${ids.length} were given`);
    return ids.subarray(0, count);
  });
  const planes = side === "sender" ? plan.senderPlanes : plan.receiverPlanes;
  return {
    order: plan.order,
    bytes: plan.bytes,
    chunks: plan.chunks,
    chunkBytes: Uint32Array.from(plan.chunks, (chunk) => chunk.bytes),
    chunkLayer: plan.chunkLayer,
    layers: plan.layers,
    planes: planes.map((plane) => ({ ...plane, offset: plane.offset + content.dataOffset })),
    blockLists,
    ...(coding === undefined ? {} : { coding: placementCoding(content, coding, plan) }),
  };
}

function placementCoding(content: KvContent, { profile, position }: Coding, { coded }: TransferPlan): PlacementCoding {
  return { codecs: codecsIn(content).codecsOf(profile, coded), position };
}

function codecsIn({ codecs }: KvContent): KvCodecs {
  if (codecs === undefined) throw new KvferryError("profile_refused", "this side codes nothing");
  return codecs;
}

/**
 * Ranges of one length make a plane, in the order in which lengths first appear: both sides know the lengths, so both come to the same chunks. Within
 * a plane a range is a "block" whose id is its offset, so ranges may lie anywhere.
 */
function planRanges({ region, ranges }: RangeContent, chunkBytes: number): LocalPlan {
  const offsetsByLength = new Map<number, number[]>();
  for (const { offset, bytes } of ranges) {
    if (offset + bytes > region.bytes)
      throw new KvferryError("range_invalid", `${offset} + ${bytes} leaves a buffer of ${region.bytes} bytes`);
    if (bytes > 0xffffffff) throw new KvferryError("range_invalid", `${bytes} bytes in one range; at most 4 GiB - 1`);
    const offsets = offsetsByLength.get(bytes);
    if (offsets === undefined) offsetsByLength.set(bytes, [offset]);
    else offsets.push(offset);
  }
  const { groupsMax, chunksPerTransferMax } = limits;
  // A block list for each length.
  if (offsetsByLength.size > groupsMax) throw new KvferryError("range_invalid", `ranges of more than ${groupsMax} different lengths`);
  const planes: Plane[] = [];
  const blockLists: Uint32Array[] = [];
  const chunks: ChunkSpan[] = [];
  let bytes = 0;
  for (const [length, offsets] of offsetsByLength) {
    const { plane, ids } = rangePlane(length, offsets, blockLists.length);
    const streamBytes = length * offsets.length;
    // Before they are made: ranges may overlap, so a small buffer does not bound them.
    const count = chunks.length + Math.ceil(streamBytes / chunkBytes);
    if (count > chunksPerTransferMax) throw new KvferryError("range_invalid", `more than ${chunksPerTransferMax} chunks`);
    for (let start = 0; start < streamBytes; start += chunkBytes) {
      chunks.push({ plane: planes.length, start, bytes: Math.min(chunkBytes, streamBytes - start) });
    }
    planes.push(plane);
    blockLists.push(ids);
    bytes += streamBytes;
  }
  const chunkLayer = new Uint32Array(chunks.length);
  return {
    order: "flat",
    bytes,
    chunks,
    chunkBytes: Uint32Array.from(chunks, (chunk) => chunk.bytes),
    chunkLayer,
    layers: [0],
    planes,
    blockLists,
  };
}

function rangePlane(length: number, offsets: readonly number[], blockList: number): { readonly plane: Plane; readonly ids: Uint32Array } {
  const first = offsets.reduce((least, offset) => Math.min(least, offset));
  const span = offsets.reduce((most, offset) => Math.max(most, offset - first), 0);
  // Ids have 32 bits: ranges further apart than that are counted in steps that they share.
  const step = span <= 0xffffffff ? 1 : offsets.reduce((shared, offset) => gcd(shared, offset - first), 0);
  if (span / step > 0xffffffff) throw new KvferryError("range_invalid", `ranges ${span} bytes apart share no multiple above ${step} bytes`);
  const inside = { tokens: 1, tokenStride: 0, heads: 1, headStride: 0, channels: 1, channelStride: 0, firstToken: 0 };
  const plane = { ...inside, blockList, offset: first, blockStride: step, elementBytes: length };
  return { plane, ids: Uint32Array.from(offsets, (offset) => (offset - first) / step) };
}

function gcd(a: number, b: number): number {
  let [large, small] = [a, b];
  while (small !== 0) [large, small] = [small, large % small];
  return large;
}

/** What a layout holds; {0, 0} where it has only latents or state. */
export function headsOf(layout: Layout): HeadRange {
  for (const group of layout.groups) {
    for (const component of group.components) {
      if (component.name === "latent" || component.name === "state") continue;
      return { first: component.firstHead, count: component.heads };
    }
  }
  return { first: 0, count: 0 };
}

/** The heads that the asker wants and a side with this layout holds: what it offers. Throws layout_unconvertible. */
export function commonHeads(layout: Layout, fetch: Pick<Fetch, "firstHead" | "heads">): HeadRange {
  const held = headsOf(layout);
  if (fetch.heads === 0 || held.count === 0) return held;
  const first = Math.max(held.first, fetch.firstHead);
  const end = Math.min(held.first + held.count, fetch.firstHead + fetch.heads);
  if (end <= first) throw new KvferryError("layout_unconvertible", `heads ${fetch.firstHead}+${fetch.heads} are not held here`);
  return { first, count: end - first };
}
