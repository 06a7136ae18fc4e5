/** The parts that everything else trusts: order of events, randomness, runs of a chunk, content, the pipe's promises. */
import "./thaw.ts";
import assert from "node:assert/strict";
import { test } from "node:test";
import type { PlacementSpec } from "../../transport/link/link.ts";
import { denseGroup, layoutOf } from "../../transport/kv/build.ts";
import { compare, fill } from "./content.ts";
import { noFaults } from "./faults.ts";
import { restoreLimits, limits, shrinkLimits } from "./limits.ts";
import { Network, type Pipe } from "./network.ts";
import { Random } from "./random.ts";
import { chunkRuns } from "./runs.ts";
import { Violation, World } from "./world.ts";

test("events run by time, then in the order in which they were scheduled; reactions run before the next event", async () => {
  const world = new World(1);
  const seen: string[] = [];
  world.at(20, () => seen.push(`c at ${world.nowUs}`));
  world.at(10, () => {
    seen.push("a");
    world.stir();
    world.after(0, () => seen.push("a again"));
    void Promise.resolve().then(async () => {
      await undefined;
      seen.push("its reaction");
    });
  });
  world.at(10, () => seen.push("b"));
  await world.run(100);
  assert.deepEqual(seen, ["a", "its reaction", "b", "a again", "c at 20"]);
  assert.equal(world.nowUs, 100);
});

test("an event that throws, or a broken promise, ends the run with the moment", async () => {
  const throws = new World(1);
  throws.at(7, () => {
    throw new Error("oh");
  });
  await assert.rejects(throws.run(10), /at 7 us: threw Error: oh/);
  const violates = new World(1);
  violates.at(8, () => violates.violate("first"));
  violates.at(8, () => violates.violate("second"));
  await assert.rejects(violates.run(10), new Violation("at 8 us: first"));
});

test("a loop that turns while the clock stands still ends the run", async () => {
  const world = new World(1);
  const again = (): void => world.after(0, again);
  again();
  await assert.rejects(world.run(10), /at 0 us: events follow one another without end/);
});

test("a stream of random numbers is its seed's and its name's, and has no favourites", () => {
  const draw = (seed: number, stream: string): number[] =>
    Array.from(
      { length: 5 },
      (
        (random) => () =>
          random.next()
      )(new Random(seed, stream)),
    );
  assert.deepEqual(draw(1, "a"), draw(1, "a"));
  assert.notDeepEqual(draw(1, "a"), draw(1, "b"));
  assert.notDeepEqual(draw(1, "a"), draw(1 + 2 ** 33, "a"));
  const random = new Random(9);
  const counts = Array.from({ length: 10 }, () => 0);
  for (let at = 0; at < 10_000; at++) counts[random.below(10)]! += 1;
  assert.ok(
    counts.every((count) => count > 850 && count < 1_150),
    counts.join(),
  );
  assert.deepEqual(
    random.shuffle([1, 2, 3, 4]).sort((one, other) => one - other),
    [1, 2, 3, 4],
  );
});

test("runs of a chunk begin and end inside elements, cross blocks and join what touches", () => {
  const plane = {
    blockList: 0,
    offset: 100,
    blockStride: 40,
    tokens: 2,
    tokenStride: 20,
    heads: 1,
    headStride: 0,
    channels: 1,
    channelStride: 0,
    elementBytes: 10,
    firstToken: 1,
  };
  const spec = { planes: [plane], blockLists: [Uint32Array.of(3, 0)], chunks: [{ plane: 0, start: 5, bytes: 20 }], region: { bytes: 500 } };
  assert.deepEqual(chunkRuns(spec as unknown as PlacementSpec, 0), [245, 5, 100, 10, 120, 5]);
  const touching = { ...spec, planes: [{ ...plane, tokenStride: 10 }], chunks: [{ plane: 0, start: 10, bytes: 20 }] };
  assert.deepEqual(chunkRuns(touching as unknown as PlacementSpec, 0), [100, 20]);
  const beyond = { ...spec, chunks: [{ plane: 0, start: 25, bytes: 10 }] };
  assert.throws(() => chunkRuns(beyond as unknown as PlacementSpec, 0), RangeError);
});

