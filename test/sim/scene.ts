/** Everything of one seed together: world, network, nodes, engines, documents, and the promises that are checked. */
import { KvferryError } from "../../transport/errors.ts";
import type { FerryEvent, ModelIdentity } from "../../transport/ferry/ferry.ts";
import type { NodeObserver } from "../../transport/ferry/node.ts";
import { compare, type Heads, type Span } from "./content.ts";
import { Coverage } from "./coverage.ts";
import { Engine } from "./engine.ts";
import { Ledger } from "./ledger.ts";
import { Network } from "./network.ts";
import { type NodeWatch, SimNode } from "./node.ts";
import { Promises } from "./promises.ts";
import type { Random } from "./random.ts";
import type { Swarm } from "./swarm.ts";
import { World } from "./world.ts";

/** Tokens that may be published, and by whom they were. */
export interface Document {
  readonly number: number;
  readonly tokens: Uint32Array;
}

/** A registered buffer: its first half is written once and only read, its second half only written by others, each part once. */
export interface Shelf {
  readonly engine: Engine;
  readonly handle: string;
  readonly memory: Uint8Array;
  readonly life: number;
  usedBytes: number;
}

export class Scene {
  readonly swarm: Swarm;
  readonly world: World;
  readonly network: Network;
  readonly random: Random;
  readonly ledger: Ledger;
  readonly coverage = new Coverage();
  readonly promises: Promises;
  readonly nodes: SimNode[];
  engines: Engine[] = [];
  readonly documents: Document[];
  shelves: Shelf[] = [];
  /** Handles of offers that have ended, and in which life of their node. */
  readonly spentHandles: { readonly handle: string; readonly node: SimNode; readonly life: number }[] = [];
  /** Corrupted on purpose: node, block and generation. */
  readonly corrupted = new Set<string>();
  /** No new faults and no new work of the first phase. */
  healed = false;
  #nextDocument = 1_000;
  readonly #documentOf = new Map<string, number>();

  constructor(seed: number, swarm: Swarm) {
    this.swarm = swarm;
    this.world = new World(seed);
    this.random = this.world.random.split("scene");
    this.network = new Network(this.world, this.world.random.split("network"), { ...swarm.faults });
    this.ledger = new Ledger(this.world);
    this.promises = new Promises(this);
    this.documents = swarm.documentTokens.map((tokens, number) => ({ number, tokens }));
    const watch = this.#watch();
    this.nodes = swarm.nodes.map(
      (spec) => new SimNode(spec, this.world, this.network, this.world.random.split(`node ${spec.name}`), watch),
    );
    this.world.onEvent = () => this.promises.check();
  }

