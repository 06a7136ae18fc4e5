/**
 * One link for several users in a process, each with a view of its own: what a user dialled or placed is told to it alone. Who dialled us is told to the
 * first user until somebody says whose it is. A view neither listens nor closes the link: that is whoever's who made it.
 */
import { KvferryError } from "../errors.ts";
import type { ConnectionId, Endpoint, Link, LinkEvent, PlacementId, PlacementSpec } from "./link.ts";

type ConnectionEvent = LinkEvent & { readonly connection: ConnectionId };

export class SharedLink {
  readonly #link: Link;
  readonly #views: View[] = [];
  readonly #connections = new Map<ConnectionId, View>();
  readonly #placements = new Map<PlacementId, View>();

  constructor(link: Link) {
    this.#link = link;
  }

  newView(): Link {
    const view = new View(this.#link, this.#connections, this.#placements);
    this.#views.push(view);
    return view;
  }

  /** Hands what happened to the views; returns how much that was, at most `max`. */
  pump(max: number): number {
    return this.#link.poll((event) => this.#viewOf(event)?.take(event), max);
  }

  /** What is told of this connection is for `to` from now on, and what was told and not heard yet. */
  handOver(connection: ConnectionId, to: Link): void {
    const view = this.#views.find((one) => one === to);
    const former = this.#connections.get(connection);
    // It may have ended meanwhile; then nobody will hear more of it.
    if (view === undefined || former === undefined || former === view) return;
    this.#connections.set(connection, view);
    former.giveUp(connection, view);
  }

  #viewOf(event: LinkEvent): View | undefined {
    const [first] = this.#views;
    if ("placement" in event) {
      const view = this.#placements.get(event.placement);
      if (event.kind === "revoked") this.#placements.delete(event.placement);
      return view;
    }
    if (event.kind === "refused") return first;
    if (event.kind === "accepted" && first !== undefined) this.#connections.set(event.connection, first);
    return this.#connections.get(event.connection);
  }
}

class View implements Link {
  readonly #link: Link;
  readonly #connections: Map<ConnectionId, View>;
  readonly #placements: Map<PlacementId, View>;
  #events: LinkEvent[] = [];

  constructor(link: Link, connections: Map<ConnectionId, View>, placements: Map<PlacementId, View>) {
    this.#link = link;
    this.#connections = connections;
    this.#placements = placements;
  }

  get kind(): Link["kind"] {
    return this.#link.kind;
  }

  take(event: LinkEvent): void {
    this.#events.push(event);
  }

  giveUp(connection: ConnectionId, to: View): void {
    const isOf = (event: LinkEvent): boolean => "connection" in event && (event as ConnectionEvent).connection === connection;
    for (const event of this.#events) if (isOf(event)) to.take(event);
    this.#events = this.#events.filter((event) => !isOf(event));
  }

  /** What the sink does may hand over events that are behind. */
  poll(sink: (event: LinkEvent) => void, max: number): number {
    let handed = 0;
    for (let event = this.#events.shift(); event !== undefined; event = handed < max ? this.#events.shift() : undefined) {
      handed += 1;
      // Its user hears of it first, and may still look at it by its number.
      sink(event);
      if (event.kind === "disconnected") this.#connections.delete(event.connection);
    }
    return handed;
  }

  listen(): Promise<Endpoint> {
    return Promise.reject(new KvferryError("unsupported", "a shared link listens for all of its users"));
  }

  dial(endpoint: Endpoint, timeoutMs: number, identity?: string): ConnectionId {
    const connection = this.#link.dial(endpoint, timeoutMs, identity);
    this.#connections.set(connection, this);
    return connection;
  }

  place(spec: PlacementSpec): PlacementId | "full" {
    const placement = this.#link.place(spec);
    if (placement !== "full") this.#placements.set(placement, this);
    return placement;
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  admitLanes(...of: Parameters<Link["admitLanes"]>): void {
    this.#link.admitLanes(...of);
  }
  openLane(...of: Parameters<Link["openLane"]>): void {
    this.#link.openLane(...of);
  }
  tuneLane(...of: Parameters<Link["tuneLane"]>): void {
    this.#link.tuneLane(...of);
  }
  closeLane(...of: Parameters<Link["closeLane"]>): void {
    this.#link.closeLane(...of);
  }
  restLane(...of: Parameters<Link["restLane"]>): void {
    this.#link.restLane(...of);
  }
  padLane(...of: Parameters<Link["padLane"]>): void {
    this.#link.padLane(...of);
  }
  send(...of: Parameters<Link["send"]>): boolean {
    return this.#link.send(...of);
  }
  disconnect(connection: ConnectionId): void {
    this.#link.disconnect(connection);
  }
  revoke(placement: PlacementId): void {
    this.#link.revoke(placement);
  }
  setRank(...of: Parameters<Link["setRank"]>): void {
    this.#link.setRank(...of);
  }
  submit(...of: Parameters<Link["submit"]>): number {
    return this.#link.submit(...of);
  }
  laneInfo(connection: ConnectionId): ReturnType<Link["laneInfo"]> {
    return this.#link.laneInfo(connection);
  }
  setTls(...of: Parameters<Link["setTls"]>): void {
    this.#link.setTls(...of);
  }
  refusals(): ReturnType<Link["refusals"]> {
    return this.#link.refusals();
  }
}
