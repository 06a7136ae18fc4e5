/** Pushing: the sender chooses the peer, the peer publishes what has arrived. */
import type { Engine } from "../engine.ts";
import type { Document, Scene } from "../scene.ts";
import type { SimNode } from "../node.ts";
import { drawDeadlineMs, startTransfer } from "./start.ts";

export function push(scene: Scene, from?: Engine, to?: SimNode, onDone: () => void = () => {}): void {
  const engines = from === undefined ? scene.ready() : [from];
  if (engines.length === 0) return;
  const engine = scene.random.pick(engines);
  const anybody = scene.random.chance(1, 8);
  const peers =
    to === undefined ? scene.nodes.filter((node) => node !== engine.node && (anybody || scene.convertible(engine.node, node))) : [to];
  if (peers.length === 0) return;
  const peer = scene.random.pick(peers);
  const document = scene.random.pick(scene.documents);
  void scene.act(engine, "push", () => pushDocument(scene, engine, peer, document, onDone));
}

async function pushDocument(scene: Scene, engine: Engine, peer: SimNode, document: Document, onDone: () => void): Promise<void> {
  const { node, random } = engine;
  const perBlock = Math.max(scene.tokensIn(node, 0, 1), scene.tokensIn(peer, 0, 1));
  const whole = Math.min(
    Math.floor(document.tokens.length / perBlock),
    Math.floor((node.spec.blockCount * scene.tokensIn(node, 0, 1)) / (3 * perBlock)),
  );
  if (whole === 0) return;
  const tokens = random.between(1, whole) * perBlock;
  const keys = await scene.keysOf(engine, document, tokens);
  const blocks = await engine.alloc(scene.blocksFor(node, 0, tokens));
  engine.write(scene.spanOf(node, 0, blocks.ids, tokens, document.number));
  const deadlineMs = drawDeadlineMs(scene, engine);
  const request = { peer: peer.name, model: engine.model, group: 0, blocks, tokens, keys, deadlineMs };
  await startTransfer(scene, {
    kind: "push",
    engine,
    deadlineMs,
    call: () => engine.session.push(request),
    onDone,
    onEnd: () => engine.free(blocks),
  });
}
