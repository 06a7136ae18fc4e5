/**
 * From a manifest and the two layouts to chunks. Both ends compute the same list of chunks; each its own planes. PURE.
 *
 * Flat: every half of every layer lies in the same runs on both sides, so blocks move as they lie, whole, the last one
 * too. Canonical: anything else that can be converted, token by token.
 */
import { assert, expected, integer } from "../check.ts";
import { limits } from "../limits.ts";
import type { ChunkSpan, Plane } from "../link/link.ts";
import { ChunkList } from "./chunks.ts";
import type { ElementType, Layout } from "./layout.ts";
import type { Manifest } from "./manifest.ts";
import { type GroupPair, type LayerPair, pairGroups } from "./match.ts";
import { canonicalPlane, type HalfName, join, planeOf, type Shape, shapeAt, shapeOf, tokenBytesOf, touches } from "./planes.ts";

export type Order = "flat" | "canonical";

/** What a profile wants of a plan. */
export interface Coding {
  /** Layers of a group that a chunk joins: the same tokens of one component of each. */
  readonly layers: number;
  /** K and V of the same tokens lie in one chunk, where they have one shape. */
  readonly joinsSides?: boolean;
}

/** What the chunks that begin in a plane are made of, for who makes a codec of it. */
export interface CodedPlane {
  /** "kv": K of all layers, then V. */
  readonly component: HalfName | "kv";
  readonly element: ElementType;
  /** In the model's numbering; one plane each, from this one on. */
  readonly layers: readonly number[];
  readonly firstHead: number;
  readonly heads: number;
  readonly channels: number;
}

export interface TransferPlan {
  readonly order: Order;
  readonly bytes: number;
  readonly chunks: readonly ChunkSpan[];
  /**
   * For each chunk the index (in order of layers moved) of the layer it belongs to: a chunk may be sent when its layer
   * is ready.
   */
  readonly chunkLayer: Uint32Array;
  /** Model layer numbers in the order that `chunkLayer` counts: ascending, each once. */
  readonly layers: readonly number[];
  readonly senderPlanes: readonly Plane[];
  readonly receiverPlanes: readonly Plane[];
  /** Blocks needed in each list of the placement (one list for each manifest group). */
  readonly senderBlocks: readonly number[];
  readonly receiverBlocks: readonly number[];
  /** One for each plane, if the plan was made for a profile; undefined: nothing coded begins there (state, and the later planes of joined ones). */
  readonly coded: readonly (CodedPlane | undefined)[];
}

/** A plane of either side with the same stream, and how it may be cut. */
interface PlanePair {
  readonly sender: Plane;
  readonly receiver: Plane;
  readonly cut: { readonly kind: "blocks"; readonly bytes: number } | { readonly kind: "tokens"; readonly bytes: number };
}

interface ShapePair {
  readonly sender: Shape;
  readonly receiver: Shape;
}

/** A group with its blockList, its layers by number, and the shapes of the first of them. */
interface Moved {
  readonly group: GroupPair;
  readonly blockList: number;
  readonly layers: ReadonlyMap<number, LayerPair>;
  readonly shapes: readonly ShapePair[];
}

/**
 * Throws KvferryError: layout_unconvertible, invalid_argument. chunkBytes is a wish; chunks never split a token in
 * canonical order. With `manifest.heads` 0 every component moves the heads that both sides hold. What is coded always travels in canonical order.
 */
export function planTransfer(sender: Layout, receiver: Layout, manifest: Manifest, chunkBytes: number, coding?: Coding): TransferPlan {
  const list = new ChunkList(integer(chunkBytes, "chunkBytes", 1, limits.chunkBytesMax));
  const groups = pairGroups(sender, receiver, manifest);
  const moved = groups.map(movedOf);
  const layers = [...new Set(moved.flatMap((group) => [...group.layers.keys()]))].sort((a, b) => a - b);
  const order: Order = coding === undefined && moved.every(isFlat) ? "flat" : "canonical";
  const senderPlanes: Plane[] = [];
  const receiverPlanes: Plane[] = [];
  const coded: (CodedPlane | undefined)[] = [];
  const add = (pairs: readonly PlanePair[], layerIndex: number, group: GroupPair, about?: CodedPlane): void => {
    const index = senderPlanes.length;
    for (const { sender, receiver } of pairs) {
      senderPlanes.push(sender);
      receiverPlanes.push(receiver);
    }
    if (senderPlanes.length > limits.planesMax) throw expected(`at most planesMax (${limits.planesMax})`, "planes", senderPlanes.length);
    if (coding !== undefined) coded.push(about, ...pairs.slice(1).map(() => undefined));
    addChunks(list, index, layerIndex, group, pairs);
  };
  layers.forEach((layer, layerIndex) => {
    for (const group of moved) {
      const pair = group.layers.get(layer);
      if (pair === undefined) continue;
      const joined = joinedAt(group, layer, coding);
      if (joined === undefined)
        for (const plane of order === "flat" ? flatPairs(group, pair) : canonicalPairs(group, pair)) add([plane], layerIndex, group.group);
      else for (const { pairs, about } of codedPairs(group, joined, coding)) add(pairs, layerIndex, group.group, about);
    }
  });
  return {
    order,
    bytes: list.bytes,
    chunks: list.chunks,
    chunkLayer: list.layers,
    layers,
    senderPlanes,
    receiverPlanes,
    senderBlocks: groups.map(({ senderBlocks }) => senderBlocks),
    receiverBlocks: groups.map(({ receiverBlocks }) => receiverBlocks),
    coded,
  };
}

