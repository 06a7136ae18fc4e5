/** Two nodes whose talk about transfers is written down, and blocks that may go from the one to the other. */
import type { TestContext } from "node:test";
import type { Transfer, TransferReport } from "../../transport/ferry/ferry.ts";
import type { Blocks } from "../../transport/memory/pool.ts";
import type { Message, ModelEntry } from "../../transport/peer/messages.ts";
import { openTestNode, type TestNode, type TestNodeOptions } from "./node.ts";
import { BLOCK_BYTES, BLOCK_TOKENS, fill, IDENTITY, layoutOf, until } from "./pair.ts";
import { Tap } from "./tap.ts";

export const COUNT = 8;
export const TOKENS = COUNT * BLOCK_TOKENS;

export interface Stage {
  readonly a: TestNode;
  readonly b: TestNode;
  readonly tapA: Tap;
  readonly tapB: Tap;
  /** What both said about transfers, and that they took memory back. */
  readonly story: string[];
  readonly peer: string;
  readonly modelA: number;
  readonly modelB: number;
  readonly source: Blocks;
  readonly target: Blocks;
  /** Has b hear a's Hello, so that it knows its version and layout. */
  meet(): Promise<void>;
  /** Offers the source's blocks. */
  offer(ready?: boolean): Promise<string>;
  /** Fetches them into the target's. */
  fetch(handle: string, tokens?: number): Promise<Transfer>;
  /** Whatever was a transfer's is its owner's again, at both ends. */
  nothingLeft(): Promise<void>;
}

export async function stage(t: TestContext, extra: { a?: Partial<TestNodeOptions>; b?: Partial<TestNodeOptions> } = {}): Promise<Stage> {
  const story: string[] = [];
  const [tapA, tapB] = [new Tap("a", story), new Tap("b", story)];
  const a = await openTestNode({ name: "a", blockBytes: BLOCK_BYTES, makeLink: tapA.makeLink, ...extra.a });
  const b = await openTestNode({ name: "b", blockBytes: BLOCK_BYTES, makeLink: tapB.makeLink, ...extra.b });
  t.after(async () => {
    await b.close();
    await a.close();
  });
  const { model: modelA } = await a.ferry.registerModel(IDENTITY, layoutOf(a.pool.blockCount));
  const { model: modelB } = await b.ferry.registerModel(IDENTITY, layoutOf(b.pool.blockCount));
  const [source, target] = [await a.ferry.alloc(COUNT), await b.ferry.alloc(COUNT)];
  fill(a, source);
  const peer = `127.0.0.1:${a.address.port}`;
  return {
    ...{ a, b, tapA, tapB, story, peer, modelA, modelB, source, target },
    meet: async () => void (await b.ferry.lookup(modelB, 0, new Uint8Array(32), [peer])),
    offer: (ready = true) => a.ferry.offer({ model: modelA, groups: [{ group: 0, blocks: source, tokens: TOKENS }], ready }),
    fetch: (handle, tokens = TOKENS) =>
      b.ferry.fetch({ peer, model: modelB, source: { handle }, into: [{ group: 0, blocks: target, tokens }] }),
    nothingLeft: () => until(() => [a, b].every(({ node, pool }) => node.transfers === 0 && pool.stats().pinned === 0)),
  };
}

/** A whole fetch of four layers, whose connection is lost when the first of them is there. */
export async function fetchOverLostConnection({ a, b, tapA, story, offer, fetch }: Stage): Promise<TransferReport> {
  const handle = await offer(false);
  const { done } = await fetch(handle);
  await until(() => a.node.transfers === 1);
  await a.ferry.ready(handle, 0);
  await until(() => b.node.bytesReceived === (COUNT * BLOCK_BYTES) / 4);
  tapA.hangUp();
  await until(() => story.includes("b revokes") && story.includes("a revokes"));
  for (const layer of [1, 2, 3]) await a.ferry.ready(handle, layer);
  return done;
}

/** What a node of the former version makes of a message: it sees nothing of what it does not know. */
export function former(message: Message): Message {
  const models = (said: readonly ModelEntry[]): readonly ModelEntry[] => said.map((model) => ({ ...model, profiles: [] }));
  if (message.kind === "models") return { ...message, models: models(message.models) };
  if (message.kind === "hello")
    return {
      ...message,
      models: models(message.models),
      capabilities: message.capabilities.filter((capability) => capability !== "early"),
    };
  return message.kind === "fetch" ? { ...message, grant: undefined, profiles: [] } : message;
}
