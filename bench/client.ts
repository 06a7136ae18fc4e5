/** The driving end of a bench: dials, prepares a case on both ends, runs windows of it, verifies every byte in passes of their own. */
import { randomBytes } from "node:crypto";
import { limits } from "../transport/limits.ts";
import type { ConnectionId, LaneInfo } from "../transport/link/link.ts";
import type { ChunkSize } from "../transport/policy/chunk-size.ts";
import { type CheckReply, CONTROL_VERSION, type OpenReply, replies, type UseReply } from "./calls.ts";
import { fileContent, randomContent } from "./content.ts";
import { type Control, dialControl } from "./control.ts";
import { chooseLink, Endpoint } from "./endpoint.ts";
import { ClientLanes, type LaneLoss, refuseWish } from "./lanes.ts";
import { Load, type LoadDirection, type LoadLimit, type LoadResult, LoadSamples } from "./load.ts";
import type { BenchCase, BenchOptions } from "./options.ts";
import { isProbed } from "./relations.ts";
import { Puller, Pusher } from "./requests.ts";
import { buildWorkload, type SlotSplit, splitSlots, withProbe, type Workload } from "./workload.ts";
import { clientTls } from "./tls.ts";
import { type WayState, wishOf } from "./way.ts";

const SEED = 0x6b76;

export interface Use {
  readonly local: UseReply;
  readonly remote: UseReply;
}

/** What moves one way, by lane: payload that was verified and placed, counted from the start of the case. */
export interface Flow {
  /** This end sends it. */
  readonly sender: boolean;
  readonly movedByLane: Float64Array;
}

export class BenchClient {
  readonly info: OpenReply;
  readonly #options: BenchOptions;
  readonly #control: Control;
  readonly #endpoint: Endpoint;
  readonly #connection: ConnectionId;
  readonly #lanes: ClientLanes;
  readonly #load: Load;
  #workload: Workload | undefined;
  #chunk: ChunkSize = { bytes: 0, reason: "" };
  /** The slots of requests; and those with the probe's. */
  #requests: SlotSplit = { write: [], read: [] };
  #all: SlotSplit = { write: [], read: [] };
  #cases = 0;
  #prepareUs: readonly number[] = [];
  #flows: readonly Flow[] = [];
  #lossesBefore = 0;

  static async open(options: BenchOptions, host: string, port: number): Promise<BenchClient> {
    const kind = chooseLink(options.link);
    const way = wishOf(options);
    refuseWish(kind, way);
    const tls = clientTls(options.tls);
    const control = await dialControl(host, port);
    const endpoint = await Endpoint.open(kind, options.ioThreads, tls.options);
    const lanes = new ClientLanes(endpoint, way);
    try {
      const token = randomBytes(16);
      const poolBytes = options.poolBytes + options.probeBytes;
      const open = {
        call: "open",
        version: CONTROL_VERSION,
        link: kind,
        ioThreads: options.ioThreads,
        poolBytes,
        token: token.toString("hex"),
        dataPort: options.dataPort,
        way,
        tls: tls.wish,
      } as const;
      const info = await control.call(open, replies.open);
      endpoint.allocate(poolBytes);
      const admit = () => control.call({ call: "admit" }, replies.nothing);
      const connection = await lanes.open({ host, port: info.dataPort }, token, way, admit, tls.identity);
      return new BenchClient(options, control, endpoint, connection, lanes, info);
    } catch (error) {
      lanes.close();
      control.close();
      await endpoint.close();
      throw error;
    }
  }

