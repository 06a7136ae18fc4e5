/** Two real sidecars with an engine at each, one asking the other for KV slowly enough that there is a middle to hit. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import type { TestContext } from "node:test";
import type { Transfer } from "../../transport/ferry/ferry.ts";
import type { Blocks } from "../../transport/memory/pool.ts";
import { type Proxy, startProxy } from "../link/proxy.ts";
import { type Engine, freePort, openEngine, scratchFolder, type Sidecar, startSidecar, statusOf } from "./sidecar.ts";

export const BLOCKS = 120;

export interface Stage {
  readonly folder: string;
  readonly holder: Sidecar;
  readonly asker: Sidecar;
  readonly source: Engine;
  readonly target: Engine;
  /** The network between the two. */
  readonly proxy: Proxy;
}

/** A holder that sends at `rate`, an asker, and an engine at each. */
export async function stage(t: TestContext, rate = "400Mbit", flags: readonly string[] = []): Promise<Stage> {
  const folder = scratchFolder(t);
  const [a, b] = [await freePort(), await freePort()];
  const proxy = await startProxy({ host: "127.0.0.1", port: a });
  t.after(() => proxy.close());
  const slow = ["--rate", rate, ...flags];
  const [holder, asker] = await Promise.all([
    startSidecar(t, { name: "holder", port: a, folder, flags: slow }),
    startSidecar(t, { name: "asker", port: b, folder, flags: [...slow, "--peers", `holder=127.0.0.1:${proxy.endpoint.port}`] }),
  ]);
  return { folder, holder, asker, source: await openEngine(t, holder), target: await openEngine(t, asker), proxy };
}

/** Random bytes in fresh blocks, and a copy of them. */
export async function filled(source: Engine, count: number): Promise<{ readonly blocks: Blocks; readonly copies: readonly Buffer[] }> {
  const blocks = await source.ferry.alloc(count);
  for (const id of blocks.ids) source.bytesOf(id).set(randomBytes(source.bytesOf(id).length));
  return { blocks, copies: Array.from(blocks.ids, (id) => Buffer.from(source.bytesOf(id))) };
}

export async function offered(source: Engine, count = BLOCKS): Promise<{ readonly handle: string; readonly copies: readonly Buffer[] }> {
  const { blocks, copies } = await filled(source, count);
  return { handle: await source.ferry.offer({ model: source.model, groups: source.groups(blocks) }), copies };
}

export function assertArrived(target: Engine, blocks: Blocks, copies: readonly Buffer[]): void {
  blocks.ids.forEach((id, index) =>
    assert.equal(Buffer.compare(target.bytesOf(id), copies[index] ?? Buffer.alloc(0)), 0, `block ${index}`),
  );
}

export interface Asked {
  readonly transfer: Transfer;
  readonly blocks: Blocks;
  readonly copies: readonly Buffer[];
}

export async function ask(source: Engine, target: Engine, peer = "holder", count = BLOCKS, deadlineMs = 60_000): Promise<Asked> {
  const { handle, copies } = await offered(source, count);
  const blocks = await target.ferry.alloc(count);
  const transfer = await target.ferry.fetch({ peer, model: target.model, source: { handle }, into: target.groups(blocks), deadlineMs });
  transfer.done.catch(() => {});
  return { transfer, blocks, copies };
}

/** A whole small transfer, compared and given back. */
export async function moveOnce(source: Engine, target: Engine, peer = "holder", count = 4): Promise<void> {
  const { transfer, blocks, copies } = await ask(source, target, peer, count);
  await transfer.done;
  assertArrived(target, blocks, copies);
  await target.ferry.free(blocks);
}

export const received = async (sidecar: Sidecar): Promise<number> => (await statusOf(sidecar.socket)).bytes_received;

export const hasStalled = (target: Engine, { transfer }: Asked): boolean =>
  target.events.some((event) => event.kind === "stalled" && event.transfer === transfer.transfer);
