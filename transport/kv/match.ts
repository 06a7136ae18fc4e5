/**
 * Which half of the sender's layout goes where in the receiver's, or a sentence that says why that cannot be. PURE.
 */
import { expected, integer } from "../check.ts";
import { KvferryError } from "../errors.ts";
import { limits } from "../limits.ts";
import type { GroupLayout, Layout } from "./layout.ts";
import type { Manifest, ManifestGroup } from "./manifest.ts";
import { type Half, halvesOf } from "./planes.ts";

export interface HalfPair {
  readonly sender: Half;
  readonly receiver: Half;
  /** Heads moved, in the model's numbering. */
  readonly firstHead: number;
  readonly heads: number;
  /** True if that is all that either side holds. */
  readonly whole: boolean;
}

export interface LayerPair {
  readonly layer: number;
  /** Index of the layer in each side's offsets. */
  readonly sender: number;
  readonly receiver: number;
}

export interface GroupPair {
  readonly tokens: number;
  /** 0 on both sides for state. */
  readonly senderBlockTokens: number;
  readonly receiverBlockTokens: number;
  readonly senderBlocks: number;
  readonly receiverBlocks: number;
  readonly layers: readonly LayerPair[];
  readonly halves: readonly HalfPair[];
}

/** One pair for each group of the manifest. Throws layout_unconvertible or invalid_argument. */
export function pairGroups(sender: Layout, receiver: Layout, manifest: Manifest): GroupPair[] {
  integer(manifest.firstHead, "firstHead", 0, limits.headsMax);
  integer(manifest.heads, "heads", 0, limits.headsMax);
  if (manifest.groups.length === 0) throw expected("at least one group", "groups", manifest.groups);
  const seen = new Set<number>();
  return manifest.groups.map((moved, at) => {
    if (seen.has(moved.group)) throw expected("each group once", `groups[${at}].group`, moved.group);
    seen.add(moved.group);
    return pairGroup(sender, receiver, manifest, moved, `groups[${at}]`);
  });
}

function pairGroup(sender: Layout, receiver: Layout, manifest: Manifest, moved: ManifestGroup, name: string): GroupPair {
  const index = integer(moved.group, `${name}.group`, 0, limits.groupsMax - 1);
  const [from, to] = [sender.groups[index], receiver.groups[index]];
  if (from === undefined || to === undefined) {
    throw new KvferryError("layout_unconvertible", `the ${from === undefined ? "sender" : "receiver"} has no group ${index}`);
  }
  if ((from.blockTokens === 0) !== (to.blockTokens === 0)) {
    const [state, other] = from.blockTokens === 0 ? ["sender", "receiver"] : ["receiver", "sender"];
    throw new KvferryError("layout_unconvertible", `group ${index} is fixed-size state at the ${state}, but has tokens at the ${other}`);
  }
  const tokens = integer(moved.tokens, `${name}.tokens`, 1, Number.MAX_SAFE_INTEGER);
  return {
    tokens,
    senderBlockTokens: from.blockTokens,
    receiverBlockTokens: to.blockTokens,
    senderBlocks: blocksFor(tokens, from, sender, `${name}.tokens`),
    receiverBlocks: blocksFor(tokens, to, receiver, `${name}.tokens`),
    layers: pairLayers(from, to, index),
    halves: pairHalves(from, to, manifest, index),
  };
}

function blocksFor(tokens: number, { blockTokens }: GroupLayout, layout: Layout, name: string): number {
  const most = Math.min(layout.blockCount, limits.blocksPerTransferMax);
  const blocks = Math.ceil(tokens / Math.max(blockTokens, 1));
  if (blocks > most) throw expected(`tokens of at most ${most} blocks (of the pool, and blocksPerTransferMax)`, name, tokens);
  return blocks;
}

function pairLayers(sender: GroupLayout, receiver: GroupLayout, group: number): LayerPair[] {
  const places = new Map(receiver.layers.map((layer, index) => [layer, index]));
  const pairs = sender.layers.map((layer, index) => {
    const place = places.get(layer);
    if (place === undefined) throw new KvferryError("layout_unconvertible", `group ${group}: the receiver does not hold layer ${layer}`);
    return { layer, sender: index, receiver: place };
  });
  if (receiver.layers.length !== sender.layers.length) {
    const held = new Set(sender.layers);
    const missing = receiver.layers.find((layer) => !held.has(layer));
    throw new KvferryError("layout_unconvertible", `group ${group}: the sender does not hold layer ${missing}`);
  }
  return pairs;
}

function pairHalves(sender: GroupLayout, receiver: GroupLayout, manifest: Manifest, group: number): HalfPair[] {
  const [from, to] = [halvesOf(sender), halvesOf(receiver)];
  const nameOf = (half: Half | undefined): string => (half === undefined ? "nothing" : half.name);
  return Array.from({ length: Math.max(from.length, to.length) }, (_, at) => {
    const [ours, theirs] = [from[at], to[at]];
    if (ours === undefined || theirs === undefined || ours.name !== theirs.name) {
      throw differ(`group ${group}`, `component ${at}`, nameOf(ours), nameOf(theirs));
    }
    return pairHalf(ours, theirs, manifest, `group ${group}, component ${ours.name}`);
  });
}

function pairHalf(sender: Half, receiver: Half, manifest: Manifest, where: string): HalfPair {
  if (sender.element !== receiver.element) throw differ(where, "values", sender.element, receiver.element);
  if (sender.channels !== receiver.channels) throw differ(where, "channels", sender.channels, receiver.channels);
  if (sender.name === "latent" || sender.name === "state") {
    // Neither has heads to choose from; firstHead then tells apart the shards of a state.
    if (sender.firstHead !== receiver.firstHead) throw differ(where, "shard", sender.firstHead, receiver.firstHead);
    return { sender, receiver, firstHead: sender.firstHead, heads: 1, whole: true };
  }
  const shared = {
    first: Math.max(sender.firstHead, receiver.firstHead),
    end: Math.min(sender.firstHead + sender.heads, receiver.firstHead + receiver.heads),
  };
  const asked = manifest.heads === 0 ? shared : { first: manifest.firstHead, end: manifest.firstHead + manifest.heads };
  if (asked.first < shared.first || asked.end > shared.end || shared.first >= shared.end) {
    const wanted =
      manifest.heads === 0 ? "the two slices have none in common" : `heads ${rangeOf(asked.first, manifest.heads)} are asked for`;
    throw differ(where, `${wanted}; heads`, rangeOf(sender.firstHead, sender.heads), rangeOf(receiver.firstHead, receiver.heads));
  }
  const heads = asked.end - asked.first;
  return { sender, receiver, firstHead: asked.first, heads, whole: heads === sender.heads && heads === receiver.heads };
}

function rangeOf(first: number, count: number): string {
  return `${first}..${first + count - 1}`;
}

function differ(where: string, what: string, sender: string | number, receiver: string | number): KvferryError {
  return new KvferryError("layout_unconvertible", `${where}: ${what} ${sender} at the sender, ${receiver} at the receiver`);
}