  private constructor(
    options: BenchOptions,
    control: Control,
    endpoint: Endpoint,
    connection: ConnectionId,
    lanes: ClientLanes,
    info: OpenReply,
  ) {
    this.#options = options;
    this.#control = control;
    this.#endpoint = endpoint;
    this.#connection = connection;
    this.#lanes = lanes;
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

  get lanesUp(): number {
    return this.#lanes.way.lanes.up;
  }

  /** What was decided about the way by this end, or by the server about what it sends. */
  way(sender: boolean): WayState {
    return (sender ? undefined : this.told) ?? this.#lanes.way.state();
  }

  /** What the server has said last. */
  get told(): WayState | undefined {
    return this.#lanes.told;
  }

  /** Of this case's chunks. */
  get chunk(): ChunkSize {
    return this.#chunk;
  }

  /** Lanes that died in this case. */
  get losses(): readonly LaneLoss[] {
    return this.#lanes.losses.slice(this.#lossesBefore);
  }

  /** Called for each lane that dies, soon after. */
  set onLoss(tell: (loss: LaneLoss) => void) {
    this.#lanes.onLoss = tell;
  }

  get flows(): readonly Flow[] {
    return this.#flows;
  }

  /** How long each slot of this case took to be made known to the link. */
  get prepareUs(): readonly number[] {
    return this.#prepareUs;
  }

  get isInterrupted(): boolean {
    return this.#load.isInterrupted;
  }

  /** Ends the running stretch with what it has, and every later one at once. */
  interrupt(): void {
    this.#load.interrupt();
  }

  /** Makes the memory of a case known at both ends, in chunks of a size that suits what is known of the path; fill() comes next. */
  async prepare(one: BenchCase): Promise<void> {
    const { poolBytes, checksum, bidirectional, op, reverse, probeBytes } = this.#options;
    this.#chunk = this.#chunkSize(one);
    const parameters = {
      blockBytes: one.blockBytes,
      batch: one.batch,
      chunkBytes: this.#chunk.bytes,
      poolBytes,
      seed: SEED,
      layouts: one.layouts === undefined || one.slice === undefined ? undefined : { slice: one.slice, ...one.layouts },
      probeBytes: isProbed(one, probeBytes) ? probeBytes : undefined,
    };
    const workload = buildWorkload(parameters);
    const pull = op === "read" || reverse;
    const [write, read] = [bidirectional || !pull, bidirectional || pull];
    this.#workload = workload;
    this.#requests = splitSlots(workload.slots, write, read);
    this.#all = withProbe(workload, this.#requests);
    // The receiving side of each grant must stand before the first chunk of it arrives; only this end begins.
    await this.#control.call({ call: "prepare", workload: parameters, write, read, checksum }, replies.nothing);
    const plan = { number: ++this.#cases, workload, side: "local" as const, ...this.#all, checksum };
    this.#prepareUs = this.#endpoint.prepare(plan, this.#connection);
    this.#load.setDirections(this.#directions(workload), this.#probe(workload));
  }

  /** What the path has shown since may want other chunks. */
  async prepareAgain(one: BenchCase): Promise<void> {
    if (this.#chunkSize(one).bytes === this.#chunk.bytes) return;
    await this.endCase();
    await this.prepare(one);
  }

  #chunkSize({ blockBytes, batch }: BenchCase): ChunkSize {
    const { chunkBytes, bidirectional, op, reverse } = this.#options;
    if (chunkBytes > 0) return { bytes: chunkBytes, reason: "fixed by --chunk" };
    // As in a transfer: who asks for chunks says how large they are.
    const direction = bidirectional || !(op === "read" || reverse) ? "out" : "in";
    return this.#lanes.way.path.chunkSize(nowUs(), direction, "normal", blockBytes * batch, limits.chunkBytesMax);
  }

  /** One stretch of requests, and of the probe beside them if it has samples. Samples may be shared by several stretches of a case. */
  async window(limit: LoadLimit, samples = new LoadSamples(), beside?: LoadSamples): Promise<LoadResult> {
    return this.#load.run(limit, this.#options.depth, samples, beside);
  }

  /** A stretch of the probe alone. */
  async windowOfProbe(limit: LoadLimit, samples: LoadSamples): Promise<LoadResult> {
    return this.#load.runProbe(limit, samples);
  }

  async use(): Promise<Use> {
    const remote = await this.#control.call({ call: "use" }, replies.use);
    return { local: this.#endpoint.use(), remote };
  }

  /** New content, one request on each slot, every byte looked at where it should have arrived. */
  async verify(): Promise<CheckReply> {
    const seed = SEED + 1 + this.#cases;
    const digests = await this.fill(seed);
    const { write, read } = this.#all;
    if (write.length > 0) await this.#control.call({ call: "poison", slots: write }, replies.nothing);
    this.#endpoint.poison(read);
    await this.#load.run({ perSlot: 1 }, 1);
    if (this.workload.probe !== undefined) await this.#load.runProbe({ perSlot: 1 }, new LoadSamples());
    const none = { verifiedBytes: 0, wrong: 0 };
    const pushed = write.length === 0 ? none : await this.#control.call({ call: "check", seed, slots: write, digests }, replies.check);
    const pulled = read.length === 0 ? none : this.#endpoint.check(read, randomContent(seed), []);
    return { verifiedBytes: pushed.verifiedBytes + pulled.verifiedBytes, wrong: pushed.wrong + pulled.wrong };
  }

  async endCase(): Promise<void> {
    await this.#endpoint.release();
    await this.#control.call({ call: "endCase" }, replies.nothing);
    this.#lossesBefore = this.#lanes.losses.length;
  }

  async close(): Promise<void> {
    this.#lanes.close();
    this.#control.close();
    await this.#endpoint.close();
  }

  #directions({ chunks }: Workload): LoadDirection[] {
    const directions: LoadDirection[] = [];
    const { link } = this.#endpoint;
    const { way } = this.#lanes;
    const { write, read } = this.#requests;
    if (write.length > 0) {
      const number = directions.length;
      const placements = this.#endpoint.placements(write);
      const pusher = new Pusher(link, placements, chunks, way.sending, (slot) => this.#load.complete(number, slot));
      directions.push({ requester: pusher, slots: write.length });
    }
    if (read.length > 0) {
      const number = directions.length;
      const placements = this.#endpoint.placements(read);
      const complete = (slot: number): void => this.#load.complete(number, slot);
      const puller = new Puller(link, this.#connection, placements, chunks, way.receiving, complete);
      directions.push({ requester: puller, slots: read.length });
    }
    this.#flows = directions.map(({ requester }) => ({ sender: requester instanceof Pusher, movedByLane: requester.movedByLane }));
    return directions;
  }

  #probe({ probe }: Workload): LoadDirection | undefined {
    if (probe === undefined) return undefined;
    const { link } = this.#endpoint;
    const { sending, receiving } = this.#lanes.way;
    const { chunks, slot } = probe;
    const placements = this.#endpoint.placements([slot]);
    const complete = (): void => this.#load.complete("probe", 0);
    const requester = this.#all.write.includes(slot)
      ? new Pusher(link, placements, chunks, sending, complete)
      : new Puller(link, this.#connection, placements, chunks, receiving, complete, this.#requests.read.length);
    return { requester, slots: 1 };
  }

  /** Puts content where it will be sent from; returns digests of what only this end has. */
  async fill(seed = SEED): Promise<string[][]> {
    const { data } = this.#options;
    const content = data.kind === "random" ? randomContent(seed) : fileContent(data.files[0]!, seed);
    const { write, read } = this.#all;
    const digests = this.#endpoint.fill(write, content);
    if (read.length > 0) await this.#control.call({ call: "fill", seed, slots: read }, replies.nothing);
    return data.kind === "random" ? [] : digests;
  }
}

function nowUs(): number {
  return Math.round(performance.now() * 1000);
}
