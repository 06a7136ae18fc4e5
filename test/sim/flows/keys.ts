/** KV by its content: publish, look up, fetch by keys, lease here. */
import { KvferryError } from "../../../transport/errors.ts";
import type { Engine } from "../engine.ts";
import type { Document, Scene } from "../scene.ts";
import { sharedHeads } from "./handover.ts";
import { drawDeadlineMs, startTransfer } from "./start.ts";

export function publish(scene: Scene): void {
  const engines = scene.ready();
  if (engines.length === 0) return;
  const engine = scene.random.pick(engines);
  const document = scene.random.pick(scene.documents);
  void scene.act(engine, "publish", () => publishDocument(scene, engine, document));
}

async function publishDocument(scene: Scene, engine: Engine, document: Document): Promise<void> {
  const { node } = engine;
  const perBlock = scene.tokensIn(node, 0, 1);
  const whole = Math.min(Math.floor(document.tokens.length / perBlock), Math.floor(node.spec.blockCount / 4));
  if (whole === 0) return;
  const count = engine.random.between(1, whole);
  const tokens = count * perBlock;
  const keys = await scene.keysOf(engine, document, tokens);
  const blocks = await engine.alloc(count);
  engine.write(scene.spanOf(node, 0, blocks.ids, tokens, document.number));
  try {
    await engine.session.publish(engine.model, 0, blocks, keys);
  } catch (error) {
    // What could not be sealed is the engine's as before, unless the engine is gone.
    if (error instanceof KvferryError && error.code === "full") await engine.free(blocks);
    throw error;
  }
  engine.drop(blocks);
}

export function fetchByKeys(scene: Scene): void {
  const engines = scene.ready();
  if (engines.length === 0) return;
  const engine = scene.random.pick(engines);
  const document = scene.random.pick(scene.documents);
  void scene.act(engine, "fetch keys", () => findAndFetch(scene, engine, document));
}

async function findAndFetch(scene: Scene, engine: Engine, document: Document): Promise<void> {
  const { node, random } = engine;
  const keys = await scene.keysOf(engine, document, document.tokens.length);
  const page = Math.floor((document.tokens.length * 32) / Math.max(keys.length, 1));
  const peers = scene.nodes.filter((other) => other !== node).map((other) => other.name);
  const places = await engine.session.lookup(engine.model, 0, keys, random.shuffle(peers).slice(0, random.between(1, peers.length)));
  for (const { peer, matched, code } of places) {
    if (code !== "") scene.coverage.note(code as never, "lookup");
    const most = keys.length / 32;
    if (!Number.isInteger(matched) || matched > most) scene.world.violate(`${peer} says that it has ${matched} of ${most} keys`);
  }
  const there = places.filter(({ peer, matched }) => peer !== "" && matched > 0);
  const asked = there.length > 0 ? random.pick(there) : { peer: random.pick(peers), matched: 1 };
  const holder = scene.nodes.find(({ name }) => name === asked.peer);
  const tokens = asked.matched * page - (random.chance(1, 4) ? random.below(page) : 0);
  if (holder === undefined || tokens > document.tokens.length) return;
  const blocks = await engine.alloc(scene.blocksFor(node, 0, tokens));
  const deadlineMs = drawDeadlineMs(scene, engine);
  const source = { keys: keys.subarray(0, asked.matched * 32), group: 0, tokens };
  const request = { peer: asked.peer, model: engine.model, source, into: [{ group: 0, blocks, tokens }], deadlineMs };
  await startTransfer(scene, {
    kind: "fetch keys",
    engine,
    deadlineMs,
    call: () => engine.session.fetch(request),
    onDone: () => {
      const span = scene.spanOf(node, 0, blocks.ids, tokens, document.number);
      scene.expectContent(node, span, "fetched by keys", undefined, sharedHeads(holder, node));
    },
    onEnd: () => engine.free(blocks),
  });
}

/** Reads what is published here; it must stay as it is for as long as the lease lasts. */
export function leaseHere(scene: Scene): void {
  const engines = scene.ready();
  if (engines.length === 0) return;
  const engine = scene.random.pick(engines);
  const document = scene.random.pick(scene.documents);
  void scene.act(engine, "lease", async () => {
    const { node, session } = engine;
    const keys = await scene.keysOf(engine, document, document.tokens.length);
    const blocks = await engine.lease(keys);
    if (blocks.ids.length === 0) return;
    scene.promises.checkPublished(node, blocks, keys);
    const life = node.lives;
    scene.world.after(engine.random.below(300_000), () => {
      void scene.act(engine, "release", async () => {
        if (!node.up || node.lives !== life) return;
        if (engine.isStill(session)) scene.promises.checkPublished(node, blocks, keys);
        await engine.release(blocks);
      });
    });
  });
}
