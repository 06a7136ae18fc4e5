/** Prefill here, decode there: an offer, its handle carried to another engine, a fetch; whole or layer by layer as it becomes ready. */
import type { GroupBlocks } from "../../../transport/ferry/ferry.ts";
import type { Blocks } from "../../../transport/memory/pool.ts";
import type { Heads } from "../content.ts";
import type { Engine } from "../engine.ts";
import type { SimNode } from "../node.ts";
import type { Scene } from "../scene.ts";
import { drawDeadlineMs, startTransfer } from "./start.ts";

interface Prefill {
  readonly document: number;
  readonly tokens: number;
  readonly states: number;
  readonly deadlineMs: number;
}

/** `onDone` is called when the consumer has seen every byte. */
export function handOver(scene: Scene, from?: Engine, to?: Engine, onDone: () => void = () => {}): void {
  const producers = from === undefined ? scene.ready() : [from];
  if (producers.length === 0) return;
  const producer = scene.random.pick(producers);
  const anybody = scene.random.chance(1, 8);
  const fits = ({ node }: Engine): boolean => node !== producer.node && (anybody || scene.convertible(producer.node, node));
  const consumers = to === undefined ? scene.ready(fits) : [to];
  if (consumers.length === 0) return;
  const consumer = scene.random.pick(consumers);
  const { random, node } = producer;
  const blocks = random.between(1, Math.max(Math.min(6, Math.floor(node.spec.blockCount / 3)), 1));
  const room = scene.tokensIn(consumer.node, 0, Math.max(Math.floor(consumer.node.spec.blockCount / 3), 1));
  const most = Math.min(scene.tokensIn(node, 0, blocks), room);
  const hybrid = (at: SimNode): boolean => at.spec.layout.groups.length > 1;
  const prefill: Prefill = {
    document: scene.newDocument(),
    tokens: Math.max(most - random.below(scene.tokensIn(node, 0, 1)), 1),
    states: hybrid(node) && hybrid(consumer.node) && random.chance(1, 2) ? 1 : 0,
    deadlineMs: drawDeadlineMs(scene, producer),
  };
  void scene.act(producer, "offer", () => offer(scene, producer, consumer, prefill, onDone));
}

async function offer(scene: Scene, producer: Engine, consumer: Engine, prefill: Prefill, onDone: () => void): Promise<void> {
  const { random, node } = producer;
  const groups = await allocGroups(scene, producer, prefill);
  const giveBack = async (): Promise<void> => {
    for (const { blocks } of groups) await producer.free(blocks);
  };
  const layers = layersOf(node, prefill.states > 0);
  const byLayer = random.chance(1, 3);
  const { session } = producer;
  scene.world.trace(`offer by ${producer.name} for ${consumer.name}`, prefill.document, prefill.tokens, prefill.states, byLayer ? 1 : 0);
  let handle: string;
  try {
    if (!byLayer) for (let layer = 0; layer < layers; layer++) writeLayer(scene, producer, groups, prefill, layer);
    handle = await session.offer({ model: producer.model, groups, ready: !byLayer, deadlineMs: prefill.deadlineMs });
  } catch (error) {
    await giveBack();
    throw error;
  }
  let ended = false;
  producer.followOffer(handle, () => {
    ended = true;
    if (scene.spentHandles.length < 100) scene.spentHandles.push({ handle, node, life: node.lives });
    void scene.act(producer, "free", giveBack);
  });
  const prefillLayer = (layer: number): void => {
    if (ended || layer === layers || !producer.isStill(session)) return;
    void scene.act(producer, "ready", async () => {
      writeLayer(scene, producer, groups, prefill, layer);
      await session.ready(handle, layer);
      // A slow engine is no stall; a dead one is a deadline.
      scene.world.after(random.below(random.chance(1, 10) ? 800_000 : 20_000), () => prefillLayer(layer + 1));
    });
  };
  if (byLayer) scene.world.after(random.below(5_000), () => prefillLayer(0));
  // Whether one arrives is asked once all is healed: then one reader is enough, and nothing of it is left when the next begins.
  const readers = !scene.healed && random.chance(1, 5) ? 2 : 1;
  for (let reader = 0; reader < readers; reader++) {
    scene.world.after(
      random.below(20_000),
      () => void scene.act(consumer, "fetch", () => fetch(scene, consumer, node, handle, { ...prefill, readers }, onDone)),
    );
  }
  if (!scene.healed && random.chance(1, 20)) {
    scene.world.after(random.below(100_000), () => {
      if (producer.isStill(session)) void scene.act(producer, "withdraw", () => session.withdraw(handle));
    });
  }
}

