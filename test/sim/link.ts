/**
 * The virtual link: transport/link/link.ts over the virtual network, with faults. Bytes are really copied between the regions of the nodes, run by
 * run. One for each life of a node; `die` is what kill -9 does to it.
 */
import { integer } from "../../transport/check.ts";
import { KvferryError } from "../../transport/errors.ts";
import type {
  ChunkSend,
  ConnectionId,
  Endpoint,
  LaneInfo,
  LaneOptions,
  Link,
  LinkEvent,
  PlacementId,
  PlacementSpec,
  Rank,
} from "../../transport/link/link.ts";
import { type RefusalCounts, refusalCounts } from "../../transport/link/refusals.ts";
import { checkLane, checkMessage, checkSend, checkSpec, checkToken } from "./arguments.ts";
import { CODE, Exchange, Placement } from "./exchange.ts";
import type { Faults } from "./faults.ts";
import { type HeldLane, HeldLanes } from "./held.ts";
import { VirtualLane } from "./lane.ts";
import { limits } from "./limits.ts";
import type { Host, Listener, Network, Pipe } from "./network.ts";
import type { Random } from "./random.ts";
import { scatter } from "./runs.ts";
import type { World } from "./world.ts";

/** Sees what the link does and judges it; never changes it. */
export interface LinkWatch {
  onCommitted(link: VirtualLink, placement: Placement, chunk: number): void;
  onWrite(link: VirtualLink, placement: Placement): void;
  onSubmitted(link: VirtualLink, placement: Placement): void;
  /** A queue or table of the link has grown to so many, and may have so many. */
  onQueue(link: VirtualLink, queue: string, length: number, max: number): void;
  onCode(code: number, where: string): void;
}

export interface VirtualLinkOptions {
  readonly host: Host;
  readonly network: Network;
  readonly world: World;
  readonly random: Random;
  readonly watch: LinkWatch;
  readonly onWake: () => void;
  readonly queueChunks: number;
  readonly placementsMax: number;
  readonly controlQueueBytes: number;
  readonly unansweredChunks: number;
  /** Events of one kind (chunks' answers, arrivals, messages) that may wait to be polled. */
  readonly eventsMax: number;
  readonly connectionsMax: number;
  readonly lanesMax: number;
  readonly laneRateBytesPerSecond: number;
  /** Former versions close a lane whose token they do not know. */
  readonly holdsLanes: boolean;
}

export class VirtualLink implements Link, Listener {
  readonly kind = "fake";
  readonly options: VirtualLinkOptions;
  readonly placements = new Map<PlacementId, { readonly placement: Placement; readonly exchange: Exchange }>();
  readonly #exchanges = new Map<ConnectionId, Exchange>();
  readonly #byToken = new Map<string, Exchange>();
  readonly #held: HeldLanes;
  /** Chunks submitted whose event was not polled yet; chunks that arrive or whose event was not polled; messages that were not. */
  answers = 0;
  arrivals = 0;
  messages = 0;
  messageBytes = 0;
  #events: LinkEvent[] = [];
  #address: Endpoint | undefined;
  #nextConnection = 1;
  #nextPlacement = 1;
  #wakeScheduled = false;
  #dead = false;

  constructor(options: VirtualLinkOptions) {
    this.options = options;
    this.#held = new HeldLanes(options.world);
  }

  get world(): World {
    return this.options.world;
  }
  get host(): Host {
    return this.options.host;
  }
  get random(): Random {
    return this.options.random;
  }
  get faults(): Faults {
    return this.options.network.faults;
  }
  get dead(): boolean {
    return this.#dead;
  }

  draw(chance: number): boolean {
    return chance > 0 && this.random.chance(chance, 10_000);
  }
  letGoUs(): number {
    return this.random.between(1, this.faults.letGoMaxUs);
  }

  // The contract.
  async listen(endpoint: Endpoint): Promise<Endpoint> {
    this.#open();
    if (endpoint.host !== this.host.name || !this.options.network.listen(endpoint, this)) {
      throw new KvferryError("address_unavailable", `${endpoint.host}:${endpoint.port}`);
    }
    this.#address = endpoint;
    return endpoint;
  }

