/** The faults that happen to processes and paths, each at its own pace until the world is healed. */
import type { Faults } from "./faults.ts";
import { noFaults } from "./faults.ts";
import { stranger } from "./flows/strangers.ts";
import type { SimNode } from "./node.ts";
import type { Random } from "./random.ts";
import type { Scene } from "./scene.ts";

export function unleash(scene: Scene): void {
  const { faults } = scene.swarm;
  const random = scene.world.random.split("chaos");
  const every = (meanUs: number, happen: (random: Random) => void): void => {
    if (meanUs === 0) return;
    const own = random.split("fault");
    const again = (): void => {
      scene.world.after(own.between(Math.ceil(meanUs / 2), Math.ceil((meanUs * 3) / 2)), () => {
        if (scene.healed) return;
        happen(own);
        again();
      });
    };
    again();
  };
  every(faults.cutEveryUs, (own) => cutPath(scene, own, faults));
  every(faults.killNodeEveryUs, (own) => killNode(scene, own));
  every(faults.drainEveryUs, (own) => drainNode(scene, own));
  every(faults.stopNodeEveryUs, (own) => {
    const running = scene.nodes.filter((node) => node.up && !node.stopped);
    if (running.length > 0) own.pick(running).stop(own.between(1_000, faults.stopNodeMaxUs));
  });
  every(faults.killEngineEveryUs, (own) => killEngine(scene, own));
  every(faults.stopEngineEveryUs, (own) => {
    const engines = scene.ready();
    if (engines.length === 0) return;
    const engine = own.pick(engines);
    if (own.chance(1, 3)) {
      engine.detach();
      scene.world.after(own.below(1_000_000), () => scene.reconnect(engine));
    } else engine.stop(own.between(1_000, faults.stopEngineMaxUs));
  });
  every(faults.corruptEveryUs, (own) => corruptBlock(scene, own));
  every(faults.strangerEveryUs, () => stranger(scene));
}

/** From here on everything works; what is down comes back. */
export function heal(scene: Scene): void {
  scene.world.trace("heal");
  scene.healed = true;
  scene.ledger.healedUs = Math.max(scene.world.nowUs, ...scene.nodes.map(({ host }) => host.stoppedUntilUs));
  scene.network.faults = { ...noFaults };
  scene.network.healPaths();
  for (const node of scene.nodes) {
    if (!node.up) node.start();
  }
  for (const node of scene.nodes) {
    if (!scene.engines.some((engine) => engine.node === node && engine.alive)) scene.addEngine(node);
  }
}

function cutPath(scene: Scene, random: Random, faults: Faults): void {
  const [one, other] = random.shuffle(scene.nodes);
  if (one === undefined || other === undefined) return;
  const durationUs = random.between(1_000, faults.cutMaxUs);
  scene.world.trace(`cut ${one.name} ${other.name}`, durationUs);
  scene.network.cut(one.host.name, other.host.name, scene.world.nowUs + durationUs);
  if (random.chance(faults.forgetAfterCut, 100)) scene.network.forget(one.host.name, other.host.name);
}

function killNode(scene: Scene, random: Random): void {
  const running = scene.nodes.filter((node) => node.up);
  if (running.length === 0) return;
  const node = random.pick(running);
  node.kill();
  startAgain(scene, node, random);
}

function startAgain(scene: Scene, node: SimNode, random: Random): void {
  scene.world.after(random.between(10_000, random.chance(1, 4) ? 6_000_000 : 500_000), () => {
    if (!node.up) node.start();
  });
}

function drainNode(scene: Scene, random: Random): void {
  const running = scene.nodes.filter((node) => node.up && !node.stopped);
  if (running.length === 0) return;
  const node = random.pick(running);
  const life = node.lives;
  node.drain();
  scene.world.after(random.between(1_000, 400_000), () => {
    if (!node.up || node.lives !== life) return;
    node.leave();
    startAgain(scene, node, random);
  });
}

function killEngine(scene: Scene, random: Random): void {
  const engines = scene.engines.filter((engine) => engine.alive);
  if (engines.length === 0) return;
  const engine = random.pick(engines);
  scene.world.trace(`kill ${engine.name}`);
  engine.kill();
  scene.world.after(random.below(1_000_000), () => scene.addEngine(engine.node));
}

/** A bit of a published block changes under its seal. Whoever fetches it must be refused; here nobody checks it again. */
function corruptBlock(scene: Scene, random: Random): void {
  const candidates = scene.nodes.filter((node) => node.up).flatMap((node) => node.pool.idleBlocks().map((block) => ({ node, block })));
  if (candidates.length === 0) return;
  const { node, block } = random.pick(candidates);
  node.pool.flipBit(block, random);
  scene.corrupted.add(`${node.name} ${block} ${node.pool.generationOf(block)}`);
  scene.world.trace(`corrupt ${node.name}`, block);
}