  #watch(): NodeWatch {
    const { coverage, promises } = this;
    return {
      onCommitted: (link, placement, chunk) => promises.handleCommitted(link, placement, chunk),
      onWrite: (link, placement) => promises.handleWrite(link, placement),
      onSubmitted: (link, placement) => promises.handleSubmitted(link, placement),
      onQueue: (link, queue, length, max) => promises.handleQueue(link, queue, length, max),
      onCode: (code, where) => coverage.note(code, where),
      observer: (node) => this.#observer(node),
      onStarted: (node) => this.#handleStarted(node),
      onDied: (node) => this.#handleDied(node),
    };
  }

  #observer(node: SimNode): NodeObserver {
    return {
      transferEnded: (direction, ok, code, { bytes, chunks, retries, resumed }) => {
        this.world.stir();
        this.world.trace(`${node.name} ${direction} ${ok ? "ok" : code}`, bytes, chunks, retries, resumed);
        if (!ok) this.coverage.note(code as never, `transfer ${direction}`);
      },
      peer: (name, up) => this.world.trace(`${node.name} peer ${name}`, up ? 1 : 0),
      stalled: (direction) => this.world.trace(`${node.name} stalled ${direction}`),
    };
  }

  #handleStarted(node: SimNode): void {
    node.inspector.on((event) => this.#inspect(node, event));
    void this.act(undefined, "inspector", async () => {
      await node.inspector.registerModel(this.modelOf(node), node.spec.layout);
    });
    for (const engine of this.engines) {
      if (engine.node === node) this.world.after(engine.random.below(400_000), () => this.reconnect(engine));
    }
  }

  #handleDied(node: SimNode): void {
    this.ledger.loseAll(node);
    this.promises.handleDied(node);
    this.shelves = this.shelves.filter((shelf) => shelf.engine.node !== node);
    for (const engine of this.engines) if (engine.node === node) engine.handleNodeDied();
  }

  /** What a push made visible is looked at once, by somebody who did not send it. */
  #inspect(node: SimNode, event: FerryEvent): void {
    if (event.kind !== "published" || event.from === "") return;
    const { model, group, keys } = event;
    void this.act(undefined, "inspect", async () => {
      const blocks = await node.inspector.lease(model, group, keys, true);
      this.promises.checkPublished(node, blocks, keys);
      await node.inspector.release(blocks);
    });
  }

  reconnect(engine: Engine): void {
    void this.act(engine, "connect", () => engine.connect()).then((failure) => {
      // A node that drains, or has too many clients, may take it later.
      if (failure !== undefined && engine.alive) this.world.after(500_000, () => this.reconnect(engine));
    });
  }

  addEngine(node: SimNode): Engine {
    const number = this.engines.length + 1;
    const engine = new Engine(this, node, `e${number}`, this.world.random.split(`engine ${number}`));
    this.engines.push(engine);
    this.reconnect(engine);
    return engine;
  }

  /** Runs what an engine does; a typed error is its answer, anything else is a bug. Resolves to the error, if there was one. */
  async act(engine: Engine | undefined, what: string, run: () => Promise<void>): Promise<KvferryError | undefined> {
    if (engine?.alive === false) return undefined;
    this.world.waiting += 1;
    try {
      await run();
      return undefined;
    } catch (error) {
      if (error instanceof KvferryError) {
        this.coverage.note(error.code, what);
        this.world.note(() => `${engine?.name ?? ""} ${what}: ${error.message}`);
        return error;
      }
      this.world.violate(`${what} threw ${error instanceof Error ? error.stack : String(error)}`);
      return undefined;
    } finally {
      this.world.waiting -= 1;
    }
  }

  /** Engines that can do something now. */
  ready(where: (engine: Engine) => boolean = () => true): Engine[] {
    return this.engines.filter((engine) => engine.connected && !engine.stopped && !engine.node.stopped && where(engine));
  }

  /** Page keys of a document's first tokens, as this engine computes them. */
  async keysOf(engine: Engine, { number, tokens }: Document, count: number): Promise<Uint8Array> {
    const keys = await engine.session.keys(engine.model, 0, tokens.subarray(0, count));
    if (keys.length >= 32) this.#documentOf.set(Buffer.from(keys.subarray(0, 32)).toString("hex"), number);
    return keys;
  }

  documentOf(firstKey: string): number | undefined {
    return this.#documentOf.get(firstKey);
  }

  newDocument(): number {
    return this.#nextDocument++;
  }

  modelOf(node: SimNode): ModelIdentity {
    return this.swarm.models[this.nodes.indexOf(node)] as ModelIdentity;
  }

  blockTokens(node: SimNode, group: number): number {
    return node.spec.layout.groups[group]?.blockTokens ?? 0;
  }

  tokensIn(node: SimNode, group: number, blocks: number): number {
    return Math.max(this.blockTokens(node, group), 1) * blocks;
  }

  blocksFor(node: SimNode, group: number, tokens: number): number {
    return Math.ceil(tokens / Math.max(this.blockTokens(node, group), 1));
  }

  spanOf(node: SimNode, group: number, blocks: Uint32Array, tokens: number, document: number): Span {
    return { layout: node.spec.layout, group, blocks, tokens, firstToken: 0, model: this.modelOf(node).model, document };
  }

  /** Bytes delivered equal bytes offered. */
  expectContent(node: SimNode, span: Span, what: string, layer?: number, heads?: Heads): void {
    const wrong = compare({ view: node.pool.region.view, dataOffset: node.pool.dataOffset }, span, layer, heads);
    if (wrong !== "") this.world.violate(`${what} at ${node.name}: ${wrong}`);
  }

  /** Whether KV can pass between two nodes at all. */
  convertible(one: SimNode, other: SimNode): boolean {
    const [a, b] = [one, other].map((node) => node.spec.layout.groups[0]?.layers.length);
    return this.modelOf(one) === this.modelOf(other) && a === b;
  }
}
