/**
 * An engine of the simulation: a process beside a node that allocates blocks, writes KV into them and moves it. It may be stopped, killed, lose its
 * connection and come back. It keeps its own account of what it holds, and writes only there - but also when its node has forgotten it.
 */
import { KvferryError } from "../../transport/errors.ts";
import type { FerryEvent, Transfer } from "../../transport/ferry/ferry.ts";
import type { FerrySession } from "../../transport/ferry/host.ts";
import type { Blocks } from "../../transport/memory/pool.ts";
import { fill, type Memory, type Span } from "./content.ts";
import type { Entry } from "./ledger.ts";
import type { SimNode } from "./node.ts";
import type { Random } from "./random.ts";
import type { Scene } from "./scene.ts";

type Listener = (event: FerryEvent) => void;

export class Engine {
  readonly name: string;
  readonly node: SimNode;
  readonly random: Random;
  readonly processId: number;
  readonly #scene: Scene;
  #session: FerrySession | undefined;
  /** Its connection is gone; the server watches its process. */
  #detached: FerrySession | undefined;
  #life = 0;
  #resume: string | undefined;
  /** The model's number in this session. */
  model = 0;
  alive = true;
  /** Leases that it took and has not released. */
  leases = 0;
  #stoppedUntilUs = 0;
  /** Block and generation of what it believes to hold, in this life of the node. */
  readonly #held = new Map<number, number>();
  /** What it held when its node died. */
  #former: number[] = [];
  /** To be freed when it has a session again. */
  #owed: (() => Promise<void>)[] = [];
  readonly #byTransfer = new Map<number, Listener>();
  readonly #unclaimed = new Map<number, FerryEvent[]>();
  readonly #byHandle = new Map<string, Listener>();

  constructor(scene: Scene, node: SimNode, name: string, random: Random) {
    this.#scene = scene;
    this.node = node;
    this.name = name;
    this.random = random;
    this.processId = node.processes.spawn();
  }

  get connected(): boolean {
    return this.alive && this.#session !== undefined && this.node.up && this.node.lives === this.#life;
  }
  get stopped(): boolean {
    return this.#stoppedUntilUs > this.#scene.world.nowUs;
  }
  /** Throws `closed` when it is away: whoever was doing something stops there. */
  get session(): FerrySession {
    if (!this.connected) throw new KvferryError("closed", `${this.name} has no session`);
    return this.#session as FerrySession;
  }
  /** It has not lost this session meanwhile, and what it got through it. */
  isStill(session: FerrySession): boolean {
    return this.connected && this.#session === session;
  }
  get memory(): Memory {
    return { view: this.node.pool.region.view, dataOffset: this.node.pool.dataOffset };
  }
  get heldBlocks(): number {
    return this.#held.size;
  }

  /** Opens a session, or goes on with the one it had. */
  async connect(): Promise<void> {
    if (!this.alive || this.connected || !this.node.up) return;
    this.#lateWrites();
    const options = { client: this.name, processId: this.processId };
    const session = this.node.ferry.openSession(this.#resume === undefined ? options : { ...options, resume: this.#resume });
    const owed = session.resumed ? this.#owed : [];
    if (!session.resumed) this.#forgetHolds();
    this.#former = [];
    this.#owed = [];
    this.#session = session;
    this.#detached = undefined;
    this.#life = this.node.lives;
    this.#resume = session.resume;
    const life = this.#life;
    if (!session.resumed) session.on((event) => this.#handle(life, event));
    const { model } = await session.registerModel(this.#scene.modelOf(this.node), this.node.spec.layout);
    this.model = model;
    for (const give of owed) await give();
  }

  /** Whoever was writing when its node died goes on for a while: it does not know yet. */
  #lateWrites(): void {
    if (this.#former.length === 0 || !this.random.chance(1, 2)) return;
    const blocks = Uint32Array.from(this.#former);
    fill(this.memory, this.#scene.spanOf(this.node, 0, blocks, this.#scene.tokensIn(this.node, 0, blocks.length), -1));
  }

  /** The node's process died; this one lives. */
  handleNodeDied(): void {
    this.#session = undefined;
    this.#former.push(...this.#held.keys());
    this.#forgetHolds();
    this.#owed = [];
    this.#forgetListeners();
  }

  #forgetHolds(): void {
    this.#held.clear();
    this.leases = 0;
  }

  /** Its connection breaks; it comes back by itself. */
  detach(): void {
    if (!this.connected) return;
    this.#session?.closeSession(true);
    this.#detached = this.#session;
    this.#session = undefined;
  }

  stop(durationUs: number): void {
    this.#stoppedUntilUs = this.#scene.world.nowUs + durationUs;
  }

  kill(): void {
    if (!this.alive) return;
    this.alive = false;
    const session = this.#session ?? this.#detached;
    const life = this.#life;
    this.#session = undefined;
    this.#forgetListeners();
    this.#scene.world.after(this.random.below(50_000), () => {
      this.node.killProcess(this.processId);
      // The server sees the connection go, then hears of the death.
      if (session === undefined || !this.node.up || this.node.lives !== life) return;
      if (this.random.chance(1, 2)) session.closeSession(true);
      session.closeSession(false);
    });
  }

  async alloc(count: number): Promise<Blocks> {
    const blocks = await this.session.alloc(count);
    this.take(blocks);
    return blocks;
  }

  /** Without a session it is done when there is one again. */
  async free(blocks: Blocks): Promise<void> {
    await this.#whenConnected(async (session) => {
      this.drop(blocks);
      await session.free(blocks);
    });
  }

