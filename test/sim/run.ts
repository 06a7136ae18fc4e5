/** One seed from beginning to end: work under faults, then healing, then everything must end and every pair of nodes must work again. */
import { drawSwarm, type Swarm } from "./swarm.ts";
import { restoreLimits, shrinkLimits } from "./limits.ts";
import { heal, unleash } from "./chaos.ts";
import type { Coverage } from "./coverage.ts";
import { readRanges, tendShelves, writeRanges } from "./flows/buffers.ts";
import { handOver } from "./flows/handover.ts";
import { fetchByKeys, leaseHere, publish } from "./flows/keys.ts";
import { misuse } from "./flows/misuse.ts";
import { push } from "./flows/push.ts";
import { watchPaths } from "./paths.ts";
import { Scene } from "./scene.ts";
import { watchWindows } from "./windows.ts";

export interface Run {
  readonly seed: number;
  readonly failure: string;
  readonly hash: string;
  readonly events: number;
  readonly transfers: number;
  readonly succeeded: number;
  readonly virtualUs: number;
  readonly coverage: Coverage;
  readonly outcomes: ReadonlyMap<string, number>;
  readonly swarm: Swarm;
}

export interface RunOptions {
  readonly onTrace?: (line: string) => void;
  /** Breaks the product or the world on purpose; returns how to mend it. */
  readonly plant?: () => () => void;
}

type Flow = (scene: Scene) => void;

/** How often each kind of work is begun. */
const WORK: readonly (readonly [number, Flow])[] = [
  [40, handOver],
  [12, publish],
  [14, fetchByKeys],
  [6, leaseHere],
  [14, push],
  [3, tendShelves],
  [6, readRanges],
  [6, writeRanges],
  [8, misuse],
];

/** Faults may take everything down most of the time; what is left of it must do for the work. */
const WORK_US = 3_600_000_000;
/** After healing a transfer that began before it has this long at most, its own deadline and the redial included. */
const SETTLE_US = 60_000_000;
const FINAL_US = 40_000_000;
/** Longer than any offer waits to be fetched. */
const QUIET_US = 40_000_000;

export async function runSeed(seed: number, options: RunOptions = {}): Promise<Run> {
  const swarm = drawSwarm(seed);
  shrinkLimits(swarm.limits);
  const scene = new Scene(seed, swarm);
  const lookAway = watchWindows((flight) => scene.promises.handleFlight(flight));
  const closeEyes = watchPaths((path) => scene.coverage.go(path));
  const mend = options.plant?.() ?? ((): void => {});
  scene.world.onTrace = options.onTrace;
  let failure = "";
  try {
    await play(scene);
  } catch (error) {
    failure = error instanceof Error ? error.message : String(error);
  } finally {
    mend();
    closeEyes();
    lookAway();
    restoreLimits();
  }
  const { world, ledger, coverage } = scene;
  const succeeded = [...ledger.outcomes].filter(([row]) => row.endsWith(" ok")).reduce((sum, [, count]) => sum + count, 0);
  return {
    seed,
    failure,
    hash: world.hash,
    events: world.events,
    transfers: ledger.begun,
    succeeded,
    virtualUs: world.nowUs,
    coverage,
    outcomes: ledger.outcomes,
    swarm,
  };
}

async function play(scene: Scene): Promise<void> {
  const { world, swarm, nodes, ledger } = scene;
  for (const node of nodes) node.start();
  for (const node of nodes) for (let count = swarm.enginesPerNode; count > 0; count--) scene.addEngine(node);
  await world.run(1_000_000);
  unleash(scene);
  work(scene);
  await world.run(world.nowUs + WORK_US, () => ledger.begun >= swarm.transfers);
  if (ledger.begun < swarm.transfers) world.violate(`only ${ledger.begun} transfers could be begun`);

  heal(scene);
  await world.run(world.nowUs + 10_000);
  await world.run(
    world.nowUs + SETTLE_US,
    () => ledger.open === 0 && scene.ready().length === scene.engines.filter(({ alive }) => alive).length,
  );
  scene.promises.check();
  if (ledger.open > 0) world.violate(`${ledger.open} transfers have not ended after healing`);
  await finish(scene);
}

/** Begins work until there has been enough of it. */
function work(scene: Scene): void {
  const { world, swarm, ledger } = scene;
  const random = world.random.split("work");
  const kinds = WORK.flatMap(([weight, flow]) => Array.from({ length: weight }, () => flow));
  const pauseUs = Math.ceil(swarm.spanUs / swarm.transfers);
  const next = (): void => {
    if (scene.healed || ledger.begun >= swarm.transfers) return;
    const burst = random.chance(1, 12) ? random.between(3, 10) : 1;
    for (let count = burst; count > 0; count--) random.pick(kinds)(scene);
    world.after(random.below(2 * pauseUs), next);
  };
  next();
}

/** Nothing may be left over; a transfer between each pair of nodes that can exchange KV must work; and again nothing may be left. */
async function finish(scene: Scene): Promise<void> {
  const { world } = scene;
  await settle(scene);
  const pairs = scene.ready().flatMap((from) => scene.ready((to) => to.node !== from.node).map((to) => ({ from, to })));
  const wanted = new Map(pairs.map(({ from, to }) => [`${from.node.name} to ${to.node.name}`, { from, to }]));
  for (const [name, { from, to }] of wanted) {
    if (!scene.convertible(from.node, to.node)) continue;
    let arrived = false;
    handOver(scene, from, to, () => (arrived = true));
    await world.run(world.nowUs + FINAL_US, () => arrived);
    if (!arrived) world.violate(`no transfer works from ${name} after healing`);
  }
  await settle(scene);
}

/** Offers that nobody came for, leases, late events: all of it ends by itself. */
async function settle(scene: Scene): Promise<void> {
  const { world } = scene;
  await world.run(world.nowUs + QUIET_US);
  scene.promises.checkQuiet();
  if (world.violation !== undefined) throw world.violation;
}
