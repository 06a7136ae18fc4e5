/**
 * A sidecar of the simulation: the product's own FerryNode over virtual clock, link, memory and processes. It can be killed, stopped, drained and
 * started again over the same pool memory.
 */
import type { FerrySession } from "../../transport/ferry/host.ts";
import { FerryNode, type NodeObserver, type NodeSettings } from "../../transport/ferry/node.ts";
import type { Layout } from "../../transport/kv/layout.ts";
import type { Endpoint } from "../../transport/link/link.ts";
import type { Region } from "../../transport/memory/region.ts";
import type { Runtime } from "../../transport/runtime/runtime.ts";
import { type drawProfiles, virtualProfiles } from "./codecs.ts";
import { VirtualJobs } from "./jobs.ts";
import { type LinkWatch, VirtualLink, type VirtualLinkOptions } from "./link.ts";
import { regionBytes, SimPool, VirtualProcesses, VirtualRegion } from "./memory.ts";
import type { Host, Network } from "./network.ts";
import type { Random } from "./random.ts";
import { type Tongue, TranslatingLink } from "./tongues.ts";
import type { World } from "./world.ts";

export interface NodeSpec {
  readonly name: string;
  readonly endpoint: Endpoint;
  readonly blockBytes: number;
  readonly blockCount: number;
  /** How this node's engines lay out their model. */
  readonly layout: Layout;
  readonly settings: NodeSettings;
  readonly link: Omit<VirtualLinkOptions, "host" | "network" | "world" | "random" | "watch" | "onWake" | "holdsLanes">;
  readonly jobsMax: number;
  /** Profiles by name, and what is sent by; undefined: none. */
  readonly profiles: ReturnType<typeof drawProfiles>;
  /** Of a node that does not say what this version says, or not the truth. */
  readonly tongue: Tongue | undefined;
}

/** What a node tells the rest of the simulation. */
export interface NodeWatch extends LinkWatch {
  readonly observer: (node: SimNode) => NodeObserver;
  onStarted(node: SimNode): void;
  onDied(node: SimNode): void;
}

interface Life {
  readonly ferry: FerryNode;
  readonly pool: SimPool;
  readonly link: VirtualLink;
  readonly jobs: VirtualJobs;
  readonly inspector: FerrySession;
}

export class SimNode {
  readonly spec: NodeSpec;
  readonly host: Host;
  readonly processes = new VirtualProcesses();
  readonly world: World;
  readonly network: Network;
  readonly random: Random;
  readonly #watch: NodeWatch;
  readonly #region: Region;
  #life: Life | undefined;
  /** How often it was started. */
  lives = 0;

  constructor(spec: NodeSpec, world: World, network: Network, random: Random, watch: NodeWatch) {
    this.spec = spec;
    this.world = world;
    this.network = network;
    this.random = random;
    this.#watch = watch;
    this.host = { name: spec.endpoint.host, stoppedUntilUs: 0 };
    this.#region = new VirtualRegion(new Uint8Array(regionBytes(spec.blockCount, spec.blockBytes)));
  }

  get name(): string {
    return this.spec.name;
  }
  get up(): boolean {
    return this.#life !== undefined;
  }
  get stopped(): boolean {
    return this.host.stoppedUntilUs > this.world.nowUs;
  }
  get ferry(): FerryNode {
    return this.#alive().ferry;
  }
  get pool(): SimPool {
    return this.#alive().pool;
  }
  get link(): VirtualLink {
    return this.#alive().link;
  }
  get inspector(): FerrySession {
    return this.#alive().inspector;
  }

  #alive(): Life {
    if (this.#life === undefined) throw new Error(`${this.name} is down`);
    return this.#life;
  }