function movedOf(group: GroupPair, blockList: number): Moved {
  const [first] = group.layers;
  assert(first !== undefined, "a group has at least one layer");
  const shapes = group.halves.map((half) => ({
    sender: shapeOf(half.sender, first.sender, group.senderBlockTokens),
    receiver: shapeOf(half.receiver, first.receiver, group.receiverBlockTokens),
  }));
  return { group, blockList, layers: new Map(group.layers.map((layer) => [layer.layer, layer])), shapes };
}

/** Of several planes from `plane` on a chunk has the same tokens. */
function addChunks(list: ChunkList, plane: number, layer: number, group: GroupPair, pairs: readonly PlanePair[]): void {
  const [first] = pairs;
  if (first === undefined) return;
  const { kind, bytes } = first.cut;
  const align = Math.max(group.senderBlockTokens, group.receiverBlockTokens);
  if (kind === "blocks") list.addBlocks(plane, layer, bytes, group.senderBlocks);
  else list.addTokens(plane, layer, bytes, group.tokens, align, pairs.length);
}

/**
 * The layers of the group that are joined at this one, the last of them: then all that a chunk needs is there. Empty: they come later. undefined: nothing of
 * the group is coded.
 */
function joinedAt({ group, layers }: Moved, layer: number, coding: Coding | undefined): readonly LayerPair[] | undefined {
  if (coding === undefined || group.senderBlockTokens === 0) return undefined;
  const all = [...layers.values()].sort((a, b) => a.layer - b.layer);
  const at = all.findIndex((pair) => pair.layer === layer);
  const first = at - (at % coding.layers);
  return at === all.length - 1 || at - first === coding.layers - 1 ? all.slice(first, at + 1) : [];
}

interface CodedPairs {
  readonly pairs: readonly PlanePair[];
  readonly about: CodedPlane;
}

/** For each half all its layers, one after the other; then both sides, if they are joined. */
function codedPairs(moved: Moved, joined: readonly LayerPair[], coding: Coding | undefined): CodedPairs[] {
  const byLayer = joined.map((layer) => canonicalPairs(moved, layer));
  if (joined.length === 0) return [];
  const halves: CodedPairs[] = moved.group.halves.map(({ sender, firstHead, heads }, half) => ({
    pairs: byLayer.map((pairs) => pairs[half] as PlanePair),
    about: {
      component: sender.name,
      element: sender.element,
      layers: joined.map(({ layer }) => layer),
      firstHead,
      heads,
      channels: sender.channels,
    },
  }));
  return coding?.joinsSides === true ? joinSides(halves) : halves;
}

function joinSides(halves: readonly CodedPairs[]): CodedPairs[] {
  const [k, v] = (["k", "v"] as const).map((name) => halves.find(({ about }) => about.component === name));
  const about = sidesTogether(k?.about, v?.about);
  if (k === undefined || v === undefined || about === undefined) return [...halves];
  return [{ pairs: [...k.pairs, ...v.pairs], about }, ...halves.filter((half) => half !== k && half !== v)];
}

/** Undefined: they have not one shape, or one is missing. */
export function sidesTogether(k: CodedPlane | undefined, v: CodedPlane | undefined): CodedPlane | undefined {
  if (k === undefined || v === undefined) return undefined;
  const isOne = k.element === v.element && k.firstHead === v.firstHead && k.heads === v.heads && k.channels === v.channels;
  return isOne ? { ...k, component: "kv" } : undefined;
}

/** True if all of the group lies in the same runs on both sides. Layers of a half share its strides, so one layer tells for all. */
function isFlat({ group, shapes }: Moved): boolean {
  return (
    group.senderBlockTokens === group.receiverBlockTokens &&
    group.halves.every(({ whole }) => whole) &&
    shapes.every(({ sender, receiver }) => sender.order === receiver.order && sender.runBytes === receiver.runBytes)
  );
}

/** Halves that lie together on both sides move as one: runs become longer, and planes fewer. */
function flatPairs({ group, blockList, shapes }: Moved, layer: LayerPair): PlanePair[] {
  const joined: ShapePair[] = [];
  group.halves.forEach((half, at) => {
    const shape = shapes[at];
    const last = joined.at(-1);
    assert(shape !== undefined, "every half has its shape");
    const sender = shapeAt(shape.sender, half.sender, layer.sender);
    const receiver = shapeAt(shape.receiver, half.receiver, layer.receiver);
    const together = last !== undefined && touches(last.sender, sender) && touches(last.receiver, receiver);
    if (together) joined[joined.length - 1] = { sender: join(last.sender, sender), receiver: join(last.receiver, receiver) };
    else joined.push({ sender, receiver });
  });
  return joined.map((pair) => {
    const plane = planeOf(pair.sender, blockList);
    const bytes = plane.tokens * plane.heads * plane.channels * plane.elementBytes;
    return { sender: plane, receiver: planeOf(pair.receiver, blockList), cut: { kind: "blocks", bytes } };
  });
}

function canonicalPairs({ group, blockList }: Moved, layer: LayerPair): PlanePair[] {
  return group.halves.map(({ sender, receiver, firstHead, heads }) => ({
    sender: canonicalPlane(sender, layer.sender, group.senderBlockTokens, firstHead, heads, blockList),
    receiver: canonicalPlane(receiver, layer.receiver, group.receiverBlockTokens, firstHead, heads, blockList),
    cut: {
      kind: group.senderBlockTokens === 0 ? "blocks" : "tokens",
      bytes: tokenBytesOf(heads, sender.channels, sender.element),
    },
  }));
}
