/** The driving end of a bench: dials, prepares a case on both ends, runs windows of it, verifies every byte in passes of their own. */
import { randomBytes } from "node:crypto";
import { KvferryError } from "../transport/errors.ts";
import { limits } from "../transport/limits.ts";
import type { ConnectionId, Endpoint as Address, LaneInfo } from "../transport/link/link.ts";
import { fileContent, randomContent } from "./content.ts";
import { type CheckReply, type Control, CONTROL_VERSION, dialControl, type OpenReply, type UseReply } from "./control.ts";
import { chooseLink, Endpoint } from "./endpoint.ts";
import { Load, type LoadDirection, type LoadLimit, type LoadResult, type Progress } from "./load.ts";
import type { BenchCase, BenchOptions } from "./options.ts";
import { Puller, Pusher } from "./requests.ts";
import { Samples } from "./statistics.ts";
import { buildWorkload, splitSlots, type Workload } from "./workload.ts";

const LANES_TIMEOUT_MS = 10_000;
const SEED = 0x6b76;

export interface Use {
  readonly local: UseReply;
  readonly remote: UseReply;
}

export class BenchClient {
  readonly info: OpenReply;
  readonly #options: BenchOptions;
  readonly #control: Control;
  readonly #endpoint: Endpoint;
  readonly #connection: ConnectionId;
  readonly #load: Load;
  #workload: Workload | undefined;
  #write: readonly number[] = [];
  #read: readonly number[] = [];
  #cases = 0;

  static async open(options: BenchOptions, host: string, port: number): Promise<BenchClient> {
    const kind = chooseLink(options.link);
    const control = await dialControl(host, port);
    const endpoint = await Endpoint.open(kind, options.ioThreads);
    try {
      const token = randomBytes(16);
      const info = await control.call<OpenReply>({
        call: "open",
        version: CONTROL_VERSION,
        link: options.link === "auto" ? kind : options.link,
        ioThreads: options.ioThreads,
        poolBytes: options.poolBytes,
        token: token.toString("hex"),
        dataPort: options.dataPort,
      });
      endpoint.allocate(options.poolBytes);
      const connection = await connectLanes(endpoint, { host, port: info.dataPort }, token, options, () => control.call({ call: "admit" }));
      return new BenchClient(options, control, endpoint, connection, info);
    } catch (error) {
      control.close();
      await endpoint.close();
      throw error;
    }
  }

  private constructor(options: BenchOptions, control: Control, endpoint: Endpoint, connection: ConnectionId, info: OpenReply) {
    this.#options = options;
    this.#control = control;
    this.#endpoint = endpoint;
    this.#connection = connection;
    this.info = info;
    this.#load = new Load(endpoint);
    control.onFarewell = (error) => endpoint.onFailure(error);
  }

  get linkKind(): string {
    return this.#endpoint.kind;
  }

  get workload(): Workload {
    return this.#workload!;
  }

  laneInfo(): readonly LaneInfo[] {
    return this.#endpoint.link.laneInfo(this.#connection);
  }

  get progress(): Progress {
    return this.#load.progress;
  }