  start(): void {
    if (this.#life !== undefined) throw new Error(`${this.name} runs already`);
    this.lives += 1;
    const { world, spec, random } = this;
    const number = this.lives;
    const isCurrent = (): boolean => this.lives === number && this.#life !== undefined;
    const clock = new VirtualRuntime(world, random.split(`runtime ${number}`), this.host, isCurrent);
    const options: VirtualLinkOptions = {
      ...spec.link,
      host: this.host,
      network: this.network,
      world,
      random: random.split(`link ${number}`),
      watch: this.#watch,
      onWake: () => clock.turnNow(),
      holdsLanes: spec.tongue?.holdsLanes !== false,
    };
    const link = spec.tongue === undefined ? new VirtualLink(options) : new TranslatingLink(options, spec.tongue);
    const evicted = (key: Uint8Array): void => ferry.broadcast({ kind: "evicted", keys: key });
    const pool = new SimPool(
      {
        name: spec.name,
        region: this.#region,
        blockBytes: spec.blockBytes,
        random: (count) => clock.random(count),
        nowUs: () => clock.nowUs(),
        processes: this.processes,
        world,
        link,
      },
      { evicted },
    );
    const jobs = new VirtualJobs(world, random.split(`jobs ${number}`), spec.jobsMax);
    const ferry: FerryNode = new FerryNode({
      settings: spec.settings,
      runtime: clock,
      link,
      pool,
      jobs,
      bufferRegion: (memory) => {
        if (!(memory instanceof Uint8Array)) throw new Error("buffers of the simulation are arrays");
        return new VirtualRegion(memory);
      },
      observer: this.#watch.observer(this),
      ...(spec.profiles === undefined ? {} : { profiles: virtualProfiles(spec.profiles.names, spec.profiles.use) }),
    });
    // The restored layout is known before anybody registers it again.
    pool.layout = spec.layout;
    void link.listen(spec.endpoint);
    clock.turn = (nowUs) => ferry.turn(nowUs);
    const inspector = ferry.openSession({ client: "inspector", processId: 0 });
    this.#life = { ferry, pool, link, jobs, inspector };
    world.trace(`start ${this.name}`, number);
    clock.turnNow();
    this.#watch.onStarted(this);
  }

  /** kill -9. */
  kill(): void {
    const life = this.#life;
    if (life === undefined) return;
    this.world.trace(`kill ${this.name}`, this.lives);
    life.link.die();
    life.jobs.die();
    this.processes.forgetWatchers();
    this.host.stoppedUntilUs = 0;
    this.#life = undefined;
    this.#watch.onDied(this);
  }

  /** SIGSTOP, and SIGCONT later. */
  stop(durationUs: number): void {
    this.world.trace(`stop ${this.name}`, durationUs);
    this.host.stoppedUntilUs = this.world.nowUs + durationUs;
  }

  /** SIGTERM's way: no new work; `leave` ends what is left. */
  drain(): void {
    this.world.trace(`drain ${this.name}`);
    this.ferry.drain("the simulation drains it");
  }

  leave(): void {
    const life = this.#alive();
    this.world.trace(`close ${this.name}`);
    life.ferry.close();
    life.pool.close();
    life.link.die();
    life.jobs.die();
    this.processes.forgetWatchers();
    this.#life = undefined;
    this.#watch.onDied(this);
  }

  /** A process of this host is gone for good. */
  killProcess(processId: number): void {
    this.processes.kill(processId);
    this.#life?.pool.sweep();
  }
}

/** The node's clock and timer. Its time begins anywhere: clocks of two nodes have nothing to do with each other. */
class VirtualRuntime implements Runtime {
  turn: (nowUs: number) => void = () => {};
  readonly #world: World;
  readonly #random: Random;
  readonly #host: Host;
  readonly #isCurrent: () => boolean;
  readonly #skewUs: number;
  #timer = 0;
  #timerAtUs = Number.POSITIVE_INFINITY;
  #soon = false;
  #held = false;

  constructor(world: World, random: Random, host: Host, isCurrent: () => boolean) {
    this.#world = world;
    this.#random = random;
    this.#host = host;
    this.#isCurrent = isCurrent;
    this.#skewUs = random.below(1_000_000_000);
  }

  nowUs(): number {
    return this.#world.nowUs + this.#skewUs;
  }

  random(count: number): Uint8Array {
    return this.#random.bytes(count);
  }

  wakeAt(atUs: number): void {
    if (atUs === this.#timerAtUs) return;
    this.#timerAtUs = atUs;
    const timer = ++this.#timer;
    if (atUs === Number.POSITIVE_INFINITY) return;
    this.#world.at(Math.ceil(atUs) - this.#skewUs, () => {
      if (timer !== this.#timer) return;
      this.#timerAtUs = Number.POSITIVE_INFINITY;
      this.turnNow();
    });
  }

  wakeSoon(): void {
    if (this.#soon) return;
    this.#soon = true;
    this.#world.after(0, () => {
      this.#soon = false;
      this.turnNow();
    });
  }

  turnNow(): void {
    if (!this.#isCurrent() || this.#held) return;
    const { stoppedUntilUs } = this.#host;
    if (stoppedUntilUs <= this.#world.nowUs) return this.turn(this.nowUs());
    this.#held = true;
    this.#world.at(stoppedUntilUs, () => {
      this.#held = false;
      this.turnNow();
    });
  }
}
