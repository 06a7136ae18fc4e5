/** What a confused or hostile engine asks for: refused, each with the right code, and nothing else happens. */
import { type ErrorCode, KvferryError } from "../../../transport/errors.ts";
import type { FerrySession } from "../../../transport/ferry/host.ts";
import type { Blocks } from "../../../transport/memory/pool.ts";
import type { Engine } from "../engine.ts";
import type { Scene } from "../scene.ts";
import { drawDeadlineMs } from "./start.ts";

type Misuse = (scene: Scene, engine: Engine) => Promise<void>;

export function misuse(scene: Scene): void {
  const engines = scene.ready();
  if (engines.length === 0) return;
  const engine = scene.random.pick(engines);
  const which = scene.random.pick(MISUSES);
  void scene.act(engine, "misuse", () => which(scene, engine));
}

/** It must be refused, with one of these codes or one that tells that the node is going. */
async function refused(scene: Scene, what: string, codes: readonly ErrorCode[], run: () => Promise<unknown>): Promise<void> {
  try {
    await run();
  } catch (error) {
    if (!(error instanceof KvferryError)) throw error;
    scene.coverage.note(error.code, "misuse");
    if (!codes.includes(error.code) && error.code !== "closed" && error.code !== "draining") {
      scene.world.violate(`${what} was refused with ${error.code} and not ${codes.join(" or ")}`);
    }
    return;
  }
  scene.world.violate(`${what} was not refused`);
}

const MISUSES: readonly Misuse[] = [
  async (scene, engine) => {
    const blocks = await engine.alloc(1);
    await engine.free(blocks);
    await refused(scene, "a free of freed blocks", ["generation_mismatch"], () => engine.session.free(blocks));
    const again = await engine.alloc(1);
    // The same block in a later generation: the old name must not reach it.
    const stale: Blocks = { ids: again.ids, generations: again.generations.map((generation) => generation - 1) };
    await refused(scene, "a free under an old generation", ["generation_mismatch"], () => engine.session.free(stale));
    await refused(scene, "an offer under an old generation", ["generation_mismatch"], () =>
      engine.session.offer({ model: engine.model, groups: [{ group: 0, blocks: stale, tokens: 1 }] }),
    );
    await engine.free(again);
  },
  async (scene, engine) => {
    const others = scene.ready((other) => other.node === engine.node && other !== engine);
    if (others.length === 0) return;
    const other = scene.random.pick(others);
    const blocks = await other.alloc(1);
    await refused(scene, "a free of another's blocks", ["not_owner"], () => engine.session.free(blocks));
    const groups = [{ group: 0, blocks, tokens: 1 }];
    await refused(scene, "an offer of another's blocks", ["not_owner"], () => engine.session.offer({ model: engine.model, groups }));
    await other.free(blocks);
  },
  async (scene, engine) => {
    const document = scene.random.pick(scene.documents);
    const keys = await scene.keysOf(engine, document, document.tokens.length);
    const blocks = await engine.lease(keys);
    if (blocks.ids.length === 0) return;
    if (engine.leases > 1) return engine.release(blocks);
    await refused(scene, "a free of leased blocks", ["block_state"], () => engine.session.free(blocks));
    await engine.release(blocks);
    await refused(scene, "a second release", ["not_owner", "generation_mismatch"], () => engine.session.release(blocks));
  },
  async (scene, engine) => {
    const { blockCount } = engine.node.spec;
    await refused(scene, "more blocks than there are", ["pool_exhausted"], () => engine.session.alloc(blockCount + 1));
    await refused(scene, "no block at all", ["invalid_argument"], () => engine.session.alloc(0));
    await refused(scene, "an unknown model", ["model_unknown"], () => engine.session.keys(99, 0, new Uint32Array(64)));
    await refused(scene, "keys that nobody made", ["key_not_found"], () =>
      engine.session.lease(engine.model, 0, new Uint8Array(3200).fill(3)),
    );
  },
  async (scene, engine) => {
    const blocks = await engine.alloc(1);
    const { layout } = engine.node.spec;
    const other = {
      ...layout,
      groups: layout.groups.slice(0, 1).map((group) => ({ ...group, layers: group.layers.map((layer) => layer + 7) })),
    };
    await refused(scene, "another layout over blocks in use", ["layout_conflict"], () =>
      engine.session.registerModel(scene.modelOf(engine.node), other),
    );
    await engine.free(blocks);
  },
  async (scene, engine) => {
    await refused(scene, "a peer that is not allowed", ["peer_not_allowed", "pool_exhausted"], () =>
      fetchOnce(scene, engine, "192.168.0.1:9", "x"),
    );
  },
  async (scene, engine) => {
    const { session } = engine;
    const clients = await Promise.all(Array.from({ length: 4 }, () => openBriefly(scene, engine)));
    const { node } = engine;
    const life = node.lives;
    scene.world.after(scene.random.below(1_000), () => {
      if (node.up && node.lives === life) for (const client of clients) client?.closeSession(false);
    });
    if (scene.random.chance(1, 2)) return;
    await refused(scene, "a range outside its buffer", ["range_invalid", "handle_unknown", "full"], async () => {
      const { handle } = await session.registerBuffer(new Uint8Array(64));
      try {
        await session.read({
          peer: otherNode(scene, engine),
          remote: handle,
          local: handle,
          ranges: [{ local: 32, remote: 0, bytes: 64 }],
        });
      } finally {
        await session.unregisterBuffer(handle);
      }
    });
  },
  spentHandle,
  remoteRange,
  unknownKeys,
];