test("content written under one layout is told from anything else", () => {
  const shape = {
    layers: 2,
    kvHeads: 2,
    headDim: 4,
    blockTokens: 4,
    element: "bf16" as const,
    blockCount: 3,
    form: "layer-major" as const,
  };
  const layout = layoutOf(3, [denseGroup({ ...shape, order: "HND", kv: "joined" })]);
  const memory = { view: new Uint8Array(2_000), dataOffset: 64 };
  const span = { layout, group: 0, blocks: Uint32Array.of(2, 0), tokens: 7, firstToken: 0, model: "m", document: 1 };
  fill(memory, span);
  assert.equal(compare(memory, span), "");
  assert.equal(compare(memory, { ...span, blocks: Uint32Array.of(2), tokens: 4 }), "");
  for (const wrong of [{ document: 2 }, { firstToken: 4 }, { blocks: Uint32Array.of(0, 2) }, { model: "n" }]) {
    assert.match(compare(memory, { ...span, ...wrong }), /^kv of layer 0, token 0, head 0, channel 0 is /);
  }
  const heads = { first: 1, count: 1 };
  memory.view[64 + 2 * 128] = (memory.view[64 + 2 * 128] ?? 0) ^ 1;
  assert.notEqual(compare(memory, span), "");
  assert.equal(compare(memory, span, undefined, heads), "", "head 1 is untouched");
});

test("limits are shrunk for a seed and put back", () => {
  const before = { ...limits };
  shrinkLimits({ windowChunksMax: 2 });
  assert.equal(limits.windowChunksMax, 2);
  shrinkLimits({ buffersMax: 3 });
  assert.equal(limits.windowChunksMax, before.windowChunksMax);
  restoreLimits();
  assert.deepEqual(limits, before);
});

/** A pipe between two hosts, and what its ends hear. */
async function openPipe(): Promise<{
  world: World;
  network: Network;
  pipe: Pipe;
  heard: string[];
  say: (side: 0 | 1, word: string) => void;
}> {
  const world = new World(3);
  const network = new Network(world, world.random.split("network"), { ...noFaults });
  const heard: string[] = [];
  const end = (side: number) => ({ isReady: () => true, handleBroken: () => void heard.push(`${side} is broken`) });
  const host = (name: string) => ({ name, stoppedUntilUs: 0 });
  network.listen({ host: "b", port: 1 }, { host: host("b"), onDial: (pipe) => pipe.attach(1, end(1)) });
  const dialled = await new Promise<Pipe>((resolve) => {
    network.dial(host("a"), { host: "b", port: 1 }, "", (pipe) => pipe !== "refused" && resolve(pipe));
    void world.run(10_000);
  });
  dialled.attach(0, end(0));
  const say = (side: 0 | 1, word: string): void => dialled.send(side, word.length, () => void heard.push(`${1 - side} hears ${word}`));
  return { world, network, pipe: dialled, heard, say };
}

test("a pipe delivers in order, and its end after all that was sent before it", async () => {
  const { world, pipe, heard, say } = await openPipe();
  for (const word of ["one", "two", "three"]) say(0, word);
  pipe.close(0);
  say(0, "four");
  await world.run(world.nowUs + 10_000);
  assert.deepEqual(heard, ["1 hears one", "1 hears two", "1 hears three", "1 is broken"]);
});

test("who sends to an end that is gone hears of it; a forgotten pipe tells nobody anything", async () => {
  const gone = await openPipe();
  gone.pipe.close(1, true, 1_000_000);
  gone.say(0, "hello");
  await gone.world.run(gone.world.nowUs + 10_000);
  assert.deepEqual(gone.heard, ["0 is broken"]);
  const forgotten = await openPipe();
  forgotten.pipe.forget();
  forgotten.say(0, "hello");
  forgotten.pipe.close(0);
  await forgotten.world.run(forgotten.world.nowUs + 10_000_000);
  assert.deepEqual(forgotten.heard, []);
});

test("a cut path holds everything back until it is open again", async () => {
  const { world, network, heard, say } = await openPipe();
  network.cut("a", "b", world.nowUs + 50_000);
  say(1, "late");
  await world.run(world.nowUs + 40_000);
  assert.deepEqual(heard, []);
  await world.run(world.nowUs + 20_000);
  assert.deepEqual(heard, ["0 hears late"]);
});