  async prepare(one: BenchCase): Promise<void> {
    const { chunkBytes, poolBytes, checksum, bidirectional, op, reverse } = this.#options;
    const parameters = {
      blockBytes: one.blockBytes,
      batch: one.batch,
      chunkBytes,
      poolBytes,
      seed: SEED,
      layouts: one.layouts === undefined || one.slice === undefined ? undefined : { slice: one.slice, ...one.layouts },
    };
    const workload = buildWorkload(parameters);
    const pull = op === "read" || reverse;
    const [write, read] = [bidirectional || !pull, bidirectional || pull];
    this.#workload = workload;
    ({ write: this.#write, read: this.#read } = splitSlots(workload.slots, write, read));
    // The receiving side of each grant must stand before the first chunk of it arrives; only this end begins.
    await this.#control.call({ call: "prepare", workload: parameters, write, read, checksum });
    const plan = { number: ++this.#cases, workload, side: "local" as const, write: this.#write, read: this.#read, checksum };
    this.#endpoint.prepare(plan, this.#connection);
    this.#load.setDirections(this.#directions(workload.chunks.length));
    await this.#fill();
  }

  /** One stretch of requests. Samples may be shared by several stretches of a case. */
  async window(limit: LoadLimit, samples = new Samples()): Promise<LoadResult> {
    return this.#load.run(limit, this.#options.depth, samples);
  }

  async use(): Promise<Use> {
    const remote = await this.#control.call<UseReply>({ call: "use" });
    return { local: this.#endpoint.use(), remote };
  }

  /** New content, one request on each slot, every byte looked at where it should have arrived. */
  async verify(): Promise<CheckReply> {
    const seed = SEED + 1 + this.#cases;
    const digests = await this.#fill(seed);
    if (this.#write.length > 0) await this.#control.call({ call: "poison", slots: this.#write });
    this.#endpoint.poison(this.#read);
    await this.#load.run({ perSlot: 1 }, 1);
    const none = { verifiedBytes: 0, wrong: 0 };
    const pushed =
      this.#write.length === 0 ? none : await this.#control.call<CheckReply>({ call: "check", seed, slots: this.#write, digests });
    const pulled = this.#read.length === 0 ? none : this.#endpoint.check(this.#read, randomContent(seed), []);
    return { verifiedBytes: pushed.verifiedBytes + pulled.verifiedBytes, wrong: pushed.wrong + pulled.wrong };
  }

  async endCase(): Promise<void> {
    await this.#endpoint.release();
    await this.#control.call({ call: "endCase" });
  }

  async close(): Promise<void> {
    this.#control.close();
    await this.#endpoint.close();
  }

  #directions(chunks: number): LoadDirection[] {
    const directions: LoadDirection[] = [];
    const { link } = this.#endpoint;
    if (this.#write.length > 0) {
      const number = directions.length;
      const placements = this.#endpoint.placements(this.#write);
      const pusher = new Pusher(link, placements, chunks, (slot) => this.#load.complete(number, slot));
      directions.push({ requester: pusher, slots: this.#write.length });
    }
    if (this.#read.length > 0) {
      const number = directions.length;
      const placements = this.#endpoint.placements(this.#read);
      const puller = new Puller(link, this.#connection, placements, chunks, (slot) => this.#load.complete(number, slot));
      directions.push({ requester: puller, slots: this.#read.length });
    }
    return directions;
  }

  /** Puts content where it will be sent from; returns digests of what only this end has. */
  async #fill(seed = SEED): Promise<string[][]> {
    const { data } = this.#options;
    const content = data.kind === "random" ? randomContent(seed) : fileContent(data.file, seed);
    const digests = this.#endpoint.fill(this.#write, content);
    if (this.#read.length > 0) await this.#control.call({ call: "fill", seed, slots: this.#read });
    return data.kind === "random" ? [] : digests;
  }
}

/** A lane is let in only by a server that knows the connection already: that is asked for in between. */
async function connectLanes(
  endpoint: Endpoint,
  address: Address,
  token: Uint8Array,
  options: BenchOptions,
  admit: () => Promise<unknown>,
): Promise<ConnectionId> {
  const { link } = endpoint;
  const lane = {
    paceBytesPerSecond: options.rateBytesPerSecond === 0 ? 0 : Math.max(1, Math.floor(options.rateBytesPerSecond / options.lanes)),
    notSentLowBytes: limits.notSentLowBytes,
    congestionControl: options.congestionControl,
  };
  const events = new EventQueue(endpoint);
  const connection = link.dial(address, limits.connectTimeoutMs);
  await events.until("connected", 1);
  await admit();
  for (let index = 0; index < options.lanes; index++) link.openLane(connection, index, token, lane);
  await events.until("laneUp", options.lanes);
  return connection;
}

/** Waits for connection events, and remembers those that came before anybody waited. */
class EventQueue {
  readonly #seen = new Map<string, number>();
  #failure: Error | undefined;
  #check: () => void = () => {};

  constructor(endpoint: Endpoint) {
    endpoint.onFailure = (error) => {
      this.#failure ??= error;
      this.#check();
    };
    endpoint.onOther = (event) => {
      this.#seen.set(event.kind, (this.#seen.get(event.kind) ?? 0) + 1);
      // Also after everything is up: a bench on fewer lanes than it says would measure something else.
      if (event.kind === "laneDown") endpoint.onFailure(new KvferryError("lane_lost", `lane ${event.lane} of the bench`));
      this.#check();
    };
  }

  async until(kind: "connected" | "laneUp", count: number): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    await new Promise<void>((resolve, reject) => {
      timer = setTimeout(
        () => reject(new KvferryError("connect_timeout", `${this.#seen.get(kind) ?? 0} of ${count} ${kind} events`)),
        LANES_TIMEOUT_MS,
      );
      this.#check = () => {
        if (this.#failure !== undefined) reject(this.#failure);
        else if ((this.#seen.get(kind) ?? 0) >= count) resolve();
      };
      this.#check();
    }).finally(() => clearTimeout(timer));
    this.#check = () => {};
  }
}