  #open(): void {
    if (this.#dead) throw new KvferryError("closed", "the link is closed");
  }

  dial(endpoint: Endpoint, timeoutMs: number): ConnectionId {
    this.#open();
    if (this.#exchanges.size >= this.options.connectionsMax) throw new KvferryError("full", "connections");
    const exchange = this.#addExchange(endpoint);
    this.world.note(() => `${this.host.name} dials ${endpoint.host} as ${exchange.id}`);
    this.options.network.dial(this.host, endpoint, "control", (pipe) => {
      if (exchange.gone || this.#dead) {
        if (pipe !== "refused") pipe.close(0);
      } else if (pipe === "refused") exchange.end(CODE.connectFailed, "refused");
      else if (!pipe.alive(0)) exchange.end(CODE.connectFailed, "reset");
      else {
        exchange.join(pipe, 0);
        ends.set(pipe, [exchange, ends.get(pipe)?.[1]]);
        this.emit({ kind: "connected", connection: exchange.id, remote: endpoint });
      }
    });
    this.world.after(timeoutMs * 1000, () => {
      if (!exchange.open && !exchange.gone && !this.#dead) exchange.end(CODE.connectTimeout, `no answer in ${timeoutMs} ms`);
    });
    return exchange.id;
  }

  #addExchange(remote: Endpoint): Exchange {
    const exchange = new Exchange(this.#nextConnection++, this, remote);
    this.#exchanges.set(exchange.id, exchange);
    this.watchQueue("connections", this.#exchanges.size, this.options.connectionsMax);
    return exchange;
  }

  admitLanes(connection: ConnectionId, token: Uint8Array, options?: LaneOptions): void {
    checkToken(token);
    const exchange = this.#exchanges.get(connection);
    if (exchange === undefined || exchange.gone) return;
    const text = Buffer.from(token).toString("hex");
    exchange.tokens.add(text);
    exchange.acceptedRate = options?.paceBytesPerSecond || this.options.laneRateBytesPerSecond;
    this.#byToken.set(text, exchange);
    for (const held of this.#held.take(text)) this.#joinLane(exchange, held);
  }

  openLane(connection: ConnectionId, lane: number, token: Uint8Array, options: LaneOptions): void {
    const exchange = this.#exchanges.get(connection);
    checkToken(token);
    const isOpen = exchange?.lanes.has(lane) === true || exchange?.opening.has(lane) === true;
    checkLane(lane, this.options.lanesMax, isOpen, options);
    if (exchange === undefined || exchange.gone) return;
    const first = { lane, token: Buffer.from(token).toString("hex") };
    const fail = (code: number): void => {
      if (exchange.opening.get(lane) !== fail || this.#dead) return;
      exchange.opening.delete(lane);
      this.emit({ kind: "laneDown", connection, lane, code });
    };
    exchange.opening.set(lane, fail);
    this.options.network.dial(this.host, exchange.remote, first, (pipe) => {
      const isWanted = exchange.opening.get(lane) === fail && !this.#dead;
      if (!isWanted || pipe === "refused" || !pipe.alive(0)) {
        if (pipe !== "refused") pipe.close(0);
        return fail(CODE.connectFailed);
      }
      exchange.opening.delete(lane);
      const rate = options.paceBytesPerSecond > 0 ? options.paceBytesPerSecond : this.options.laneRateBytesPerSecond;
      const end = new VirtualLane(exchange, lane, pipe, 0, rate);
      exchange.lanes.set(lane, end);
      ends.set(pipe, [end, ends.get(pipe)?.[1]]);
      // The listener does not confirm: the token was wrong, or its word is lost.
      this.world.after(CONNECT_US, () => {
        if (!end.up) end.end(CODE.connectTimeout);
      });
    });
    this.world.after(CONNECT_US, () => fail(CODE.connectTimeout));
  }

  tuneLane(connection: ConnectionId, lane: number, { paceBytesPerSecond }: LaneOptions): void {
    const end = this.#exchanges.get(connection)?.lanes.get(lane);
    if (end !== undefined && paceBytesPerSecond > 0) end.rate = paceBytesPerSecond;
  }

  closeLane(connection: ConnectionId, lane: number): void {
    const exchange = this.#exchanges.get(connection);
    exchange?.lanes.get(lane)?.end(CODE.closed);
    exchange?.opening.get(lane)?.(CODE.closed);
  }

  restLane(connection: ConnectionId, lane: number, isResting: boolean): void {
    const end = this.#exchanges.get(connection)?.lanes.get(lane);
    if (end === undefined) return;
    end.isResting = isResting;
    end.pump();
  }

  padLane(): void {}

  send(connection: ConnectionId, message: Uint8Array): boolean {
    checkMessage(message);
    if (this.draw(this.faults.sendFull)) return false;
    return this.#exchanges.get(connection)?.send(message) ?? false;
  }

  disconnect(connection: ConnectionId): void {
    const exchange = this.#exchanges.get(connection);
    if (exchange !== undefined) exchange.closing = true;
    // What is queued goes out first; the end is told a little later, as a real one is.
    this.world.after(this.random.between(1, 100), () => {
      if (exchange !== undefined && !this.#dead) exchange.end(CODE.closed, "asked for");
    });
  }

  place(spec: PlacementSpec): PlacementId | "full" {
    const exchange = this.#exchanges.get(spec.connection);
    if (exchange === undefined || exchange.gone) throw new KvferryError("connection_lost", "the connection is gone");
    if (this.placements.size >= this.options.placementsMax || this.draw(this.faults.placeFull)) return "full";
    checkSpec(spec);
    const placement = new Placement(this.#nextPlacement++, spec);
    if (spec.direction === "in") {
      if (exchange.grants.has(spec.grant)) throw new KvferryError("invalid_argument", "the grant is in use on this connection");
      exchange.grants.set(spec.grant, placement);
    }
    exchange.placements.add(placement);
    this.placements.set(placement.id, { placement, exchange });
    this.watchQueue("placements", this.placements.size, this.options.placementsMax);
    return placement.id;
  }

  revoke(id: PlacementId): void {
    const found = this.placements.get(id);
    if (found !== undefined) found.exchange.revoke(found.placement);
  }

  setRank(id: PlacementId, rank: Rank): void {
    integer(rank, "rank", 0, 2);
    const found = this.placements.get(id);
    if (found !== undefined) found.placement.rank = rank;
  }

  submit(batch: readonly ChunkSend[]): number {
    let taken = 0;
    const touched = new Set<Exchange>();
    for (const send of batch) checkSend(this.placements.get(send.placement)?.placement, send);
    for (const send of batch) {
      const found = this.placements.get(send.placement);
      if (found === undefined || this.draw(this.faults.submitFull) || this.answers >= this.options.eventsMax) break;
      if (!found.exchange.submit(found.placement, send)) break;
      this.answers += 1;
      this.watchQueue("completions of chunks sent", this.answers, this.options.eventsMax);
      this.options.watch.onSubmitted(this, found.placement);
      touched.add(found.exchange);
      taken += 1;
    }
    for (const exchange of touched) this.world.after(0, () => exchange.wakeLanes());
    return taken;
  }

  poll(sink: (event: LinkEvent) => void, max: number): number {
    const events = this.#events.splice(0, max);
    for (const event of events) {
      if (event.kind === "revoked") this.placements.delete(event.placement);
      if (event.kind === "disconnected") this.#exchanges.delete(event.connection);
      if (event.kind === "acked" || event.kind === "failed") this.answers -= 1;
      if (event.kind === "committed" || event.kind === "rejected") this.countArrival(-1);
      if (event.kind === "message") this.#countMessage(-1, event.bytes);
      sink(event);
    }
    return events.length;
  }

  laneInfo(connection: ConnectionId): LaneInfo[] {
    const lanes = [...(this.#exchanges.get(connection)?.lanes.values() ?? [])];
    return lanes.filter(({ up }) => up).map((end) => end.info());
  }

  // The simulator's wire is its own.
  setTls(): void {
    throw new KvferryError("invalid_argument", "no TLS here");
  }
  refusals(): RefusalCounts {
    return refusalCounts(() => 0);
  }

  async close(): Promise<void> {
    this.die();
  }

  // The rest of the world.
  onDial(pipe: Pipe, first: unknown, remote: Endpoint): void {
    if (first === "control") {
      if (this.#exchanges.size >= this.options.connectionsMax) return pipe.close(1);
      const exchange = this.#addExchange(remote);
      exchange.join(pipe, 1);
      ends.set(pipe, [undefined, exchange]);
      this.emit({ kind: "accepted", connection: exchange.id, remote });
      return;
    }
    const greeted: HeldLane = { pipe, ...(first as { readonly lane: number; readonly token: string }) };
    const exchange = this.#byToken.get(greeted.token);
    if (exchange !== undefined) return this.#joinLane(exchange, greeted);
    if (!this.options.holdsLanes) return pipe.close(1);
    this.#held.hold(greeted);
    this.watchQueue("lanes without a connection", this.#held.size, limits.greetingsMax / 2);
  }

  #joinLane(exchange: Exchange, { pipe, lane }: HeldLane): void {
    // An index may still be in use here: the listener has not heard yet that the other end let go of it.
    if (exchange.gone || exchange.lanes.has(lane)) return pipe.close(1);
    const end = new VirtualLane(exchange, lane, pipe, 1, exchange.acceptedRate);
    exchange.lanes.set(lane, end);
    ends.set(pipe, [ends.get(pipe)?.[0], end]);
    end.setUp();
    end.tell(48, (other) => other.setUp());
  }

  otherEnd(pipe: Pipe, side: 0 | 1): Exchange | undefined {
    const end = ends.get(pipe)?.[1 - side];
    return end instanceof Exchange ? end : undefined;
  }
  otherLane(pipe: Pipe, side: 0 | 1): VirtualLane | undefined {
    const end = ends.get(pipe)?.[1 - side];
    return end instanceof VirtualLane ? end : undefined;
  }

  forgetTokens(exchange: Exchange): void {
    for (const token of exchange.tokens) this.#byToken.delete(token);
  }

  emit(event: LinkEvent): void {
    if (this.#dead) return;
    if ("code" in event && event.code !== 0) this.options.watch.onCode(event.code, event.kind);
    this.#events.push(event);
    if (event.kind === "message") this.#countMessage(1, event.bytes);
    if (this.#wakeScheduled) return;
    this.#wakeScheduled = true;
    const { faults } = this;
    const late = this.draw(faults.lateCompletion) ? this.random.below(faults.lateCompletionMaxUs) : this.random.below(10);
    this.world.after(late, () => {
      this.#wakeScheduled = false;
      if (!this.#dead) this.options.onWake();
    });
  }

  #countMessage(sign: 1 | -1, { length }: Uint8Array): void {
    const { eventsMax, controlQueueBytes } = this.options;
    this.messages += sign;
    this.messageBytes += sign * length;
    this.watchQueue("messages", this.messages, eventsMax);
    if (this.messages > 1) this.watchQueue("messages (bytes)", this.messageBytes, controlQueueBytes);
  }

  /** A chunk that begins to arrive takes the place of its event. */
  countArrival(sign: 1 | -1): void {
    this.arrivals += sign;
    this.watchQueue("completions of chunks arrived", this.arrivals, this.options.eventsMax);
  }

  watchQueue(queue: string, length: number, max: number): void {
    this.options.watch.onQueue(this, queue, length, max);
  }

  write(placement: Placement, chunk: number, payload: Uint8Array): void {
    if (this.#dead) return;
    this.options.watch.onWrite(this, placement);
    scatter(placement.spec.region.view, placement.runs(chunk), payload);
  }

  /** The process is gone: its sockets close, nothing of it touches memory any more, nobody hears its events. */
  die(): void {
    if (this.#dead) return;
    if (this.#address !== undefined) this.options.network.unlisten(this.#address);
    this.#dead = true;
    this.#held.close();
    for (const exchange of this.#exchanges.values()) exchange.end(CODE.closed, "the process has ended");
    this.#events = [];
  }
}

const CONNECT_US = 5_000_000;

/** Who holds the two ends of a pipe. */
const ends = new WeakMap<Pipe, [Exchange | VirtualLane | undefined, Exchange | VirtualLane | undefined]>();
