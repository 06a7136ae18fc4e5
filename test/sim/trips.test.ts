/**
 * How many round trips a pull takes, over connections that are there and over one that is not: counted on the virtual clock, where a message takes 50 ms
 * and everything else next to nothing.
 */
import "./thaw.ts";
import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { denseGroup, layoutOf } from "../../transport/kv/build.ts";
import type { Layout } from "../../transport/kv/layout.ts";
import { noFaults } from "./faults.ts";
import { restoreLimits } from "./limits.ts";
import type { SimNode } from "./node.ts";
import { Scene } from "./scene.ts";
import { drawSwarm } from "./swarm.ts";
import { FORMER, type Tongue } from "./tongues.ts";

const TRIP_US = 100_000;
/** Of what is no trip: checksums, chunks on their way one behind the other, the link's own pace. */
const REST_US = 40_000;
const TOKENS = 16;
const IDENTITY = { model: "m", revision: "", element: "bf16", rope: "", profile: "", extra: "" };

const laidOut = (order: "NHD" | "HND"): Layout => {
  const shape = { layers: 2, kvHeads: 4, headDim: 4, blockTokens: 4, element: "bf16" as const, blockCount: 48 };
  return layoutOf(48, [denseGroup({ ...shape, order, kv: "split", form: "block-contiguous" })]);
};

interface Two {
  /** The holder ends its connections, and everybody has heard of it. */
  hangUp(): Promise<void>;
  /** Fetches 16 tokens by a handle of a new offer; how many round trips until they were there. */
  byHandle(): Promise<number>;
  byKeys(): Promise<number>;
  lookup(): Promise<number>;
}

/** A node for each layout; the first speaks with the tongue. */
function sceneOf(layouts: readonly [Layout, Layout], tongue: Tongue | undefined): Scene {
  const swarm = drawSwarm(1);
  const [spec] = swarm.nodes;
  assert.ok(spec !== undefined);
  const nodes = layouts.map((layout, at) => ({
    ...{ ...spec, name: `n${at}`, endpoint: { host: `10.0.0.${at + 1}`, port: 7411 }, layout, blockBytes: 512, blockCount: 48 },
    ...{ jobsMax: 64, tongue: at === 0 ? tongue : undefined, profiles: undefined },
    settings: {
      ...spec.settings,
      name: `n${at}`,
      peers: [],
      lanes: { least: 2, most: 2 },
      chunkBytes: 4_096,
      transfersMax: 64,
      windowBytes: 1 << 20,
    },
    link: {
      ...{ ...spec.link, queueChunks: 256, placementsMax: 256, controlQueueBytes: 1 << 20, unansweredChunks: 16, eventsMax: 1_024 },
      laneRateBytesPerSecond: 100_000_000,
    },
  }));
  const faults = { ...noFaults, delayMinUs: TRIP_US / 2, delayMaxUs: TRIP_US / 2 };
  return new Scene(1, { ...swarm, nodes, models: [IDENTITY, IDENTITY], limits: {}, faults });
}

async function two(t: TestContext, layouts: readonly [Layout, Layout], tongue?: Tongue): Promise<Two> {
  t.after(restoreLimits);
  const scene = sceneOf(layouts, tongue);
  const { world } = scene;
  const [holder, asker] = scene.nodes as [SimNode, SimNode];
  holder.start();
  asker.start();
  /** What `run` takes, in round trips. */
  const trips = async (run: () => Promise<unknown>): Promise<number> => {
    let isDone = false;
    let failure: unknown;
    const startedUs = world.nowUs;
    world.waiting += 1;
    void run()
      .catch((error: unknown) => (failure = error))
      .finally(() => (isDone = true));
    await world.run(world.nowUs + 30_000_000, () => isDone);
    world.waiting -= 1;
    assert.equal(failure, undefined);
    const tookUs = world.nowUs - startedUs;
    const count = Math.floor(tookUs / TRIP_US);
    assert.ok(isDone && tookUs - count * TRIP_US < REST_US, `${tookUs} us is no number of round trips`);
    // Whatever is said last arrives before the next is asked.
    await world.run(world.nowUs + TRIP_US);
    return count;
  };
  const models = [0, 0];
  await trips(async () => {
    for (const [at, node] of [holder, asker].entries()) models[at] = (await node.inspector.registerModel(IDENTITY, node.spec.layout)).model;
  });
  const [ofHolder = 0, ofAsker = 0] = models;
  const peer = "10.0.0.1:7411";
  const fetchOf = async (source: { handle: string } | { keys: Uint8Array; group: number; tokens: number }): Promise<void> => {
    const into = [{ group: 0, blocks: await asker.inspector.alloc(TOKENS / 4), tokens: TOKENS }];
    await (await asker.inspector.fetch({ peer, model: ofAsker, source, into, deadlineMs: 20_000 })).done;
  };
  return {
    async hangUp() {
      for (const connected of holder.ferry.peers.all()) connected.close("the test says so");
      await world.run(world.nowUs + 10 * TRIP_US);
      assert.ok(asker.ferry.peers.all().every(({ up }) => !up));
    },
    byHandle: () =>
      trips(async () => {
        const groups = [{ group: 0, blocks: await holder.inspector.alloc(TOKENS / 4), tokens: TOKENS }];
        await fetchOf({ handle: await holder.inspector.offer({ model: ofHolder, groups }) });
      }),
    async byKeys() {
      const tokens = Uint32Array.from({ length: TOKENS }, (_, at) => at);
      let keys = new Uint8Array(0);
      await trips(async () => {
        keys = new Uint8Array(await holder.inspector.keys(ofHolder, 0, tokens));
        await holder.inspector.publish(ofHolder, 0, await holder.inspector.alloc(TOKENS / 4), keys);
      });
      return trips(() => fetchOf({ keys, group: 0, tokens: TOKENS }));
    },
    lookup: () => trips(() => asker.inspector.lookup(ofAsker, 0, new Uint8Array(32), [peer])),
  };
}

test("between nodes alike: two round trips with the connection and its lanes, one when they are there", async (t) => {
  const { byHandle, byKeys, lookup } = await two(t, [laidOut("NHD"), laidOut("NHD")]);
  assert.equal(await byHandle(), 2);
  assert.equal(await byHandle(), 1);
  assert.equal(await byKeys(), 1);
  assert.equal(await lookup(), 1);
});

test("a look-up goes behind the Hello; a fetch by keys waits for the other Hello, which tells whether they are known there", async (t) => {
  assert.equal(await (await two(t, [laidOut("NHD"), laidOut("NHD")])).lookup(), 2);
  assert.equal(await (await two(t, [laidOut("NHD"), laidOut("NHD")])).byKeys(), 3);
});

test("of a layout that is another, and was not told before: three the first time", async (t) => {
  const { byHandle } = await two(t, [laidOut("HND"), laidOut("NHD")]);
  assert.equal(await byHandle(), 3);
  assert.equal(await byHandle(), 1);
});

test("with a holder of the former version it takes as many as ever, less the one for the Hello", async (t) => {
  const { byHandle } = await two(t, [laidOut("NHD"), laidOut("NHD")], FORMER);
  assert.equal(await byHandle(), 3);
  assert.equal(await byHandle(), 2);
});

test("after a connection that was lost, what is known of the remote serves for the next", async (t) => {
  const { hangUp, byHandle } = await two(t, [laidOut("HND"), laidOut("NHD")]);
  await byHandle();
  await hangUp();
  assert.equal(await byHandle(), 2);
});
