/** One peer: its control channel, the lanes that joined it, and the exchange they carry. Gone when all of them are. */
import type { ErrorCode } from "../errors.ts";
import type { TlsPeer } from "../tls/options.ts";
import type { LinkContext } from "./js-context.ts";
import { type Arrival, ControlChannel, type ControlOwner, type Dial, endpointOf } from "./js-control.ts";
import { Exchange } from "./js-exchange.ts";
import { Lane, type LaneDial } from "./js-lane.ts";
import type { ConnectionId, Endpoint, LaneInfo, LaneOptions } from "./link.ts";

export interface ConnectionOwner {
  handleGone(connection: Connection): void;
  /** Its last event has been handed over. */
  handleForgotten(): void;
}

export class Connection implements ControlOwner {
  readonly id: ConnectionId;
  readonly exchange: Exchange;
  readonly isInitiator: boolean;
  /** Of lanes that the peer opens. */
  token: string | undefined;
  acceptedLanes: LaneOptions | undefined;
  readonly #context: LinkContext;
  readonly #control: ControlChannel;
  readonly #lanes = new Map<number, Lane>();
  readonly #owner: ConnectionOwner;
  readonly #identity: string;
  #remote: Endpoint;
  #peer: TlsPeer | undefined;
  #meet: (peer: TlsPeer | undefined) => void = () => {};
  readonly #met = new Promise<TlsPeer | undefined>((resolve) => (this.#meet = resolve));
  #isEnding = false;

  constructor(context: LinkContext, id: ConnectionId, from: Dial | Arrival, owner: ConnectionOwner) {
    this.#context = context;
    this.#owner = owner;
    this.id = id;
    this.isInitiator = "endpoint" in from;
    this.#remote = "endpoint" in from ? from.endpoint : endpointOf(from.socket);
    this.#identity = "endpoint" in from ? from.identity : "";
    if ("socket" in from) this.#peer = from.peer;
    this.exchange = new Exchange(id, context.events, context.limits.sendQueueChunks);
    this.#control = new ControlChannel(context, from, this);
  }

  /** Who is at the other end, over TLS. */
  get peer(): TlsPeer | undefined {
    return this.#peer;
  }

  /** Of an accepted connection; `rest` came behind its preamble. */
  begin(rest: Uint8Array): void {
    this.#context.events.emit("table", { kind: "accepted", connection: this.id, remote: this.#remote, ...peerOf(this.#peer) });
    if (rest.length > 0) this.#control.handleData(rest);
  }

  send(message: Uint8Array): boolean {
    return this.#control.send(message);
  }

  /** What it has said first was found right, and it may open lanes. */
  admit(token: string, options: LaneOptions): void {
    this.token = token;
    this.acceptedLanes = options;
    this.#control.handleAdmitted();
  }

  hasLane(lane: number): boolean {
    return this.#lanes.has(lane);
  }

  /** False: too many lanes whose events nobody has taken. */
  openLane(lane: number, token: Uint8Array, options: LaneOptions): boolean {
    if (this.#isEnding) return true;
    return this.#add(lane, { endpoint: this.#remote, token, identity: this.#identity, peer: this.#met }, options) !== undefined;
  }

  /** False: the lane is not wanted. */
  acceptLane(lane: number, from: Arrival, rest: Uint8Array): boolean {
    if (this.#isEnding || this.#lanes.has(lane)) return false;
    const added = this.acceptedLanes === undefined ? undefined : this.#add(lane, from, this.acceptedLanes);
    added?.begin(rest);
    return added !== undefined;
  }

  tuneLane(lane: number, options: LaneOptions): void {
    this.#lanes.get(lane)?.tune(options);
  }

  closeLane(lane: number): void {
    this.#lanes.get(lane)?.close("closed");
  }

  laneInfo(): LaneInfo[] {
    return [...this.#lanes.values()].map((lane) => lane.info()).filter((info) => info !== undefined);
  }

  disconnect(): void {
    this.#endLanes("closed");
    this.#control.finish();
  }

  abort(): void {
    this.#control.abort();
  }

  handleConnected(remote: Endpoint, peer: TlsPeer | undefined): void {
    this.#remote = remote;
    this.#peer = peer;
    this.#meet(peer);
    this.#context.events.emit("table", { kind: "connected", connection: this.id, remote, ...peerOf(peer) });
  }

  handleMessage(message: Uint8Array, taken: () => void): void {
    this.#context.events.emit("message", { kind: "message", connection: this.id, bytes: message }, taken);
  }

  handleClosed(code: ErrorCode, detail: string): void {
    this.#endLanes(code === "closed" ? "closed" : "lane_lost");
    this.#owner.handleGone(this);
    this.exchange.handleGone(code, detail, () => this.#owner.handleForgotten());
  }

  #add(lane: number, from: LaneDial | Arrival, options: LaneOptions): Lane | undefined {
    if (!this.exchange.reserveLane()) return undefined;
    const added = new Lane(this.#context, this.exchange, lane, from, options, () => this.#lanes.delete(lane));
    this.#lanes.set(lane, added);
    return added;
  }

  #endLanes(code: ErrorCode): void {
    this.#isEnding = true;
    for (const lane of [...this.#lanes.values()]) lane.close(code);
  }
}

function peerOf(peer: TlsPeer | undefined): { peer?: TlsPeer } {
  return peer === undefined ? {} : { peer };
}
