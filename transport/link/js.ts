/**
 * The link of a host without the addon: the wire of schemas/wire.md over node:net. Bytes pass through buffers of this process, and a pool cannot
 * be shared with engines; everything else is as in tcp.ts. js-exchange.ts has the rules of grants and slots, js-lane.ts the data path.
 */
import { expected, integer } from "../check.ts";
import { KvferryError } from "../errors.ts";
import { limits } from "../limits.ts";
import { expectedOf, type TlsOptions } from "../tls/options.ts";
import { type Preamble, TOKEN_BYTES } from "./frame.ts";
import { Connection, type ConnectionOwner } from "./js-connection.ts";
import { type LinkContext, nowUs, PieceBuffers } from "./js-context.ts";
import { type Arrival, type Dial, endpointOf } from "./js-control.ts";
import { EventQueue } from "./js-events.ts";
import type { Greeted } from "./js-greeting.ts";
import { Listener, type ListenerOwner } from "./js-listener.ts";
import { Placement } from "./js-placement.ts";
import { Refusals } from "./js-refusals.ts";
import { JsTls } from "./js-tls.ts";
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
} from "./link.ts";
import type { LinkLimits } from "./native-link.ts";
import type { RefusalCounts } from "./refusals.ts";

export interface JsLinkOptions {
  /** Called, coalesced, when `poll()` has something. */
  readonly onWake: () => void;
  readonly limits?: Partial<LinkLimits>;
  /** Connections and lanes are made over TLS, both dialled and accepted; without it, over bare sockets. */
  readonly tls?: TlsOptions;
}

export function createJsLink(options: JsLinkOptions): Link {
  return new JsLink(options);
}

const UNPACED: LaneOptions = Object.freeze({ paceBytesPerSecond: 0, notSentLowBytes: 0, congestionControl: "" });

interface Placed {
  readonly placement: Placement;
  readonly connection: Connection;
}

class JsLink implements Link, ListenerOwner, ConnectionOwner {
  readonly kind = "js";
  readonly #context: LinkContext;
  readonly #connections = new Map<ConnectionId, Connection>();
  readonly #tokens = new Map<string, Connection>();
  /** Until their `revoked` has been handed over. */
  readonly #placements = new Map<PlacementId, Placed>();
  readonly #listeners: Listener[] = [];
  /** Connections that live, or whose end has not been handed over. */
  #remembered = 0;
  #nextConnection = 1;
  #nextPlacement = 1;
  #closing: Promise<void> | undefined;

  constructor({ onWake, limits: changed = {}, tls }: JsLinkOptions) {
    const bounds = { ...limits, ...changed };
    const events = new EventQueue(bounds.completionsMax, onWake);
    this.#context = { limits: bounds, events, buffers: new PieceBuffers(), refusals: new Refusals(events), tls: undefined, nowUs };
    if (tls !== undefined) this.#context.tls = new JsTls(tls, bounds.preambleTimeoutMs);
  }

