/**
 * The virtual link keeps the contract that real links keep: the same conformance suite, over a virtual network without faults whose clock is moved on
 * whenever the suite lets go of the thread.
 */
import "./thaw.ts";
import { linkConformance } from "../link/conformance.ts";
import { noFaults } from "./faults.ts";
import { VirtualLink } from "./link.ts";
import { Network } from "./network.ts";
import { World } from "./world.ts";

const world = new World(1);
const network = new Network(world, world.random.split("network"), { ...noFaults });
const watch = { onCommitted: () => {}, onWrite: () => {}, onSubmitted: () => {}, onQueue: () => {}, onCode: () => {} };
let hosts = 0;
let ports = 1_000;

/** The world moves on in small steps for as long as a test holds the process open. */
const timer = setInterval(() => void world.run(world.nowUs + 2_000), 1);
timer.unref();

linkConformance(
  "virtual",
  async ({ onWake, limits }) =>
    new VirtualLink({
      host: { name: `host${hosts++}`, stoppedUntilUs: 0 },
      network,
      world,
      random: world.random.split(`link ${hosts}`),
      watch,
      onWake,
      queueChunks: limits?.sendQueueChunks ?? 4_096,
      placementsMax: limits?.placementsMax ?? 4_096,
      controlQueueBytes: limits?.controlQueueBytes ?? 16 << 20,
      unansweredChunks: 64,
      eventsMax: limits?.completionsMax ?? 16_384,
      connectionsMax: limits?.connectionsMax ?? 1_024,
      lanesMax: limits?.lanesMax ?? 64,
      laneRateBytesPerSecond: 1_000_000_000,
      holdsLanes: true,
    }),
  { wire: false, listenAt: () => ({ host: `host${hosts - 1}`, port: ports++ }) },
);