/** Another client for a moment, or none if there are too many. */
async function openBriefly(scene: Scene, engine: Engine): Promise<FerrySession | undefined> {
  try {
    return engine.node.ferry.openSession({ client: "brief", processId: 0 });
  } catch (error) {
    if (!(error instanceof KvferryError)) throw error;
    scene.coverage.note(error.code, "open session");
    if (["too_many_clients", "draining", "full"].includes(error.code)) return undefined;
    throw error;
  }
}

function otherNode(scene: Scene, engine: Engine): string {
  return scene.random.pick(scene.nodes.filter((node) => node !== engine.node)).name;
}

async function fetchOnce(scene: Scene, engine: Engine, peer: string, handle: string): Promise<void> {
  const blocks = await engine.alloc(1);
  const into = [{ group: 0, blocks, tokens: 1 }];
  const deadlineMs = drawDeadlineMs(scene, engine);
  const entry = scene.ledger.begin("misuse", engine.node, deadlineMs);
  try {
    const transfer = await engine.session.fetch({ peer, model: engine.model, source: { handle }, into, deadlineMs });
    engine.follow(transfer, entry, (event) => {
      if (event.kind === "done") scene.world.violate(`a fetch with ${handle} was served`);
      if (event.kind === "failed") void scene.act(engine, "misuse end", () => engine.free(blocks));
    });
  } catch (error) {
    if (error instanceof KvferryError) scene.ledger.end(entry, error.code);
    await engine.free(blocks);
    throw error;
  }
}

/** A handle that is no handle, of another pool, or of an offer that has ended. */
async function spentHandle(scene: Scene, engine: Engine): Promise<void> {
  const spent = scene.spentHandles.filter(({ node }) => node !== engine.node);
  if (spent.length > 0 && scene.random.chance(2, 3)) {
    const { handle, node } = scene.random.pick(spent);
    return fetchOnce(scene, engine, node.name, handle);
  }
  const former = "00000000-00000000000000000000000000000000";
  await fetchOnce(scene, engine, otherNode(scene, engine), scene.random.pick(["nonsense", former]));
}

async function remoteRange(scene: Scene, engine: Engine): Promise<void> {
  const shelves = scene.shelves.filter((shelf) => shelf.engine.node !== engine.node);
  if (shelves.length === 0) return;
  const shelf = scene.random.pick(shelves);
  const memory = new Uint8Array(64);
  const { session } = engine;
  const { handle } = await session.registerBuffer(memory);
  const deadlineMs = drawDeadlineMs(scene, engine);
  const entry = scene.ledger.begin("misuse", engine.node, deadlineMs);
  const ranges = [{ local: 0, remote: shelf.memory.length - 32, bytes: 64 }];
  const transfer = await session
    .read({ peer: shelf.engine.node.name, remote: shelf.handle, local: handle, ranges, deadlineMs })
    .catch(async (error) => {
      if (error instanceof KvferryError) scene.ledger.end(entry, error.code);
      await session.unregisterBuffer(handle);
      throw error;
    });
  engine.follow(transfer, entry, (event) => {
    if (event.kind === "done") scene.world.violate("a range outside a remote buffer was served");
    if (event.kind === "failed") void scene.act(engine, "misuse end", () => session.unregisterBuffer(handle));
  });
}

async function unknownKeys(scene: Scene, engine: Engine): Promise<void> {
  const blocks = await engine.alloc(1);
  const tokens = scene.tokensIn(engine.node, 0, 1);
  const into = [{ group: 0, blocks, tokens }];
  const deadlineMs = drawDeadlineMs(scene, engine);
  const entry = scene.ledger.begin("misuse", engine.node, deadlineMs);
  const source = { keys: new Uint8Array(32 * 8).fill(9), group: 0, tokens };
  try {
    const transfer = await engine.session.fetch({ peer: otherNode(scene, engine), model: engine.model, source, into, deadlineMs });
    engine.follow(transfer, entry, (event) => {
      if (event.kind === "done") scene.world.violate("keys that nobody published were served");
      if (event.kind === "failed") void scene.act(engine, "misuse end", () => engine.free(blocks));
    });
  } catch (error) {
    if (error instanceof KvferryError) scene.ledger.end(entry, error.code);
    await engine.free(blocks);
    throw error;
  }
}
