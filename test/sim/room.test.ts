/**
 * A node's table of those who dialled it, with room for three. Method: a node of the simulation without faults, and bare links that greet it under ever
 * new names: who is here keeps its place, who has gone gives way, and a fourth hears why it must wait.
 */
import "./thaw.ts";
import assert from "node:assert/strict";
import { test } from "node:test";
import { ERRORS } from "../../transport/errors.ts";
import { decodeMessage, encodeMessage, type Message } from "../../transport/peer/messages.ts";
import { noFaults } from "./faults.ts";
import { helloOf } from "./flows/strangers.ts";
import { restoreLimits, shrinkLimits } from "./limits.ts";
import { VirtualLink } from "./link.ts";
import { Scene } from "./scene.ts";
import { drawSwarm } from "./swarm.ts";

const STEP_US = 1_000_000;

/** Greets the first node; `heard` are the answers, `leave` is what a process does that ends. */
async function greet(scene: Scene, name: string): Promise<{ readonly heard: Message[]; leave(): Promise<void> }> {
  const heard: Message[] = [];
  const link: VirtualLink = new VirtualLink({
    host: { name, stoppedUntilUs: 0 },
    network: scene.network,
    world: scene.world,
    random: scene.random.split(name),
    watch: { onCommitted: () => {}, onWrite: () => {}, onSubmitted: () => {}, onQueue: () => {}, onCode: () => {} },
    onWake: () =>
      link.poll((event) => {
        if (event.kind === "connected") link.send(connection, encodeMessage(helloOf(scene.random)));
        if (event.kind === "message") heard.push(decodeMessage(event.bytes));
      }, 100),
    queueChunks: 8,
    placementsMax: 8,
    controlQueueBytes: 1 << 20,
    unansweredChunks: 4,
    eventsMax: 64,
    connectionsMax: 4,
    lanesMax: 4,
    laneRateBytesPerSecond: 1_000_000,
    holdsLanes: true,
  });
  const connection = link.dial(scene.nodes[0]!.spec.endpoint, 5_000);
  await scene.world.run(scene.world.nowUs + STEP_US);
  return {
    heard,
    leave: async () => {
      link.die();
      await scene.world.run(scene.world.nowUs + STEP_US);
    },
  };
}

test("who has gone gives way to who is here, and only to those there is room for", async (t) => {
  t.after(restoreLimits);
  shrinkLimits({ peersMax: 3 });
  const scene = new Scene(1, { ...drawSwarm(1), limits: {}, faults: noFaults });
  scene.nodes[0]?.start();
  for (let number = 0; number < 7; number++) {
    const { heard, leave } = await greet(scene, `10.0.9.${number}`);
    assert.equal(heard[0]?.kind, "hello", `visitor ${number}`);
    await leave();
  }
  const guests = [await greet(scene, "10.0.9.20"), await greet(scene, "10.0.9.21"), await greet(scene, "10.0.9.22")];
  for (const { heard } of guests) assert.equal(heard[0]?.kind, "hello");
  const fourth = await greet(scene, "10.0.9.23");
  assert.ok(fourth.heard[0]?.kind === "refuse" && fourth.heard[0].code === ERRORS.full.number);
  await guests[1]?.leave();
  assert.equal((await greet(scene, "10.0.9.24")).heard[0]?.kind, "hello");
});

test("peers known by address alone give way to others when nothing is under way with them; configured ones stay", async (t) => {
  t.after(restoreLimits);
  shrinkLimits({ peersMax: 3 });
  const scene = new Scene(1, { ...drawSwarm(1), limits: {}, faults: noFaults });
  const [first] = scene.nodes;
  first?.start();
  const { peers } = first!.ferry;
  const { host } = first!.spec.endpoint;
  const known = Array.from({ length: 8 }, (_, port) => peers.get(`${host}:${port + 9_000}`).name);
  const left = peers.all().map(({ name }) => name);
  assert.deepEqual(
    left.filter((name) => known.includes(name)),
    known.slice(-3),
  );
  assert.equal(left.length, 3 + first!.spec.settings.peers.length);
});