async function fetch(
  scene: Scene,
  consumer: Engine,
  from: SimNode,
  handle: string,
  prefill: Prefill & { readonly readers: number },
  onDone: () => void,
): Promise<void> {
  const { node } = consumer;
  const into = await allocGroups(scene, consumer, prefill);
  const deadlineMs = drawDeadlineMs(scene, consumer);
  const heads = sharedHeads(from, node);
  const look = (layer?: number): void => expectGroups(scene, node, into, prefill, heads, layer);
  const peer = from.name;
  const request = { peer, model: consumer.model, source: { handle }, into, deadlineMs, readers: prefill.readers, layers: true };
  await startTransfer(scene, {
    kind: "fetch",
    engine: consumer,
    deadlineMs,
    call: () => consumer.session.fetch(request),
    onLayer: look,
    onDone: () => {
      look();
      onDone();
    },
    onEnd: async () => {
      for (const { blocks } of into) await consumer.free(blocks);
    },
  });
}

async function allocGroups(scene: Scene, engine: Engine, { tokens, states }: Prefill): Promise<GroupBlocks[]> {
  const groups: GroupBlocks[] = [{ group: 0, blocks: await engine.alloc(scene.blocksFor(engine.node, 0, tokens)), tokens }];
  if (states === 0) return groups;
  try {
    groups.push({ group: 1, blocks: await engine.alloc(states), tokens: states });
  } catch (error) {
    await engine.free(groups[0]?.blocks as Blocks);
    throw error;
  }
  return groups;
}

/** Layers as a plan counts them: those of the attention, then those of the state. */
function layersOf(node: SimNode, withState: boolean): number {
  const [attention, state] = node.spec.layout.groups;
  return (attention?.layers.length ?? 0) + (withState ? (state?.layers.length ?? 0) : 0);
}

function placeOfLayer(node: SimNode, layer: number): { readonly group: number; readonly layer: number } {
  const attention = node.spec.layout.groups[0]?.layers.length ?? 0;
  return layer < attention ? { group: 0, layer } : { group: 1, layer: layer - attention };
}

function writeLayer(scene: Scene, engine: Engine, groups: readonly GroupBlocks[], prefill: Prefill, layer: number): void {
  const place = placeOfLayer(engine.node, layer);
  const moved = groups.find(({ group }) => group === place.group);
  if (moved !== undefined)
    engine.write(scene.spanOf(engine.node, moved.group, moved.blocks.ids, moved.tokens, prefill.document), place.layer);
}

function expectGroups(
  scene: Scene,
  node: SimNode,
  groups: readonly GroupBlocks[],
  { document }: Prefill,
  heads: Heads | undefined,
  layer: number | undefined,
): void {
  const place = layer === undefined ? undefined : placeOfLayer(node, layer);
  for (const { group, blocks, tokens } of groups) {
    if (place !== undefined && place.group !== group) continue;
    scene.expectContent(node, scene.spanOf(node, group, blocks.ids, tokens, document), "fetched by handle", place?.layer, heads);
  }
}

/** Heads that both ends hold. */
export function sharedHeads(one: SimNode, other: SimNode): Heads | undefined {
  const [a, b] = [one, other].map((node) => node.spec.layout.groups[0]?.components[0]);
  if (a === undefined || b === undefined) return undefined;
  const first = Math.max(a.firstHead, b.firstHead);
  return { first, count: Math.min(a.firstHead + a.heads, b.firstHead + b.heads) - first };
}
