/** Between a model's pages and the pool's blocks: contents, seals, keys. */
import { asKvferryError, KvferryError } from "../errors.ts";
import { KEY_BYTES, pagesPerBlock, planKeys } from "../kv/identity.ts";
import { flatPlanes } from "../kv/planes.ts";
import type { Plane } from "../link/link.ts";
import type { Blocks, HolderId } from "../memory/pool.ts";
import type { Content, KvContent } from "../peer/content.ts";
import type { Sight } from "../policy/tenancy.ts";
import type { NodeContext } from "./context.ts";
import { groupOf, type Model } from "./models.ts";

export function kvContent(
  node: NodeContext,
  model: Model,
  groups: readonly { readonly group: number; readonly blocks: Blocks; readonly tokens: number }[],
): KvContent {
  return {
    kind: "kv",
    region: node.pool.region,
    dataOffset: node.pool.dataOffset,
    fingerprint: model.fingerprint,
    layout: model.layout,
    layoutBytes: model.layoutBytes,
    codecs: model.codecs,
    groups: groups.map(({ group, blocks, tokens }) => ({ group, ids: blocks.ids, tokens })),
  };
}

/** At most what a transfer of it moves. */
export function contentBytes(node: NodeContext, content: Content): number {
  if (content.kind === "ranges") return content.ranges.reduce((sum, range) => sum + range.bytes, 0);
  return content.groups.reduce((sum, { ids }) => sum + ids.length * node.pool.blockBytes, 0);
}

/** The planes over which a block's seal is computed. */
function sealPlanes(node: NodeContext, model: Model, group: number): Plane[] {
  return flatPlanes(model.layout, group).map((plane) => ({ ...plane, offset: plane.offset + node.pool.dataOffset }));
}

/** How many of these page keys, from the first, are published here, and exist for whoever asks (absent `sight`: all do). */
export function matchedKeys(node: NodeContext, model: Model, group: number, keys: Uint8Array, sight?: Sight): number {
  const { blockTokens } = groupOf(model, group);
  const blockKeys = planKeys(blockTokens, keys);
  if (sight === undefined) return node.pool.lookup(blockKeys, group) * pagesPerBlock(blockTokens);
  const blocks = node.pool.lease(node.holder, blockKeys, group, true);
  node.pool.release(node.holder, blocks);
  return node.namespaces.countSeen(blocks, sight) * pagesPerBlock(blockTokens);
}

/** Leases for the node of all these blocks. What does not exist for whoever asks is refused as if it were not published: key_not_found. */
export function leaseSeen(node: NodeContext, blockKeys: Uint8Array, group: number, sight?: Sight): Blocks {
  const { pool, holder } = node;
  if (sight === undefined) return pool.lease(holder, blockKeys, group, false);
  const blocks = pool.lease(holder, blockKeys, group, true);
  const [seen, wanted] = [node.namespaces.countSeen(blocks, sight), blockKeys.length / KEY_BYTES];
  if (seen === wanted) return blocks;
  pool.release(holder, blocks);
  throw new KvferryError("key_not_found", `key ${seen} of ${wanted}`);
}

/** Seals blocks of this holder and makes them findable, in the model's namespace or another. `done` is called once, later. Throws if the blocks cannot be sealed now. */
export function publishBlocks(
  node: NodeContext,
  holder: HolderId,
  model: Model,
  group: number,
  blocks: Blocks,
  blockKeys: Uint8Array,
  done: (failure?: KvferryError) => void,
  namespace = model.namespace,
): void {
  const { pool } = node;
  const { blockTokens } = groupOf(model, group);
  const planes = sealPlanes(node, model, group);
  pool.beginSeal(holder, blocks);
  const started = node.jobs.checksum(pool.region, planes, blocks.ids, (error, checksums) => {
    try {
      // Throws if the holder has gone while the checksum was computed: its blocks went with it.
      if (error === undefined) {
        pool.seal(blocks, blockKeys, checksums, group, blockTokens);
        if (node.tenant !== "") node.namespaces.note(blocks, namespace);
      } else pool.abortSeal(holder, blocks);
    } catch (gone) {
      done(asKvferryError(gone));
      return;
    }
    done(error);
  });
  if (started) return;
  pool.abortSeal(holder, blocks);
  throw new KvferryError("full", "the checksum queue");
}

/** Compares published blocks with their seals; broken ones are found no more. `done` is called once, later. Throws `full`. */
export function checkSeals(node: NodeContext, model: Model, group: number, blocks: Blocks, done: (failure?: KvferryError) => void): void {
  const { pool } = node;
  const seals = pool.checksums(blocks);
  const started = node.jobs.checksum(pool.region, sealPlanes(node, model, group), blocks.ids, (error, checksums) => {
    if (error !== undefined) return done(error);
    const broken = (_: number, index: number): boolean => checksums[index] !== seals[index];
    const ids = blocks.ids.filter(broken);
    if (ids.length === 0) return done();
    pool.discard({ ids, generations: blocks.generations.filter(broken) });
    done(new KvferryError("seal_broken", `${ids.length} published blocks have changed`));
  });
  if (!started) throw new KvferryError("full", "the checksum queue");
}