  async listen(endpoint: Endpoint): Promise<Endpoint> {
    this.#open();
    integer(endpoint.port, "port", 0, 65_535);
    const listener = new Listener(this.#context, this);
    const bound = await listener.listen(endpoint);
    if (this.#closing !== undefined) {
      await listener.close();
      throw new KvferryError("closed", "the link is closed");
    }
    this.#listeners.push(listener);
    return bound;
  }

  dial(endpoint: Endpoint, timeoutMs: number, identity = expectedOf(endpoint.host)): ConnectionId {
    this.#open();
    integer(endpoint.port, "port", 0, 65_535);
    integer(timeoutMs, "timeoutMs", 1, 2 ** 31 - 1);
    if (this.#isFull) throw new KvferryError("full", `${this.#context.limits.connectionsMax} connections`);
    return this.#add({ endpoint, timeoutMs, identity }).id;
  }

  admitLanes(connection: ConnectionId, token: Uint8Array, options: LaneOptions = UNPACED): void {
    checkToken(token);
    checkLaneOptions(options);
    const found = this.#connections.get(connection);
    if (found === undefined) return;
    const name = nameOf(token);
    if ((this.#tokens.get(name) ?? found) !== found) throw new KvferryError("invalid_argument", "the token is in use");
    if (found.token !== undefined) this.#tokens.delete(found.token);
    found.admit(name, options);
    this.#tokens.set(name, found);
    for (const listener of this.#listeners) listener.handleAdmitted(token);
  }

  openLane(connection: ConnectionId, lane: number, token: Uint8Array, options: LaneOptions): void {
    integer(lane, "lane", 0, this.#context.limits.lanesMax - 1);
    checkToken(token);
    checkLaneOptions(options);
    const found = this.#connections.get(connection);
    if (found === undefined) return;
    if (!found.isInitiator) throw new KvferryError("invalid_argument", "lanes are opened by who dialled");
    if (found.hasLane(lane)) throw new KvferryError("invalid_argument", `lane ${lane} is open`);
    if (!found.openLane(lane, token, options)) throw new KvferryError("full", "too many lanes");
  }

  tuneLane(connection: ConnectionId, lane: number, options: LaneOptions): void {
    integer(lane, "lane", 0, this.#context.limits.lanesMax - 1);
    checkLaneOptions(options);
    this.#connections.get(connection)?.tuneLane(lane, options);
  }

  closeLane(connection: ConnectionId, lane: number): void {
    integer(lane, "lane", 0, this.#context.limits.lanesMax - 1);
    this.#connections.get(connection)?.closeLane(lane);
  }

  restLane(connection: ConnectionId, lane: number, isResting: boolean): void {
    integer(lane, "lane", 0, this.#context.limits.lanesMax - 1);
    this.#connections.get(connection)?.exchange.restLane(lane, isResting);
  }

  padLane(): void {}

  send(connection: ConnectionId, message: Uint8Array): boolean {
    if (message.length > this.#context.limits.controlMessageBytes) throw new KvferryError("message_too_large", `${message.length} bytes`);
    if (message.length === 0) throw expected("at least one byte", "message", message);
    return this.#connections.get(connection)?.send(message) ?? false;
  }

  disconnect(connection: ConnectionId): void {
    this.#connections.get(connection)?.disconnect();
  }

  place(spec: PlacementSpec): PlacementId | "full" {
    this.#open();
    const connection = this.#connections.get(spec.connection);
    if (connection === undefined) throw new KvferryError("connection_lost", "the connection is gone");
    if (this.#placements.size >= this.#context.limits.placementsMax) return "full";
    const placement = new Placement(this.#nextPlacement, spec, this.#context.limits.chunkBytesMax);
    connection.exchange.place(placement);
    this.#nextPlacement += 1;
    this.#placements.set(placement.id, { placement, connection });
    return placement.id;
  }

  revoke(id: PlacementId): void {
    const placed = this.#placements.get(id);
    if (placed === undefined || placed.placement.revoked) return;
    placed.connection.exchange.revoke(placed.placement, () => this.#placements.delete(id));
  }

  setRank(id: PlacementId, rank: Rank): void {
    integer(rank, "rank", 0, 2);
    const placed = this.#placements.get(id);
    placed?.connection.exchange.setRank(placed.placement, rank);
  }

  submit(batch: readonly ChunkSend[]): number {
    if (this.#closing !== undefined) return 0;
    const count = Math.min(batch.length, this.#context.limits.submissionsMax);
    const chunks = batch.slice(0, count).map((send) => this.#check(send));
    const submittedUs = this.#context.nowUs();
    const touched = new Set<Connection>();
    let taken = 0;
    for (const { placed, chunk, sequence } of chunks) {
      if (!this.#context.events.reserve("submission")) break;
      if (!placed.connection.exchange.queue(placed.placement, chunk, sequence, submittedUs)) {
        this.#context.events.release("submission");
        break;
      }
      touched.add(placed.connection);
      taken += 1;
    }
    for (const connection of touched) connection.exchange.kick();
    return taken;
  }

  poll(sink: (event: LinkEvent) => void, max: number): number {
    return this.#closing === undefined ? this.#context.events.drain(sink, max) : 0;
  }

  laneInfo(connection: ConnectionId): LaneInfo[] {
    return this.#connections.get(connection)?.laneInfo() ?? [];
  }

  setTls(options: TlsOptions): void {
    if (this.#context.tls === undefined) throw new KvferryError("invalid_argument", "the link was made without TLS");
    this.#context.tls = new JsTls(options, this.#context.limits.preambleTimeoutMs);
  }

  refusals(): RefusalCounts {
    return this.#context.refusals.counts();
  }

  close(): Promise<void> {
    this.#closing ??= this.#shut();
    return this.#closing;
  }

  knows({ kind, token }: Preamble): boolean {
    return kind === "control" || this.#tokens.has(nameOf(token));
  }

  handleGreeted({ socket, preamble, rest, peer }: Greeted): boolean {
    if (preamble.kind === "control") {
      if (this.#isFull) return false;
      this.#add({ socket, peer }).begin(rest);
      return true;
    }
    const connection = this.#tokens.get(nameOf(preamble.token));
    if (connection !== undefined && connection.peer?.identity !== peer?.identity) {
      this.#context.refusals.add("wrong_identity", endpointOf(socket), "a lane of another than its connection is of");
      return false;
    }
    if (connection === undefined || preamble.lane >= this.#context.limits.lanesMax) return false;
    return connection.acceptLane(preamble.lane, { socket, peer }, rest);
  }

  handleGone({ id, token }: Connection): void {
    this.#connections.delete(id);
    if (token !== undefined) this.#tokens.delete(token);
  }

  handleForgotten(): void {
    this.#remembered -= 1;
  }

  get #isFull(): boolean {
    return this.#remembered >= this.#context.limits.connectionsMax;
  }

  #add(from: Dial | Arrival): Connection {
    const connection = new Connection(this.#context, this.#nextConnection++, from, this);
    this.#remembered += 1;
    this.#connections.set(connection.id, connection);
    return connection;
  }

  #check({ placement: id, chunk, sequence }: ChunkSend): { placed: Placed; chunk: number; sequence: number } {
    const placed = this.#placements.get(id);
    if (placed === undefined) throw new KvferryError("invalid_argument", "a chunk of a placement that is not there");
    const { placement } = placed;
    if (placement.incoming || placement.revoked) {
      throw new KvferryError("invalid_argument", "a chunk of a placement that is incoming or revoked");
    }
    integer(chunk, "chunk", 0, placement.chunks - 1);
    integer(sequence, "sequence", 1, 2 ** 32 - 1);
    return { placed, chunk, sequence };
  }

  async #shut(): Promise<void> {
    this.#context.events.close();
    for (const connection of [...this.#connections.values()]) connection.abort();
    this.#placements.clear();
    await Promise.all(this.#listeners.map((listener) => listener.close()));
  }

  #open(): void {
    if (this.#closing !== undefined) throw new KvferryError("closed", "the link is closed");
  }
}

function nameOf(token: Uint8Array): string {
  return Buffer.from(token).toString("latin1");
}

function checkToken(token: Uint8Array): void {
  if (!(token instanceof Uint8Array) || token.length !== TOKEN_BYTES) throw expected(`${TOKEN_BYTES} bytes`, "token", token);
}

function checkLaneOptions(options: LaneOptions): void {
  integer(options.paceBytesPerSecond, "paceBytesPerSecond", 0, Number.MAX_SAFE_INTEGER);
  integer(options.notSentLowBytes, "notSentLowBytes", 0, 2 ** 31 - 1);
}
