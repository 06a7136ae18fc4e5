/**
 * An engine that is stopped while it writes, forgotten by everybody, and woken: what it writes then stays in its own blocks.
 * Method: an engine in a process of its own that writes all the time; while it is stopped another client takes every block that is to be had and
 * fills it. Then the first one is woken, seen writing, and not a byte of the other's may have changed. The same over the sidecar's death.
 */
import assert from "node:assert/strict";
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import test, { type TestContext } from "node:test";
import type { Blocks } from "../../transport/memory/pool.ts";
import { native, nativeProblem } from "../../transport/native.ts";
import type { Held, Returned } from "./scribe.ts";
import { BLOCK_BYTES, type Engine, freePort, openEngine, scratchFolder, type Sidecar, startSidecar, statusOf, until } from "./sidecar.ts";

const skip = native === undefined ? `no addon: ${nativeProblem}` : false;
/** Above what a scribe writes. */
const MARK = 0xfe;
const HELD = 10;

interface Scribe {
  readonly child: ChildProcess;
  readonly ids: readonly number[];
}

async function scribe(t: TestContext, sidecar: Sidecar): Promise<Scribe> {
  const child = fork(new URL("scribe.ts", import.meta.url), [sidecar.socket, String(HELD)], { execArgv: ["--import", "tsx"] });
  t.after(() => child.kill("SIGKILL"));
  const [{ ids }] = (await once(child, "message")) as [Held];
  return { child, ids };
}

/** Everything that is to be had, filled with the mark. */
async function takeAll(engine: Engine, scribes: readonly Scribe[]): Promise<Blocks> {
  const { free } = (await engine.ferry.stats()).pool;
  const blocks = await engine.ferry.alloc(free);
  await assert.rejects(engine.ferry.alloc(1), { code: "pool_exhausted" });
  for (const { ids } of scribes) assert.ok(ids.every((id) => !blocks.ids.includes(id)));
  for (const id of blocks.ids) engine.bytesOf(id).fill(MARK);
  return blocks;
}

/** Woken, it writes again: many rounds, into each of its blocks. */
async function wakeAndWatch({ child, ids }: Scribe, engine: Engine): Promise<void> {
  child.kill("SIGCONT");
  for (const id of ids) {
    for (let round = 0; round < 5; round++) {
      const before = engine.bytesOf(id)[BLOCK_BYTES - 1];
      await until(() => engine.bytesOf(id)[BLOCK_BYTES - 1] !== before);
    }
  }
}

const assertUntouched = (engine: Engine, blocks: Blocks): void => {
  for (const id of blocks.ids)
    assert.ok(
      engine.bytesOf(id).every((byte) => byte === MARK),
      `block ${id} is its holder's alone`,
    );
};

const quarantined = async (sidecar: Sidecar): Promise<number> => (await statusOf(sidecar.socket)).pool["quarantined"] ?? -1;

test("an engine that is stopped and woken writes into its own blocks alone", { skip }, async (t) => {
  const sidecar = await startSidecar(t, { name: "alone", port: await freePort(), folder: scratchFolder(t) });
  const sleeper = await scribe(t, sidecar);
  const engine = await openEngine(t, sidecar);
  for (let round = 0; round < 3; round++) {
    sleeper.child.kill("SIGSTOP");
    const blocks = await takeAll(engine, [sleeper]);
    await wakeAndWatch(sleeper, engine);
    assertUntouched(engine, blocks);
    await engine.ferry.free(blocks);
  }
  sleeper.child.send("stop");
  const [returned] = (await once(sleeper.child, "message")) as [Returned];
  // Its blocks are still its own; the offer ended with the connection.
  assert.deepEqual(returned, { resumed: true, incarnationChanged: false, refusals: ["", "handle_unknown"] } satisfies Returned);
  await until(async () => (await statusOf(sidecar.socket)).pool["held"] === 0);
});

test("the same over the sidecar's death: quarantine, and what was given out before is refused", { skip }, async (t) => {
  const [folder, port] = [scratchFolder(t), await freePort()];
  const first = await startSidecar(t, { name: "phoenix", port, folder });
  const [sleeper, doomed] = [await scribe(t, first), await scribe(t, first)];
  for (const { child } of [sleeper, doomed]) child.kill("SIGSTOP");
  first.child.kill("SIGKILL");
  await first.exited;
  const second = await startSidecar(t, { name: "phoenix", port, folder });
  assert.equal(await quarantined(second), 2 * HELD);
  const engine = await openEngine(t, second);
  const blocks = await takeAll(engine, [sleeper, doomed]);
  await wakeAndWatch(sleeper, engine);
  assertUntouched(engine, blocks);

  doomed.child.kill("SIGKILL");
  await until(async () => (await quarantined(second)) === HELD);
  const freed = await engine.ferry.alloc(HELD);
  assert.deepEqual([...freed.ids].sort(ascending), [...doomed.ids].sort(ascending));

  sleeper.child.send("stop");
  const [returned] = (await once(sleeper.child, "message")) as [Returned];
  assert.deepEqual(returned, {
    resumed: false,
    incarnationChanged: true,
    refusals: ["generation_mismatch", "incarnation_mismatch"],
  } satisfies Returned);
  assert.equal(await quarantined(second), 0);
  const last = await engine.ferry.alloc(HELD);
  assert.deepEqual([...last.ids].sort(ascending), [...sleeper.ids].sort(ascending));
});

const ascending = (a: number, b: number): number => a - b;