  async lease(keys: Uint8Array): Promise<Blocks> {
    this.leases += 1;
    let taken = false;
    try {
      const blocks = await this.session.lease(this.model, 0, keys, true);
      taken = blocks.ids.length > 0;
      return blocks;
    } finally {
      if (!taken) this.leases -= 1;
    }
  }

  async release(blocks: Blocks): Promise<void> {
    await this.#whenConnected(async (session) => {
      this.leases -= 1;
      await session.release(blocks);
    });
  }

  /** Not at all if its node has forgotten everything meanwhile. */
  async #whenConnected(run: (session: FerrySession) => Promise<void>): Promise<void> {
    if (this.connected) await run(this.session);
    else if (this.alive && this.node.up && this.node.lives === this.#life) this.#owed.push(() => run(this.session));
  }

  take(blocks: Blocks): void {
    for (let at = 0; at < blocks.ids.length; at++) {
      const block = blocks.ids[at]!;
      if (this.#held.has(block)) this.#scene.world.violate(`block ${block} was given to ${this.name}, which holds it`);
      this.#held.set(block, blocks.generations[at]!);
    }
  }

  drop(blocks: Blocks): void {
    for (const block of blocks.ids) this.#held.delete(block);
  }

  /** Writes KV into blocks it holds, as an engine does: straight into the pool's memory. */
  write(span: Span, layer?: number): void {
    const foreign = span.blocks.find((block) => !this.#held.has(block));
    if (foreign !== undefined) throw new Error(`${this.name} writes to block ${foreign}, which it does not hold`);
    fill(this.memory, span, layer);
  }

  /** Waits for a transfer: its events come to `listener`, also those that came before anybody knew its number. */
  follow(transfer: Transfer, entry: Entry, listener: Listener): void {
    const { ledger, coverage } = this.#scene;
    const hear = (event: FerryEvent): void => {
      if (event.kind === "done") ledger.tell(entry, "ok");
      if (event.kind === "failed") {
        ledger.tell(entry, event.code);
        this.#scene.world.note(() => `${this.name} transfer ${entry.number}: ${event.detail}`);
      }
      listener(event);
    };
    this.#byTransfer.set(transfer.transfer, hear);
    for (const event of this.#unclaimed.get(transfer.transfer) ?? []) hear(event);
    this.#unclaimed.delete(transfer.transfer);
    const settle = (outcome: string): void => {
      if (entry.life === this.node.lives && this.node.up) ledger.end(entry, outcome);
    };
    transfer.done.then(
      () => settle("ok"),
      (error: unknown) => {
        if (!(error instanceof KvferryError)) throw error;
        coverage.note(error.code, entry.kind);
        settle(error.code);
      },
    );
  }

  /** Waits for the end of an offer. */
  followOffer(handle: string, listener: Listener): void {
    this.#byHandle.set(handle, listener);
  }

  #forgetListeners(): void {
    this.#byTransfer.clear();
    this.#unclaimed.clear();
    this.#byHandle.clear();
  }

  /** A stopped engine finds its events when it wakes; those of a former life of its node mean nothing any more. */
  #handle(life: number, event: FerryEvent): void {
    if (this.stopped) {
      this.#scene.world.at(this.#stoppedUntilUs, () => this.#handle(life, event));
      return;
    }
    if (!this.alive || !this.node.up || this.node.lives !== life) return;
    if (event.kind === "offerEnded") {
      const listener = this.#byHandle.get(event.handle);
      this.#byHandle.delete(event.handle);
      listener?.(event);
    } else if ("transfer" in event) {
      const listener = this.#byTransfer.get(event.transfer);
      if (listener !== undefined) listener(event);
      else this.#unclaimed.set(event.transfer, [...(this.#unclaimed.get(event.transfer) ?? []), event]);
    }
  }
}
