/**
 * Prefix reuse: the full blocks of a prompt that are published under kvferry's keys (schemas/keys.md), here or at a peer, put together to the
 * state of that prefix. What lies here is leased and read in place; what only a peer has is fetched, and then published here too.
 */
import { blockTokensOf, copyFromBlocks } from "./blocks.ts";
import type { Blocks, TransferReport } from "./kvferry.ts";
import type { Reuse } from "./protocol.ts";
import { type Attached, asKvferryError, withDeadline } from "./sidecar.ts";
import { newState, type SequenceState, type StateShape } from "./state.ts";

export interface Prefix {
  readonly state: SequenceState;
  readonly fetchedTokens: number;
  /** Of the transfer, where a peer had some of it. */
  readonly report?: TransferReport;
}

const KEY_BYTES = 32;

/** The longest published prefix of whole blocks of these tokens; undefined where there is none. Rejects with KvferryError. */
export async function findPrefix(
  attached: Attached,
  shape: StateShape,
  tokens: Uint32Array,
  reuse: Reuse,
  log: (line: string) => void,
): Promise<Prefix | undefined> {
  const { ferry, model, layout } = attached;
  const keys = await pageKeys(attached, tokens);
  if (keys.length === 0) return undefined;
  const places = await withDeadline(ferry.lookup(model, 0, keys, reuse.peers), reuse.deadlineMs);
  for (const { peer, code } of places) if (code !== "") log(`${peer} says nothing about the prompt's prefix: ${code}`);
  // Sorting keeps the order of equals, and the node itself comes first.
  const [best] = [...places].sort((one, other) => other.matched - one.matched);
  const leased = await ferry.lease(model, 0, keys, true);
  try {
    const matched = best === undefined || best.peer === "" ? 0 : Math.floor(best.matched / pagesOf(attached));
    const more =
      matched > leased.ids.length
        ? await fetchBlocks(attached, keys, [leased.ids.length, matched], best?.peer ?? "", reuse, log)
        : undefined;
    const here = leased.ids.length * blockTokensOf(layout);
    const there = (more?.blocks.ids.length ?? 0) * blockTokensOf(layout);
    if (here + there === 0) return undefined;
    const state = newState({ shape, tokens: tokens.slice(0, here + there) });
    if (here > 0) copyFromBlocks(state, attached, leased);
    if (more === undefined) return { state, fetchedTokens: 0 };
    copyFromBlocks(state, attached, more.blocks, here);
    await keep(attached, more.blocks, more.keys, log);
    return { state, fetchedTokens: there, report: more.report };
  } finally {
    if (leased.ids.length > 0) await ferry.release(leased).catch((cause: unknown) => log(asKvferryError(cause).message));
  }
}

/** Of the pages of whole blocks of these tokens. */
export async function pageKeys({ ferry, model, layout }: Attached, tokens: Uint32Array): Promise<Uint8Array> {
  const blockTokens = blockTokensOf(layout);
  const whole = Math.floor(tokens.length / blockTokens) * blockTokens;
  return whole === 0 ? new Uint8Array(0) : ferry.keys(model, 0, tokens.slice(0, whole));
}

function pagesOf({ layout }: Attached): number {
  return blockTokensOf(layout) / 16;
}

interface More {
  readonly blocks: Blocks;
  readonly keys: Uint8Array;
  readonly report: TransferReport;
}

/** Blocks from..to of the prompt from a peer; undefined where they do not come: what lies here is used all the same. */
async function fetchBlocks(
  attached: Attached,
  pageKeysOfAll: Uint8Array,
  [from, to]: readonly [number, number],
  peer: string,
  { deadlineMs }: Reuse,
  log: (line: string) => void,
): Promise<More | undefined> {
  const { ferry, model, layout } = attached;
  const pageBytes = pagesOf(attached) * KEY_BYTES;
  const keys = pageKeysOfAll.slice(from * pageBytes, to * pageBytes);
  const tokens = (to - from) * blockTokensOf(layout);
  let blocks: Blocks | undefined;
  try {
    blocks = await ferry.alloc(to - from);
    const source = { keys, group: 0, tokens, position: from * blockTokensOf(layout) };
    const answer = ferry
      .fetch({ peer, model, source, into: [{ group: 0, blocks, tokens }], exact: true, deadlineMs })
      .then(({ done }) => done);
    return { blocks, keys, report: await withDeadline(answer, deadlineMs) };
  } catch (cause) {
    log(`the prefix does not come from ${peer}: ${asKvferryError(cause).message}`);
    if (blocks !== undefined) await ferry.free(blocks).catch((reason: unknown) => log(asKvferryError(reason).message));
    return undefined;
  }
}

/** What came is published here too, or else given back. */
async function keep({ ferry, model }: Attached, blocks: Blocks, keys: Uint8Array, log: (line: string) => void): Promise<void> {
  try {
    await ferry.publish(model, 0, blocks, keys);
  } catch (cause) {
    log(`the prefix is not published: ${asKvferryError(cause).message}`);
    await ferry.free(blocks).catch((reason: unknown) => log(asKvferryError(reason).message));
  }
}
